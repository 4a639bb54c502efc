//! Ways in beside the original's, and what is made of lines.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::{
    io::Write as _,
    net::{TcpStream, UdpSocket},
    sync::Arc,
};

use rustls::{ClientConnection, RootCertStore, StreamOwned, pki_types::pem::PemObject as _};
use shared::testing::wire::{connect, free_udp_port};
use support::{
    Certificates, Proxy,
    gateway::{Action, Gateway, ping_then},
    loopback, numbered, port, wait_for_count,
};

#[test]
fn datagrams_hold_lines_and_the_last_needs_no_line_feed() {
    let gateway = Gateway::friendly();
    let udp = loopback(free_udp_port());
    let mut proxy = Proxy::start(&[&gateway.flag(), &format!("-udp-addr={udp}")]);
    let socket = UdpSocket::bind(loopback(0)).unwrap();
    for datagram in [&b"a 1 1\nb 2 2\r\n"[..], b"c 3 3", b"", b"\n"] {
        socket.send_to(datagram, udp).unwrap();
    }
    wait_for_count("lines", 4, || proxy.metric("lines_received_total"));
    let (_, summary) = proxy.finish();
    assert_eq!((summary.taken, summary.sent), (4, 4));
    assert_eq!(gateway.taken(), b"a 1 1\nb 2 2\nc 3 3\n\n");
}

#[test]
fn pickled_datapoints_become_lines_and_hostile_pickles_are_refused() {
    let gateway = Gateway::friendly();
    let pickle = loopback(port());
    let mut proxy = Proxy::start(&[&gateway.flag(), &format!("-pickle-addr={pickle}")]);
    let frame = |pickle: &[u8]| [&(pickle.len() as u32).to_be_bytes(), pickle].concat();
    // pickle.dumps([("a.b", (1500000000, 1.5)), ("c", (1500000001, 7))], 2)
    let good = b"\x80\x02]q\x00(X\x03\x00\x00\x00a.bq\x01J\x00/hYG?\xf8\x00\x00\x00\x00\x00\x00\x86q\x02\x86q\x03X\x01\x00\x00\x00cq\x04J\x01/hYK\x07\x86q\x05\x86q\x06e.";
    let mut stream = connect(pickle);
    let bytes = [
        frame(good),
        frame(b"cos\nsystem\n(S'id'\ntR."),
        frame(b"](K\x01e."),
        frame(good),
    ]
    .concat();
    // In pieces that respect no frame.
    for piece in bytes.chunks(7) {
        stream.write_all(piece).unwrap();
    }
    drop(stream);
    wait_for_count("lines", 4, || proxy.metric("lines_sent_total"));
    assert_eq!(proxy.metric("pickle_frames_refused_total"), 1);
    assert_eq!(proxy.metric("lines_dropped_total{reason=\"invalid\"}"), 1);
    let mut endless = connect(pickle);
    endless.write_all(&u32::MAX.to_be_bytes()).unwrap();
    wait_for_count("refused frames", 2, || {
        proxy.metric("pickle_frames_refused_total")
    });
    let (_, summary) = proxy.finish();
    assert_eq!((summary.taken, summary.sent, summary.dropped), (5, 4, 1));
    let twice = b"a.b 1.5 1500000000\nc 7 1500000001\n".repeat(2);
    assert_eq!(gateway.taken(), twice);
}

