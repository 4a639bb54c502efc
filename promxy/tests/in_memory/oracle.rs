//! The recorded dataset and what one Prometheus with all of it answers.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read as _,
    path::PathBuf,
};

use promql::{
    histogram::{CounterResetHint, FloatHistogram, HistogramParts, Span},
    storage::stale_marker,
    testing::{Load, LoadedSeries, MemoryStorage, WrittenSample},
};
use promxy::{api::write_json, labels::Labels, query::Queries, servergroup::time_range::Grid};
use serde::Deserialize;
use serde_json::Value;
use shared::testing::golden;
use tokio::runtime::Runtime;

use super::{Group, Likeness};

/// Returns a recorded file.
pub(crate) fn file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/query")).join(name)
}

#[derive(Deserialize)]
struct Dataset {
    t0_unix_s: i64,
    step_s: i64,
    group_offset_ms: BTreeMap<String, i64>,
    groups: BTreeMap<String, Vec<Recorded>>,
}

#[derive(Deserialize)]
struct Recorded {
    labels: BTreeMap<String, String>,
    linear: Option<Linear>,
    #[serde(default)]
    values: Vec<Value>,
    histograms: Option<Value>,
}

#[derive(Deserialize)]
struct Linear {
    start: f64,
    delta: f64,
    count: usize,
}

/// Returns the samples of the groups a, b and c.
pub(crate) fn loads() -> Vec<(String, Load)> {
    let dataset: Dataset = golden::json(file("dataset.json"));
    let mut loads = Vec::new();
    for (name, recorded) in &dataset.groups {
        let first = dataset.t0_unix_s * 1000 + dataset.group_offset_ms[name];
        let series = recorded.iter().map(|series| LoadedSeries {
            labels: series.labels.iter().collect(),
            samples: samples(series, first, dataset.step_s * 1000),
        });
        let series = series.collect();
        loads.push((name.clone(), Load { series }));
    }
    loads
}

/// Returns the groups of the recorded configuration, the third with two equal replicas.
pub(crate) fn groups() -> Vec<Group> {
    let groups = loads().into_iter().map(|(name, load)| {
        let mut storage = MemoryStorage::new();
        storage.load(&load);
        let copies = if name == "c" { 2 } else { 1 };
        Group {
            labels: [("az", name.as_str())].into_iter().collect::<Labels>(),
            replicas: vec![storage; copies],
        }
    });
    groups.collect()
}

fn samples(series: &Recorded, first: i64, step: i64) -> Vec<WrittenSample> {
    let time = |number: usize| first + step * number as i64;
    let float = |(number, value): (usize, f64)| WrittenSample {
        timestamp: time(number),
        value,
        histogram: None,
        start: 0,
    };
    if let Some(linear) = &series.linear {
        let value = |number: usize| linear.start + linear.delta * number as f64;
        return (0..linear.count).map(|n| float((n, value(n)))).collect();
    }
    if series.histograms.is_some() {
        let histogram = |number: usize| WrittenSample {
            timestamp: time(number),
            value: 0.0,
            histogram: Some(histogram(number as f64 + 1.0)),
            start: 0,
        };
        return (0..161).map(histogram).collect();
    }
    let values = series.values.iter().enumerate();
    values
        .filter(|(_, value)| !value.is_null())
        .map(|(number, value)| {
            let value = match value.as_str() {
                Some("stale") => stale_marker(),
                Some(text) => text.trim_start_matches('+').parse().unwrap(),
                None => value.as_f64().unwrap(),
            };
            float((number, value))
        })
        .collect()
}

/// As the dataset describes: buckets (0.5,1], (1,2] and (4,8] of 2n, n and 3n.
fn histogram(n: f64) -> FloatHistogram {
    let span = |offset, length| Span { offset, length };
    FloatHistogram::new(HistogramParts {
        schema: 0,
        zero_threshold: 0.001,
        zero_count: n,
        count: 7.0 * n,
        sum: 10.5 * n,
        positive_spans: vec![span(0, 2), span(1, 1)],
        positive_counts: vec![2.0 * n, n, 3.0 * n],
        negative_spans: Vec::new(),
        negative_counts: Vec::new(),
        custom_values: Vec::new(),
        hint: CounterResetHint::Unknown,
    })
    .unwrap()
}

/// A recorded query.
#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) id: String,
    kind: String,
    pub(crate) params: BTreeMap<String, String>,
    promxy: Answer,
    oracle: Oracle,
    downstream: Vec<Vec<Request>>,
}

/// A request that the original made.
#[derive(Deserialize)]
pub(crate) struct Request {
    /// The target, or several with `+` between them.
    pub(crate) target: String,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) body_params: Vec<(String, String)>,
    pub(crate) status: u16,
    /// The key of the body.
    pub(crate) body: String,
}

