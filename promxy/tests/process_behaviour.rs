//! `process_behaviour.jsonl`, line by line: reloads, signals, ends, what goes through, limits, discovery that fails.
//!
//! The process is the real one; the server behind it answers as the recorded one did. Each line has one or more keys; what is
//! shown under a key is compared as text, without what changes from run to run (`process_behaviour/compare.rs`).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

#[path = "process_behaviour/compare.rs"]
mod compare;
#[path = "process_behaviour/ending.rs"]
mod ending;
#[path = "process_behaviour/limits.rs"]
mod limits;
#[path = "process_behaviour/reload.rs"]
mod reload;
#[path = "process_behaviour/requests.rs"]
mod requests;
#[path = "process_behaviour/server.rs"]
mod server;
mod support;

use std::{collections::BTreeMap, thread};

use compare::{Difference, Steps};

const WHOLE: &str = "S5: a configuration is put into force whole or not at all";
const NAME: &str = "S31: `Promxy is Healthy.`, where the original's name is missing; the time is in the form because the test says it";
const YAML: &str = "the syntax of YAML is told in our library's words";
const AT_ONCE: &str = "S11: it listens at once";
const PANIC: &str = "S1: an empty list in place of a panic";
const LATE: &str = "S3: queries that run out of time are 503 timeout";
const KEPT: &str = "S7: a reload keeps the targets of a discovery that did not change";

/// What is shown otherwise than by the original: step, keys, reason.
const DEVIATIONS: &[(&str, &[&str], &str)] = &[
    ("POST /-/reload with broken YAML", &["r", "logs"], YAML),
    ("SIGHUP with broken YAML", &["logs"], YAML),
    (
        "partial apply: which server group config answers now",
        &["r"],
        WHOLE,
    ),
    ("rules endpoint afterwards", &["r"], WHOLE),
    (
        "process after POST /-/quit",
        &["alive", "r"],
        "S10: the process ends; S31: the program's name",
    ),
    (
        "SIGTERM with --http.shutdown-delay=3s",
        &["healthy_during_delay", "stdout"],
        NAME,
    ),
    (
        "SIGINT with --http.shutdown-delay=3s",
        &["healthy_during_delay", "stdout"],
        NAME,
    ),
    (
        "SIGTERM one second after start, before the server listens",
        &["exited_after_s", "logs"],
        AT_ONCE,
    ),
    ("SIGHUP one second after start", &["logs"], AT_ONCE),
    (
        "proxy headers: --proxy-headers=X-A,X-B",
        &["downstream_headers"],
        "S12: a list with commas is a list",
    ),
    (
        "proxy headers: PROXY_HEADERS=X-A,X-B",
        &["downstream_headers"],
        "S12: a list with commas is a list",
    ),
    (
        "json access log, --log-max-form-prefix=20",
        &["stdout"],
        PANIC,
    ),
    ("access log none: panic in a handler", &["r", "logs"], PANIC),
    (
        "--query.max-concurrency=1, 4 queries of 2 s each, --query.timeout=4s",
        &["results"],
        LATE,
    ),
    (
        "--query.timeout=4s and a downstream taking 6 s",
        &["r"],
        LATE,
    ),
    (
        "POST /-/reload while http_sd answers 503",
        &["q", "targets", "logs"],
        KEPT,
    ),
    (
        "resources idle two groups",
        &["goroutines"],
        "there are no goroutines",
    ),
    (
        "after 8 reloads",
        &["goroutines"],
        "there are no goroutines",
    ),
    (
        "server_group_targets after renaming group 0 and removing group 1 (stale label sets stay)",
        &["targets"],
        "S15: groups that are gone leave the metrics",
    ),
    (
        "which secrets status/config masks",
        &["lines"],
        "S17: headers and parameters are hidden, too",
    ),
];

#[test]
fn the_process_behaves_as_recorded() {
    let steps = Steps::read("process_behaviour.jsonl");
    thread::scope(|scope| {
        for part in [reload::run, ending::run, requests::run, limits::run] {
            let steps = &steps;
            scope.spawn(move || part(steps));
        }
    });
    let (lines, compared, missing) = steps.finish();
    let mut failures: Vec<String> = missing
        .into_iter()
        .map(|step| format!("{step:?} was not shown"))
        .collect();
    let deviating = DEVIATIONS.len();
    failures.extend(unexpected(&compared));
    let same = compared.values().filter(|found| found.is_empty()).count();
    println!(
        "process_behaviour.jsonl: {same} of {lines} steps the same, {deviating} in the table of deviations"
    );
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert_eq!(same + deviating, lines);
}

/// Lists the differences that are in no table, and the entries of the table that are none.
fn unexpected(compared: &BTreeMap<String, Vec<Difference>>) -> Vec<String> {
    let mut failures = Vec::new();
    for (step, differences) in compared {
        let known = DEVIATIONS.iter().find(|(known, _, _)| known == step);
        let keys = known.map_or(&[][..], |(_, keys, _)| *keys);
        let unknown = differences
            .iter()
            .filter(|found| !keys.contains(&found.key.as_str()));
        failures.extend(unknown.map(|found| {
            let Difference { key, expected, got } = found;
            format!("{step:?} {key}\nexpected {expected}\ngot      {got}")
        }));
        let equal = keys
            .iter()
            .filter(|key| !differences.iter().any(|found| found.key == **key));
        failures.extend(equal.map(|key| format!("{step:?} {key} does not deviate any more")));
    }
    failures
}
