//! The requests that groups make of configurations that the original was run with, and what they make of the answers.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod groups_support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use groups_support::{Reply, Seen, Stub, start};
use promql::parser::{Matcher, NodeKind, ParserOptions, parse, parse_selector};
use promxy::{
    config,
    query::{Limits, Params, Queries, Settings, Source},
    remote::{decode, messages::ReadRequest},
    upstream::{Asked, Asker, Upstream as _},
};
use serde::Deserialize;
use serde_json::Value;
use shared::testing::{PATIENCE, golden};

#[derive(Deserialize)]
struct Scenario {
    name: String,
    config: String,
    #[serde(default)]
    flags: Vec<String>,
    requests: Vec<Request>,
}

#[derive(Clone, Deserialize)]
struct Request {
    path: String,
    params: BTreeMap<String, Value>,
    #[serde(default)]
    downstream: Vec<Vec<Sent>>,
}

impl Request {
    /// Returns the request with our ports in place of the recorded ones.
    fn with(&self, ports: &[(String, String)]) -> Self {
        let mut request = self.clone();
        for value in request.params.values_mut() {
            if let Value::String(text) = value {
                for (theirs, ours) in ports {
                    *text = text.replace(theirs, ours);
                }
            }
        }
        request
    }
}

#[derive(Clone, Deserialize)]
struct Sent {
    target: String,
    method: String,
    path: String,
    #[serde(default)]
    url_params: Vec<(String, Value)>,
    #[serde(default)]
    body_params: Vec<(String, Value)>,
    remote_read: Option<Read>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    response: Option<Value>,
}

#[derive(Clone, Deserialize)]
struct Read {
    queries: Vec<ReadQuery>,
}

#[derive(Clone, Deserialize)]
struct ReadQuery {
    matchers: Vec<(String, String, String)>,
    start_ms: i64,
    end_ms: i64,
}

/// Scenarios that are not replayed, and why.
const LEFT_OUT: [(&str, &str); 10] = [
    (
        "connection-refused",
        "D41: the failure ends the other requests, which may not be seen any more",
    ),
    ("per-target-labels-one-down", "D33, D41: so it does here"),
    (
        "relative-range",
        "its times are those of the recording's clock",
    ),
    ("federate", "its times are those of the recording's clock"),
    (
        "label-filter-dynamic",
        "the values that targets had were not recorded; see groups_faults",
    ),
    ("auth-and-headers", "http_client.jsonl has the same"),
    ("native-histogram-mixed", "refused before groups are asked"),
    ("native-histogram-metadata-refresh-5m-first-seconds", "D38"),
    (
        "native-histogram-metadata-refresh-1s",
        "refused before groups are asked",
    ),
    (
        "native-histogram-lossy",
        "histograms are seen in answers, which a plan does not know",
    ),
];

/// Requests that differ, a line each: scenario, path and parameters, why, with tabs between.
const DEVIATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/groups_scenarios.tsv");

/// The names of recorded targets by port.
fn name(scenario: &str, port: &str) -> &'static str {
    match (port, scenario) {
        ("26020", name) if name.starts_with("ha-raw") => "h1",
        ("26021", name) if name.starts_with("ha-raw") => "h2",
        ("26030", name) if name.starts_with("merge-order") => "r1",
        ("26031", name) if name.starts_with("merge-order") => "r2",
        ("26032", name) if name.starts_with("merge-order") => "r3",
        ("26020", _) => "a",
        ("26021", _) => "b",
        ("26022", _) => "c1",
        ("26023", _) => "c2",
        ("26030", _) => "good",
        ("26031", _) => "bad",
        ("26032", _) => "meta",
        ("26033", _) => "snap",
        _ => "nobody",
    }
}

