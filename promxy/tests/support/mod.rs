//! What the tests share: the real binary, servers that answer with what was recorded, a client that speaks bytes.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod recorded;
pub(crate) mod stub;

pub(crate) use shared::testing::client;

use std::{
    env,
    fmt::Write as _,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use flate2::read::{GzDecoder, ZlibDecoder};
use serde::de::DeserializeOwned;
use serde_json::Value;
use shared::testing::{eventually, process::Program};
use tempfile::TempDir;

use client::{Response, request};
use stub::Stub;

/// How long real servers may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The binary under test.
pub(crate) const PROMXY: &str = env!("CARGO_BIN_EXE_promxy");

/// A file of recorded data, one JSON value a line, perhaps packed.
#[track_caller]
pub(crate) fn golden<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/surface");
    let bytes = fs::read(path.join(file)).unwrap();
    let mut text = String::new();
    if Path::new(file).extension().is_some_and(|kind| kind == "gz") {
        GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{file}: {e}: {line}")))
        .collect()
}

/// A running promxy on a free port of loopback.
pub(crate) struct Promxy {
    pub(crate) program: Program,
    pub(crate) port: u16,
    pub(crate) folder: TempDir,
}

impl Promxy {
    /// Starts promxy with a configuration and waits until it listens.
    #[track_caller]
    pub(crate) fn start(config: &str, args: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), config, args, &[])
    }

    /// Starts promxy in a folder, with variables.
    #[track_caller]
    pub(crate) fn start_in(
        folder: TempDir,
        config: &str,
        args: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        fs::write(folder.path().join("config.yaml"), config).unwrap();
        let program = spawn(
            folder.path(),
            &[&["--bind-addr=127.0.0.1:0"], args].concat(),
            environment,
        );
        let line = program.wait_for_line("Listening on");
        // A line of JSON has times behind the address.
        let address = line.split("127.0.0.1:").nth(1).unwrap();
        let port: String = address.chars().take_while(char::is_ascii_digit).collect();
        Self {
            program,
            port: port.parse().unwrap(),
            folder,
        }
    }

    /// Waits until queries are answered.
    #[track_caller]
    pub(crate) fn ready(self) -> Self {
        eventually("readiness", || {
            (self.get("/-/ready").status == 200).then_some(())
        });
        self
    }

    /// Asks for a path.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], b"")
    }

    /// Sends a request.
    #[track_caller]
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let bytes = bytes_of(method, path, headers, body);
        request(self.port, &bytes).unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// Asks a query at a time in seconds. Returns the result, and all of the answer.
    #[track_caller]
    pub(crate) fn query(&self, query: &str, time: i64) -> (Value, Value) {
        let time = time.to_string();
        self.ask("/api/v1/query", &[("query", query), ("time", &time)])
    }

    /// Asks a query at times from the first to the second, a minute apart, in seconds. Returns the result, and all of the answer.
    #[track_caller]
    pub(crate) fn query_range(&self, query: &str, start: i64, end: i64) -> (Value, Value) {
        let (start, end) = (start.to_string(), end.to_string());
        let params = [("query", query), ("start", &start), ("end", &end)];
        let params = [&params[..], &[("step", "60")]].concat();
        self.ask("/api/v1/query_range", &params)
    }

    #[track_caller]
    fn ask(&self, path: &str, params: &[(&str, &str)]) -> (Value, Value) {
        let answer = self.post(path, &form(params)).text();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        (answer["data"]["result"].clone(), answer)
    }

    /// Sends a form.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, form: &str) -> Response {
        let kind = ("Content-Type", "application/x-www-form-urlencoded");
        self.send("POST", path, &[kind], form.as_bytes())
    }

    /// Returns the samples of the metrics page whose lines begin so.
    #[track_caller]
    pub(crate) fn metrics(&self, prefix: &str) -> Vec<String> {
        let page = self.get("/metrics").text();
        let lines = page.lines().filter(|line| line.starts_with(prefix));
        lines.map(str::to_owned).collect()
    }

    /// Replaces the configuration.
    pub(crate) fn write_config(&self, config: &str) {
        fs::write(self.path("config.yaml"), config).unwrap();
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }
}

/// One server group with these targets, as an item of the list; `keys` are its other keys, a line each.
pub(crate) fn group(targets: &[&Stub], keys: &str) -> String {
    let targets: Vec<String> = targets
        .iter()
        .map(|stub| format!("'127.0.0.1:{}'", stub.port))
        .collect();
    let mut group = format!(
        "  - static_configs: [{{targets: [{}]}}]\n",
        targets.join(", ")
    );
    for key in keys.lines() {
        writeln!(group, "    {key}").unwrap();
    }
    group
}

/// A configuration of such groups.
pub(crate) fn config(groups: &[String]) -> String {
    format!("promxy:\n  server_groups:\n{}", groups.concat())
}

/// Writes a request that ends its connection.
pub(crate) fn bytes_of(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nHost: promxy.example\r\nConnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    if !body.is_empty() || method == "POST" {
        write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// The body of an answer as text, whatever it is packed with.
pub(crate) fn unpacked(response: &Response) -> String {
    let mut text = String::new();
    match response.header("content-encoding") {
        Some("gzip") => {
            let mut unpacking = GzDecoder::new(&*response.body);
            unpacking.read_to_string(&mut text).unwrap();
        }
        Some("deflate") => {
            let mut unpacking = ZlibDecoder::new(&*response.body);
            unpacking.read_to_string(&mut text).unwrap();
        }
        _ => text = response.text(),
    }
    text
}

/// Writes parameters as a form.
pub(crate) fn form(params: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in params {
        if !out.is_empty() {
            out.push('&');
        }
        for (part, end) in [(name, "="), (value, "")] {
            for byte in part.bytes() {
                if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                    out.push(char::from(byte));
                } else {
                    write!(out, "%{byte:02X}").unwrap();
                }
            }
            out.push_str(end);
        }
    }
    out
}

/// Polls with a deadline for real servers.
#[track_caller]
pub(crate) fn eventually_long<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "gave up waiting for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Returns what an environment variable names, or says that a test skips.
#[allow(clippy::print_stdout, reason = "a test that skips says so")]
pub(crate) fn required(variable: &str) -> Option<PathBuf> {
    let path = env::var_os(variable).filter(|path| !path.is_empty());
    if path.is_none() {
        let is_required = env::var_os("REQUIRE_REAL_SERVERS").is_some();
        assert!(!is_required, "{variable} is not set");
        println!("SKIPPED: {variable} is not set");
    }
    path.map(PathBuf::from)
}

/// Starts the binary in a folder.
#[track_caller]
pub(crate) fn spawn(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> Program {
    let mut command = Command::new(PROMXY);
    command
        .current_dir(folder)
        .env_clear()
        .envs(environment.iter().copied())
        .args(args);
    Program::spawn(&mut command)
}

/// A configuration with one group for each list of targets, named and labelled `sg: a`, `sg: b` and so on.
pub(crate) fn groups(targets: &[&[u16]]) -> String {
    let mut config = String::from(
        "global:\n  evaluation_interval: 15s\n  external_labels:\n    source: promxy-2\npromxy:\n  server_groups:\n",
    );
    for (name, ports) in ('a'..).zip(targets) {
        let ports: Vec<String> = ports
            .iter()
            .map(|port| format!("'127.0.0.1:{port}'"))
            .collect();
        write!(config, "  - name: group-{name}\n    labels: {{sg: {name}}}\n    anti_affinity: 5s\n    static_configs:\n    - targets: [{}]\n",
            ports.join(", ")).unwrap();
    }
    config
}
