//! Clients that mean harm or do not know better: smuggled requests, endless heads, slow and silent connections.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed helper is a failed test, and figures are printed"
)]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use shared::testing::{PATIENCE, eventually};
use support::{
    Mpp,
    client::{connect, read_response},
    prometheus::{Manners, Prometheus, Reply},
};

fn stage(args: &[&str]) -> (Prometheus, Mpp) {
    let server = Prometheus::start("b1", Manners::good("1"));
    let mpp = Mpp::start(&server.url(), args);
    mpp.wait_until_answering(1);
    (server, mpp)
}

/// Sends bytes and returns every byte that comes back until the connection ends.
fn exchange(port: u16, bytes: &[u8]) -> String {
    let mut stream = connect(port, PATIENCE).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _ended = stream.read_to_end(&mut answer).is_ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn requests_of_two_lengths_and_bad_chunks_are_refused_and_nothing_is_smuggled() {
    let (server, mpp) = stage(&[]);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let f = |what: &str, head: &str, body: &str| {
        let bytes = format!("POST /x HTTP/1.1\r\nHost: h\r\n{head}\r\n{body}");
        let answer = exchange(mpp.port, bytes.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer}");
        let seen = server.take_seen();
        assert!(
            seen.iter().all(|seen| !seen.head.contains("/smuggled")),
            "{what}: {seen:?}"
        );
    };
    f(
        "two different lengths",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "hello",
    );
    f("a list of lengths", "Content-Length: 5, 6\r\n", "hello");
    f(
        "a length and chunks",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        &format!("0\r\n\r\n{smuggled}"),
    );
    f(
        "chunks and a length",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        &format!("0\r\n\r\n{smuggled}"),
    );
    f("an unknown coding", "Transfer-Encoding: gzip\r\n", smuggled);
    f(
        "chunked is not last",
        "Transfer-Encoding: chunked, gzip\r\n",
        smuggled,
    );
    f("a negative length", "Content-Length: -1\r\n", smuggled);
    f("a length with a sign", "Content-Length: +5\r\n", "hello");
    f(
        "a chunk size that is none",
        "Transfer-Encoding: chunked\r\n",
        &format!("zz\r\n{smuggled}"),
    );
    f(
        "a chunk size beyond all numbers",
        "Transfer-Encoding: chunked\r\n",
        &format!("fffffffffffffffff\r\n{smuggled}"),
    );
    f(
        "a chunk longer than its size",
        "Transfer-Encoding: chunked\r\n",
        &format!("3\r\nhello\r\n0\r\n\r\n{smuggled}"),
    );
    f(
        "a blank before the colon",
        "Content-Length : 5\r\n",
        "hello",
    );
    f("two hosts", "Host: other\r\n", smuggled);
    assert_eq!(mpp.get("/x").status, 200);
}

#[test]
fn a_head_without_end_is_refused() {
    let (_server, mpp) = stage(&[]);
    let mut bytes = b"GET /x HTTP/1.1\r\nHost: h\r\n".to_vec();
    for number in 0..20_000 {
        bytes.extend_from_slice(format!("X-{number}: {}\r\n", "x".repeat(50)).as_bytes());
    }
    let mut stream = connect(mpp.port, PATIENCE).unwrap();
    // It may be refused before all of it is sent.
    let _sent = stream.write_all(&bytes).is_ok();
    let refused = read_response(&mut stream, false).is_none_or(|answer| answer.status == 431);
    assert!(refused);
    assert_eq!(mpp.get("/x").status, 200);
}

#[test]
fn an_address_as_method_is_no_forward_proxy() {
    let (server, mpp) = stage(&[]);
    let answer = exchange(
        mpp.port,
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(server.seen().is_empty());
}

fn resident_kilobytes(mpp: &Mpp) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mpp.program.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_nobody_waits_for_them() {
    let (_server, mpp) = stage(&[]);
    mpp.get("/x");
    let before = resident_kilobytes(&mpp);
    let limit = descriptor_limit();
    let count = 10_000.min(limit.saturating_sub(500));
    let idle: Vec<TcpStream> = (0..count)
        .map(|_| TcpStream::connect(("127.0.0.1", mpp.port)).unwrap())
        .collect();
    // All are accepted: the last one is served as soon as it asks.
    let mut last = idle.last().unwrap().try_clone().unwrap();
    last.set_read_timeout(Some(PATIENCE)).unwrap();
    last.write_all(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    assert_eq!(read_response(&mut last, false).unwrap().status, 200);
    let started = Instant::now();
    for _ in 0..50 {
        assert_eq!(mpp.get("/x").status, 200);
    }
    let after = resident_kilobytes(&mpp);
    println!(
        "idle: {count} connections, resident memory {before} kB before and {after} kB after, 50 requests in {:?}",
        started.elapsed()
    );
    assert!(after - before < 100_000, "{before} kB, then {after} kB");
    drop(idle);
    assert_eq!(mpp.get("/x").status, 200);
}

/// Our own limit, raised as far as it goes.
fn descriptor_limit() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    usize::try_from(hard).unwrap_or(usize::MAX)
}

#[test]
fn clients_that_send_a_byte_now_and_then_hold_nobody_up() {
    let (_server, mpp) = stage(&[]);
    mpp.get("/x");
    let before = resident_kilobytes(&mpp);
    let mut slow: Vec<TcpStream> = (0..500)
        .map(|_| TcpStream::connect(("127.0.0.1", mpp.port)).unwrap())
        .collect();
    for byte in b"GET /slow HTTP/1.1\r\nX-Slow: " {
        for stream in &mut slow {
            stream.write_all(&[*byte]).unwrap();
        }
        assert_eq!(mpp.get("/x").status, 200);
    }
    let after = resident_kilobytes(&mpp);
    println!("slow-loris: 500 clients, resident memory {before} kB before and {after} kB after");
    assert!(after - before < 40_000, "{before} kB, then {after} kB");
}

#[test]
fn no_more_connections_are_taken_than_allowed_and_the_rest_wait() {
    let (_server, mpp) = stage(&["--max-connections", "3"]);
    let ask = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut held: Vec<TcpStream> = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(mpp.port, PATIENCE).unwrap();
        stream.write_all(ask).unwrap();
        assert_eq!(read_response(&mut stream, false).unwrap().status, 200);
        held.push(stream);
    }
    let mut fourth = connect(mpp.port, Duration::from_millis(300)).unwrap();
    fourth.write_all(ask).unwrap();
    assert!(read_response(&mut fourth, false).is_none(), "it waits");
    held.pop();
    fourth.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read_response(&mut fourth, false).unwrap().status, 200);
}

#[test]
fn a_client_that_leaves_takes_its_request_with_it() {
    let (server, mpp) = stage(&[]);
    server.set(|manners| manners.proxied = Reply::Hang);
    let in_flight = format!("mpp_backend_in_flight{{backend=\"{}\"}}", server.url());
    let mut stream = connect(mpp.port, PATIENCE).unwrap();
    stream
        .write_all(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    eventually("the request to be under way", || {
        (mpp.metric(&in_flight) == 1.0).then_some(())
    });
    drop(stream);
    eventually("the request to be gone", || {
        (mpp.metric(&in_flight) == 0.0).then_some(())
    });
}
