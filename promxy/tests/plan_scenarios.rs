//! The requests of recorded scenarios: rules, filters, injected matchers and windows of time between a query and a target.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod plan_support;

use std::collections::BTreeSet;

use plan_support::{Request, Sent, grid, line, requests, sent_line};
use promql::parser::{ParserOptions, parse};
use promxy::{
    labels::filter::LabelFilter,
    plan::{Fetch, TargetRules, for_target, raw_for_target},
    servergroup::time_range::Grid,
};
use serde::Deserialize;
use shared::testing::golden;

#[derive(Deserialize)]
struct Scenario {
    name: String,
    config: String,
    requests: Vec<ScenarioRequest>,
}

#[derive(Deserialize)]
struct ScenarioRequest {
    path: String,
    params: std::collections::BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    downstream: Vec<Vec<Sent>>,
}

/// Requests of scenarios that differ from the recorded ones: scenario, query, reason.
const SCENARIO_DEVIATIONS: [(&str, &str, &str); 10] = [
    (
        "label-filter-static",
        "up{job!=\"api\"}",
        "D24: series without the label satisfy it",
    ),
    (
        "label-filter-static",
        "up{job=\"\"}",
        "D24: series without the label satisfy it",
    ),
    (
        "metrics-relabel",
        "up{job=\"\"}",
        "D22: a matcher on a dropped label is answered here",
    ),
    (
        "metrics-relabel",
        "up{job!=\"api\"}",
        "D22: a matcher on a dropped label is answered here",
    ),
    (
        "metrics-relabel",
        "up{job!~\".+\"}",
        "D22: a matcher on a dropped label is answered here",
    ),
    (
        "metrics-relabel",
        "temperature{room=\"attic\"}",
        "D20: no value is of this case",
    ),
    (
        "metrics-relabel",
        "temperature{room=\"ATT.C\"}",
        "D20: the value is no pattern",
    ),
    (
        "metrics-relabel",
        "rate(http_requests_total{scrape_job=\"api\"}[5m])",
        "D19: rewritten once",
    ),
    (
        "metrics-relabel",
        "max by (scrape_job) (up) > bool 0",
        "D2: what is done to an aggregate is done here",
    ),
    (
        "absolute-range",
        "replicas @ 1700000500",
        "D27: the time that @ names counts",
    ),
];

#[test]
fn scenarios_make_the_requests_of_the_original() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/query");
    let scenarios: Vec<Scenario> = golden::json(format!("{folder}/scenarios.json"));
    let (mut same, mut other) = (0, Vec::new());
    for scenario in &scenarios {
        let names = [
            "inject-matchers",
            "label-filter-static",
            "metrics-relabel",
            "absolute-range",
        ];
        if !names.contains(&scenario.name.as_str()) {
            continue;
        }
        let config = promxy::config::parse(&scenario.config).unwrap().config;
        for request in &scenario.requests {
            let Some(query) = request.params.get("query").and_then(|query| query.as_str()) else {
                continue;
            };
            if !request.path.starts_with("/api/v1/query") || request.path.ends_with("exemplars") {
                continue;
            }
            let param = |name: &str| {
                request
                    .params
                    .get(name)
                    .and_then(|value| value.as_str())
                    .map(str::to_owned)
            };
            let grid = grid(param);
            let requests = requests(query, grid).unwrap();
            let mut planned = BTreeSet::new();
            for (group, name) in config.server_groups.iter().zip(["a", "b", "c"]) {
                let filter = group
                    .label_filter
                    .as_ref()
                    .map(|keys| LabelFilter::new(&Vec::new(), &keys.include, &keys.exclude));
                let rules = TargetRules {
                    added: &group.labels,
                    metrics_relabel: &group.metrics_relabel,
                    injected: &group.inject_matchers,
                    filter: filter.as_ref(),
                };
                let windows: Vec<_> = group
                    .time_ranges
                    .iter()
                    .map(|range| range.window(0))
                    .collect();
                for request in &requests {
                    match request {
                        Request::Query(Fetch { text, grid }) => {
                            let asked = parse(text, &ParserOptions::v3_5()).unwrap();
                            let left = windows
                                .iter()
                                .try_fold(*grid, |grid, window| window.query(&asked, grid));
                            let text = left.and_then(|grid| {
                                for_target(text, rules).map(|text| line(name, &text, grid))
                            });
                            planned.extend(text);
                        }
                        Request::Raw {
                            selector,
                            start,
                            end,
                        } => {
                            let span = windows
                                .iter()
                                .try_fold((Some(*start), Some(*end)), |span, window| {
                                    window.span(span.0, span.1)
                                });
                            let Some((Some(start), Some(end))) = span else {
                                continue;
                            };
                            let selector = raw_for_target(selector, rules);
                            let text =
                                selector.map(|selector| Fetch::raw_text(&selector, start, end));
                            planned.extend(text.map(|text| line(name, &text, Grid::instant(end))));
                        }
                    }
                }
            }
            let recorded: BTreeSet<String> =
                request.downstream.iter().flatten().map(sent_line).collect();
            let deviates = SCENARIO_DEVIATIONS
                .iter()
                .any(|(name, text, _)| *name == scenario.name && *text == query);
            if planned == recorded {
                assert!(
                    !deviates,
                    "{} {query} does not deviate any more",
                    scenario.name
                );
                same += 1;
            } else {
                other.push(format!(
                    "{} {query}: theirs {recorded:?} ours {planned:?}",
                    scenario.name
                ));
                assert!(deviates, "{}", other.last().unwrap());
            }
        }
    }
    println!(
        "scenarios.json: {same} queries of four scenarios make the same requests, {} stand in the table of deviations",
        other.len()
    );
    assert_eq!(other.len(), SCENARIO_DEVIATIONS.len());
}
