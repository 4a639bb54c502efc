//! The recorded command lines, configuration errors and signals through the real binary.
//!
//! Compared are the exit status and the log lines that people grep for. Ports are replaced by free ones. Each case that
//! differs from the original stands in [`DEVIATIONS`] with its reason.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::{fs, net::UdpSocket};

use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::testing::{
    eventually, golden,
    process::Program,
    wire::{UdpPeer, free_tcp_port, free_udp_port},
};
use support::{BINARY, Dialect, Proxy, node};

#[derive(Deserialize)]
struct Case {
    #[serde(rename = "case")]
    name: String,
    args: Vec<String>,
    #[serde(default)]
    config: Option<Value>,
    #[serde(default)]
    datagrams_sent: Vec<String>,
    exited_by_itself: bool,
    #[serde(default)]
    signal_sent: Option<String>,
    exit_code: Option<i32>,
    stderr: String,
}

/// How a case ends here, where that is not as recorded.
enum Ours {
    /// With this exit status, by itself.
    Exits(i32),
    /// Running, until it is stopped.
    Runs,
}

use Ours::{Exits, Runs};

const DEVIATIONS: &[(&str, Ours, &str)] = &[
    ("missing file", Exits(1), "18: configuration errors exit 1"),
    ("empty file", Exits(1), "18"),
    ("broken JSON", Exits(1), "18"),
    ("comment in file", Exits(1), "18"),
    ("trailing data", Exits(1), "18"),
    ("top level array", Exits(1), "18"),
    ("port as string", Exits(1), "18"),
    ("port as 21010.0", Exits(1), "18"),
    ("mirror as string", Exits(1), "18"),
    ("nodes as object", Exits(1), "18"),
    ("checkInterval 1.5", Exits(1), "18"),
    ("port 70000", Exits(1), "18: no listener, no process"),
    ("host not on this machine", Exits(1), "18"),
    ("both ports in use", Exits(1), "18"),
    (
        "managementport 70000",
        Exits(1),
        "2.1: invalid values exit 1 with the key named",
    ),
    (
        "node with bad port, then a metric",
        Exits(1),
        "20a: no crash; 2.1: invalid values exit 1",
    ),
    (
        "node host ::1 without brackets, then a metric",
        Runs,
        "20a: no crash",
    ),
    ("signal SIGQUIT", Exits(-3), "1: may exit without a dump"),
];

/// Cases that end as recorded and log otherwise, with the reason.
const OTHER_LOG: &[(&str, &str)] = &[
    ("null", "2.1: the default ports are 8125 and 8126"),
    ("empty object", "2.1: the default ports are 8125 and 8126"),
    (
        "managementport missing",
        "2.1: the default management port is 8126",
    ),
    (
        "node with adminport instead of managementport",
        "2.1: adminport is an alias",
    ),
];

/// Recorded lines that other programs and people may look for, and that must come when they did.
const KEPT: [&str; 6] = [
    "Starting StatsD listener on ",
    "Starting Management listener on ",
    "no management port on backend ",
    "Error setting up listener: ",
    "Unable to get backend for metric: ",
    "Malformatted metric: ",
];

#[test]
fn go_statsd_proxy_command_lines() {
    let cases: Vec<Case> = golden::json(support::golden("cli_go.json"));
    let (mut equal, mut deviating) = (0, 0);
    for case in &cases {
        let deviation = DEVIATIONS.iter().find(|(name, ..)| *name == case.name);
        run(case, deviation.map(|(_, ours, _)| ours));
        if deviation.is_some() {
            deviating += 1;
        } else {
            equal += 1;
        }
    }
    assert_eq!(deviating, DEVIATIONS.len(), "a deviation names no case");
    println!("{equal} command lines end as recorded, {deviating} by fixes of the specification");
}

