//! The real program: started with a configuration, and asked over its sockets.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a failed helper is a failed test; no test file needs every helper"
)]

pub(crate) mod client;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use shared::testing::{PATIENCE, eventually, process::Program};
use tokio::task::block_in_place;

const BINARY: &str = env!("CARGO_BIN_EXE_veneur-proxy");

/// Writes a configuration to a file of its own.
pub(crate) fn config_file(text: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{number}.yaml", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path
}

/// What a program that ends by itself said.
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program to its end.
pub(crate) fn run(words: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(BINARY);
    command.args(words).envs(variables.iter().copied());
    let mut program = Program::spawn(&mut command);
    let status = program.wait().code();
    Ended {
        status,
        stdout: program.stdout().join("\n"),
        stderr: program.stderr().join("\n"),
    }
}

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) program: Program,
}

impl Proxy {
    /// Starts it with a configuration.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_with(config, &[], &[])
    }

    pub(crate) fn start_with(config: &str, words: &[&str], variables: &[(&str, &str)]) -> Self {
        let path = config_file(config);
        let mut command = Command::new(BINARY);
        command
            .arg("-f")
            .arg(path)
            .args(words)
            .envs(variables.iter().copied());
        Self {
            program: Program::spawn(&mut command),
        }
    }

    /// Returns the most memory that it ever had, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.program.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
        kilobytes.parse::<usize>().unwrap() * 1024
    }

    /// Waits until HTTP is served; returns where.
    pub(crate) fn http(&self) -> SocketAddr {
        self.address("HTTP server listening", 0)
    }

    /// Waits until gRPC is served; returns where. With TLS too, the plain one comes first.
    pub(crate) fn grpc(&self) -> SocketAddr {
        self.address("Starting gRPC server", 0)
    }

    pub(crate) fn grpc_tls(&self) -> SocketAddr {
        self.address("Starting gRPC server", 1)
    }

    fn address(&self, text: &str, place: usize) -> SocketAddr {
        shared::testing::eventually(
            &format!("{text}; stderr: {:#?}", self.program.stderr()),
            || {
                let lines = self.program.stderr();
                let line = lines.iter().filter(|line| line.contains(text)).nth(place)?;
                let (_, address) = line.split_once("address=\"")?;
                address.trim_end_matches('"').parse().ok()
            },
        )
    }
}

/// Waits until the proxy says that it can forward.
pub(crate) fn ready(http: SocketAddr) {
    block_in_place(|| {
        eventually("readiness", || {
            (get(http, "/healthcheck/ready").status == 200).then_some(())
        });
    });
}

/// Reads a number of the line that the program ends with.
pub(crate) fn number(line: &str, key: &str) -> usize {
    let (_, rest) = line.split_once(&format!(" {key}=")).unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

/// An answer by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Sends raw bytes and reads the answer until the connection ends.
pub(crate) fn raw(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    parse(&bytes)
}

pub(crate) fn parse(bytes: &[u8]) -> Answer {
    let mut rest = bytes;
    loop {
        let end = rest
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(rest[..end].to_vec()).unwrap();
        rest = &rest[end + 4..];
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        // What asks for the body comes first.
        if status != 100 {
            return Answer {
                status,
                head,
                body: rest.to_vec(),
            };
        }
    }
}

/// Asks for a page.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n");
    raw(address, request.as_bytes())
}

/// Brings metrics.
pub(crate) fn post(address: SocketAddr, headers: &str, body: &[u8]) -> Answer {
    let length = body.len();
    let head = format!(
        "POST /import HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    raw(address, &[head.as_bytes(), body].concat())
}
