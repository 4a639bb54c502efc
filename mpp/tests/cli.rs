//! The command line and the environment: every recorded invocation is repeated with the real binary.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed helper is a failed test, and golden tests print their counts"
)]

mod support;

use std::{collections::BTreeMap, fs, net::TcpListener, os::unix::process::ExitStatusExt as _};

use nix::sys::signal::Signal;
use serde::Deserialize;
use shared::testing::{eventually, golden, process::Program, wire::free_tcp_port};
use support::{
    command,
    prometheus::{Manners, Prometheus},
};
use tempfile::TempDir;

#[derive(Deserialize)]
struct Case {
    label: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    exit_code: i32,
    stdout: String,
    stderr: String,
    probe: Option<String>,
}

/// What one invocation did. Log lines without their time; those of level debug and of retries of the same kind left out.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    exit: i32,
    stdout: String,
    stderr: Vec<String>,
    /// The text of the port that it listened on.
    port: Option<String>,
}

/// Where we deviate: the label's start, the row of the specification, and what happens instead.
enum Instead {
    /// Another exit status, the same texts.
    Exit(i32),
    /// Another exit status, and this in standard error.
    Fails(i32, &'static str),
    /// It runs.
    Runs,
    /// It runs, on a port of its own.
    RunsOnDefaultPort,
}

use Instead::{Exit, Fails, Runs, RunsOnDefaultPort};

const DEVIATIONS: &[(&str, &str, Instead)] = &[
    ("unknown flag", "C1", Exit(2)),
    ("port not an int", "C1", Exit(2)),
    ("-k without a value", "C1", Exit(2)),
    ("verbose=maybe", "C1", Exit(2)),
    ("both forms of one flag", "C1", Exit(2)),
    (
        "port out of range",
        "C3",
        Fails(1, "cannot listen on port 99999"),
    ),
    ("negative port", "C3", Fails(1, "cannot listen on port -1")),
    (
        "port already in use",
        "C3",
        Fails(1, "cannot listen on port PORT"),
    ),
    ("affinity none", "option none", Runs),
    ("MPP_PORT garbage", "C2", Fails(1, "MPP_PORT")),
    ("MPP_VERBOSE garbage", "C2", Fails(1, "MPP_VERBOSE")),
    ("MPP_PORT empty", "C5", RunsOnDefaultPort),
    ("MPP_ROUTING_STRATEGY set but empty", "C5", Runs),
    ("MPP_SELECTION_INTERVAL set but empty", "C5", Runs),
    (
        "MPP_SERVICE_NAME",
        "README's name",
        Fails(1, "unable to load in-cluster configuration"),
    ),
    (
        "principal secret not json",
        "wording",
        Fails(1, "marathon principal secret"),
    ),
    ("principal secret without uid", "L5", Fails(1, "'uid'")),
    (
        "principal secret without login_endpoint",
        "L5",
        Fails(1, "'login_endpoint'"),
    ),
    (
        "principal secret without key or password",
        "L5",
        Fails(1, "neither 'private_key' nor 'password'"),
    ),
    (
        "principal secret with bad key",
        "L5",
        Fails(1, "'private_key' of the marathon principal secret"),
    ),
    (
        "marathon url without scheme",
        "wording",
        Fails(1, "missing scheme on (first) endpoint"),
    ),
    ("kubeconfig missing", "wording", Fails(1, "missing.yaml")),
    ("kubeconfig not yaml", "wording", Fails(1, "bad.yaml")),
];

#[test]
fn every_recorded_invocation_does_the_same() {
    let cases: Vec<Case> = golden::json(support::golden("cli/cases.json"));
    let server = Prometheus::start("b1", Manners::good("1000"));
    let (mut same, mut deviating) = (0, 0);
    let mut failures = Vec::new();
    for case in &cases {
        let (got, port) = run(case, &server);
        let expected = expected(case, &port);
        let deviation = DEVIATIONS
            .iter()
            .find(|(label, ..)| case.label.starts_with(label));
        match deviation {
            None if got == expected => same += 1,
            None => failures.push(format!(
                "{}\nexpected {expected:#?}\ngot {got:#?}",
                case.label
            )),
            Some((_, row, instead)) => {
                deviating += 1;
                if !holds(instead, &got, &expected, &port) {
                    failures.push(format!("{} ({row}): got {got:#?}", case.label));
                }
            }
        }
    }
    println!(
        "cli: {} invocations, {same} as recorded, {deviating} deviate as listed, {} wrong",
        cases.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert_eq!(cases.len(), 86);
}

fn holds(instead: &Instead, got: &Outcome, expected: &Outcome, port: &str) -> bool {
    match instead {
        Exit(status) => {
            got.exit == *status && got.stdout == expected.stdout && got.stderr == expected.stderr
        }
        Fails(status, part) => {
            let part = part.replace(" PORT", &format!(" {port}"));
            got.exit == *status && got.stderr.iter().any(|line| line.contains(&part))
        }
        Runs => got.port.as_deref() == Some(port),
        RunsOnDefaultPort => {
            got.port.as_deref() == Some("9090")
                || got.stderr.iter().any(|line| line.contains("port 9090"))
        }
    }
}

/// Repeats an invocation until it ends or listens; returns the port that took the place of the recorded one.
fn run(case: &Case, server: &Prometheus) -> (Outcome, String) {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    file("ep.txt", &format!("{}\n", server.url()));
    file("empty.txt", "");
    file("bad.yaml", "[a, b");
    file("emptykc.yaml", "");
    let port = free_tcp_port().to_string();
    let taken = (case.label == "port already in use")
        .then(|| TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap());
    let replaced = |text: &String| -> String {
        match text.as_str() {
            "0x5dd4" | "--port=0x5dd4" => format!("--port=0x{:x}", port.parse::<u16>().unwrap()),
            "--port=024020" => format!("--port=0{:o}", port.parse::<u16>().unwrap()),
            text => text.replace("24020", &port),
        }
    };
    let mut environment: Vec<(String, String)> = case
        .env
        .iter()
        .map(|(name, value)| (name.clone(), replaced(value)))
        .collect();
    environment.push(("MPP_LISTEN_ADDRESS".to_owned(), "127.0.0.1".to_owned()));
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut program =
        Program::spawn(command(folder.path(), &environment).args(case.args.iter().map(replaced)));
    let listening = eventually(&format!("{} to end or to listen", case.label), || {
        if program.exited().is_some() {
            return Some(None);
        }
        let lines = program.stderr();
        let listening = lines
            .iter()
            .find(|line| line.contains("is listening on port"))?;
        // The first round of selection says one of these.
        let selected = ["New targets differ", "no valid selection"];
        lines
            .iter()
            .any(|line| selected.iter().any(|text| line.contains(text)))
            .then(|| Some(support::listening_port(listening).to_string()))
    });
    let exit = if listening.is_some() {
        program.signal(Signal::SIGTERM);
        program.wait();
        -15
    } else {
        let status = program.wait();
        status.code().unwrap_or_else(|| -status.signal().unwrap())
    };
    drop(taken);
    let outcome = Outcome {
        exit,
        stdout: without_help(&program.stdout().join("\n")),
        stderr: log_lines(&program.stderr().join("\n"), server),
        port: listening,
    };
    (outcome, port)
}

fn expected(case: &Case, port: &str) -> Outcome {
    let octal_port = case.stderr.contains("10256");
    Outcome {
        exit: case.exit_code,
        stdout: case
            .stdout
            .trim_end()
            .replace("mpp version v0.2.4b", "mpp version VERSION"),
        stderr: {
            let mut lines: Vec<String> = case
                .stderr
                .replace("\n\" \n", "\\n\" \n")
                .replace("--static-endpoints", "--endpoints-file")
                .replace("10256", port)
                .replace("24020", port)
                .lines()
                .filter(|line| line.contains("msg=") && !is_chatter(line))
                .map(|line| message(line).to_owned())
                .chain(
                    case.stderr
                        .lines()
                        .filter(|line| !line.contains("time=") && line.starts_with("No help"))
                        .map(str::to_owned),
                )
                .collect();
            lines.sort();
            lines.dedup();
            lines
        },
        port: (case
            .probe
            .as_deref()
            .is_some_and(|probe| probe.starts_with("listening"))
            || octal_port)
            .then(|| port.to_owned()),
    }
}

fn without_help(stdout: &str) -> String {
    let version = format!("mpp version v{}", env!("CARGO_PKG_VERSION"));
    let stdout = stdout.replace(&version, "mpp version VERSION");
    match stdout.find("NAME:\n") {
        Some(at) => format!("{}<HELP TEXT>", stdout.get(..at).unwrap()),
        None => stdout.trim_end().to_owned(),
    }
}

/// The lines of our log as a sorted set, with recorded ports.
fn log_lines(stderr: &str, server: &Prometheus) -> Vec<String> {
    let mut lines: Vec<String> = stderr
        .lines()
        .filter(|line| !is_chatter(line))
        .map(|line| message(line).replace(&server.url(), "http://127.0.0.1:24001"))
        .filter(|line| !line.contains("drained"))
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

/// Lines that depend on time, and those that the plan moves to level debug.
fn is_chatter(line: &str) -> bool {
    line.contains("level=debug")
        || line.contains("Selection is unchanged")
        || line.contains("is not viable")
}

/// Level and text, without the time.
fn message(line: &str) -> &str {
    line.find("level=")
        .and_then(|at| line.get(at..))
        .unwrap_or(line)
        .trim_end()
}

#[test]
fn help_names_every_recorded_flag_with_its_variable_and_default() {
    #[derive(Deserialize)]
    struct Recorded {
        names: Vec<String>,
        default: Option<serde_json::Value>,
        env: Option<String>,
    }
    let flags: Vec<Recorded> = golden::json(support::golden("cli/flags.json"));
    let folder = TempDir::new().unwrap();
    let mut program = Program::spawn(command(folder.path(), &[]).arg("--help"));
    assert!(program.wait().success());
    let help = program.stdout().join("\n");
    for flag in &flags {
        let entry = help
            .split("\n   -")
            .find(|entry| {
                entry.starts_with(flag.names[0].trim_start_matches('-'))
                    || entry.starts_with(flag.names[0].strip_prefix('-').unwrap())
            })
            .unwrap_or_else(|| panic!("{} is missing", flag.names[0]));
        for name in &flag.names {
            assert!(
                format!("-{entry}").contains(name.as_str()),
                "{name}: {entry}"
            );
        }
        if let Some(variable) = &flag.env {
            assert!(entry.contains(variable), "{variable}: {entry}");
        }
        if let Some(default) = &flag.default {
            let default = default.to_string().replace(['"', '\\'], "");
            assert!(
                entry.contains(&format!("default: {default}")),
                "{default}: {entry}"
            );
        }
    }
    println!("cli: {} flags as recorded", flags.len());
}
