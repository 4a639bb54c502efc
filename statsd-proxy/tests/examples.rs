//! What `deploy/` says of this tool is true: every example passes `-check-config`; every example, moved to free ports,
//! relays a line and ends in order; dashboard and alerts use metrics that exist.

#![expect(clippy::unwrap_used, reason = "a failed test helper is a failed test")]

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::{Read as _, Write as _},
    iter,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use shared::testing::{
    eventually,
    process::Program,
    wire::{TcpPeer, UdpPeer, free_tcp_port, free_udp_port},
};
use statsd_proxy::{
    config::{Dialect, parse},
    placement::Placement,
};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_statsd-proxy");
const NAME: &str = "gorets";
const LINE: &str = "gorets:1|c";
const HEALTHY: &[u8] = b"health: up\n";
const LOOPBACK: &str = "127.0.0.1";

#[test]
fn every_example_passes_check_config_without_unknown_keys() {
    for example in examples() {
        let words = [
            "-check-config",
            dialect_flag(&example),
            "-f",
            text_of(&example),
        ];
        let mut check = Program::start(PROGRAM, words);
        let status = check.wait();
        let said = check.stdout().join("\n");
        assert!(status.success(), "{said}");
        assert!(!said.contains("unknown key"), "{said}");
    }
}

#[test]
fn the_kubernetes_configuration_passes_check_config() {
    let manifest = read("kubernetes/statsd-proxy.yaml");
    let (_, rest) = manifest.split_once("  statsdproxy.json: |\n").unwrap();
    let indented = rest.lines().map_while(|line| line.strip_prefix("    "));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("statsdproxy.json");
    fs::write(&file, indented.collect::<String>()).unwrap();
    let mut check = Program::start(PROGRAM, ["-check-config", "-f", text_of(&file)]);
    let status = check.wait();
    let said = check.stdout().join("\n");
    assert!(
        status.success() && said.ends_with("ok, 0 warning(s)"),
        "{said}"
    );
}

#[test]
fn every_example_relays_a_line_and_ends_in_order() {
    for example in examples() {
        let stage = Stage::build(&example);
        let words = [dialect_flag(&example), "-f", text_of(&stage.file)];
        let mut proxy = Program::start(PROGRAM, words);
        proxy.wait_for_line("server is up");
        stage.send();
        let config = parse(&stage.text, dialect(&example), None).unwrap().config;
        let placement = Placement::new(&config);
        let mut owners = placement.nodes(NAME.as_bytes());
        assert!(!owners.is_empty(), "{}", example.display());
        owners.sort_unstable();
        let what = format!("the line of {} at {owners:?}", example.display());
        eventually(&what, || (stage.where_lines_are() == owners).then_some(()));
        let status = proxy.terminate();
        let log = [proxy.stdout(), proxy.stderr()];
        assert_eq!(status.code(), Some(0), "{} {log:#?}", example.display());
        assert_eq!(
            stage.where_lines_are(),
            owners,
            "{} {log:#?}",
            example.display()
        );
    }
}

#[test]
fn dashboard_and_alerts_use_metrics_that_exist() {
    let dashboard = read("dashboards/statsd-proxy.json");
    let _valid: Value = serde_json::from_str(&dashboard).unwrap();
    let exposed = exposed_metrics();
    for text in [dashboard, read("alerts/statsd-proxy.yaml")] {
        let used = metrics_in(&text);
        assert!(used.len() > 5, "{used:?}");
        let unknown: Vec<_> = used.difference(&exposed).collect();
        assert!(unknown.is_empty(), "not exposed: {unknown:?}");
    }
}

/// An example on free ports of loopback, and everything that it talks to.
struct Stage {
    /// Holds the rewritten example and the sockets that it opens.
    _directory: TempDir,
    file: PathBuf,
    text: String,
    /// Where the proxy takes lines by UDP.
    port: u16,
    /// By label, as rings know them.
    backends: HashMap<String, Backend>,
    /// They answer health checks.
    _management: Vec<TcpPeer>,
    /// Takes the proxy's own numbers.
    _self_metrics: UdpPeer,
}

impl Stage {
    fn build(example: &Path) -> Self {
        // JSON is JSON5, so this reads both kinds.
        let mut document: Value = json5::from_str(&fs::read_to_string(example).unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (port, self_metrics) = (free_udp_port(), UdpPeer::bind());
        let top = document.as_object_mut().unwrap();
        move_listeners(top, dialect(example), port, directory.path());
        if let Some(settings) = top.get_mut("selfMetrics") {
            settings["address"] = json!(self_metrics.address().to_string());
        }
        let mut moved = Moved::default();
        moved.nodes(top);
        let groups = top.get_mut("groups").and_then(Value::as_array_mut);
        for group in groups.into_iter().flatten() {
            moved.nodes(group.as_object_mut().unwrap());
        }
        let text = document.to_string();
        let file = directory.path().join(example.file_name().unwrap());
        fs::write(&file, &text).unwrap();
        Self {
            _directory: directory,
            file,
            text,
            port,
            backends: moved.backends,
            _management: moved.management,
            _self_metrics: self_metrics,
        }
    }

    fn send(&self) {
        let sender = UdpSocket::bind(loopback(0)).unwrap();
        let sent = sender.send_to(LINE.as_bytes(), loopback(self.port));
        assert_eq!(sent.unwrap(), LINE.len());
    }

    /// Returns the labels of the backends that have lines, each once per line.
    fn where_lines_are(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = self
            .backends
            .iter()
            .flat_map(|(label, backend)| iter::repeat_n(label.as_str(), backend.line_count()))
            .collect();
        labels.sort_unstable();
        labels
    }
}

enum Backend {
    Udp(UdpPeer),
    Tcp(TcpPeer),
}

impl Backend {
    fn port(&self) -> u16 {
        match self {
            Self::Udp(peer) => peer.port(),
            Self::Tcp(peer) => peer.port(),
        }
    }

