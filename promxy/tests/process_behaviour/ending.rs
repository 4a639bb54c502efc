//! Signals, and how the process ends.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use shared::testing::eventually;

use super::{
    compare::{Steps, access_log, answer, logs, not_before},
    server::{Server, query, target},
};
use crate::support::{Promxy, bytes_of, client::request};

/// How many requests are sent to a process that was told to end.
const REQUESTS: usize = 4;

pub(crate) fn run(steps: &Steps) {
    thread::scope(|scope| {
        for (name, signal) in [("SIGTERM", Signal::SIGTERM), ("SIGINT", Signal::SIGINT)] {
            scope.spawn(move || told_first(steps, name, signal));
        }
        scope.spawn(|| twice(steps));
        scope.spawn(|| in_flight(steps));
        scope.spawn(|| cut_off(steps));
        scope.spawn(|| at_once(steps));
        scope.spawn(|| other_signals(steps));
    });
}

/// A process that was told to end.
struct Ending {
    promxy: Promxy,
    lines: usize,
    begin: Instant,
}

impl Ending {
    fn of(promxy: Promxy, signal: Signal) -> Self {
        promxy.program.wait_for_line("TLS is");
        let lines = promxy.program.stderr().len();
        let begin = Instant::now();
        promxy.program.signal(signal);
        Self {
            promxy,
            lines,
            begin,
        }
    }

