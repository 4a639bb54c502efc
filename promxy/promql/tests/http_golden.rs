//! Answers the compliance queries as a Prometheus 3.5.3 server did, over the same data.
//!
//! The recorded data is read from `$PROMQL_TESTDATA`, by default `shared/golden/promql` beside the workspace; its README says
//! how it was made. Without it the test says so and passes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it compared"
)]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use promql::labels::Labels;
use promql::parser::{ParserOptions, parse};
use promql::testing::{EngineSubject, Evaluation, MemoryStorage, Subject, parse_open_metrics};
use promql::value::{SampleValue, Value as QueryValue};
use promql::{Engine, EngineOptions, Outcome, QueryError};
use serde_json::{Map, Value, json};

const RANGE: Evaluation = Evaluation::Range {
    start: 1_700_003_600_000,
    end: 1_700_004_800_000,
    step: 150_000,
};
const INSTANT: Evaluation = Evaluation::Instant {
    time: 1_700_004_500_000,
};

fn testdata() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/promql");
    let dir = std::env::var_os("PROMQL_TESTDATA").map_or(default, PathBuf::from);
    if dir.join("http").is_dir() {
        return Some(dir);
    }
    println!("SKIPPED: no recorded answers; set PROMQL_TESTDATA");
    None
}

fn unzipped(path: &Path) -> String {
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// Answers as the HTTP API does.
fn answer(outcome: &Outcome, query: &str) -> Value {
    let mut answer = match &outcome.value {
        Ok(value) => json!({ "code": 200, "data": data(value) }),
        Err(error) => {
            let (code, kind) = error.http();
            let text = match error {
                QueryError::Parse(_) | QueryError::BadData(_) => {
                    format!("invalid parameter \"query\": {error}")
                }
                _ => error.to_string(),
            };
            json!({ "code": code, "errorType": kind, "error": text })
        }
    };
    for (key, mut texts) in [
        ("warnings", outcome.annotations.warnings(query)),
        ("infos", outcome.annotations.infos(query)),
    ] {
        texts.sort();
        if !texts.is_empty() {
            answer[key] = json!(texts);
        }
    }
    answer
}

fn metric(labels: &Labels) -> Value {
    let pairs = labels
        .iter()
        .map(|(name, value)| (name.to_owned(), value.into()));
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn data(value: &QueryValue) -> Value {
    match value {
        QueryValue::Scalar { timestamp, value } => {
            json!({ "resultType": "scalar", "result": point(*timestamp, *value) })
        }
        QueryValue::String { timestamp, value } => {
            json!({ "resultType": "string", "result": [*timestamp as f64 / 1000.0, value.to_string()] })
        }
        QueryValue::Vector(vector) => {
            let samples = vector.iter().map(|sample| match &sample.value {
                SampleValue::Float(value) => {
                    json!({ "metric": metric(&sample.labels), "value": point(sample.timestamp, *value) })
                }
                SampleValue::Histogram(_) => json!({ "metric": metric(&sample.labels) }),
            });
            json!({ "resultType": "vector", "result": samples.collect::<Vec<_>>() })
        }
        QueryValue::Matrix(matrix) => {
            let series = matrix.iter().map(|series| {
                let points: Vec<Value> = series
                    .floats()
                    .map(|(time, value)| point(time, value))
                    .collect();
                json!({ "metric": metric(&series.labels), "values": points })
            });
            json!({ "resultType": "matrix", "result": series.collect::<Vec<_>>() })
        }
    }
}

fn point(time: i64, value: f64) -> Value {
    json!([time as f64 / 1000.0, bits(value)])
}

/// Writes a number by its bits; all NaNs are one.
fn bits(value: f64) -> String {
    let value = if value.is_nan() { f64::NAN } else { value };
    format!("bits {:016x}", value.to_bits())
}

/// Brings a recorded answer into the form of ours: numbers by their bits, elements in one order, times as floats.
fn comparable(answer: &Value) -> Value {
    let mut answer = answer.clone();
    let sorted = |list: &mut Value| {
        if let Some(list) = list.as_array_mut() {
            list.sort_by_key(ToString::to_string);
        }
    };
    sorted(&mut answer["warnings"]);
    sorted(&mut answer["infos"]);
    let kind = answer["data"]["resultType"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let result = &mut answer["data"]["result"];
    let fix = |point: &mut Value| {
        let time = point[0].as_f64().unwrap_or_default();
        let text = point[1].as_str().unwrap_or_default();
        if !text.starts_with("bits ") {
            *point = json!([time, bits(text.parse().unwrap_or(f64::NAN))]);
        }
    };
    match kind.as_str() {
        "scalar" => fix(result),
        "string" => result[0] = json!(result[0].as_f64()),
        "vector" | "matrix" => {
            for series in result.as_array_mut().into_iter().flatten() {
                if let Some(value) = series.get_mut("value") {
                    fix(value);
                }
                for value in series
                    .get_mut("values")
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .flatten()
                {
                    fix(value);
                }
            }
            sorted(result);
        }
        _ => {}
    }
    answer
}

#[test]
fn a_3_5_server_answers_alike() {
    let Some(dir) = testdata() else { return };
    let series = parse_open_metrics(&unzipped(&dir.join("http/data.om.gz"))).unwrap();
    println!("{} series", series.len());
    let options = EngineOptions::new(ParserOptions::v3_5());
    let mut subject = EngineSubject::new(Engine::new(options));
    subject.storage = MemoryStorage::of_series(series);
    let mut counts = BTreeMap::from([("range", 0), ("instant", 0), ("format", 0)]);
    let mut failures = Vec::new();
    for line in unzipped(&dir.join("http/results-3.5.3.jsonl.gz")).lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let query = case["query"].as_str().unwrap();
        for (part, evaluation) in [("range", RANGE), ("instant", INSTANT)] {
            let outcome = subject.evaluate(query, evaluation);
            let got = answer(&outcome, query);
            *counts.get_mut(part).unwrap() += 1;
            if comparable(&case[part]) != comparable(&got) {
                failures.push(format!(
                    "{part} {query}\n  expected {}\n  got      {got}",
                    case[part]
                ));
            }
        }
        *counts.get_mut("format").unwrap() += 1;
        let formatted = parse(query, &ParserOptions::v3_5()).map(|expr| expr.pretty());
        if case["format"]["code"] == 200
            && case["format"]["data"] != formatted.clone().unwrap_or_default()
        {
            failures.push(format!("format {query}: {formatted:?}"));
        }
    }
    println!("{counts:?}, {} differ", failures.len());
    for failure in &failures {
        let cut: String = failure.chars().take(2000).collect();
        println!("{cut}");
    }
    assert!(failures.is_empty());
}