    fn line_count(&self) -> usize {
        match self {
            Self::Udp(peer) => peer.line_count(),
            Self::Tcp(peer) => peer.line_count(),
        }
    }
}

/// Gives every listener a free port of loopback, or a path in `directory`.
fn move_listeners(top: &mut Map<String, Value>, dialect: Dialect, port: u16, directory: &Path) {
    let (address, management) = match dialect {
        Dialect::GoStatsdProxy => ("host", "managementport"),
        Dialect::Statsd => ("address", "mgmt_port"),
    };
    top.insert(address.to_owned(), json!(LOOPBACK));
    top.insert("port".to_owned(), json!(port));
    top.insert(management.to_owned(), json!(free_tcp_port()));
    let places = [
        ("tcpPort", json!(free_tcp_port())),
        (
            "metricsAddress",
            json!(loopback(free_tcp_port()).to_string()),
        ),
        ("unixStream", json!(directory.join("stream"))),
        ("unixDatagram", json!(directory.join("datagram"))),
    ];
    for (key, place) in places {
        if let Some(value) = top.get_mut(key) {
            *value = place;
        }
    }
}

/// Backends in place of an example's nodes.
#[derive(Default)]
struct Moved {
    backends: HashMap<String, Backend>,
    management: Vec<TcpPeer>,
}

impl Moved {
    fn nodes(&mut self, section: &mut Map<String, Value>) {
        for node in section["nodes"].as_array_mut().unwrap() {
            let backend = match node.get("protocol").and_then(Value::as_str) {
                Some("tcp") => Backend::Tcp(TcpPeer::bind()),
                _ => Backend::Udp(UdpPeer::bind()),
            };
            let port = backend.port();
            node["host"] = json!(LOOPBACK);
            node["port"] = json!(port);
            self.backends.insert(format!("{LOOPBACK}:{port}"), backend);
            for key in ["managementport", "adminport"] {
                if let Some(value) = node.get_mut(key) {
                    let peer = TcpPeer::answering(loopback(0), Some(HEALTHY));
                    *value = json!(peer.port());
                    self.management.push(peer);
                }
            }
        }
    }
}

/// Returns the names of all families of the metrics page, once every family has a sample.
fn exposed_metrics() -> BTreeSet<String> {
    let directory = tempfile::tempdir().unwrap();
    let (port, metrics) = (free_udp_port(), free_tcp_port());
    // Nothing listens at the node: the family of lines lost on the way shows only once one is lost.
    let document = json!({
        "host": LOOPBACK, "port": port, "managementport": free_tcp_port(),
        "metricsAddress": loopback(metrics).to_string(),
        "nodes": [{"host": LOOPBACK, "port": free_udp_port()}],
    });
    let file = directory.path().join("metrics.json");
    fs::write(&file, document.to_string()).unwrap();
    let proxy = Program::start(PROGRAM, ["-f", text_of(&file)]);
    proxy.wait_for_line("server is up");
    let sender = UdpSocket::bind(loopback(0)).unwrap();
    let page = eventually("a refused line on the metrics page", || {
        sender.send_to(LINE.as_bytes(), loopback(port)).unwrap();
        let page = fetch(loopback(metrics), "/metrics");
        page.contains("\nstatsd_proxy_node_lines_dropped_total{")
            .then_some(page)
    });
    let family = |line: &str| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned());
    page.lines().filter_map(family).collect()
}

fn fetch(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 OK\r\n"), "{answer}");
    answer
}

/// Returns all words that look like metrics of this tool or of its process.
fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("statsd_proxy_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// Returns the example files, in order of name.
fn examples() -> Vec<PathBuf> {
    let entries = fs::read_dir(deploy().join("examples/statsd-proxy")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 7, "{files:?}");
    files
}

fn read(path: &str) -> String {
    fs::read_to_string(deploy().join(path)).unwrap()
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// JavaScript is for the dialect of `proxy.js`.
fn dialect(example: &Path) -> Dialect {
    match text_of(example).rsplit('.').next() {
        Some("js") => Dialect::Statsd,
        Some("json") => Dialect::GoStatsdProxy,
        _ => panic!("neither .json nor .js: {}", example.display()),
    }
}

fn dialect_flag(example: &Path) -> &'static str {
    match dialect(example) {
        Dialect::Statsd => "-dialect=statsd",
        Dialect::GoStatsdProxy => "-dialect=go-statsd-proxy",
    }
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
