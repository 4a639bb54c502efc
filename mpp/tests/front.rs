//! What stands between a client and the servers: streams, tunnels, and an end in order.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use shared::testing::{PATIENCE, eventually, golden};
use support::{
    Mpp,
    client::{connect, read_line, read_response, request},
    prometheus::{Manners, Prometheus, Reply},
};

fn stage(args: &[&str]) -> (Prometheus, Mpp) {
    let server = Prometheus::start("b2", Manners::good("1"));
    let mpp = Mpp::start(&server.url(), args);
    mpp.wait_for_rounds(1);
    (server, mpp)
}

#[test]
fn events_reach_the_client_as_they_come() {
    let (server, mpp) = stage(&[]);
    let events: Vec<Vec<u8>> = (0..5)
        .map(|n| format!("data: {n}\n\n").into_bytes())
        .collect();
    let pause = Duration::from_millis(400);
    server.set(|manners| manners.proxied = Reply::Stream(events, pause));
    let mut stream = connect(mpp.port, PATIENCE).unwrap();
    let started = Instant::now();
    stream
        .write_all(b"GET /api/v1/notifications/live HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    while read_line(&mut stream).unwrap() != "\r" {}
    read_line(&mut stream).unwrap();
    assert_eq!(read_line(&mut stream).unwrap(), "data: 0");
    // Recorded: after the last of them, 2 s later.
    assert!(started.elapsed() < pause * 4, "{:?}", started.elapsed());
    let mut rest = String::new();
    while !rest.contains("data: 4") {
        rest += &read_line(&mut stream).unwrap();
    }
}

#[test]
fn a_websocket_passes_both_ways_and_ends_with_either_side() {
    let (server, mpp) = stage(&[]);
    server.set(|manners| manners.proxied = Reply::Echo);
    let recorded: Vec<Value> = golden::json(support::golden(
        "http/streaming-websocket-signals-tempfiles.json",
    ));
    let sent = recorded[0]["client_sent"].as_str().unwrap();
    let mut stream = connect(mpp.port, PATIENCE).unwrap();
    stream.write_all(sent.as_bytes()).unwrap();
    let answer = read_response(&mut stream, false).unwrap();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-accept"), Some("x"));
    assert_eq!(
        (answer.header("mpp.servedby"), answer.header("set-cookie")),
        (None, None)
    );
    let head = server.seen()[0].head.to_lowercase();
    // R8: recorded with its query twice.
    assert!(head.starts_with("get /ws?x=1 http/1.1\r\n"), "{head}");
    for line in [
        "host: mpp.example:9090",
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-key: a",
        "x-forwarded-for: 10.0.0.1, 127.0.0.1",
        "x-forwarded-host: mpp.example:9090",
        "x-forwarded-proto: ws",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    for text in ["hello", "quit"] {
        stream.write_all(text.as_bytes()).unwrap();
        let mut echo = vec![0; 5 + text.len()];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(echo, format!("echo:{text}").into_bytes());
    }
    // Recorded: the client's side stays open when the server's has closed.
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_websocket_that_is_refused_is_tried_elsewhere() {
    let mut dead = Prometheus::start("b1", Manners::good("9"));
    let server = Prometheus::start("b2", Manners::good("1").proxied(Reply::Echo));
    let mpp = Mpp::start(
        &format!("{}\n{}\n", dead.url(), server.url()),
        &["--selection-interval", "1h"],
    );
    mpp.wait_for_rounds(1);
    dead.stop();
    let bytes = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut stream = connect(mpp.port, PATIENCE).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream, false).unwrap().status, 101);
}

#[test]
fn sigterm_lets_requests_finish_and_a_delay_tells_load_balancers_first() {
    let (server, mut mpp) = stage(&["--drain-delay", "1s"]);
    server.set(|manners| {
        manners.proxied = Reply::Slow(Duration::from_secs(2), Box::new(Reply::Served));
    });
    let port = mpp.port;
    let slow = thread::spawn(move || request(port, b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"));
    eventually("the request to be under way", || {
        (!server.seen().is_empty()).then_some(())
    });
    mpp.program.signal(Signal::SIGTERM);
    eventually("health to say so", || {
        (mpp.get("/mpp/health").status == 503).then_some(())
    });
    assert_eq!(slow.join().unwrap().unwrap().status, 200);
    let status = mpp.program.wait();
    assert!(status.success(), "{status:?}");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn sigterm_cuts_what_takes_longer_than_the_limit() {
    let (server, mut mpp) = stage(&["--drain-timeout", "300ms"]);
    server.set(|manners| manners.proxied = Reply::Hang);
    let port = mpp.port;
    let hung = thread::spawn(move || request(port, b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"));
    eventually("the request to be under way", || {
        (!server.seen().is_empty()).then_some(())
    });
    assert!(mpp.program.terminate().success());
    assert!(hung.join().unwrap().is_none());
    mpp.program.wait_for_line("still under way");
}

#[test]
fn a_bad_web_configuration_names_itself_and_nothing_starts() {
    let folder = tempfile::TempDir::new().unwrap();
    fs::write(folder.path().join("web.yml"), "tls_server_config: [").unwrap();
    let mut command = support::command(folder.path(), &[]);
    command.args([
        "--endpoints-file",
        "e",
        "--port",
        "0",
        "--listen-address",
        "127.0.0.1",
        "--web-config-file",
        "web.yml",
    ]);
    let mut program = shared::testing::process::Program::spawn(&mut command);
    assert_eq!(program.wait().code(), Some(1));
    program.wait_for_line("web.yml");
}
