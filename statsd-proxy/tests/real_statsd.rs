//! Against the real thing: statsd's daemon as a backend, and its `proxy.js` beside ours with the same file.
//!
//! Needs Node.js and `STATSD_JS`, the folder of the npm package `statsd` with `hashring` beside it. Skipped with a visible
//! line where that is not set; an error where `REQUIRE_REAL_SERVERS=1` asks for it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it skipped and fails where it stands"
)]

mod support;

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    path::PathBuf,
    process::Command,
};

use serde_json::{Value, json};
use shared::testing::{
    PATIENCE, eventually,
    process::Program,
    wire::{TcpPeer, UdpPeer, free_tcp_port, free_udp_port, lines},
};
use support::{Dialect, Proxy};

/// The folder of the package, or the reason to skip.
fn package() -> Option<PathBuf> {
    let folder = std::env::var_os("STATSD_JS").map(PathBuf::from);
    if folder.is_none() {
        assert!(
            std::env::var("REQUIRE_REAL_SERVERS").as_deref() != Ok("1"),
            "STATSD_JS is not set"
        );
        println!("skipped: STATSD_JS does not say where the npm package statsd is");
    }
    folder
}

/// Runs a script of the package with a configuration file.
fn node(package: &PathBuf, script: &str, config: &Value, folder: &tempfile::TempDir) -> Program {
    let file = folder.path().join(format!("{script}.config"));
    std::fs::write(&file, config.to_string()).unwrap();
    Program::spawn(
        Command::new("node")
            .arg(package.join(script))
            .arg(file)
            .current_dir(package),
    )
}

/// Asks statsd's console, whose answers end with `END`.
fn ask(port: u16, query: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(format!("{query}\n").as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    while !answer.windows(3).any(|end| end == b"END") {
        let length = stream.read(&mut buffer).ok().filter(|length| *length > 0)?;
        answer.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8(answer).ok()
}

#[test]
fn a_real_statsd_is_checked_and_counts_what_is_sent() {
    let Some(package) = package() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (port, management) = (free_udp_port(), free_tcp_port());
    let config = json!({
        "port": port, "address": "127.0.0.1", "mgmt_port": management, "mgmt_address": "127.0.0.1",
        "backends": [], "flushInterval": 600_000,
    });
    let mut daemon = node(&package, "stats.js", &config, &folder);
    daemon.wait_for_line("server is up");
    let nodes = json!([{"host": "127.0.0.1", "port": port, "adminport": management}]);
    let proxy = Proxy::start(
        Dialect::Js,
        json!({"nodes": nodes, "checkInterval": 200, "metricsAddress": "127.0.0.1:0"}),
    );
    for _ in 0..500 {
        proxy.send(b"real.one:1|c\nreal.two:2|c");
    }
    eventually("statsd's counters", || {
        let counters = ask(management, "counters")?;
        (counters.contains("'real.one': 500") && counters.contains("'real.two': 1000"))
            .then_some(())
    });
    let up = format!("statsd_proxy_node_up{{node=\"127.0.0.1:{port}\"}}");
    assert_eq!(proxy.metrics().value(&up), 1.0);
    daemon.terminate();
    proxy.program.wait_for_line("Removing node");
    assert_eq!(proxy.metrics().value(&up), 0.0);
}

#[test]
fn proxy_js_with_the_same_file_sends_the_same_lines_to_the_same_nodes() {
    let Some(package) = package() else { return };
    let folder = tempfile::tempdir().unwrap();
    let backends: Vec<(UdpPeer, TcpPeer)> = (0..7)
        .map(|_| {
            (
                UdpPeer::bind(),
                TcpPeer::answering(([127, 0, 0, 1], 0).into(), Some(b"health: up\n")),
            )
        })
        .collect();
    let nodes: Vec<Value> = backends
        .iter()
        .map(|(lines, admin)| json!({"host": "127.0.0.1", "port": lines.port(), "adminport": admin.port()}))
        .collect();
    let port = free_udp_port();
    let config = json!({
        "nodes": nodes, "address": "127.0.0.1", "port": port, "mgmt_port": free_tcp_port(), "mgmt_address": "127.0.0.1",
        "checkInterval": 60_000, "server": "./servers/udp",
    });
    let names: Vec<String> = (0..1_000)
        .map(|i| format!("app.{}.host{i}.métrique", i % 13))
        .collect();
    let received = |(peer, _): &(UdpPeer, TcpPeer)| -> Vec<Vec<u8>> {
        let datagrams = peer.datagrams();
        let lines = datagrams.iter().flat_map(|datagram| lines(datagram));
        lines
            .filter(|line| !line.starts_with(b"probe"))
            .map(<[u8]>::to_vec)
            .collect()
    };
    let placements = |send: &dyn Fn(&[u8])| -> Vec<Vec<Vec<u8>>> {
        // proxy.js says that it is up a moment before it is.
        eventually("a probe", || {
            send(b"probe:1|c");
            backends
                .iter()
                .any(|(peer, _)| peer.line_count() > 0)
                .then_some(())
        });
        for (number, name) in names.iter().enumerate() {
            send(format!("{name}:1|c").as_bytes());
            if number % 100 == 99 {
                let arrived = || {
                    backends
                        .iter()
                        .map(|backend| received(backend).len())
                        .sum::<usize>()
                };
                eventually(
                    &format!("{} lines; {} are there", number + 1, arrived()),
                    || (arrived() == number + 1).then_some(()),
                );
            }
        }
        let placements = backends.iter().map(received).collect();
        backends.iter().for_each(|(peer, _)| drop(peer.take()));
        placements
    };

    let mut original = node(&package, "proxy.js", &config, &folder);
    original.wait_for_line("server is up");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let theirs = placements(&|line| assert!(socket.send_to(line, ("127.0.0.1", port)).is_ok()));
    original.terminate();

    let mut ours_config = config;
    ours_config["port"] = json!(0);
    ours_config["mgmt_port"] = json!(0);
    let proxy = Proxy::start(Dialect::Js, ours_config);
    let ours = placements(&|line| proxy.send(line));
    assert_eq!(ours, theirs);
    println!(
        "{} names placed as by proxy.js on {} nodes",
        names.len(),
        backends.len()
    );
}
