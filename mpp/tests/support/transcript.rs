//! Recorded runs that are more than exchanges.

#![allow(clippy::print_stdout, reason = "golden tests print their counts")]

use std::{io::Write as _, net::TcpStream};

use serde::Deserialize;
use serde_json::Value;
use shared::testing::{PATIENCE, golden};

use super::{
    client::{connect, read_response},
    exchange::{self, Step},
    prometheus::Prometheus,
};

/// A run: its name, how it is repeated, and what is different by which row of the specification; empty where nothing is.
pub(crate) type Run = (&'static str, fn(&Value), &'static str);

/// Repeats all runs of a file.
pub(crate) fn repeat(file: &str, runs: &[Run]) {
    let recorded: Vec<Value> = golden::json(super::golden(file));
    let names: Vec<&str> = recorded
        .iter()
        .map(|scenario| scenario["scenario"].as_str().unwrap())
        .collect();
    let known: Vec<&str> = runs.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, known);
    for (scenario, (name, run, _)) in recorded.iter().zip(runs) {
        println!("{name}");
        run(scenario);
    }
    let deviating = runs.iter().filter(|(.., row)| !row.is_empty()).count();
    println!(
        "transcripts: {} runs of {file}, {deviating} deviate as listed",
        runs.len()
    );
}

/// A typed part of a scenario.
pub(crate) fn part<T: for<'de> Deserialize<'de>>(value: &Value) -> T {
    T::deserialize(value).unwrap()
}

/// A run's arguments without the port, which is ours.
pub(crate) fn arguments(recorded: &Value) -> Vec<String> {
    let words: Vec<String> = part(&recorded["mpp_args"]);
    let words = words.into_iter();
    words.take_while(|word| word != "--port").collect()
}

/// Sends what was sent and compares what came of it; `change` makes the recorded exchange the expected one.
pub(crate) fn compare_exchange(
    step: &Step,
    port: u16,
    servers: &[(&str, &Prometheus)],
    recorded: impl Fn(&str) -> String,
    change: impl Fn(&mut exchange::Facts),
) -> TcpStream {
    let mut stream = connect(port, PATIENCE).unwrap();
    stream.write_all(step.client_sent.as_bytes()).unwrap();
    let answer = read_response(&mut stream, false);
    let seen: Vec<_> = servers
        .iter()
        .flat_map(|(name, server)| {
            let seen = server.take_seen().into_iter();
            seen.map(move |seen| ((*name).to_owned(), seen))
        })
        .collect();
    let mut want = exchange::wanted(step);
    change(&mut want);
    let got = exchange::got(answer.as_ref(), &seen, recorded);
    let differences = exchange::differences(&want, &got);
    assert!(
        differences.is_empty(),
        "{}\n{}",
        step.label,
        differences.join("\n")
    );
    stream
}