    /// Waits for the end: exit code, when it came at the earliest, log.
    fn shown(mut self) -> [(&'static str, String); 4] {
        let code = self.promxy.program.wait().code();
        // Those before are from the wait for the end of readiness.
        let access = self.promxy.program.stdout();
        let access = access_log(access.iter().rev().take(REQUESTS).rev().map(String::as_str));
        let seconds = self.begin.elapsed().as_secs_f64();
        let lines = self.promxy.program.stderr();
        let code = code.map_or("a signal".to_owned(), |code| code.to_string());
        [
            ("exit_code", code),
            // Whole seconds of the recorded run are asked for, so a slow machine shows the same.
            ("exited_after_s", not_before(seconds)),
            ("logs", logs(lines[self.lines..].join("\n").lines())),
            ("stdout", access),
        ]
    }
}

/// Takes the recorded time for what has lasted at least as long.
fn at_least(steps: &Steps, step: &str, shown: &mut [(&'static str, String)]) {
    let recorded = steps.recorded(step, "exited_after_s").as_f64().unwrap();
    for (key, value) in shown {
        if *key == "exited_after_s" {
            let digits = value.trim_matches(|c: char| !c.is_ascii_digit());
            if digits.parse::<f64>().unwrap() >= recorded.floor() {
                *value = not_before(recorded);
            }
        }
    }
}

fn told_first(steps: &Steps, name: &str, signal: Signal) {
    let step = format!("{name} with --http.shutdown-delay=3s");
    let server = Server::start();
    let promxy = Promxy::start(&server.config(7), &["--http.shutdown-delay=3s"]).ready();
    let ending = Ending::of(promxy, signal);
    eventually("the end of readiness", || {
        (ending.promxy.get("/-/ready").status == 503).then_some(())
    });
    let sent = |method: &str, path: &str| answer(&ending.promxy.send(method, path, &[], b""));
    let recorded = steps.recorded(&step, "query_during_delay");
    let mut shown = vec![
        ("ready_during_delay", sent("GET", "/-/ready")),
        ("head_ready_during_delay", sent("HEAD", "/-/ready")),
        ("healthy_during_delay", sent("GET", "/-/healthy")),
        ("query_during_delay", query(&ending.promxy, &recorded)),
    ];
    shown.extend(ending.shown());
    at_least(steps, &step, &mut shown);
    steps.shown(&step, &shown);
}

fn twice(steps: &Steps) {
    let step = "SIGTERM twice with defaults";
    let server = Server::start();
    let ending = Ending::of(Promxy::start(&server.config(7), &[]), Signal::SIGTERM);
    ending.promxy.program.wait_for_line("delaying shutdown");
    ending.promxy.program.signal(Signal::SIGTERM);
    let mut shown = ending.shown();
    at_least(steps, step, &mut shown);
    steps.shown(step, &shown);
}

/// Starts a query, waits until the server has it, and returns what it will be answered.
fn start_query(promxy: &Promxy, server: &Server, target: &str) -> thread::JoinHandle<String> {
    let (port, bytes) = (promxy.port, bytes_of("GET", target, &[], b""));
    let query = thread::spawn(move || {
        let response = request(port, &bytes);
        response.map_or("no answer".to_owned(), |response| answer(&response))
    });
    eventually("the query", || {
        (!server.stub.asked().is_empty()).then_some(())
    });
    query
}

fn in_flight(steps: &Steps) {
    let step = "SIGTERM with a 3s query in flight, delay 0, timeout 10s";
    let server = Server::start();
    server.slow_down(Duration::from_secs(3));
    let args = ["--http.shutdown-delay=0s", "--http.shutdown-timeout=10s"];
    let promxy = Promxy::start(&server.config(7), &args);
    let recorded = steps.recorded(step, "inflight");
    let query = start_query(&promxy, &server, &target(&recorded[0]));
    let ending = Ending::of(promxy, Signal::SIGTERM);
    let port = ending.promxy.port;
    eventually("the end of the listener", || {
        let refused = std::net::TcpStream::connect(("127.0.0.1", port)).is_err();
        refused.then_some(())
    });
    let mut shown = vec![
        ("inflight", query.join().unwrap()),
        ("new_connection", "no answer".to_owned()),
    ];
    shown.extend(ending.shown());
    at_least(steps, step, &mut shown);
    steps.shown(step, &shown);
}

fn cut_off(steps: &Steps) {
    let step = "SIGTERM with a 3s query in flight, delay 0, timeout 1s";
    let server = Server::start();
    server.slow_down(Duration::from_secs(30));
    let args = ["--http.shutdown-delay=0s", "--http.shutdown-timeout=1s"];
    let promxy = Promxy::start(&server.config(7), &args);
    let query = start_query(&promxy, &server, "/api/v1/query?query=up");
    let ending = Ending::of(promxy, Signal::SIGTERM);
    let mut shown = vec![("inflight", query.join().unwrap())];
    shown.extend(ending.shown());
    at_least(steps, step, &mut shown);
    steps.shown(step, &shown);
}

/// Signals to a process that has only just started. The original listens five seconds later, this one at once.
fn at_once(steps: &Steps) {
    let server = Server::start();
    let step = "SIGTERM one second after start, before the server listens";
    let ending = Ending {
        lines: 0,
        ..Ending::of(Promxy::start(&server.config(7), &[]), Signal::SIGTERM)
    };
    let mut shown = ending.shown();
    at_least(steps, step, &mut shown);
    steps.shown(step, &shown);

    let mut promxy = Promxy::start(&server.config(7), &[]);
    promxy.program.wait_for_line("TLS is");
    promxy.program.signal(Signal::SIGHUP);
    promxy.program.wait_for_line("Reloading config");
    let is_alive = promxy.program.exited().is_none();
    let shown = [
        ("alive", is_alive.to_string()),
        ("logs", logs(promxy.program.stderr().join("\n").lines())),
    ];
    steps.shown("SIGHUP one second after start", &shown);
}

fn other_signals(steps: &Steps) {
    let server = Server::start();
    let mut promxy = Promxy::start(&server.config(7), &[]).ready();
    promxy.program.signal(Signal::SIGUSR1);
    // Nothing tells that nothing happens; whoever ends by the signal answers no longer.
    for _ in 0..20 {
        assert_eq!(promxy.get("/api/v1/query?query=1").status, 200);
    }
    let is_alive = promxy.program.exited().is_none();
    let code = if is_alive { "\"timeout\"" } else { "ended" };
    steps.shown("SIGUSR1", &[("exit_code", code.to_owned())]);
    promxy.program.signal(Signal::SIGQUIT);
    let code = promxy.program.wait().code();
    let code = code.map_or("a signal".to_owned(), |code| code.to_string());
    steps.shown("SIGQUIT", &[("exit_code", code)]);
}