fn word(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn line(
    target: &str,
    method: &str,
    path: &str,
    url: impl Iterator<Item = (String, String)>,
    body: impl Iterator<Item = (String, String)>,
) -> String {
    let write = |params: &mut dyn Iterator<Item = (String, String)>| {
        let params: Vec<String> = params
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        params.join("&")
    };
    let (mut url, mut body) = (url, body);
    format!(
        "{target} {method} {path} ?{} {}",
        write(&mut url),
        write(&mut body)
    )
}

fn sent_line(sent: &Sent) -> String {
    let own = |params: &[(String, Value)]| {
        let params = params.iter();
        let params: Vec<_> = params
            .map(|(name, value)| (name.clone(), word(value)))
            .collect();
        params.into_iter()
    };
    match &sent.remote_read {
        Some(read) => {
            let query = &read.queries[0];
            let matchers = query.matchers.iter();
            let matchers: Vec<String> = matchers
                .map(|(op, name, value)| format!("{name}{op}{value}"))
                .collect();
            let text = format!("{} {} {}", matchers.join(","), query.start_ms, query.end_ms);
            format!("{} {} {text}", sent.target, sent.path)
        }
        None => line(
            &sent.target,
            &sent.method,
            &sent.path,
            own(&sent.url_params),
            own(&sent.body_params),
        ),
    }
}

fn seen_line(target: &str, seen: &Seen) -> String {
    if seen.path.ends_with("/read") {
        let request: ReadRequest = decode(&seen.body, 1 << 20).unwrap();
        let query = &request.queries[0];
        let op = |kind: i32| ["=", "!=", "=~", "!~"][usize::try_from(kind).unwrap()];
        let matchers = query.matchers.iter();
        let matchers: Vec<String> = matchers
            .map(|matcher| format!("{}{}{}", matcher.name, op(matcher.kind), matcher.value))
            .collect();
        let (start, end) = (query.start_timestamp_ms, query.end_timestamp_ms);
        return format!(
            "{target} {} {} {start} {end}",
            seen.path,
            matchers.join(",")
        );
    }
    line(
        target,
        &seen.method,
        &seen.path,
        seen.url_params.iter().cloned(),
        seen.body_params.iter().cloned(),
    )
}

fn empty(seen: &Seen) -> Reply {
    let data = match seen.path.as_str() {
        path if path.ends_with("/read") => {
            let nothing = promxy::remote::messages::ReadResponse::default();
            return Reply::json(200, promxy::remote::encode(&nothing));
        }
        path if path.contains("/query") && !path.ends_with("exemplars") => {
            r#"{"resultType":"matrix","result":[]}"#
        }
        path if path.ends_with("/metadata") => "{}",
        _ => "[]",
    };
    Reply::json(200, format!(r#"{{"status":"success","data":{data}}}"#))
}

fn millis(value: &Value) -> i64 {
    (word(value).parse::<f64>().unwrap() * 1000.0).round() as i64
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items.iter().map(word).collect(),
        Some(value) => vec![word(value)],
        None => Vec::new(),
    }
}

fn matchers(text: &str) -> Vec<Matcher> {
    parse_selector(text, &ParserOptions::v3_5()).unwrap()
}

/// Asks groups what the original's API asked them; says whether it was something that groups are asked.
async fn ask(running: &groups_support::Running, scenario: &Scenario, request: &Request) -> bool {
    let groups = &running.groups;
    let proxied = scenario.flags.iter().any(|flag| flag.contains("X-Fwd"));
    let headers: Vec<(String, String)> = if proxied {
        vec![("X-Fwd".to_owned(), "f1".to_owned())]
    } else {
        Vec::new()
    };
    let asker = Asker {
        headers: Arc::from(headers),
        ..Asker::default()
    };
    let time = |name: &str| request.params.get(name).map(millis);
    let asked = |selectors: Vec<Vec<Matcher>>| Asked {
        selectors,
        start: time("start"),
        end: time("end"),
        limit: None,
    };
    let selectors = texts(request.params.get("match[]"));
    let selectors: Vec<Vec<Matcher>> = selectors.iter().map(|text| matchers(text)).collect();
    match request.path.as_str() {
        "/api/v1/query" | "/api/v1/query_range" => {
            let is_minute = scenario.flags.iter().any(|flag| flag.contains("lookback"));
            let queries = Queries::new(
                Settings {
                    parser: ParserOptions::v3_5(),
                    lookback: Duration::from_secs(if is_minute { 60 } else { 300 }),
                    limits: Limits {
                        timeout: PATIENCE,
                        max_samples: 1_000_000,
                        max_bytes: 1 << 30,
                        max_concurrency: None,
                    },
                },
                Source {
                    upstream: Arc::new(groups.clone()),
                    groups: config::Groups::Overlapping,
                    default_step: Duration::from_secs(60),
                },
            );
            let query = word(&request.params["query"]);
            let params = Params {
                headers: Arc::clone(&asker.headers),
                ..Params::default()
            };
            if parse(&query, &ParserOptions::v3_5()).is_err() {
                return false;
            }
            let _either_way = if let Some(time) = time("time") {
                queries.instant(&query, time, &params).await
            } else {
                let (start, end) = (time("start").unwrap(), time("end").unwrap());
                let step = time("step").unwrap();
                queries.range(&query, start, end, step, &params).await
            };
        }
        "/api/v1/series" => {
            let _either_way = groups.series(&asked(selectors), &asker).await;
        }
        "/api/v1/labels" => {
            let _either_way = groups.label_names(&asked(selectors), &asker).await;
        }
        "/api/v1/metadata" => {
            let metric = request.params.get("metric").map(word).unwrap_or_default();
            let _either_way = groups.metadata(&metric, None, &asker).await;
        }
        "/api/v1/query_exemplars" => {
            let query = word(&request.params["query"]);
            let expr = parse(&query, &ParserOptions::v3_5()).unwrap();
            let nodes = expr.nodes().filter_map(|(_, node)| match &node.kind {
                NodeKind::Vector(selector) => Some(selector.matchers.clone()),
                _ => None,
            });
            let _either_way = groups.exemplars(&asked(nodes.collect()), &asker).await;
        }
        path => {
            let label = path.strip_prefix("/api/v1/label/");
            let Some(label) = label.and_then(|rest| rest.strip_suffix("/values")) else {
                return false;
            };
            let asked = asked(selectors);
            let _either_way = groups.label_values(label, &asked, &asker).await;
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_make_the_requests_that_the_original_made() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/query/");
    let mut scenarios: Vec<Scenario> = golden::json(format!("{directory}scenarios.json"));
    scenarios.extend(golden::json::<Vec<Scenario>>(format!(
        "{directory}scenarios-errors.json"
    )));
    let table = std::fs::read_to_string(DEVIATIONS).unwrap();
    let lines = table.lines().map(|line| line.split('\t').collect());
    let deviations: Vec<Vec<&str>> = lines.collect();
    let (mut same, mut excused, mut other, mut headers) = (0, BTreeSet::new(), Vec::new(), 0);
    for scenario in &scenarios {
        if LEFT_OUT.iter().any(|(name, _)| *name == scenario.name) {
            continue;
        }
        // Answers by request, as far as they were recorded.
        let sent = scenario
            .requests
            .iter()
            .flat_map(|request| request.downstream.iter().flatten());
        let answers: Arc<BTreeMap<String, String>> = Arc::new(
            sent.filter_map(|sent| Some((sent_line(sent), word(sent.response.as_ref()?))))
                .collect(),
        );
        let mut config = scenario.config.clone();
        let (mut stubs, mut ports) = (Vec::new(), Vec::new());
        for port in 26_020..26_034 {
            let address = format!("127.0.0.1:{port}");
            if config.contains(&address) {
                let target = name(&scenario.name, &port.to_string());
                let answers = Arc::clone(&answers);
                let stub = Stub::new(move |seen| {
                    let answer = answers.get(&seen_line(target, seen));
                    answer.map_or_else(|| empty(seen), |body| Reply::json(200, body.clone()))
                });
                let ours = stub.address.port().to_string();
                config = config.replace(&address, &stub.address.to_string());
                config = config.replace(&port.to_string(), &ours);
                ports.push((port.to_string(), ours));
                stubs.push((target, stub));
            }
        }
        let running = start(&config);
        for request in &scenario.requests {
            let recorded: BTreeSet<String> =
                request.downstream.iter().flatten().map(sent_line).collect();
            let is_recorded = scenario
                .requests
                .iter()
                .any(|request| !request.downstream.is_empty());
            let sent = request.with(&ports);
            if !is_recorded || !ask(&running, scenario, &sent).await {
                continue;
            }
            let mut found = BTreeSet::new();
            for (target, stub) in &stubs {
                for seen in stub.take() {
                    let line = seen_line(target, &seen);
                    let sent = request.downstream.iter().flatten();
                    if let Some(sent) = sent.into_iter().find(|sent| sent_line(sent) == line)
                        && sent.remote_read.is_none()
                    {
                        for (name, value) in &sent.headers {
                            if name.starts_with("X-") && name != "X-Fwd" {
                                assert_eq!(seen.header(name), Some(value.as_str()), "{line}");
                                headers += 1;
                            }
                        }
                    }
                    found.insert(line);
                }
            }
            let asked = format!(
                "{} {}",
                request.path,
                serde_json::to_string(&request.params).unwrap()
            );
            let row = deviations
                .iter()
                .position(|row| row[0] == scenario.name && row[1] == asked);
            if found == recorded {
                assert!(
                    row.is_none(),
                    "{} {asked} does not deviate any more",
                    scenario.name
                );
                same += 1;
            } else if let Some(row) = row {
                excused.insert(row);
            } else {
                let theirs: Vec<_> = recorded.difference(&found).collect();
                let ours: Vec<_> = found.difference(&recorded).collect();
                other.push(format!(
                    "{} {asked}:\n  theirs {theirs:#?}\n  ours {ours:#?}",
                    scenario.name
                ));
            }
        }
    }
    println!(
        "scenarios.json, scenarios-errors.json: {same} requests to the API make the same requests to targets ({headers} headers looked at), \
         {} stand in the table of deviations, {} differ",
        excused.len(),
        other.len()
    );
    assert!(other.is_empty(), "{}", other.join("\n"));
    assert_eq!(excused.len(), deviations.len());
}
