//! The requests that queries become against those that the original made.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed test says what it expected; counts are shown")]

use std::collections::BTreeSet;

use promql::parser::{ParserOptions, parse};
use promxy::{
    labels::Labels,
    plan::{Fetch, Settings, TargetRules, for_target, plan, raw_for_target, split},
    servergroup::time_range::Grid,
};
use serde::Deserialize;
use shared::testing::golden;

#[derive(Deserialize)]
struct Case {
    id: String,
    kind: String,
    params: Params,
    downstream: Vec<Vec<Sent>>,
    #[serde(default)]
    divergence: String,
}

#[derive(Deserialize)]
struct Params {
    query: String,
    time: Option<String>,
    start: Option<String>,
    end: Option<String>,
    step: Option<String>,
}

#[derive(Deserialize)]
struct Sent {
    target: String,
    #[serde(default)]
    body_params: Vec<(String, String)>,
}

fn seconds(text: Option<&String>) -> i64 {
    text.and_then(|text| text.parse::<f64>().ok()).map_or(0, |seconds| (seconds * 1000.0).round() as i64)
}

/// A request on one line: what is asked, when.
fn line(target: &str, text: &str, grid: Grid) -> String {
    let second = |millis: i64| millis as f64 / 1000.0;
    if grid.is_instant() {
        format!("{target} {text} @{}", second(grid.start))
    } else {
        format!("{target} {text} @{}..{}/{}", second(grid.start), second(grid.end), second(grid.step))
    }
}

fn planned(case: &Case) -> Option<BTreeSet<String>> {
    let expr = parse(&case.params.query, &ParserOptions::v3_5()).ok()?;
    let grid = if case.kind == "instant" {
        Grid::instant(seconds(case.params.time.as_ref()))
    } else {
        Grid {
            start: seconds(case.params.start.as_ref()),
            end: seconds(case.params.end.as_ref()),
            step: seconds(case.params.step.as_ref()),
        }
    };
    let settings = Settings { lookback_ms: 300_000, default_step_ms: 60_000, is_histogram: &|_| false };
    let plan = plan(&expr, grid, settings);
    let mut lines = BTreeSet::new();
    for group in ["a", "b", "c"] {
        let added: Labels = [("az", group)].into_iter().collect();
        let rules = TargetRules { added: &added, metrics_relabel: &[], injected: &[], filter: None };
        for fetch in &plan.fetches {
            match fetch {
                Fetch::Query { text, grid } => {
                    lines.extend(for_target(text, rules).map(|text| line(group, &text, *grid)));
                }
                Fetch::Raw { selector, start, end } => {
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
    let line = |sent: &Sent| {
        let param = |name: &str| sent.body_params.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let grid = match param("time") {
            Some(time) => Grid::instant(seconds(Some(time))),
            None => Grid { start: seconds(param("start")), end: seconds(param("end")), step: seconds(param("step")) },
        };
        let group: String = sent.target.chars().take(1).collect();
        line(&group, param("query").map_or("", String::as_str), grid)
    };
    case.downstream.iter().flatten().map(line).collect()
}

#[test]
fn queries_become_the_requests_of_the_original() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/query");
    let cases: Vec<Case> = ["instant", "range"].iter().flat_map(|name| golden::json::<Vec<Case>>(format!("{folder}/{name}.json"))).collect();
    let (mut same, mut other, mut refused) = (0, Vec::new(), 0);
    for case in &cases {
        let Some(planned) = planned(case) else {
            refused += 1;
            continue;
        };
        let recorded = recorded(case);
        if planned == recorded {
            same += 1;
        } else {
            let missing: Vec<_> = recorded.difference(&planned).filter(|l| l.starts_with('a')).collect();
            let more: Vec<_> = planned.difference(&recorded).filter(|l| l.starts_with('a')).collect();
            other.push(format!("{} [{}] {}\n     theirs {missing:?}\n     ours   {more:?}", case.id, case.divergence, case.params.query));
        }
    }
    println!("instant.json and range.json: {same} of {} cases make the same requests, {} others, {refused} do not parse", cases.len(), other.len());
    for text in &other {
        println!("{text}");
    }
}

#[test]
fn long_grids_are_split() {
    let grid = Grid { start: 0, end: 25_000, step: 1000 };
    let parts = split(grid, 11);
    let ends: Vec<_> = parts.iter().map(|part| (part.start, part.end, part.len())).collect();
    assert_eq!(ends, [(0, 10_000, 11), (11_000, 21_000, 11), (22_000, 25_000, 4)]);
    assert_eq!(split(Grid::instant(5), 1), [Grid::instant(5)]);
}
