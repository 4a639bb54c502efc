//! What the tests share: servers that look like Prometheus and misbehave on demand, the real binary, a client that speaks bytes.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod api;
pub(crate) mod client;
pub(crate) mod prometheus;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use shared::testing::{eventually, process::Program};
use tempfile::TempDir;

use client::{Response, request};

/// The binary under test.
pub(crate) const MPP: &str = env!("CARGO_BIN_EXE_mpp");

/// The folder of recorded data.
pub(crate) fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/mpp")
        .join(file)
}

/// A running mpp on a free port of loopback.
pub(crate) struct Mpp {
    pub(crate) program: Program,
    pub(crate) port: u16,
    pub(crate) folder: TempDir,
}

impl Mpp {
    /// Starts mpp with an endpoints file.
    #[track_caller]
    pub(crate) fn start(endpoints: &str, args: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("endpoints.txt"), endpoints).unwrap();
        let args = [&["--endpoints-file", "endpoints.txt"], args].concat();
        Self::spawn(folder, &args, &[])
    }

    /// Starts mpp in `folder`.
    #[track_caller]
    pub(crate) fn spawn(folder: TempDir, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command(folder.path(), environment);
        command.args(["--listen-address", "127.0.0.1", "--port", "0"]);
        let program = Program::spawn(command.args(args));
        let line = program.wait_for_line("mpp is listening on port ");
        Self {
            program,
            port: listening_port(&line),
            folder,
        }
    }

    /// Waits until so many rounds of selection have ended.
    #[track_caller]
    pub(crate) fn wait_for_rounds(&self, rounds: u64) {
        eventually(&format!("{rounds} rounds of selection"), || {
            (self.status()["selection"]["rounds"].as_u64()? >= rounds).then_some(())
        });
    }

    /// Sends a request without a body.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: mpp.example:9090\r\nUser-Agent: golden-client/1\r\n\r\n"
        );
        request(self.port, text.as_bytes()).expect("an answer")
    }

    /// The status page as JSON.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        serde_json::from_slice(&self.get("/mpp/status.json").body).unwrap()
    }

    /// The lines of our own metrics.
    #[track_caller]
    pub(crate) fn metrics(&self) -> Vec<String> {
        let page = String::from_utf8(self.get("/mpp/metrics").body).unwrap();
        page.lines().map(str::to_owned).collect()
    }

    /// One sample of our own metrics, 0 if there is none.
    #[track_caller]
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        self.metrics()
            .iter()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or(0.0)
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.path().join(file), text).unwrap();
    }
}

/// The binary with nothing but `environment` of our variables.
pub(crate) fn command(folder: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(MPP);
    command
        .current_dir(folder)
        .env_clear()
        .envs(environment.iter().copied());
    command
}

#[track_caller]
pub(crate) fn listening_port(line: &str) -> u16 {
    let (_, rest) = line.split_once("listening on port ").unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// Our own host name, which recorded data calls `HOSTNAME`.
pub(crate) fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap()
        .trim()
        .to_owned()
}
