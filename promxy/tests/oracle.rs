//! All recorded queries over groups in memory, compared with what one Prometheus answers that holds everything.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it compared"
)]

mod in_memory;

use std::sync::Arc;

use in_memory::{Likeness, Servers, ask, oracle, queries};
use promql::parser::ParserOptions;
use promxy::{api::write_json, config::Groups};
use tokio::runtime::Runtime;

/// Queries whose answers differ from the oracle's by decision: case, row of the specification.
const BY_DECISION: [(&str, &str); 0] = [];

#[test]
fn groups_answer_as_one_prometheus_would() {
    let runtime = Runtime::new().unwrap();
    let servers = Servers::new(oracle::groups(), ParserOptions::v3_5());
    let queries = queries(
        Arc::new(servers),
        Groups::Overlapping,
        ParserOptions::v3_5(),
    );
    let (bodies, cases) = (oracle::bodies(), oracle::cases());
    let (mut equal, mut close, mut failures, mut wrong) = (0, 0, 0, Vec::new());
    for case in &cases {
        let (status, expected) = case.expected(&bodies);
        let outcome = ask(&runtime, &queries, case.query(), case.grid());
        let by_decision = BY_DECISION.iter().any(|(id, _)| *id == case.id);
        let difference = match outcome {
            Ok(outcome) if status == 200 => {
                let got =
                    write_json::success(&write_json::value(&outcome.value), &outcome.annotations);
                match oracle::compare(expected, &got) {
                    Likeness::Equal => {
                        equal += 1;
                        None
                    }
                    Likeness::Close => {
                        close += 1;
                        None
                    }
                    Likeness::Different => Some(got),
                }
            }
            Err(failure) if status == failure.kind.http().0 => {
                failures += 1;
                // The API names the parameter that is wrong.
                let message = format!("invalid parameter \"query\": {}", failure.message);
                let kind = failure.kind.http().1;
                let got = write_json::error(kind, &message, &failure.annotations);
                (got != expected).then_some(got)
            }
            Ok(outcome) => Some(write_json::value(&outcome.value)),
            Err(failure) => Some(failure.message),
        };
        if let Some(got) = difference.filter(|_| !by_decision) {
            wrong.push(format!(
                "{} {:?}\n  expected {expected}\n  got      {got}",
                case.id, case.params
            ));
        }
    }
    println!(
        "{} queries: {equal} equal to the oracle, {close} but for the last digits, {failures} fail alike, {} differ by decision, {} wrong",
        cases.len(),
        BY_DECISION.len(),
        wrong.len()
    );
    for text in &wrong {
        println!("{}", text.chars().take(1500).collect::<String>());
    }
    assert!(wrong.is_empty());
}
