//! What the tests of this crate share: the real binary, started with a configuration, and how to ask it things.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a failed helper is a failed test; no test file needs every helper"
)]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use shared::testing::{PATIENCE, eventually, process::Program, wire::UdpPeer};
use tempfile::TempDir;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_statsd-proxy");

/// Whose configuration a proxy is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Go,
    Js,
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) program: Program,
    pub(crate) directory: TempDir,
    up: String,
    socket: UdpSocket,
}

impl Proxy {
    /// Starts the binary with `config`, to which free ports on loopback are added where it has none.
    #[track_caller]
    pub(crate) fn start(dialect: Dialect, mut config: Value) -> Self {
        let defaults = match dialect {
            Dialect::Go => json!({"host": "127.0.0.1", "port": 0, "managementport": 0}),
            Dialect::Js => {
                json!({"address": "127.0.0.1", "port": 0, "mgmt_port": 0, "mgmt_address": "127.0.0.1"})
            }
        };
        for (key, value) in defaults.as_object().unwrap() {
            config
                .as_object_mut()
                .unwrap()
                .entry(key)
                .or_insert(value.clone());
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let name = if dialect == Dialect::Go {
            "go-statsd-proxy"
        } else {
            "statsd"
        };
        let file = file.to_str().unwrap();
        let program = Program::start(BINARY, ["-f", file, "-dialect", name]);
        let up = program.wait_for_line("server is up");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        Self {
            program,
            directory,
            up,
            socket,
        }
    }

    /// The address of a listener: `udp`, `tcp`, `management`, `metrics`.
    #[track_caller]
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        let prefix = format!("{listener}=");
        let found = self
            .up
            .split(' ')
            .find_map(|word| word.strip_prefix(&prefix));
        found
            .unwrap_or_else(|| panic!("no {listener} in {:?}", self.up))
            .parse()
            .unwrap()
    }

    /// Sends a datagram, always from the same port.
    pub(crate) fn send(&self, datagram: &[u8]) {
        let sent = self.socket.send_to(datagram, self.address("udp")).unwrap();
        assert_eq!(sent, datagram.len());
    }

    /// Opens a connection to a listener.
    pub(crate) fn connect(&self, listener: &str) -> TcpStream {
        let stream = TcpStream::connect(self.address(listener)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends one console query and reads one answer of `lines` lines.
    pub(crate) fn ask(&self, query: &str, lines: usize) -> String {
        let mut stream = self.connect("management");
        stream.write_all(query.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while answer.iter().filter(|byte| **byte == b'\n').count() < lines {
            let mut buffer = [0; 4_096];
            let length = stream.read(&mut buffer).unwrap();
            assert!(length > 0, "the console closed after {answer:?}");
            answer.extend_from_slice(&buffer[..length]);
        }
        String::from_utf8(answer).unwrap()
    }

    /// Writes the configuration anew and asks for a reload.
    pub(crate) fn rewrite(&self, text: &str) {
        std::fs::write(self.directory.path().join("config.json"), text).unwrap();
        self.program.signal(Signal::SIGHUP);
    }

    /// Reads `/metrics`.
    pub(crate) fn metrics(&self) -> Metrics {
        let mut stream = self.connect("metrics");
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        Metrics(page)
    }

    /// Sends SIGTERM, waits for the end, and returns the status with the summary's numbers.
    #[track_caller]
    pub(crate) fn finish(&mut self) -> (ExitStatus, Summary) {
        let status = self.program.terminate();
        let line = self.program.wait_for_line("drained");
        let number = |name: &str| {
            let prefix = format!("{name}=");
            line.split(' ')
                .find_map(|word| word.strip_prefix(&prefix))
                .unwrap()
                .parse()
                .unwrap()
        };
        let summary = Summary {
            received: number("lines_received"),
            sent: number("lines_sent"),
            dropped: number("lines_dropped"),
        };
        (status, summary)
    }
}

/// What a proxy says of its lines when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) received: usize,
    pub(crate) sent: usize,
    pub(crate) dropped: usize,
}

/// A page of metrics.
#[derive(Debug)]
pub(crate) struct Metrics(pub(crate) String);

impl Metrics {
    /// The sample with this name and these labels as printed, 0 if there is none.
    pub(crate) fn value(&self, sample: &str) -> f64 {
        let value = |line: &str| {
            line.strip_prefix(sample)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        };
        self.0.lines().find_map(value).unwrap_or(0.0)
    }

    /// The sum of all samples of a family.
    pub(crate) fn sum(&self, family: &str) -> f64 {
        let samples = self.0.lines().filter(|line| {
            line.strip_prefix(family)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        samples
            .map(|line| {
                line.rsplit(' ')
                    .next()
                    .unwrap()
                    .trim()
                    .parse::<f64>()
                    .unwrap()
            })
            .sum()
    }
}

/// The folder of recorded data.
pub(crate) fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/statsd-proxy")
        .join(file)
}

/// A node as a configuration names it.
pub(crate) fn node(peer: &UdpPeer) -> Value {
    json!({"host": "127.0.0.1", "port": peer.port()})
}

/// Waits until `count` lines have arrived at `peers` in all, and returns how many there are.
#[track_caller]
pub(crate) fn wait_for_lines(peers: &[&UdpPeer], count: usize) -> usize {
    let arrived = || peers.iter().map(|peer| peer.line_count()).sum::<usize>();
    eventually(
        &format!("{count} lines; {} have arrived", arrived()),
        || {
            let arrived = arrived();
            (arrived >= count).then_some(arrived)
        },
    )
}

/// The pause between polls where a test has to let time pass, as between two health checks.
pub(crate) const TICK: Duration = Duration::from_millis(5);
