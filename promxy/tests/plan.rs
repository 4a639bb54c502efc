//! The requests that queries become against those that the original made.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod plan_support;

use std::collections::{BTreeMap, BTreeSet};

use plan_support::{Request, Sent, grid, line, requests, sent_line};
use promxy::{
    labels::Labels,
    plan::{Fetch, TargetRules, for_target, raw_for_target, split},
    servergroup::time_range::Grid,
};
use serde::Deserialize;
use shared::testing::golden;

#[derive(Deserialize)]
struct Case {
    id: String,
    params: BTreeMap<String, String>,
    downstream: Vec<Vec<Sent>>,
}

/// Cases whose requests differ from the recorded ones, by reason.
const DEVIATIONS: [(&str, &[&str]); 9] = [
    (
        "histograms are seen in answers, which a plan does not know",
        &[
            "instant-020",
            "instant-262",
            "instant-263",
            "instant-264",
            "instant-265",
            "instant-267",
            "instant-268",
            "range-076",
            "range-077",
            "range-078",
        ],
    ),
    (
        "D5: the argument of scalar is fetched, not scalar",
        &[
            "instant-069",
            "instant-070",
            "instant-072",
            "instant-140",
            "instant-193",
            "range-045",
        ],
    ),
    (
        "the argument of sort is fetched, sorting is done here",
        &["instant-076", "instant-077", "range-050"],
    ),
    (
        "an average by metric name is made here",
        &["instant-106", "instant-107"],
    ),
    (
        "D6: the offset is applied once",
        &["instant-124", "instant-218", "range-031", "range-084"],
    ),
    (
        "D2: what is done to an aggregate is done here",
        &[
            "instant-158",
            "instant-159",
            "instant-160",
            "instant-164",
            "instant-165",
            "instant-166",
            "instant-167",
            "instant-168",
            "instant-169",
            "instant-205",
            "instant-206",
            "instant-207",
            "instant-208",
            "instant-209",
            "instant-210",
            "instant-211",
            "instant-212",
            "instant-213",
            "instant-214",
            "instant-215",
            "instant-216",
            "instant-217",
            "range-023",
            "range-024",
            "range-025",
            "range-079",
            "range-080",
        ],
    ),
    (
        "the first moment of a subquery does not belong to it",
        &[
            "instant-196",
            "instant-200",
            "instant-202",
            "instant-204",
            "instant-247",
            "instant-248",
            "range-058",
        ],
    ),
    (
        "D8: the offset moves the window of a subquery",
        &["instant-198", "instant-261", "range-059", "range-086"],
    ),
    (
        "D4: functions of the time of evaluation get the offset as it is",
        &[
            "instant-219",
            "instant-220",
            "instant-221",
            "instant-222",
            "instant-224",
            "instant-225",
            "range-081",
            "range-082",
        ],
    ),
];

fn planned(case: &Case) -> Option<BTreeSet<String>> {
    let grid = grid(|name| case.params.get(name).cloned());
    let requests = requests(&case.params["query"], grid)?;
    let mut lines = BTreeSet::new();
    for group in ["a", "b", "c"] {
        let added: Labels = [("az", group)].into_iter().collect();
        let rules = TargetRules {
            added: &added,
            metrics_relabel: &[],
            injected: &[],
            filter: None,
        };
        for request in &requests {
            match request {
                Request::Query(Fetch { text, grid }) => {
                    lines.extend(for_target(text, rules).map(|text| line(group, &text, *grid)));
                }
                Request::Raw {
                    selector,
                    start,
                    end,
                } => {
                    let selector = raw_for_target(selector, rules);
                    let text = selector.map(|selector| Fetch::raw_text(&selector, *start, *end));
                    lines.extend(text.map(|text| line(group, &text, Grid::instant(*end))));
                }
            }
        }
    }
    Some(lines)
}

fn recorded(case: &Case) -> BTreeSet<String> {
    case.downstream.iter().flatten().map(sent_line).collect()
}

#[test]
fn queries_become_the_requests_of_the_original() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/query");
    let cases: Vec<Case> = ["instant", "range"]
        .iter()
        .flat_map(|name| golden::json::<Vec<Case>>(format!("{folder}/{name}.json")))
        .collect();
    let (mut same, mut other, mut refused) = (0, 0, 0);
    for case in &cases {
        let Some(planned) = planned(case) else {
            refused += 1;
            assert!(
                case.downstream.is_empty(),
                "{}: the original takes {}",
                case.id,
                case.params["query"]
            );
            continue;
        };
        let recorded = recorded(case);
        let reason = DEVIATIONS
            .iter()
            .find(|(_, ids)| ids.contains(&case.id.as_str()));
        if let Some((reason, _)) = reason {
            assert_ne!(
                planned, recorded,
                "{} does not deviate any more: {reason}",
                case.id
            );
            other += 1;
        } else {
            assert_eq!(planned, recorded, "{} {}", case.id, case.params["query"]);
            same += 1;
        }
    }
    println!(
        "instant.json and range.json: {same} of {} cases make the same requests, {other} stand in the table of deviations, {refused} do not parse",
        cases.len()
    );
    for (reason, ids) in DEVIATIONS {
        println!("  {:2} {reason}", ids.len());
    }
    assert_eq!(
        other,
        DEVIATIONS.iter().map(|(_, ids)| ids.len()).sum::<usize>()
    );
}

#[test]
fn long_grids_are_split() {
    let grid = Grid {
        start: 0,
        end: 25_000,
        step: 1000,
    };
    let parts = split(grid, 11);
    let ends: Vec<_> = parts
        .iter()
        .map(|part| (part.start, part.end, part.len()))
        .collect();
    assert_eq!(
        ends,
        [(0, 10_000, 11), (11_000, 21_000, 11), (22_000, 25_000, 4)]
    );
    assert_eq!(split(Grid::instant(5), 1), [Grid::instant(5)]);
}
