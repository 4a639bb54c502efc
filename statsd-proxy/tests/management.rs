//! The recorded console transcripts through the real binary, in both dialects.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};
use shared::testing::{
    PATIENCE, eventually, golden,
    wire::{TcpPeer, UdpPeer},
};
use support::{Dialect, Proxy, node};

/// How long a console has to be silent to count as silent. Longer than the 100 ms that it waits for a command's rest.
const SILENCE: Duration = Duration::from_millis(300);

#[derive(Deserialize)]
struct Case {
    case: String,
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    send: Option<String>,
    recv: String,
    after: String,
}

#[derive(Debug, PartialEq)]
struct Heard {
    text: String,
    closed: bool,
}

#[test]
fn go_statsd_proxy_transcripts() {
    /// Where the console answers differently on purpose: the case, the step, and our answer.
    const DEVIATIONS: &[(&str, usize, &str, bool)] = &[
        // Our additions, where the original says that it does not know the command.
        ("query b'health'", 0, "health: up\n", false),
        ("query b'quit'", 0, "", true),
        // 17: further queries on a connection are answered.
        (
            "two queries on one connection",
            1,
            "time running in seconds: N\npackets_received: 6.000000\n",
            false,
        ),
        (
            "split query (two segments, 0.6 s apart)",
            1,
            "unknown command\n",
            false,
        ),
    ];
    let peer = UdpPeer::bind();
    let proxy = Proxy::start(Dialect::Go, json!({"nodes": [node(&peer)]}));
    let cases: Vec<Case> = golden::json(support::golden("mgmt_go.json"));
    let (mut equal, mut deviating) = (0, 0);
    for case in cases.iter().filter(|case| !case.steps.is_empty()) {
        match case.case.as_str() {
            "stats after 1 one-line datagram" => feed(&proxy, &[b"a:1|c"], 1),
            "stats after also a 2-line datagram with trailing newline, a malformed one and an empty one" =>
            {
                feed(&proxy, &[b"a:1|c\nb:1|c\n", b"garbage", b""], 6);
            }
            _ => {}
        }
        let mut console = proxy.connect("management");
        for (number, step) in case.steps.iter().enumerate() {
            let heard = exchange(&mut console, step.send.as_deref());
            let deviation = DEVIATIONS
                .iter()
                .find(|(name, step, ..)| *name == case.case && *step == number);
            if let Some((.., text, closed)) = deviation {
                assert_eq!(
                    heard,
                    Heard {
                        text: (*text).to_owned(),
                        closed: *closed
                    },
                    "{}",
                    case.case
                );
                deviating += 1;
            } else {
                assert_eq!(heard, recorded(step), "{} {}", case.case, number);
                equal += 1;
            }
        }
    }
    assert_eq!(deviating, DEVIATIONS.len());
    println!(
        "go-statsd-proxy's console: {equal} answers as recorded, {deviating} by decisions of the specification"
    );
}

/// What the recorded file holds in its last case, behind the keys of the others.
const EXTRAS: &str = r#", "log": {"backend": "stdout", "level": "LOG_INFO"}, "cacheSize": 10000, "forkCount": 0, "title": "x""#;

#[test]
fn proxy_js_transcripts() {
    let recorded_nodes = [
        "127.0.0.1:21031",
        "127.0.0.1:21032",
        "127.0.0.1:21033",
        "127.0.0.1:21034",
    ];
    let up = |port| TcpPeer::answering(([127, 0, 0, 1], port).into(), Some(b"health: up\n"));
    let mut admin: Vec<Option<TcpPeer>> = recorded_nodes.iter().map(|_| Some(up(0))).collect();
    let ports: Vec<u16> = admin.iter().flatten().map(TcpPeer::port).collect();
    let nodes: Vec<Value> = recorded_nodes
        .iter()
        .zip(&ports)
        .map(|(label, admin)| {
            let port: u16 = label.rsplit(':').next().unwrap().parse().unwrap();
            json!({"host": "127.0.0.1", "port": port, "adminport": admin})
        })
        .collect();
    // Key by key as recorded, since `config` shows the file; the listeners' ports are free ones.
    let config = |extras: &str| {
        format!(
            r#"{{"nodes": {}, "address": "127.0.0.1", "port": 0, "mgmt_port": 0, "mgmt_address": "127.0.0.1",
                "checkInterval": 1000{extras}}}"#,
            Value::from(nodes.clone())
        )
    };
    let mut proxy = Proxy::start(
        Dialect::Js,
        json!({"nodes": [{"host": "127.0.0.1", "port": 1, "adminport": 2}]}),
    );
    let wait_for_status = |proxy: &Proxy, nodes: &[usize]| {
        let nodes: String = nodes
            .iter()
            .map(|node| format!("{} ", recorded_nodes[*node]))
            .collect();
        let expected = format!("nodes: {nodes}\n");
        eventually(&expected, || {
            proxy.ask("status\n", 2).ends_with(&expected).then_some(())
        });
    };
    proxy.rewrite(&config(""));
    wait_for_status(&proxy, &[0, 1, 2, 3]);
    let cases: Vec<Case> = golden::json(support::golden("mgmt_proxyjs.json"));
    let mut equal = 0;
    for case in &cases {
        match case.case.as_str() {
            "status with node 1 down" => {
                admin[1] = None;
                wait_for_status(&proxy, &[0, 2, 3]);
            }
            "status after node 1 is up again (order changed)" => {
                admin[1] = Some(up(ports[1]));
                wait_for_status(&proxy, &[0, 2, 3, 1]);
            }
            "status with all nodes down" => {
                admin.fill_with(|| None);
                wait_for_status(&proxy, &[]);
            }
            "config with nested objects and extras" => {
                proxy.rewrite(&config(EXTRAS));
                eventually("the new file", || {
                    proxy.ask("config\n", 12).contains("log > ").then_some(())
                });
            }
            _ => {}
        }
        let mut console = proxy.connect("management");
        for (number, step) in case.steps.iter().enumerate() {
            let heard = exchange(&mut console, step.send.as_deref());
            let mut expected = recorded(step);
            expected.text = expected
                .text
                .replace("port: 21020", "port: 0")
                .replace("port: 21021", "port: 0");
            assert_eq!(heard, expected, "{} {number}", case.case);
            equal += 1;
        }
    }
    assert!(proxy.finish().0.success());
    println!("proxy.js' console: {equal} answers as recorded");
}

