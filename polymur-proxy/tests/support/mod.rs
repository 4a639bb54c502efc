//! What the tests of this crate share: the real binary, certificates as the captures had them, and gateways.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a failed helper is a failed test; no test file needs every helper"
)]

pub(crate) mod gateway;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
};

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use shared::testing::{
    PATIENCE, eventually,
    pki::{Authority, Issued, named, rcgen},
    process::Program,
    wire::connect,
};
use tempfile::TempDir;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_polymur-proxy");

/// A running proxy on free ports.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) program: Program,
    pub(crate) lines: SocketAddr,
    pub(crate) stat: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl Proxy {
    /// Starts the binary with `words`, to which addresses are added, and waits until it listens.
    #[track_caller]
    pub(crate) fn start(words: &[&str]) -> Self {
        let proxy = Self::begin(words);
        connect(proxy.metrics);
        proxy
    }

    /// Starts the binary and does not wait.
    #[track_caller]
    pub(crate) fn begin(words: &[&str]) -> Self {
        let [lines, stat, metrics] = std::array::from_fn(|_| loopback(port()));
        let mut command = command();
        command.args(words).args([
            format!("-listen-addr={lines}"),
            format!("-stat-addr={stat}"),
            format!("-metrics-addr={metrics}"),
        ]);
        Self {
            program: spawn(&mut command),
            lines,
            stat,
            metrics,
        }
    }

    /// Sends bytes over a connection of their own, which is closed.
    #[track_caller]
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut stream = connect(self.lines);
        stream.write_all(bytes).unwrap();
    }

    /// Returns the value of a sample of the metrics page, named as the page writes it, without the tool's prefix.
    #[track_caller]
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        let page = fetch(self.metrics, "/metrics");
        let prefix = format!("polymur_proxy_{sample} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&prefix));
        let value = value.unwrap_or_else(|| panic!("no {sample} in {page}"));
        value.parse::<f64>().unwrap() as u64
    }

    /// Asks for the end and waits for it.
    #[track_caller]
    pub(crate) fn finish(&mut self) -> (ExitStatus, Summary) {
        self.program.signal(Signal::SIGTERM);
        let status = self.wait();
        (status, self.summary())
    }

    /// Waits for the end, which may take as long as a drain may.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.program.wait()
    }

    /// What the log says of all lines.
    #[track_caller]
    pub(crate) fn summary(&self) -> Summary {
        let line = self.program.wait_for_line(" drained ");
        let number = |name: &str| {
            let prefix = format!("{name}=");
            let found = line.split(' ').find_map(|word| word.strip_prefix(&prefix));
            found.unwrap().parse().unwrap()
        };
        Summary {
            taken: number("lines_taken"),
            sent: number("lines_sent"),
            dropped: number("lines_dropped"),
            spooled: number("lines_spooled"),
        }
    }
}

/// What a proxy says of its lines when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) taken: u64,
    pub(crate) sent: u64,
    pub(crate) dropped: u64,
    pub(crate) spooled: u64,
}

/// The binary with nothing in its environment that could matter.
pub(crate) fn command() -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().env("TZ", "UTC");
    command
}

/// Reads a page of the metrics port.
#[track_caller]
pub(crate) fn fetch(address: SocketAddr, path: &str) -> String {
    let mut stream = connect(address);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Held while a process is started: until it runs, it has copies of all sockets of this one, and keeps their ports busy.
static SPAWNING: Mutex<()> = Mutex::new(());

/// Starts a process.
#[track_caller]
pub(crate) fn spawn(command: &mut Command) -> Program {
    let _turn = SPAWNING.lock();
    Program::spawn(command)
}

/// Returns a free TCP port of loopback that no outgoing connection can take meanwhile, as those of the system's own choice can.
#[track_caller]
pub(crate) fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let _turn = SPAWNING.lock();
    eventually("a free port", || {
        // Processes begin at different places: test files may run side by side.
        let start = std::process::id() % 150 * 130;
        let candidate = 12_000 + (start as u16 + NEXT.fetch_add(1, Relaxed)) % 20_000;
        TcpListener::bind(loopback(candidate))
            .ok()
            .map(|_free| candidate)
    })
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Waits until `count` gives `wanted` or more, and returns what it gives.
#[track_caller]
pub(crate) fn wait_for_count(what: &str, wanted: u64, count: impl Fn() -> u64) -> u64 {
    eventually(&format!("{wanted} {what}; there are {}", count()), || {
        let now = count();
        (now >= wanted).then_some(now)
    })
}

/// Certificates like those of the captures: see the golden README.
#[derive(Debug)]
pub(crate) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Authority::new("ca");
        let here = ["localhost", "127.0.0.1"];
        let write = |name: &str, issued: &Issued| drop(issued.write(folder.path(), name));
        let own = |is_ca: rcgen::IsCa, names: &[&str]| {
            let mut params = named(names);
            params.is_ca = is_ca;
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, "localhost");
            Issued::by_itself(&params)
        };
        let authority = || rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let server = ca.issue(&named(&here));
        write("server", &server);
        write("self_ca", &own(authority(), &here));
        write("self_nosan", &own(authority(), &[]));
        let self_leaf = own(rcgen::IsCa::ExplicitNoCa, &here);
        write("self_leaf", &self_leaf);
        let mut nosan = named(&[]);
        nosan
            .distinguished_name
            .push(rcgen::DnType::CommonName, "localhost");
        write("nosan", &ca.issue(&nosan));
        write("wronghost", &ca.issue(&named(&["other.example"])));
        let mut expired = named(&here);
        expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
        expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
        write("expired", &ca.issue(&expired));
        let text = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        text("ca.pem", ca.pem());
        text("two.pem", self_leaf.certificate + &ca.pem());
        text("garbage_then_ca.pem", format!("some text\n{}", ca.pem()));
        text("key_then_ca.pem", server.key + &ca.pem());
        text("notpem.pem", "plain text\n".to_owned());
        Self { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a server shows that has the certificate `name`.
    pub(crate) fn server(&self, name: &str) -> gateway::Tls {
        gateway::Tls::new(
            &fs::read(self.path(&format!("{name}.pem"))).unwrap(),
            &fs::read(self.path(&format!("{name}.key"))).unwrap(),
            &[&rustls::version::TLS13, &rustls::version::TLS12],
        )
    }
}

/// A file of recorded data.
pub(crate) fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(path)
}

/// Returns the lines `m.<i> <i> <1500000000+i>` of the captures.
pub(crate) fn numbered(range: std::ops::Range<u64>) -> Vec<u8> {
    use std::fmt::Write as _;
    let mut text = String::new();
    for i in range {
        writeln!(text, "m.{i} {i} {}", 1_500_000_000 + i).unwrap();
    }
    text.into_bytes()
}

/// Opens a connection that can be read with a time limit.
#[track_caller]
pub(crate) fn open(address: SocketAddr) -> TcpStream {
    let stream = connect(address);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}
