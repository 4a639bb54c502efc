//! Servers that fail single requests: every recorded scenario is repeated, one request after the other.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed helper is a failed test, and golden tests print their counts"
)]

mod support;

use std::time::Duration;

use serde::Deserialize;
use shared::testing::{PATIENCE, eventually, golden};
use support::{
    Mpp,
    client::{Response, request_within},
    prometheus::{Prometheus, Reply},
    trio::Trio,
};

#[derive(Deserialize)]
struct Scenario {
    scenario: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    label: String,
    client_sent: String,
    client_got: String,
    #[serde(default)]
    note: Option<String>,
}

/// What a step comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// This status from this server (0: none).
    Answer(u16, usize),
    /// A 200 that breaks off.
    Cut,
    /// Nothing before the client's patience ends.
    Silence,
}

/// Where a scenario ends differently: the rows of the specification, and the end of its steps instead.
const DEVIATIONS: &[(&str, &str, End)] = &[
    ("failure-502", "R2", End::Answer(200, 3)),
    ("failure-504", "R2", End::Answer(200, 3)),
    ("failure-eof", "R2", End::Answer(200, 3)),
    ("failure-rst", "R2", End::Answer(200, 3)),
    ("failure-garbage", "R2, R4", End::Answer(200, 3)),
    ("failure-midbody-cl-eof", "R5", End::Cut),
    ("failure-midbody-cl-rst", "R5", End::Cut),
    ("failure-midbody-chunked-eof", "R5", End::Cut),
    ("failure-midbody-chunked-rst", "R5", End::Cut),
    (
        "failure-first-retry-also-dead",
        "no failed request that a healthy server could have answered",
        End::Answer(200, 1),
    ),
];

fn reply(scenario: &str) -> Reply {
    let part = "p".repeat(100);
    let whole = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\n{part}"
    );
    let chunk = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n{part}\r\n"
    );
    match scenario {
        "failure-500" => Reply::Status(500, "backend says 500"),
        "failure-501" => Reply::Status(501, "backend says 501"),
        "failure-502" => Reply::Status(502, "backend says 502"),
        "failure-503" => Reply::Status(503, "backend says 503"),
        "failure-504" => Reply::Status(504, "backend says 504"),
        "failure-505" => Reply::Status(505, "backend says 505"),
        "failure-eof" => Reply::RawThenClose(Vec::new()),
        "failure-rst" => Reply::RawThenReset(Vec::new()),
        "failure-midbody-cl-eof" => Reply::RawThenClose(whole.into_bytes()),
        "failure-midbody-cl-rst" => Reply::RawThenReset(whole.into_bytes()),
        "failure-midbody-chunked-eof" => Reply::RawThenClose(chunk.into_bytes()),
        "failure-midbody-chunked-rst" => Reply::RawThenReset(chunk.into_bytes()),
        "failure-garbage" => Reply::RawThenClose(b"this is not HTTP\r\n\r\n".to_vec()),
        "failure-hang" => Reply::Hang,
        _ => Reply::Served,
    }
}

#[test]
fn every_recorded_failure_ends_the_same_or_better() {
    let scenarios: Vec<Scenario> = golden::json(support::golden("http/failures.json"));
    let (mut steps, mut deviating, mut failures) = (0, 0, Vec::new());
    for scenario in &scenarios {
        let name = scenario.scenario.as_str();
        let mut servers = Trio::usual();
        if name == "all-down-at-start" {
            servers.iter_mut().for_each(Prometheus::stop);
        }
        let interval = if name.starts_with("all-down") {
            "1s"
        } else {
            "1h"
        };
        // As recorded: no ejection, so that each request meets the failure.
        let args = ["--selection-interval", interval, "--eject-after", "0"];
        let mpp = Mpp::start(&servers.endpoints(), &args);
        let answering = if name == "all-down-at-start" { 0 } else { 3 };
        mpp.wait_until_answering(answering);
        servers[1].set(|manners| manners.proxied = reply(name));
        for (place, step) in scenario.steps.iter().enumerate() {
            match (name, place) {
                ("failure-refused", 1)
                | ("failure-refused-post" | "failure-first-retry-also-dead", 0) => {
                    servers[1].stop();
                }
                ("all-down-after-selection", 1) => servers.iter_mut().for_each(Prometheus::stop),
                _ => {}
            }
            if step.label == "after recovery" {
                servers.iter_mut().for_each(Prometheus::restart);
                eventually("the selection to return", || {
                    (mpp.metric("mpp_selected_backends") == 1.0).then_some(())
                });
            }
            if name == "failure-first-retry-also-dead" {
                servers[2].set(|manners| manners.proxied = Reply::Status(502, "backend says 502"));
            }
            let limit = if step.note.is_some() {
                Duration::from_millis(1500)
            } else {
                PATIENCE
            };
            let head_only = step.client_sent.starts_with("HEAD ");
            let answer = request_within(mpp.port, step.client_sent.as_bytes(), limit);
            let got = end(answer.as_ref(), &servers);
            let deviation = DEVIATIONS.iter().find(|(other, ..)| *other == name);
            let expected = deviation.map_or_else(|| recorded(step), |(_, _, end)| *end);
            steps += 1;
            deviating += usize::from(deviation.is_some());
            // Where all servers are down, which of them was asked last is chance.
            let same_status = matches!((got, expected), (End::Answer(got, _), End::Answer(expected, _)) if got == expected);
            if got != expected && !(name.starts_with("all-down") && same_status) {
                failures.push(format!(
                    "{name}, {}: expected {expected:?}, got {got:?}",
                    step.label
                ));
            }
            if let Some(answer) = answer.filter(|answer| answer.status >= 500) {
                // Section 8 and R4: no cookie for a failure, and words instead of nothing.
                assert_eq!(answer.header("set-cookie"), None, "{name}");
                assert!(head_only || !answer.body.is_empty(), "{name}: {answer:?}");
            }
        }
        if name == "failure-refused" {
            let retries = format!("mpp_retries{{backend=\"{}\"}}", servers[1].url());
            assert!(mpp.metric(&retries) >= 1.0);
            eventually("the forced round", || {
                (mpp.metric("mpp_selection_events") >= 2.0).then_some(())
            });
        }
    }
    println!(
        "failures: {} scenarios, {steps} requests, {deviating} deviate as listed, {} wrong",
        scenarios.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn end(answer: Option<&Response>, servers: &Trio) -> End {
    let Some(answer) = answer else {
        return End::Silence;
    };
    if !answer.complete {
        assert_eq!(answer.status, 200);
        return End::Cut;
    }
    let by = answer.header("mpp.servedby").unwrap_or_default();
    End::Answer(answer.status, servers.number(by))
}

fn recorded(step: &Step) -> End {
    if step.client_got.is_empty() {
        return End::Silence;
    }
    let status = step.client_got.split(' ').nth(1).unwrap().parse().unwrap();
    let place = step
        .client_got
        .split("Mpp.servedby: http://127.0.0.1:2400")
        .nth(1)
        .and_then(|rest| rest.get(..1)?.parse().ok())
        .unwrap_or(0);
    End::Answer(status, place)
}