#[test]
fn a_console_that_is_left_or_silent_does_not_disturb_others() {
    let peer = UdpPeer::bind();
    let proxy = Proxy::start(Dialect::Go, json!({"nodes": [node(&peer)]}));
    let silent = proxy.connect("management");
    drop(proxy.connect("management"));
    let reset = proxy.connect("management");
    socket2::SockRef::from(&reset)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(reset);
    for _ in 0..200 {
        assert_eq!(proxy.ask("ping", 1), "pong\n");
    }
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", proxy.program.id()))
        .unwrap()
        .count();
    assert!(
        descriptors < 60,
        "{descriptors} descriptors after 200 queries"
    );
    drop(silent);
}

#[test]
fn a_console_closes_when_its_client_does() {
    let peer = UdpPeer::bind();
    for (dialect, admin) in [(Dialect::Go, "managementport"), (Dialect::Js, "adminport")] {
        let mut listed = node(&peer);
        listed[admin] = json!(0);
        let proxy = Proxy::start(dialect, json!({"nodes": [listed]}));
        let mut console = proxy.connect("management");
        console.write_all(b"health\r\n").unwrap();
        console.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        console.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "health: up\n");
    }
}

fn feed(proxy: &Proxy, datagrams: &[&[u8]], pieces: usize) {
    datagrams.iter().for_each(|datagram| proxy.send(datagram));
    let expected = format!("packets_received: {pieces}.000000\n");
    eventually("the datagrams to be counted", || {
        proxy.ask("stats", 1).ends_with(&expected).then_some(())
    });
}

/// Sends, and listens until the console is silent or closes.
fn exchange(console: &mut TcpStream, send: Option<&str>) -> Heard {
    match send {
        Some(text) => console.write_all(&golden::bytes(text)).unwrap(),
        None => console.shutdown(Shutdown::Write).unwrap(),
    }
    let mut text = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        console
            .set_read_timeout(Some(if text.is_empty() {
                SILENCE
            } else {
                SILENCE / 6
            }))
            .unwrap();
        match console.read(&mut buffer) {
            Ok(0) => {
                return Heard {
                    text: plain(&text),
                    closed: true,
                };
            }
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(reason) if matches!(reason.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Heard {
                    text: plain(&text),
                    closed: false,
                };
            }
            Err(reason) => panic!("the console failed: {reason}"),
        }
        assert!(
            text.len() < 100_000,
            "the console does not end; gave up within {PATIENCE:?}"
        );
    }
}

fn recorded(step: &Step) -> Heard {
    Heard {
        text: plain(&golden::bytes(&step.recv)),
        closed: step.after.contains("closed"),
    }
}

/// Text in which the numbers that differ from run to run are `N`.
fn plain(bytes: &[u8]) -> String {
    const VARYING: [&str; 3] = ["bytes ", "number of ", "total number"];
    let text = String::from_utf8_lossy(bytes);
    let mask = |line: &str| match line.split_once(": ") {
        Some((label, _)) if matches!(label, "uptime" | "time running in seconds") => {
            format!("{label}: N\n")
        }
        Some((label, _)) if VARYING.iter().any(|start| label.starts_with(start)) => {
            format!("{label}: N\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(mask).collect()
}