#[derive(Deserialize)]
struct Answer {
    status: u16,
    body: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Oracle {
    Same(#[expect(dead_code, reason = "it says: same")] String),
    Answer(Answer),
}

/// Reads all recorded queries.
pub(crate) fn cases() -> Vec<Case> {
    let files = ["instant.json", "range.json"].into_iter();
    files
        .flat_map(|name| golden::json::<Vec<Case>>(file(name)))
        .collect()
}

/// Reads all recorded bodies.
pub(crate) fn bodies() -> HashMap<String, String> {
    let mut text = String::new();
    let packed = std::fs::File::open(file("bodies.json.gz")).unwrap();
    flate2::read::GzDecoder::new(packed)
        .read_to_string(&mut text)
        .unwrap();
    serde_json::from_str(&text).unwrap()
}

impl Case {
    /// Returns the requests that the original made.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &Request> {
        self.downstream.iter().flatten()
    }

    pub(crate) fn query(&self) -> &str {
        &self.params["query"]
    }

    pub(crate) fn grid(&self) -> Grid {
        grid(|name| self.params.get(name).map(String::as_str))
    }

    /// Returns the status and the body of what is right.
    pub(crate) fn expected<'a>(&self, bodies: &'a HashMap<String, String>) -> (u16, &'a str) {
        let answer = match &self.oracle {
            Oracle::Same(_) => &self.promxy,
            Oracle::Answer(answer) => answer,
        };
        (answer.status, &bodies[&answer.body])
    }
}

/// Reads the times of a request as the API does: whole seconds, and the rest to the nearest millisecond.
pub(crate) fn grid<'a>(param: impl Fn(&str) -> Option<&'a str>) -> Grid {
    let time = |name: &str| {
        let seconds: f64 = param(name).unwrap().parse().unwrap();
        seconds.trunc() as i64 * 1000 + (seconds.fract() * 1000.0).round() as i64
    };
    if param("time").is_some() {
        Grid::instant(time("time"))
    } else {
        Grid {
            start: time("start"),
            end: time("end"),
            step: time("step"),
        }
    }
}

/// Asks all recorded queries and compares the answers with the oracle's, but for those cases that are refused by decision.
pub(crate) fn check(name: &str, runtime: &Runtime, queries: &Queries, refused: &[&str]) {
    let (bodies, cases) = (bodies(), cases());
    let (mut equal, mut close, mut failures, mut wrong) = (0, 0, 0, Vec::new());
    for case in &cases {
        let (status, expected) = case.expected(&bodies);
        let outcome = super::ask(runtime, queries, case.query(), case.grid());
        let by_decision = refused.contains(&case.id.as_str());
        let difference = match outcome {
            Ok(outcome) if status == 200 => {
                let value = write_json::value(&outcome.value);
                let got = write_json::success(&value, &outcome.annotations);
                match compare(expected, &got) {
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
            Err(_) if by_decision => None,
            Err(failure) => Some(failure.message),
        };
        if let Some(got) = difference {
            wrong.push(format!(
                "{} {:?}\n  expected {expected}\n  got      {got}",
                case.id, case.params
            ));
        }
    }
    println!(
        "{name}: {} queries: {equal} equal to the oracle, {close} but for the last digits, {failures} fail alike, \
         {} differ by decision, {} wrong",
        cases.len(),
        refused.len(),
        wrong.len()
    );
    for text in &wrong {
        println!("{}", text.chars().take(1500).collect::<String>());
    }
    assert!(wrong.is_empty());
}

/// How a body differs from another: not, in the last digits, in value.
fn compare(expected: &str, got: &str) -> Likeness {
    let data = |body: &str| -> Value {
        let mut body: Value = serde_json::from_str(body).unwrap();
        body["data"].take()
    };
    let (expected, got) = (data(expected), data(got));
    if expected["resultType"] != got["resultType"] {
        return Likeness::Different;
    }
    super::likeness(&points(&expected), &points(&got))
}

fn points(data: &Value) -> super::Points {
    let mut points = super::Points::new();
    let result = &data["result"];
    let mut add = |labels: &Value, point: &Value| {
        let time = (point[0].as_f64().unwrap() * 1000.0).round() as i64;
        let value = match &point[1] {
            Value::String(text) => match text.trim_start_matches('+').parse() {
                Ok(value) => super::Point::Float(value),
                Err(_) => super::Point::Text(text.clone()),
            },
            histogram => super::Point::Text(histogram.to_string()),
        };
        points.insert((labels.to_string(), time), value);
    };
    if matches!(data["resultType"].as_str(), Some("scalar" | "string")) {
        add(&Value::Null, result);
        return points;
    }
    for series in result.as_array().into_iter().flatten() {
        let lists = ["values", "histograms"].into_iter();
        let lists = lists.filter_map(|key| series[key].as_array()).flatten();
        let single = [&series["value"], &series["histogram"]].into_iter();
        for point in lists.chain(single.filter(|point| !point.is_null())) {
            add(&series["metric"], point);
        }
    }
    points
}
