//! The ways in and out: UDP in full size, TCP, Unix sockets, both address families, in order; packing, mirroring, groups.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it skipped and fails where it stands"
)]

mod support;

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, UdpSocket},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixDatagram, UnixStream},
    },
};

use serde_json::{Value, json};
use shared::testing::{
    eventually,
    wire::{TcpPeer, UdpPeer, lines},
};
use support::{Dialect, Proxy, node, wait_for_lines};

fn texts(datagrams: &[Vec<u8>]) -> Vec<String> {
    datagrams
        .iter()
        .map(|datagram| String::from_utf8(datagram.clone()).unwrap())
        .collect()
}

#[test]
fn lines_of_one_name_from_one_sender_stay_in_order() {
    let peers = [UdpPeer::bind(), UdpPeer::bind()];
    let config = json!({"nodes": peers.iter().map(node).collect::<Vec<_>>(), "sockets": 4});
    let proxy = Proxy::start(Dialect::Go, config);
    for number in 0..20_000 {
        proxy.send(format!("gauge.{}:{number}|g", number % 7).as_bytes());
        if number % 500 == 0 {
            wait_for_lines(&[&peers[0], &peers[1]], number);
        }
    }
    wait_for_lines(&[&peers[0], &peers[1]], 20_000);
    for name in 0..7 {
        let prefix = format!("gauge.{name}:");
        let numbers: Vec<usize> = peers
            .iter()
            .flat_map(UdpPeer::datagrams)
            .flat_map(|datagram| lines(&datagram).map(<[u8]>::to_vec).collect::<Vec<_>>())
            .filter_map(|line| {
                String::from_utf8(line)
                    .unwrap()
                    .strip_prefix(&prefix)?
                    .strip_suffix("|g")?
                    .parse()
                    .ok()
            })
            .collect();
        assert!(numbers.len() > 2_800 && numbers.is_sorted(), "{name}");
    }
}

#[test]
fn packing_fills_datagrams_up_to_max_packet_size_and_not_beyond() {
    let peer = UdpPeer::bind();
    let proxy = Proxy::start(
        Dialect::Go,
        json!({"nodes": [node(&peer)], "maxPacketSize": 100}),
    );
    let line = |number: usize| format!("name.{number:03}:1|c");
    let datagram: Vec<String> = (0..50).map(line).collect();
    proxy.send(datagram.join("\n").as_bytes());
    wait_for_lines(&[&peer], 50);
    let datagrams = texts(&peer.datagrams());
    assert_eq!(datagrams.join("\n"), datagram.join("\n"));
    // Seven lines of 12 bytes and six line feeds are 90 bytes; an eighth would make 103.
    assert!(
        datagrams[..7].iter().all(|datagram| datagram.len() == 90),
        "{datagrams:?}"
    );

    // A line that is longer goes alone and whole.
    let long = format!("{}:1|c", "x".repeat(300));
    peer.take();
    proxy.send(format!("a:1|c\n{long}\nb:1|c").as_bytes());
    wait_for_lines(&[&peer], 3);
    assert_eq!(texts(&peer.datagrams()), ["a:1|c", &long, "b:1|c"]);
}

#[test]
fn packing_false_sends_one_datagram_a_line() {
    let peer = UdpPeer::bind();
    let proxy = Proxy::start(
        Dialect::Go,
        json!({"nodes": [node(&peer)], "packing": false}),
    );
    proxy.send(b"a:1|c\nb:1|c\n\nc:1|c\n");
    wait_for_lines(&[&peer], 3);
    assert_eq!(texts(&peer.datagrams()), ["a:1|c", "b:1|c", "c:1|c"]);
}

#[test]
fn datagrams_of_full_size_pass_whole() {
    let peer = UdpPeer::bind();
    let proxy = Proxy::start(Dialect::Go, json!({"nodes": [node(&peer)]}));
    let line = format!("{}:1|c", "x".repeat(65_507 - 4));
    proxy.send(line.as_bytes());
    wait_for_lines(&[&peer], 1);
    assert_eq!(peer.datagrams(), [line.into_bytes()]);
}