fn run(case: &Case, deviation: Option<&Ours>) {
    let name = &case.name;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.json");
    let ports = Ports::free();
    if let Some(config) = &case.config {
        let text = config
            .as_str()
            .map_or_else(|| config.to_string(), str::to_owned);
        fs::write(&file, ports.replace(&text)).unwrap();
    }
    let taken =
        (name == "both ports in use").then(|| UdpSocket::bind(("127.0.0.1", ports.udp)).unwrap());
    let args = case
        .args
        .iter()
        .map(|word| word.replace("x.json", file.to_str().unwrap()));
    let mut program = Program::start(BINARY, args);
    let exits = match deviation {
        Some(Exits(status)) if *status >= 0 => Some(*status),
        Some(_) => None,
        None => case.exited_by_itself.then(|| case.exit_code.unwrap()),
    };
    if let Some(status) = exits {
        assert_eq!(
            program.wait().code(),
            Some(status),
            "{name}: {:?}",
            program.stderr()
        );
        compare_log(case, &program, &ports);
        if status != 0 {
            assert!(
                !program.stderr().is_empty(),
                "{name}: an error says nothing"
            );
        }
        return;
    }
    program.wait_for_line("server is up");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for datagram in &case.datagrams_sent {
        socket
            .send_to(datagram.as_bytes(), ("127.0.0.1", ports.udp))
            .unwrap();
    }
    compare_log(case, &program, &ports);
    drop(taken);
    match case.signal_sent.as_deref() {
        Some(signal) => program.signal(
            format!("SIG{}", signal.trim_start_matches("SIG"))
                .parse::<Signal>()
                .unwrap(),
        ),
        None => program.signal(Signal::SIGTERM),
    }
    match (deviation, case.exit_code) {
        (Some(Exits(_)), _) => assert!(!program.wait().success(), "{name}"),
        (None, Some(status)) => assert_eq!(
            program.wait().code(),
            Some(status),
            "{name}: {:?}",
            program.stderr()
        ),
        (Some(Runs), _) | (None, None) => {
            assert!(program.exited().is_none(), "{name}");
            assert!(
                program.terminate().success(),
                "{name}: {:?}",
                program.stderr()
            );
        }
    }
}

/// Every recorded line of [`KEPT`] must come, in any order.
fn compare_log(case: &Case, program: &Program, ports: &Ports) {
    if OTHER_LOG.iter().any(|(name, _)| *name == case.name) {
        return;
    }
    let recorded = case
        .stderr
        .lines()
        .map(|line| line.trim_start_matches("<date time> "));
    let own_name = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for line in recorded.filter(|line| KEPT.iter().any(|kept| line.starts_with(kept))) {
        let line = ports.replace(line).replace("<hostname>", &own_name);
        // Invalid numbers are refused before anything is started.
        if line.contains("70000")
            || case
                .config
                .as_ref()
                .is_some_and(|config| config.to_string().contains("70000"))
        {
            continue;
        }
        let found = eventually(
            &format!("{}: {line:?} in {:#?}", case.name, program.stderr()),
            || {
                program
                    .stderr()
                    .into_iter()
                    .find(|ours| ours.contains(&line))
            },
        );
        let time = &found.as_bytes()[..20];
        assert!(
            time[4] == b'/' && time[7] == b'/' && time[13] == b':' && time[19] == b' ',
            "{found}"
        );
    }
}

/// Free ports in place of the recorded ones.
struct Ports {
    udp: u16,
    management: u16,
}

impl Ports {
    fn free() -> Self {
        Self {
            udp: free_udp_port(),
            management: free_tcp_port(),
        }
    }

    fn replace(&self, text: &str) -> String {
        text.replace("21010", &self.udp.to_string())
            .replace("21011", &self.management.to_string())
    }
}

#[test]
fn check_config_reports_every_problem_with_its_key_and_exits_0_or_1() {
    let f = |config: &str, dialect: &str, status: i32, expected: &[&str]| {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c");
        fs::write(&file, config).unwrap();
        let mut program = Program::start(
            BINARY,
            [
                "-f",
                file.to_str().unwrap(),
                "-dialect",
                dialect,
                "-check-config",
            ],
        );
        assert_eq!(program.wait().code(), Some(status), "{config}");
        let out = program.stdout().join("\n");
        for text in expected {
            assert!(out.contains(text), "{config}: {text:?} is not in {out:?}");
        }
    };
    f(
        r#"{"nodes": [{"host": "a", "port": 1}], "colour": 1}"#,
        "go-statsd-proxy",
        0,
        &["warning: colour: unknown key", "ok, 1"],
    );
    f(
        r#"{"nodes": [{"host": "a", "port": 99999}], "ring": "x"}"#,
        "go-statsd-proxy",
        1,
        &["error: nodes[0].port: 99999", "error: ring: \"x\""],
    );
    f("{", "go-statsd-proxy", 1, &["error: ", "line 1"]);
    // A misspelt key explains the missing one.
    f(
        r#"{"nodes": [{"host": "a", "prt": 1}]}"#,
        "go-statsd-proxy",
        1,
        &[
            "error: nodes[0].port: is required",
            "warning: nodes[0].prt: unknown key",
        ],
    );
    f("{port: 8125}", "statsd", 1, &["error: nodes: at least one"]);
    f(
        "{nodes: [{host: 'a', port: 1, adminport: 2}], port: 8125, /* c */}",
        "statsd",
        0,
        &["ok, 0 warning(s)"],
    );
}

