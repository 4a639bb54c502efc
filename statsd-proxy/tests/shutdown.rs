//! The end of the process under load: every line that was taken arrives.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::{
    io::Write as _,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use serde_json::json;
use shared::testing::{
    eventually,
    wire::{TcpPeer, UdpPeer},
};
use support::{Dialect, Proxy, node};

#[test]
fn sigterm_under_load_delivers_every_accepted_line_to_tcp_backends() {
    let backends = [TcpPeer::bind(), TcpPeer::bind(), TcpPeer::bind()];
    let nodes: Vec<_> = backends
        .iter()
        .map(|peer| json!({"host": "127.0.0.1", "port": peer.port(), "protocol": "tcp"}))
        .collect();
    let mut proxy = Proxy::start(Dialect::Go, json!({"nodes": nodes, "tcpPort": 0}));
    let (udp, tcp) = (proxy.address("udp"), proxy.address("tcp"));
    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..3)
        .map(|sender| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                let mut stream = std::net::TcpStream::connect(tcp).unwrap();
                let mut number = 0;
                while !stop.load(Relaxed) {
                    let line = format!("name.{sender}.{}:{number}|c\n", number % 500);
                    // Two senders use TCP, until the proxy hangs up; one uses UDP.
                    let sent = if sender > 0 {
                        stream.write_all(line.as_bytes()).is_ok()
                    } else {
                        socket.send_to(line.as_bytes(), udp).is_ok()
                    };
                    number += 1;
                    if !sent {
                        return;
                    }
                    if number % 100 == 0 {
                        thread::sleep(Duration::from_micros(200));
                    }
                }
            })
        })
        .collect();
    let arrived = || backends.iter().map(TcpPeer::line_count).sum::<usize>();
    eventually("the load to flow", || (arrived() > 20_000).then_some(()));

    let (status, summary) = proxy.finish();
    stop.store(true, Relaxed);
    senders
        .into_iter()
        .for_each(|sender| sender.join().unwrap());
    assert!(status.success());
    eventually("every line to arrive", || {
        (arrived() == summary.sent).then_some(())
    });
    assert_eq!(summary.received, summary.sent + summary.dropped);
    // A connection that was cut within a line has lost that line to its sender's knowledge.
    assert!(summary.dropped <= 2, "{summary:?}");
    println!(
        "{} lines accepted, {} arrived, {} cut by the end of their connection",
        summary.received,
        arrived(),
        summary.dropped
    );
}

#[test]
fn what_the_kernel_holds_at_sigterm_is_relayed() {
    let peer = UdpPeer::bind();
    let mut proxy = Proxy::start(Dialect::Go, json!({"nodes": [node(&peer)]}));
    for burst in 0..50 {
        for number in 0..100 {
            proxy.send(format!("name.{number}:{burst}|c").as_bytes());
        }
    }
    let (status, summary) = proxy.finish();
    assert!(status.success());
    assert_eq!((summary.received, summary.sent), (5_000, 5_000));
    eventually("every line to arrive", || {
        (peer.line_count() == 5_000).then_some(())
    });
}

#[test]
fn lines_for_a_backend_that_is_away_are_counted_when_the_drain_deadline_comes() {
    let away = shared::testing::wire::free_tcp_port();
    let nodes = json!([{"host": "127.0.0.1", "port": away, "protocol": "tcp"}]);
    let mut proxy = Proxy::start(
        Dialect::Go,
        json!({"nodes": nodes, "drainTimeout": "100ms"}),
    );
    for number in 0..100 {
        proxy.send(format!("name:{number}|c").as_bytes());
    }
    eventually("the lines", || {
        proxy
            .ask("stats", 1)
            .contains("packets_received: 100")
            .then_some(())
    });
    let (status, summary) = proxy.finish();
    assert!(status.success());
    assert_eq!(
        (summary.received, summary.sent, summary.dropped),
        (100, 0, 100)
    );
    proxy
        .program
        .wait_for_line("gave up delivering to the node");
}