#[test]
fn strict_types_drops_and_counts_what_go_statsd_proxy_does_not_know() {
    let peer = UdpPeer::bind();
    let mut proxy = Proxy::start(
        Dialect::Go,
        json!({"nodes": [node(&peer)], "strictTypes": true}),
    );
    proxy.send(b"a:1|c\nb:1|d\n_sc|x|0\nc:1|s");
    wait_for_lines(&[&peer], 2);
    let (_, summary) = proxy.finish();
    assert_eq!((summary.received, summary.sent, summary.dropped), (4, 2, 2));
    proxy.program.wait_for_line("Unknown metrics type: d");
}

#[test]
fn mirror_sends_every_line_to_every_node_whatever_its_health() {
    let peers = [UdpPeer::bind(), UdpPeer::bind(), UdpPeer::bind()];
    let sick = TcpPeer::answering(([127, 0, 0, 1], 0).into(), Some(b"health: down\n"));
    let mut nodes: Vec<Value> = peers.iter().map(node).collect();
    nodes[1]["managementport"] = json!(sick.port());
    let proxy = Proxy::start(
        Dialect::Go,
        json!({"nodes": nodes, "mirror": true, "checkInterval": 100}),
    );
    proxy.program.wait_for_line("doesn't seem to be alive.");
    proxy.send(b"a:1|c\nb:2|ms");
    for peer in &peers {
        wait_for_lines(&[peer], 2);
        assert_eq!(texts(&peer.datagrams()).join("\n"), "a:1|c\nb:2|ms");
    }
}

#[test]
fn groups_each_get_every_line() {
    let (old, new) = (
        [UdpPeer::bind(), UdpPeer::bind()],
        [TcpPeer::bind(), TcpPeer::bind()],
    );
    let copy = UdpPeer::bind();
    let tcp = |peer: &TcpPeer| json!({"host": "127.0.0.1", "port": peer.port(), "protocol": "tcp"});
    let mut proxy = Proxy::start(
        Dialect::Go,
        json!({
            "nodes": old.iter().map(node).collect::<Vec<_>>(),
            "groups": [
                {"name": "new", "ring": "statsd-0.7", "nodes": new.iter().map(tcp).collect::<Vec<_>>()},
                {"name": "copy", "mirror": true, "nodes": [node(&copy)]},
            ],
        }),
    );
    for number in 0..200 {
        proxy.send(format!("name.{number}:1|c").as_bytes());
    }
    wait_for_lines(&[&old[0], &old[1]], 200);
    wait_for_lines(&[&copy], 200);
    eventually("the lines over TCP", || {
        (new.iter().map(TcpPeer::line_count).sum::<usize>() == 200).then_some(())
    });
    assert!(
        old.iter().all(|peer| peer.line_count() > 20)
            && new.iter().all(|peer| peer.line_count() > 20)
    );
    let (_, summary) = proxy.finish();
    assert_eq!(
        (summary.received, summary.sent, summary.dropped),
        (200, 600, 0)
    );
}

#[test]
fn tcp_takes_lines_however_they_are_cut_and_drops_an_unfinished_one() {
    let peer = UdpPeer::bind();
    let mut proxy = Proxy::start(Dialect::Go, json!({"nodes": [node(&peer)], "tcpPort": 0}));
    let mut stream = proxy.connect("tcp");
    stream.write_all(b"gorets:1|c\nglo").unwrap();
    wait_for_lines(&[&peer], 1);
    stream.write_all(b"rk:320|ms\nhalf:1|").unwrap();
    wait_for_lines(&[&peer], 2);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert_eq!(texts(&peer.datagrams()), ["gorets:1|c", "glork:320|ms"]);
    let (_, summary) = proxy.finish();
    assert_eq!((summary.received, summary.sent, summary.dropped), (3, 2, 1));
}

