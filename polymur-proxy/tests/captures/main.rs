//! Every capture of the real proxy, replayed through the real binary: requests header by header and bodies decompressed,
//! log lines, standard output, exit status. What deviates on purpose stands in `deviations`, with its row of the table of
//! fixes, and in the README under Differences.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod command_lines;
mod described;
mod deviations;
mod end_to_end;
mod gateway_replies;
mod normal;
mod outages;
mod recorded;
mod replay;
mod signals;
mod special;
#[path = "../support/mod.rs"]
mod support;
mod verdict;

use std::{collections::BTreeSet, fs, thread};

use deviations::deviations;
use parking_lot::Mutex;
use replay::Replay;
use support::{Certificates, golden};

/// Files in the folder of captures.
const CAPTURES: usize = 186;
/// Captures that are played at the same time. Most of the time they wait.
const AT_ONCE: usize = 6;

/// How a capture is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Scripted gateway and clients, in `replay`.
    Scripted,
    /// Gateways that go and come back, in `outages`.
    Outage,
    /// Against what the real gateway does, in `end_to_end`.
    EndToEnd,
    /// In `signals`.
    Signal,
    /// A sender that never stops, in `special`.
    Flood,
    /// Behind an HTTP proxy, in `special`: both sides of it.
    Proxied,
    /// Words and environment, in `command_lines`.
    CommandLines,
    /// Requests to the runstats port, in `command_lines`.
    Runstats,
    /// What the gateway says, to hold the tests' own against, in `gateway_replies`.
    GatewayReplies,
    /// Of the gateway's key handling and of the key tool: no proxy took part.
    NotOfTheProxy,
}

fn how(case: &str) -> How {
    match case {
        "queue/backpressure" => How::Flood,
        "tls/http_proxy_env_nocert" | "tls/http_proxy_env_nocert_proxyside" => How::Proxied,
        "cli/flags" => How::CommandLines,
        "runstats/replies" => How::Runstats,
        "gateway/http_replies" => How::GatewayReplies,
        "gateway/keys_and_modes" | "gateway/pgw_key" => How::NotOfTheProxy,
        _ if case.contains("/outage_") => How::Outage,
        _ if case.starts_with("e2e/") => How::EndToEnd,
        _ if case.starts_with("signals/") => How::Signal,
        _ => How::Scripted,
    }
}

/// All captures, as folder and name.
fn all_cases() -> Vec<String> {
    let mut names = Vec::new();
    for folder in fs::read_dir(golden("")).unwrap().map(Result::unwrap) {
        if !folder.file_type().unwrap().is_dir() {
            continue;
        }
        let folder_name = folder.file_name().into_string().unwrap();
        for file in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            let name = file.file_name().into_string().unwrap();
            names.push(format!(
                "{folder_name}/{}",
                name.strip_suffix(".json").unwrap()
            ));
        }
    }
    names.sort();
    names
}

/// The captures that are played this way.
fn cases(wanted: How) -> Vec<String> {
    let all = all_cases().into_iter();
    all.filter(|case| how(case) == wanted).collect()
}

#[test]
fn every_capture_is_replayed_or_named() {
    let all = all_cases();
    let not_applicable = cases(How::NotOfTheProxy);
    let replayed: Vec<&String> = all
        .iter()
        .filter(|case| !not_applicable.contains(case))
        .collect();
    let deviating: Vec<String> = replayed
        .iter()
        .filter_map(|case| {
            let rows: BTreeSet<_> = deviations(case).map(|deviation| deviation.row).collect();
            let rows: Vec<_> = rows.into_iter().collect();
            (!rows.is_empty()).then(|| format!("{case} ({})", rows.join("; ")))
        })
        .collect();
    println!(
        "{} captures in the folder: {} replayed as recorded, {} replayed with deviations, {} not applicable\n\
         deviations: {deviating:#?}\nnot applicable, no proxy took part: {not_applicable:#?}",
        all.len(),
        replayed.len() - deviating.len(),
        deviating.len(),
        not_applicable.len()
    );
    assert_eq!(all.len(), CAPTURES);
    assert_eq!(replayed.len() + not_applicable.len(), CAPTURES);
    // A deviation of a capture that is not there would say nothing.
    for deviation in deviations::DEVIATIONS {
        for case in deviation.cases {
            assert!(all.iter().any(|name| name == case), "{case}");
        }
    }
}

#[test]
fn scripted_captures_are_as_recorded_or_fixed() {
    let certificates = Certificates::new();
    let mut cases = cases(How::Scripted);
    // Those that take long begin.
    cases.sort_by_key(|case| !case.starts_with("timing/"));
    let next = Mutex::new(cases.iter());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(case) = next.lock().next() else {
                        return;
                    };
                    let wrong = Replay::new(case, &certificates).run();
                    let mut failures = failures.lock();
                    failures.extend(wrong.into_iter().map(|text| format!("{case}: {text}")));
                }
            });
        }
    });
    let failures = failures.into_inner();
    println!("{} scripted captures replayed", cases.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
