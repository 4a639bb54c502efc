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
use promxy::{labels::Labels, servergroup::time_range::Grid};
use serde::Deserialize;
use serde_json::Value;
use shared::testing::golden;

use super::Group;

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
    pub(crate) fn query(&self) -> &str {
        &self.params["query"]
    }

    pub(crate) fn grid(&self) -> Grid {
        let time = |name: &str| {
            let seconds: f64 = self.params[name].parse().unwrap();
            seconds.trunc() as i64 * 1000 + (seconds.fract() * 1000.0).round() as i64
        };
        if self.kind == "instant" {
            Grid::instant(time("time"))
        } else {
            Grid {
                start: time("start"),
                end: time("end"),
                step: time("step"),
            }
        }
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

/// How a body differs from another: not, in the last digits, in value.
pub(crate) fn compare(expected: &str, got: &str) -> super::Likeness {
    let data = |body: &str| -> Value {
        let mut body: Value = serde_json::from_str(body).unwrap();
        body["data"].take()
    };
    let (expected, got) = (data(expected), data(got));
    if expected["resultType"] != got["resultType"] {
        return super::Likeness::Different;
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
