//! The endpoints file: every recorded one is read, and read again as it changes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed helper is a failed test, and golden tests print their counts"
)]

mod support;

use std::fs;

use nix::sys::signal::Signal;
use serde::Deserialize;
use shared::testing::{eventually, golden, wire::free_tcp_port};
use support::{
    Mpp,
    prometheus::{Manners, Prometheus},
    trio::Trio,
};

#[derive(Deserialize)]
struct Scenario {
    #[serde(rename = "scenario")]
    name: String,
    endpoints_file: String,
    #[serde(default)]
    metrics: Vec<String>,
    #[serde(default)]
    status_page: Option<Page>,
    request_served_by: Option<String>,
    #[serde(default)]
    reread: Vec<Change>,
}

#[derive(Deserialize)]
struct Page {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    endpoint: String,
    selected: bool,
}

/// What was seen after a change of the file: rows as address, selected, uptime known.
#[derive(Deserialize)]
struct Change {
    #[serde(rename = "change")]
    what: String,
    rows: Vec<(String, bool, bool)>,
    metrics: Vec<String>,
    request: String,
}

const B1: &str = "http://127.0.0.1:24001";
const B2: &str = "http://127.0.0.1:24002";
const B3: &str = "http://127.0.0.1:24003";
/// The dead server of the recording.
const DEAD: &str = "http://127.0.0.1:24099";

/// Where a file is read differently, or a change shown differently: the row of the specification, and who is selected instead. An
/// address behind `-` is a row that is not selected.
const DEVIATIONS: &[(&str, &str, &[&str])] = &[
    ("ep-crlf", "L1", &[B1, B2, B3]),
    ("ep-tab", "L1", &[B1, B2, B3]),
    ("ep-comment", "L1", &[B1, B2, B3]),
    ("ep-comment-trailing", "L1", &[B1, B2]),
    ("ep-no-scheme", "L1", &[B1, "http://localhost:24002", B3]),
    (
        "ep-path",
        "a slash at the end is not shown",
        &["http://127.0.0.1:24001/prom", "http://127.0.0.1:24002/prom"],
    ),
    ("ep-query", "a bad line is skipped", &[B2]),
    ("ep-userinfo", "3.1: masked", &[B1]),
    ("ep-case", "the scheme is shown in lower case", &[B1]),
    ("ep-bom", "L1", &[B1, B2, B3]),
    ("ep-comma", "a bad line is skipped", &[]),
    ("ep-bad-url", "a bad line is skipped", &[B2]),
    (
        "file emptied: old selection kept",
        "5: the status page shows the last round as it was",
        &[],
    ),
    (
        "file removed: old selection kept",
        "5: the status page shows the last round as it was",
        &[],
    ),
    (
        "only a dead endpoint: old selection kept",
        "5: the status page shows the last round as it was",
        &["-http://127.0.0.1:24099"],
    ),
];

fn deviation(name: &str) -> Option<Vec<(String, bool)>> {
    let (.., rows) = DEVIATIONS.iter().find(|(other, ..)| *other == name)?;
    let row = |address: &&str| match address.strip_prefix('-') {
        Some(address) => (address.to_owned(), false),
        None => ((*address).to_owned(), true),
    };
    Some(rows.iter().map(row).collect())
}

