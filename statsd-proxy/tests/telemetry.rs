//! The proxy's own numbers: they add up, they are honest about the kernel's losses, and they leave as StatsD lines.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::UdpSocket,
};

use nix::sys::signal::Signal;
use serde_json::json;
use shared::testing::{
    eventually,
    wire::{UdpPeer, free_tcp_port, free_udp_port, lines},
};
use support::{Dialect, Proxy, node, wait_for_lines};

#[test]
fn lines_in_are_lines_out_and_lines_dropped() {
    let peer = UdpPeer::bind();
    let refusing = free_udp_port();
    let proxy = Proxy::start(
        Dialect::Go,
        json!({
            "nodes": [node(&peer), {"host": "127.0.0.1", "port": refusing}],
            "metricsAddress": "127.0.0.1:0",
        }),
    );
    for number in 0..500 {
        proxy.send(format!("name.{number}:1|c\ngarbage\n").as_bytes());
    }
    eventually("the counts to add up", || {
        let page = proxy.metrics();
        let received = page.value("statsd_proxy_lines_received_total");
        let malformed = page.value("statsd_proxy_lines_dropped_total{reason=\"malformed\"}");
        let sent = page.sum("statsd_proxy_node_lines_sent_total");
        let lost = page.sum("statsd_proxy_node_lines_dropped_total");
        (received == 1_000.0 && malformed == 500.0 && sent + lost == 500.0).then_some(())
    });
    let page = proxy.metrics();
    let at =
        |family: &str, port: u16| page.value(&format!("{family}{{node=\"127.0.0.1:{port}\"}}"));
    assert_eq!(
        at("statsd_proxy_node_lines_sent_total", peer.port()),
        peer.line_count() as f64
    );
    assert_eq!(at("statsd_proxy_node_lines_sent_total", refusing), 0.0);
    assert_eq!(at("statsd_proxy_node_up", refusing), 1.0);
    let shares = page.sum("statsd_proxy_ring_share");
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
    assert!(page.value("process_resident_memory_bytes") > 0.0);
}

#[test]
fn datagrams_that_the_kernel_dropped_are_counted() {
    let peer = UdpPeer::bind();
    let proxy = Proxy::start(
        Dialect::Go,
        json!({"nodes": [node(&peer)], "receiveBuffer": 4_096, "sockets": 1, "metricsAddress": "127.0.0.1:0"}),
    );
    // While the process is stopped nobody reads, so all but the first few datagrams are lost.
    proxy.program.signal(Signal::SIGSTOP);
    let status = format!("/proc/{}/stat", proxy.program.id());
    eventually("the stop", || {
        let stat = fs::read_to_string(&status).unwrap();
        stat.contains(") T ").then_some(())
    });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..1_000 {
        socket
            .send_to(format!("name:{number}|c").as_bytes(), proxy.address("udp"))
            .unwrap();
    }
    proxy.program.signal(Signal::SIGCONT);
    let counted = eventually("the kernel's count", || {
        // The kernel tells with the next datagram.
        proxy.send(b"name:0|c");
        let page = proxy.metrics();
        let drops = page.value("statsd_proxy_receive_buffer_drops_total");
        (drops > 900.0).then_some(drops)
    });
    println!("of 1000 datagrams the kernel dropped {counted}");
}

#[test]
fn self_metrics_leave_as_statsd_lines() {
    let (peer, own) = (UdpPeer::bind(), UdpPeer::bind());
    let settings =
        json!({"address": own.address().to_string(), "prefix": "proxy.", "interval": "100ms"});
    let mut proxy = Proxy::start(
        Dialect::Go,
        json!({"nodes": [node(&peer)], "selfMetrics": settings}),
    );
    proxy.send(b"a:1|c\nb:1|c\ngarbage");
    wait_for_lines(&[&peer], 2);
    let arrived = |line: &str| {
        let datagrams = own.datagrams();
        datagrams
            .iter()
            .flat_map(|datagram| lines(datagram))
            .any(|other| other == line.as_bytes())
    };
    let label = format!("127_0_0_1_{}", peer.port());
    eventually("the lines", || {
        (arrived("proxy.lines_received:3|c")
            && arrived("proxy.lines_dropped.malformed:1|c")
            && arrived(&format!("proxy.node.{label}.up:1|g"))
            && arrived(&format!("proxy.node.{label}.lines_sent:2|c")))
        .then_some(())
    });
    assert!(proxy.finish().0.success());
}

#[test]
fn healthz_says_when_the_proxy_is_ending() {
    let away = free_tcp_port();
    let nodes = json!([{"host": "127.0.0.1", "port": away, "protocol": "tcp"}]);
    let config = json!({"nodes": nodes, "drainTimeout": "3s", "metricsAddress": "127.0.0.1:0"});
    let proxy = Proxy::start(Dialect::Go, config);
    proxy.send(b"a:1|c");
    eventually("the line", || {
        (proxy.metrics().value("statsd_proxy_lines_received_total") == 1.0).then_some(())
    });
    proxy.program.signal(Signal::SIGTERM);
    // The line has nowhere to go, so the drain takes its time.
    eventually("the end to show", || {
        get(&proxy, "/healthz")
            .starts_with("HTTP/1.1 503 ")
            .then_some(())
    });
}

fn get(proxy: &Proxy, path: &str) -> String {
    let mut stream = proxy.connect("metrics");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn healthz_answers_and_other_paths_do_not() {
    let peer = UdpPeer::bind();
    let proxy = Proxy::start(
        Dialect::Go,
        json!({"nodes": [node(&peer)], "metricsAddress": "127.0.0.1:0"}),
    );
    for (path, status) in [("/healthz", "200 OK"), ("/", "404 Not Found")] {
        let answer = get(&proxy, path);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{path}: {answer}"
        );
    }
}