#[test]
fn one_tcp_client_that_sends_an_endless_line_costs_the_others_nothing() {
    let peer = UdpPeer::bind();
    let proxy = Proxy::start(
        Dialect::Go,
        json!({"nodes": [node(&peer)], "tcpPort": 0, "metricsAddress": "127.0.0.1:0"}),
    );
    let mut endless = proxy.connect("tcp");
    let mut other = proxy.connect("tcp");
    for _ in 0..50 {
        endless.write_all(&[b'x'; 65_536]).unwrap();
    }
    other.write_all(b"a:1|c\n").unwrap();
    wait_for_lines(&[&peer], 1);
    endless.write_all(b"\nb:1|c\n").unwrap();
    wait_for_lines(&[&peer], 2);
    assert_eq!(
        proxy
            .metrics()
            .value("statsd_proxy_lines_dropped_total{reason=\"oversize\"}"),
        1.0
    );
}

#[test]
fn unix_sockets_take_lines_and_replace_what_a_dead_process_left() {
    let peer = UdpPeer::bind();
    let directory = tempfile::tempdir().unwrap();
    let (stream, datagram) = (
        directory.path().join("stream"),
        directory.path().join("datagram"),
    );
    drop(UnixDatagram::bind(&datagram).unwrap());
    let config = json!({"nodes": [node(&peer)], "unixStream": stream, "unixDatagram": datagram, "socketMode": 0o600});
    let mut proxy = Proxy::start(Dialect::Go, config);
    let mode = std::fs::metadata(&datagram).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(b"a:1|c", &datagram).unwrap();
    wait_for_lines(&[&peer], 1);
    // Longer than any UDP datagram: the last line is cut by the read and dropped.
    let long = [vec![b'y'; 30_000], b":1|c\n".to_vec(), vec![b'z'; 60_000]].concat();
    sender.send_to(&long, &datagram).unwrap();
    wait_for_lines(&[&peer], 2);
    UnixStream::connect(&stream)
        .unwrap()
        .write_all(b"b:1|c\n")
        .unwrap();
    wait_for_lines(&[&peer], 3);
    let (_, summary) = proxy.finish();
    assert_eq!((summary.received, summary.sent, summary.dropped), (4, 3, 1));
    assert!(!stream.exists() && !datagram.exists());
}

#[test]
fn a_host_of_zeros_listens_on_both_families_and_ipv6_nodes_are_reached() {
    let Ok(socket) = UdpSocket::bind("[::1]:0") else {
        println!("skipped: this machine has no IPv6 loopback");
        return;
    };
    let peer = UdpPeer::on(socket);
    for (dialect, key) in [(Dialect::Go, "host"), (Dialect::Js, "address")] {
        let config = json!({"nodes": [{"host": "[::1]", "port": peer.port()}], key: if dialect == Dialect::Go { "0.0.0.0" } else { "::" }});
        let proxy = Proxy::start(dialect, config);
        let port = proxy.address("udp").port();
        for from in ["127.0.0.1:0", "[::1]:0"] {
            let sender = UdpSocket::bind(from).unwrap();
            let to = SocketAddr::new(sender.local_addr().unwrap().ip(), port);
            sender.send_to(b"a:1|c", to).unwrap();
            wait_for_lines(&[&peer], 1);
            peer.take();
        }
    }
}

#[test]
fn the_dialect_statsd_with_server_tcp_takes_no_udp() {
    let peer = UdpPeer::bind();
    let proxy = Proxy::start(
        Dialect::Js,
        json!({"nodes": [node(&peer)], "server": "./servers/tcp"}),
    );
    proxy.connect("tcp").write_all(b"any text\r\n").unwrap();
    wait_for_lines(&[&peer], 1);
    assert_eq!(texts(&peer.datagrams()), ["any text\r"]);
    proxy.program.wait_for_line("server is up");
    assert!(
        !proxy
            .program
            .stdout()
            .iter()
            .any(|line| line.contains("udp="))
    );
    let plain = proxy.program.wait_for_line("reading config file: ");
    assert!(
        plain.contains(" - reading config file: ") && !plain.contains("INFO"),
        "{plain}"
    );
}
