//! The requests that queries become against those that the original made.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

use std::collections::BTreeSet;

use promql::{
    Engine, EngineOptions,
    parser::{ParserOptions, parse},
    testing::block_on,
};
use promxy::{
    config::Groups,
    labels::{Labels, filter::LabelFilter},
    plan::{Fetch, Settings, TargetRules, for_target, plan, raw_for_target, split},
    query::{Select, selects},
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
    body_params: Vec<(String, serde_json::Value)>,
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

/// Reads a time as the API does: whole seconds, and the rest to the nearest millisecond.
fn seconds(text: Option<&String>) -> i64 {
    let seconds: f64 = text.and_then(|text| text.parse().ok()).unwrap_or(0.0);
    seconds.trunc() as i64 * 1000 + (seconds.fract() * 1000.0).round() as i64
}

/// A request on one line: what is asked, when.
fn line(target: &str, text: &str, grid: Grid) -> String {
    let second = |millis: i64| millis as f64 / 1000.0;
    if grid.is_instant() {
        format!("{target} {text} @{}", second(grid.start))
    } else {
        format!(
            "{target} {text} @{}..{}/{}",
            second(grid.start),
            second(grid.end),
            second(grid.step)
        )
    }
}

/// A request to every group.
enum Request {
    Query(Fetch),
    Raw {
        selector: String,
        start: i64,
        end: i64,
    },
}

/// Lists all requests of a query.
fn requests(text: &str, grid: Grid) -> Option<Vec<Request>> {
    let engine = Engine::new(EngineOptions::new(ParserOptions::v3_5()));
    let query = if grid.is_instant() {
        engine.instant_query(text, grid.start)
    } else {
        engine.range_query(text, grid.start, grid.end, grid.step)
    };
    let query = query.ok()?;
    let settings = Settings {
        default_step_ms: 60_000,
        groups: Groups::Overlapping,
        loses_labels: false,
        is_histogram: &|_| false,
    };
    let plan = plan(query.expr(), grid, settings);
    let raw = block_on(selects(&query, &plan)).unwrap().into_iter();
    let raw = raw.map(
        |Select {
             matchers,
             start,
             end,
         }| {
            let matchers: Vec<String> = matchers.iter().map(ToString::to_string).collect();
            let selector = format!("{{{}}}", matchers.join(","));
            Request::Raw {
                selector,
                start,
                end,
            }
        },
    );
    Some(
        plan.fetches
            .into_iter()
            .map(Request::Query)
            .chain(raw)
            .collect(),
    )
}

fn planned(case: &Case) -> Option<BTreeSet<String>> {
    let grid = if case.kind == "instant" {
        Grid::instant(seconds(case.params.time.as_ref()))
    } else {
        Grid {
            start: seconds(case.params.start.as_ref()),
            end: seconds(case.params.end.as_ref()),
            step: seconds(case.params.step.as_ref()),
        }
    };
    let requests = requests(&case.params.query, grid)?;
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

fn sent_line(sent: &Sent) -> String {
    {
        let param = |name: &str| {
            sent.body_params
                .iter()
                .find(|(key, _)| key == name)
                .and_then(|(_, value)| value.as_str())
                .map(str::to_owned)
        };
        let grid = match param("time") {
            time @ Some(_) => Grid::instant(seconds(time.as_ref())),
            None => Grid {
                start: seconds(param("start").as_ref()),
                end: seconds(param("end").as_ref()),
                step: seconds(param("step").as_ref()),
            },
        };
        let group: String = sent.target.chars().take(1).collect();
        line(&group, &param("query").unwrap_or_default(), grid)
    }
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
                case.params.query
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
            assert_eq!(planned, recorded, "{} {}", case.id, case.params.query);
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
            let grid = match param("time") {
                time @ Some(_) => Grid::instant(seconds(time.as_ref())),
                None => Grid {
                    start: seconds(param("start").as_ref()),
                    end: seconds(param("end").as_ref()),
                    step: seconds(param("step").as_ref()),
                },
            };
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