#[test]
fn lines_come_in_by_tls_with_listen_cert() {
    let certificates = Certificates::new();
    let gateway = Gateway::friendly();
    let path = |name: &str| certificates.path(name).display().to_string();
    let proxy = Proxy::start(&[
        &gateway.flag(),
        &format!("-listen-cert={}", path("server.pem")),
        &format!("-listen-key={}", path("server.key")),
    ]);
    let mut roots = RootCertStore::empty();
    let ca = rustls::pki_types::CertificateDer::from_pem_file(certificates.path("ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(shared::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(session, connect(proxy.lines));
    stream.write_all(&numbered(0..6_000)).unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    wait_for_count("lines", 6_000, || gateway.taken_lines());
    drop(stream);
    // Plaintext is no handshake.
    let mut plain: TcpStream = connect(proxy.lines);
    plain.write_all(b"a 1 1\n").unwrap();
    assert_eq!(proxy.metric("lines_received_total"), 6_000);
}

#[test]
fn validate_drops_what_no_carbon_would_take() {
    let gateway = Gateway::friendly();
    let mut proxy = Proxy::start(&[&gateway.flag(), "-validate"]);
    proxy.send(b"a.b 1 1500000000\nGET / HTTP/1.1\r\n\r\nc.d nan 1\ne.f 2 1500000000\r\n");
    wait_for_count("lines", 2, || gateway.taken_lines());
    let (_, summary) = proxy.finish();
    assert_eq!((summary.taken, summary.sent, summary.dropped), (5, 2, 3));
    assert_eq!(gateway.taken(), b"a.b 1 1500000000\ne.f 2 1500000000\n");
}

#[test]
fn merge_connections_lets_many_small_ones_share_batches() {
    let gateway = Gateway::friendly();
    let mut proxy = Proxy::start(&[&gateway.flag(), "-merge-connections", "-verbose=false"]);
    for i in 0..200 {
        proxy.send(&numbered(i..i + 1));
    }
    wait_for_count("lines", 200, || gateway.taken_lines());
    let batches = gateway.ingests();
    println!("200 connections with a line each: {batches} batches");
    assert!(batches < 100, "{batches}");
    let (_, summary) = proxy.finish();
    assert_eq!((summary.taken, summary.sent), (200, 200));
}

#[test]
fn a_line_that_is_too_long_costs_neither_its_connection_nor_memory() {
    let gateway = Gateway::friendly();
    let mut proxy = Proxy::start(&[&gateway.flag()]);
    let mut stream = connect(proxy.lines);
    stream.write_all(b"before 1 1\n").unwrap();
    let block = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        stream.write_all(&block).unwrap();
    }
    stream.write_all(b"\nafter 1 1\n").unwrap();
    drop(stream);
    wait_for_count("lines", 2, || gateway.taken_lines());
    assert_eq!(proxy.metric("lines_dropped_total{reason=\"oversize\"}"), 1);
    proxy
        .program
        .wait_for_line("skipped a line of more than 65536 bytes");
    let (_, summary) = proxy.finish();
    assert_eq!((summary.taken, summary.sent, summary.dropped), (3, 2, 1));
}

/// Bytes for queued batches; lines on their way there have a quarter of it, half for open batches, half for those that leave.
const QUEUE_BYTES: u64 = 8_000_000;
const HALF: u64 = QUEUE_BYTES / 8;
/// What the proxy's threads may just have read beyond that.
const JUST_READ: u64 = 2_000_000;

#[test]
fn open_batches_of_many_connections_have_one_limit() {
    let gateway = Gateway::friendly();
    let queue_bytes = format!("-queue-bytes={QUEUE_BYTES}");
    let proxy = Proxy::start(&[&gateway.flag(), &queue_bytes]);
    // Fewer lines than a batch holds: each would wait for its tick.
    let (lines, senders) = (4_000, 100);
    let text = numbered(0..lines);
    let open: Vec<_> = (0..senders)
        .map(|_| {
            let mut stream = connect(proxy.lines);
            stream.write_all(&text).unwrap();
            stream
        })
        .collect();
    wait_for_count("lines", lines * senders, || {
        proxy.metric("lines_received_total")
    });
    let held = proxy.metric("open_batch_bytes");
    assert!(
        held < HALF + JUST_READ,
        "{held} of {}",
        text.len() as u64 * senders
    );
    drop(open);
    wait_for_count("lines", lines * senders, || gateway.taken_lines());
}

#[test]
fn nobody_is_read_while_what_was_read_cannot_leave() {
    let gateway = Gateway::start(None, ping_then(Action::Hang));
    let queue_bytes = format!("-queue-bytes={QUEUE_BYTES}");
    let words = [&gateway.flag(), &queue_bytes, "-queue-cap=1", "-workers=1"];
    let proxy = Proxy::start(&words);
    let text = numbered(0..20_000);
    let mut taken = 0;
    let _senders: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = connect(proxy.lines);
            stream.set_nonblocking(true).unwrap();
            // As much as the system takes.
            taken += stream.write(&text).unwrap() as u64;
            stream
        })
        .collect();
    wait_for_count("bytes on their way", HALF, || {
        proxy.metric("leaving_batch_bytes")
    });
    for _ in 0..50 {
        let read = proxy.metric("bytes_received_total");
        assert!(read < 2 * HALF + JUST_READ, "{read} of {taken}");
    }
    assert!(taken > 4 * (2 * HALF + JUST_READ), "{taken}");
}