#[test]
fn where_prints_the_nodes_that_lines_then_go_to() {
    let peers = [UdpPeer::bind(), UdpPeer::bind(), UdpPeer::bind()];
    let config = json!({"nodes": peers.iter().map(node).collect::<Vec<_>>()});
    let proxy = Proxy::start(Dialect::Go, config);
    let file = proxy.directory.path().join("config.json");
    let names: Vec<String> = (0..30).map(|i| format!("name.{i}")).collect();
    let mut asked = Program::start(
        BINARY,
        ["-f", file.to_str().unwrap(), "--where"]
            .iter()
            .map(|word| (*word).to_owned())
            .chain(names.clone()),
    );
    assert!(asked.wait().success());
    for line in asked.stdout() {
        let (name, label) = line.split_once('\t').unwrap();
        proxy.send(format!("{name}:1|c").as_bytes());
        let port: u16 = label.rsplit(':').next().unwrap().parse().unwrap();
        let peer = peers.iter().find(|peer| peer.port() == port).unwrap();
        let expected = format!("{name}:1|c").into_bytes();
        eventually(&line, || peer.datagrams().contains(&expected).then_some(()));
    }
    assert_eq!(asked.stdout().len(), names.len());
}

#[test]
fn a_port_in_use_exits_1_even_by_a_socket_that_shares_ports() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    let address: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&address.into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.json");
    let config = json!({"host": "127.0.0.1", "port": port, "sockets": 4, "nodes": [{"host": "127.0.0.1", "port": 9}]});
    fs::write(&file, config.to_string()).unwrap();
    let mut program = Program::start(BINARY, ["-f", file.to_str().unwrap()]);
    assert_eq!(program.wait().code(), Some(1));
    let text = format!(
        "Error setting up listener: listen udp 127.0.0.1:{port}: bind: address already in use (exiting...)"
    );
    assert!(
        program.stderr().iter().any(|line| line.ends_with(&text)),
        "{:?}",
        program.stderr()
    );
}

#[test]
fn startup_says_the_ring_and_each_nodes_share() {
    let nodes: Vec<Value> = (1..=3)
        .map(|port| json!({"host": "127.0.0.1", "port": port}))
        .collect();
    let proxy = Proxy::start(Dialect::Go, json!({"nodes": nodes.clone()}));
    let line = proxy.program.wait_for_line("ring statsd:");
    let shares: f64 = line
        .split(' ')
        .filter_map(|word| word.parse::<f64>().ok())
        .sum();
    assert!((shares - 100.0).abs() < 0.2, "{line}");
    let proxy = Proxy::start(
        Dialect::Go,
        json!({"nodes": nodes, "ring": "go-statsd-proxy"}),
    );
    proxy
        .program
        .wait_for_line("the ring go-statsd-proxy sends everything to two nodes");
}

#[test]
fn malformed_lines_are_logged_at_a_limited_rate() {
    let peer = UdpPeer::bind();
    let mut proxy = Proxy::start(Dialect::Go, json!({"nodes": [node(&peer)]}));
    for _ in 0..2_000 {
        proxy.send(b"garbage");
    }
    proxy.send(b"a:1|c");
    support::wait_for_lines(&[&peer], 1);
    proxy.finish();
    let logged = proxy
        .program
        .stderr()
        .iter()
        .filter(|line| line.contains("Malformatted metric: garbage"))
        .count();
    assert!(
        (1..20).contains(&logged),
        "{logged} lines for 2000 malformed lines"
    );
}
