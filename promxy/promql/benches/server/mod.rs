//! A Prometheus server to compare with: what requests cost it in processor time and in memory.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::repeated;

pub(crate) mod remote_write;

/// How a server deals with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// As it likes.
    Usual,
    /// It collects garbage all the time and gives everything back, so that it grows by little more than what it holds.
    Tight,
}

/// A server on a folder, which ends with this value.
pub(crate) struct Prometheus {
    process: Child,
    port: u16,
}

impl Prometheus {
    pub(crate) fn start(
        server: &Path,
        blocks: &Path,
        memory: Memory,
    ) -> Result<Self, Box<dyn Error>> {
        let config = blocks.with_extension("yml");
        fs::write(&config, "global: {}\n")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(server);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", blocks.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--storage.tsdb.retention.time=100y", "--query.timeout=20m"])
            .args(["--query.max-samples=500000000", "--log.level=error"])
            .args(["--web.enable-remote-write-receiver", "--no-auto-gomemlimit"])
            .arg("--enable-feature=promql-experimental-functions,native-histograms")
            .env("GOMAXPROCS", "1")
            .stderr(Stdio::null());
        if memory == Memory::Tight {
            command.env("GOGC", "10").env("GOMEMLIMIT", "1MiB");
        }
        let prometheus = Self {
            process: command.spawn()?,
            port,
        };
        for _ in 0..600 {
            if prometheus
                .get("/-/ready")
                .is_ok_and(|answer| answer.contains("200 OK"))
            {
                return Ok(prometheus);
            }
            sleep(Duration::from_millis(200));
        }
        Err("Prometheus does not get ready".into())
    }

    /// Waits, for a limited time, until it has nothing more to do with its own data.
    pub(crate) fn rest(&self) {
        let process = self.process.id().to_string();
        let mut quiet = 0;
        let mut before = processor_time(&process);
        for _ in 0..600 {
            sleep(Duration::from_millis(200));
            let now = processor_time(&process);
            quiet = if now.saturating_sub(before) < Duration::from_millis(30) {
                quiet + 1
            } else {
                0
            };
            before = now;
            if quiet > 20 {
                return;
            }
        }
    }

    fn get(&self, path: &str) -> Result<String, Box<dyn Error>> {
        self.answer(&format!("GET {path} HTTP/1.1"), "", &[])
    }

    /// Sends a message of the remote write protocol.
    pub(crate) fn write(&self, message: &[u8]) -> Result<(), Box<dyn Error>> {
        let headers = format!(
            "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: {}\r\n",
            message.len()
        );
        let answer = self.answer("POST /api/v1/write HTTP/1.1", &headers, message)?;
        if answer.starts_with("HTTP/1.1 2") {
            return Ok(());
        }
        Err(format!("Prometheus takes no samples: {answer}").into())
    }

    fn answer(&self, request: &str, headers: &str, body: &[u8]) -> Result<String, Box<dyn Error>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(
            stream,
            "{request}\r\nHost: prometheus\r\nConnection: close\r\n{headers}\r\n"
        )?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn succeed(&self, path: &str) -> Result<(), Box<dyn Error>> {
        let answer = self.get(path)?;
        if answer.contains("\"status\":\"success\"") {
            return Ok(());
        }
        Err(format!("{path}: {answer}").into())
    }

    /// Returns the processor time of a request.
    pub(crate) fn cost(&self, path: &str) -> Result<Duration, Box<dyn Error>> {
        let process = self.process.id().to_string();
        repeated(|| self.succeed(path), || processor_time(&process))
    }

    /// Returns by how many bytes the memory of the process grows, for some time, while it answers a request again and again.
    /// What lies in files does not count.
    pub(crate) fn growth(&self, path: &str) -> Result<u64, Box<dyn Error>> {
        const ENOUGH: Duration = Duration::from_millis(600);
        const LONG_ENOUGH: Duration = Duration::from_secs(3);
        let process = self.process.id();
        for _ in 0..3 {
            self.get("/debug/pprof/heap?gc=1&debug=1")?;
            sleep(Duration::from_millis(30));
        }
        let before = (0..20).map(|_| {
            sleep(Duration::from_millis(2));
            memory(process, "RssAnon")
        });
        let before = before.min().unwrap_or(0);
        let done = AtomicBool::new(false);
        let most = scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut most = 0;
                while !done.load(Ordering::Relaxed) {
                    most = memory(process, "RssAnon").max(most);
                }
                most
            });
            let begin = Instant::now();
            let mut asked = Ok(());
            for times in 0.. {
                let spent = begin.elapsed();
                let enough = times >= 3 && spent > ENOUGH || spent > LONG_ENOUGH;
                if enough || asked.is_err() {
                    break;
                }
                asked = self.succeed(path);
            }
            done.store(true, Ordering::Relaxed);
            asked.map(|()| watcher.join().unwrap_or(0))
        })?;
        Ok(most.saturating_sub(before))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Its own way of ending writes down what it was sent.
        let asked = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        let ended = asked.is_ok_and(|status| status.success());
        if ended || self.process.kill().is_ok() {
            let _status = self.process.wait();
        }
    }
}

/// Returns the processor time of a process, from the fields of `stat` that count hundredths of a second.
pub(crate) fn processor_time(process: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_whitespace().skip(11).take(2);
    let hundredths: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(hundredths * 10)
}

/// Returns what `status` says of the memory of a process, in bytes.
pub(crate) fn memory(process: u32, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    kibibytes
        .and_then(|number| number.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Returns a text as it stands in addresses.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("strings take everything");
        }
    }
    encoded
}