#[test]
fn every_recorded_endpoints_file_is_read() {
    let scenarios: Vec<Scenario> = golden::json(support::golden("locators/endpoints-file.json"));
    let (mut deviating, mut changes, mut failures) = (0, 0, Vec::new());
    for scenario in &scenarios {
        let name = scenario.name.as_str();
        let servers = Trio::with(["1"; 3].map(Manners::good));
        let interval = if scenario.reread.is_empty() {
            "1h"
        } else {
            "100ms"
        };
        let mpp = Mpp::start(
            &servers.real(&scenario.endpoints_file),
            &[
                "--routing-strategy",
                "random",
                "--selection-interval",
                interval,
            ],
        );
        let instead = deviation(name);
        deviating += usize::from(instead.is_some());
        let differences = mpp.differences(|| compare(scenario, instead.as_deref(), &mpp, &servers));
        failures.extend(differences);
        if name == "ep-path" || name == "ep-userinfo" {
            probes_alone_use_path_and_credentials(&mpp, &servers);
        }
        for change in &scenario.reread {
            changes += 1;
            deviating += usize::from(deviation(&change.what).is_some());
            apply(change, &mpp, &servers);
        }
    }
    println!(
        "endpoints files: {} and {changes} changes, {deviating} deviate as listed, {} wrong",
        scenarios.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(deviating, DEVIATIONS.len());
}

fn compare(
    scenario: &Scenario,
    instead: Option<&[(String, bool)]>,
    mpp: &Mpp,
    servers: &Trio,
) -> Vec<String> {
    let mut differences = Vec::new();
    let rows = candidates(mpp, servers);
    let expected: Vec<(String, bool)> = instead.map_or_else(
        || {
            let rows = scenario.status_page.iter().flat_map(|page| &page.rows);
            rows.map(|row| (row.endpoint.clone(), row.selected))
                .collect()
        },
        <[_]>::to_vec,
    );
    if rows != expected {
        differences.push(format!(
            "{}: expected {expected:?}, got {rows:?}",
            scenario.name
        ));
    }
    for line in &scenario.metrics {
        let (metric, value) = line.split_once(' ').unwrap();
        // Rounds go on; and who is selected instead is said by the rows.
        if metric == "mpp_selected_backends" && instead.is_none() {
            let got = mpp.metric(metric).to_string();
            if got != value {
                differences.push(format!("{}: {line}, got {got}", scenario.name));
            }
        }
    }
    let status = mpp.get("/x").status;
    let nobody = (scenario.request_served_by.as_deref()).is_some_and(|by| by.starts_with("none"));
    if (status == 503) != nobody {
        differences.push(format!("{}: status {status}", scenario.name));
    }
    differences
}

fn candidates(mpp: &Mpp, servers: &Trio) -> Vec<(String, bool)> {
    let rows = mpp.candidates().into_iter();
    rows.map(|(address, selected)| (servers.recorded(&address), selected))
        .collect()
}

/// R7: requests ignore the path of the address; its credentials are for probes alone, and nobody sees them.
fn probes_alone_use_path_and_credentials(mpp: &Mpp, servers: &Trio) {
    assert_eq!(mpp.get("/prom-path?x=1").status, 200);
    let seen: Vec<_> = servers.iter().flat_map(Prometheus::seen).collect();
    let last = &seen.last().unwrap().head;
    assert!(
        seen.iter()
            .any(|seen| { seen.head.starts_with("GET /prom-path?x=1 HTTP/1.1\r\n") })
    );
    assert!(!last.to_lowercase().contains("authorization"), "{last}");
    let page = mpp.get("/mpp/status").text();
    assert!(!page.contains("u:p@"), "credentials are shown");
}

/// Changes the file as recorded, and waits until mpp says the recorded things.
fn apply(change: &Change, mpp: &Mpp, servers: &Trio) {
    let file = mpp.folder.path().join("endpoints.txt");
    let dead = format!("http://127.0.0.1:{}", free_tcp_port());
    let lines = match change.what.split(':').next().unwrap() {
        "start" => None,
        "file rewritten to b3 only" => Some(B3.to_owned()),
        "file emptied" => Some(String::new()),
        "file removed" => {
            fs::remove_file(&file).unwrap();
            None
        }
        "only a dead endpoint" => Some(dead.clone()),
        "b2,b1" => Some(format!("{B2}\n{B1}\n")),
        "order swapped b1,b2 (counts as a change in the log)" => Some(format!("{B1}\n{B2}\n")),
        other => panic!("no file is known for {other:?}"),
    };
    if let Some(lines) = lines {
        // In one step, so that no round reads half of it.
        mpp.write("new.txt", &servers.real(&lines));
        fs::rename(mpp.folder.path().join("new.txt"), &file).unwrap();
    }
    let expected = deviation(&change.what).unwrap_or_else(|| {
        let rows = change.rows.iter();
        rows.map(|(address, selected, _)| (address.clone(), *selected))
            .collect()
    });
    let selected = change.metrics[0]
        .strip_prefix("mpp_selected_backends ")
        .unwrap();
    eventually(&format!("{}: {expected:?}", change.what), || {
        let rows: Vec<_> = candidates(mpp, servers)
            .into_iter()
            .map(|(address, selected)| (address.replace(&dead, DEAD), selected))
            .collect();
        let count = mpp.metric("mpp_selected_backends").to_string();
        (rows == expected && count == selected).then_some(())
    });
    assert_eq!(
        change.request.starts_with("HTTP/1.1 200"),
        mpp.get("/x").status == 200,
        "{}",
        change.what
    );
}

#[test]
fn the_file_is_read_again_at_sighup_and_a_bad_line_is_told_with_its_number() {
    let servers = Trio::usual();
    let mpp = Mpp::start(&servers[0].url(), &["--selection-interval", "1h"]);
    mpp.wait_until_answering(1);
    assert_eq!(
        mpp.get("/x").header("mpp.servedby"),
        Some(servers[0].url().as_str())
    );
    mpp.write(
        "endpoints.txt",
        &format!("{}\nnot a url\n", servers[1].url()),
    );
    mpp.program.signal(Signal::SIGHUP);
    eventually("the other server to serve", || {
        (mpp.get("/x").header("mpp.servedby") == Some(&servers[1].url())).then_some(())
    });
    mpp.program.wait_for_line("skipped line 2: not a URL");
}
