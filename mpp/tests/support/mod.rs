//! What the tests share: servers that look like Prometheus and misbehave on demand, the real binary, a client that speaks bytes.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod api;
pub(crate) mod exchange;
pub(crate) mod kubernetes;
pub(crate) mod marathon;
pub(crate) mod prometheus;
pub(crate) mod signature;
pub(crate) mod tls;
pub(crate) mod transcript;
pub(crate) mod trio;

pub(crate) use shared::testing::client;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::signal::Signal;
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

    /// Runs `command` until its first round of selection has ended; an error is a program that has ended by itself.
    #[track_caller]
    pub(crate) fn run(folder: TempDir, command: &mut Command) -> Result<Self, Program> {
        let mut program = Program::spawn(command);
        let started = eventually(&format!("{command:?} to start or to end"), || {
            if program.exited().is_some() {
                return Some(None);
            }
            let lines = program.stderr();
            let has = |text: &str| lines.iter().find(|line| line.contains(text));
            has("New targets differ").or_else(|| has("no valid selection"))?;
            Some(has("listening on port").map(|line| listening_port(line)))
        });
        match started {
            None => Err(program),
            Some(port) => Ok(Self {
                program,
                port,
                folder,
            }),
        }
    }

    /// Waits until so many rounds of selection have ended.
    #[track_caller]
    pub(crate) fn wait_for_rounds(&self, rounds: u64) {
        eventually(&format!("{rounds} rounds of selection"), || {
            (self.status()["selection"]["rounds"].as_u64()? >= rounds).then_some(())
        });
    }

    /// Waits until so many servers have answered the probes of one round. On a busy machine an answer may come too late for the
    /// limit of a probe; then another round is asked for.
    #[track_caller]
    pub(crate) fn wait_until_answering(&self, servers: usize) {
        let mut nudged = 0;
        eventually(&format!("{servers} servers to answer probes"), || {
            let status = self.status();
            let rounds = status["selection"]["rounds"].as_u64()?;
            let answering = rows(&status)
                .iter()
                .filter(|row| row["state"] == "selected" || row["state"] == "standby")
                .count();
            if rounds > nudged && answering != servers {
                self.program.signal(Signal::SIGHUP);
                nudged = rounds;
            }
            (rounds > 0 && answering == servers).then_some(())
        });
    }

    /// Returns how what a round concluded differs from what was recorded. For the same reason, what differs gets a second and a
    /// third round.
    #[track_caller]
    pub(crate) fn differences(&self, mut compare: impl FnMut() -> Vec<String>) -> Vec<String> {
        for round in 1..3 {
            self.wait_for_rounds(round);
            if compare().is_empty() {
                return Vec::new();
            }
            self.program.signal(Signal::SIGHUP);
        }
        self.wait_for_rounds(3);
        compare()
    }

    /// The servers of the last round: address, and whether it was selected.
    #[track_caller]
    pub(crate) fn candidates(&self) -> Vec<(String, bool)> {
        rows(&self.status())
            .iter()
            .map(|row| {
                let address = row["address"].as_str().unwrap().to_owned();
                (address, row["selected"].as_bool().unwrap())
            })
            .collect()
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

/// The rows of the status page.
pub(crate) fn rows(status: &Value) -> &[Value] {
    status["backends"].as_array().unwrap()
}

/// Returns how the settings that the status page shows differ from the recorded ones.
pub(crate) fn runtime_differences(
    recorded: &BTreeMap<String, String>,
    status: &Value,
) -> Vec<String> {
    [
        ("Selector Strategy", "strategy"),
        ("Selection Interval", "interval"),
        ("Affinity Options Enabled", "affinity"),
        ("Comparison Metric", "comparison"),
    ]
    .into_iter()
    .filter(|(label, key)| status["runtime"][key] != recorded[*label].as_str())
    .map(|(label, key)| {
        let (expected, got) = (&recorded[label], &status["runtime"][key]);
        format!("{label}: expected {expected:?}, got {got}")
    })
    .collect()
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
