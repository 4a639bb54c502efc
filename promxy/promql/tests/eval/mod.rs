//! Recorded results, and how ours are written to be compared with them.

use std::path::{Path, PathBuf};

use promql::annotations::Severity;
use promql::histogram::{FloatHistogram, Span};
use promql::parser::{Compat, ParserOptions};
use promql::testing::{Command, EngineSubject, Evaluation, Load, MemoryStorage, Script, Subject};
use promql::value::{MatrixSeries, SampleValue, Value as QueryValue};
use promql::{EngineOptions, Outcome};
use serde_json::{Value, json};

/// Returns the directory of the recorded data, if it is there.
pub(crate) fn testdata() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/promql");
    let dir = std::env::var_os("PROMQL_TESTDATA").map_or(default, PathBuf::from);
    if dir.join("eval-results.jsonl").is_file() {
        return Some(dir);
    }
    println!("SKIPPED: no recorded results; set PROMQL_TESTDATA");
    None
}

/// Reads a file with one JSON value per line.
pub(crate) fn json_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The configuration of the runner that recorded the results.
pub(crate) fn options_3_14(delayed_name_removal: bool) -> EngineOptions {
    EngineOptions {
        delayed_name_removal,
        start_timestamps: true,
        max_samples: 10_000,
        ..EngineOptions::new(ParserOptions::v3_14().with_all_features())
    }
}

/// The configuration of the 3.5 column. Arithmetic in durations was on for the scripts of the reference only.
pub(crate) fn options_3_5(duration_expressions: bool) -> EngineOptions {
    EngineOptions {
        max_samples: 10_000,
        ..EngineOptions::new(ParserOptions {
            experimental_functions: true,
            duration_expressions,
            ..ParserOptions::v3_5()
        })
    }
}

/// Whether a file tests what the label `__type__` says, for which the reference switches a feature on.
pub(crate) fn uses_types(file: &str) -> bool {
    file == "type_and_unit.test"
}

/// Calls `f` for every `eval` of a script, with the storage as the script has it there.
pub(crate) fn for_each_eval(
    script: &Script,
    subject: &mut EngineSubject,
    mut f: impl FnMut(&EngineSubject, usize, &str, Evaluation, Outcome),
) {
    let is_3_5 = subject.parser_options().compat == Compat::V3_5;
    for command in &script.commands {
        match command {
            Command::Clear => subject.clear(),
            // Scripts with start times are not understood by 3.5.
            Command::Load(load) if is_3_5 && has_starts(load) => {}
            Command::Load(load) => subject.load(load),
            Command::Eval(eval) => {
                let outcome = subject.evaluate(&eval.query, eval.evaluation);
                f(subject, eval.line, &eval.query, eval.evaluation, outcome);
            }
        }
    }
}

/// Whether an outcome is what `holds` wants if the storage has its series in some order.
///
/// Prometheus' own test storage has the series of a `load` in the order of a Go map, another one in every run. Where that shows
/// (sums without compensation, ties of `topk`, 3.5's `info`), a recording is one of many.
pub(crate) fn holds_in_some_order(
    subject: &EngineSubject,
    query: &str,
    evaluation: Evaluation,
    holds: impl Fn(&Outcome) -> bool,
) -> bool {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut series = subject.storage.series().to_vec();
    (0..2_000).any(|_| {
        rng.shuffle(&mut series);
        let mut other = EngineSubject::new(subject.engine.clone());
        other.storage = MemoryStorage::of_series(series.clone());
        holds(&other.evaluate(query, evaluation))
    })
}

fn has_starts(load: &Load) -> bool {
    let mut samples = load.series.iter().flat_map(|series| &series.samples);
    samples.any(|sample| sample.start != 0)
}

/// Writes an outcome as the recordings have it.
pub(crate) fn written(outcome: &Outcome, query: &str, compat: Compat) -> Value {
    let mut result = match &outcome.value {
        Ok(value) => json!({ "value": written_value(value, compat) }),
        Err(error) => json!({ "error": error.to_string() }),
    };
    for (key, severity) in [("warnings", Severity::Warning), ("infos", Severity::Info)] {
        let mut texts = outcome.annotations.texts(severity, query);
        texts.sort();
        if !texts.is_empty() {
            result[key] = json!(texts);
        }
    }
    result
}

fn written_value(value: &QueryValue, compat: Compat) -> Value {
    match value {
        QueryValue::Scalar { value, .. } => json!({ "scalar": number(*value) }),
        QueryValue::String { value, .. } => json!({ "string": value.to_string() }),
        QueryValue::Vector(vector) => {
            let samples = vector.iter().map(|sample| {
                let metric = sample.labels.to_string();
                match &sample.value {
                    SampleValue::Float(value) => json!({ "metric": metric, "v": number(*value) }),
                    SampleValue::Histogram(histogram) => {
                        json!({ "metric": metric, "h": notation(histogram, compat) })
                    }
                }
            });
            json!({ "vector": samples.collect::<Vec<_>>() })
        }
        QueryValue::Matrix(matrix) => {
            let series = matrix.iter().map(|series| written_series(series, compat));
            json!({ "matrix": series.collect::<Vec<_>>() })
        }
    }
}

fn written_series(series: &MatrixSeries, compat: Compat) -> Value {
    let mut written = json!({ "metric": series.labels.to_string() });
    let floats: Vec<Value> = series
        .floats()
        .map(|(time, value)| json!([time, number(value)]))
        .collect();
    let histograms: Vec<Value> = series
        .histograms()
        .map(|(time, value)| json!([time, notation(&value, compat)]))
        .collect();
    if !floats.is_empty() {
        written["floats"] = floats.into();
    }
    if !histograms.is_empty() {
        written["histograms"] = histograms.into();
    }
    written
}

/// Writes a histogram in the notation of test scripts.
///
/// That of 3.5 puts the empty buckets of every gap but the first in front of the last run of buckets and not behind it: its
/// `Compact` with a limit forgets how long that run is. No answer of a server is written so.
fn notation(histogram: &FloatHistogram, compat: Compat) -> String {
    let mut parts = histogram.to_parts();
    if compat == Compat::V3_5 {
        for (spans, counts) in [
            (&mut parts.positive_spans, &mut parts.positive_counts),
            (&mut parts.negative_spans, &mut parts.negative_counts),
        ] {
            let Some((first, others)) = spans.split_first() else {
                continue;
            };
            let mut at = first.length as usize;
            for span in others {
                let gap = span.offset as usize;
                counts.splice(at..at, vec![0.0; gap]);
                at += gap;
            }
            let length = counts.len() as u32;
            *spans = vec![Span { length, ..*first }];
        }
    }
    FloatHistogram::new(parts).unwrap().to_test_notation()
}

fn number(value: f64) -> String {
    promql::format::general(value)
}

/// Brings two results into a form in which equal ones are equal: numbers by their bits, vectors by label sets unless their order
/// counts.
pub(crate) fn comparable(result: &Value, ordered: bool) -> Value {
    match result {
        Value::Object(fields) => {
            let mut fields = fields.clone();
            for (key, value) in &mut fields {
                *value = match (key.as_str(), &*value) {
                    ("v" | "scalar", Value::String(text)) => bits(text),
                    ("error", Value::String(text)) => sorted_pair(text).into(),
                    ("floats", Value::Array(points)) => points
                        .iter()
                        .map(|point| json!([point[0], bits(point[1].as_str().unwrap_or_default())]))
                        .collect(),
                    ("vector" | "matrix", Value::Array(series)) => {
                        let mut series: Vec<Value> = series
                            .iter()
                            .map(|series| comparable(series, ordered))
                            .collect();
                        if !ordered {
                            series.sort_by_key(ToString::to_string);
                        }
                        series.into()
                    }
                    (_, value) => comparable(value, ordered),
                };
            }
            Value::Object(fields)
        }
        other => other.clone(),
    }
}

fn bits(text: &str) -> Value {
    let value: f64 = text.parse().unwrap_or(f64::NAN);
    if value.is_nan() {
        return "NaN".into();
    }
    format!("{:016x}", value.to_bits()).into()
}

/// Sorts the two series that an error about duplicates names: their order is that of the storage, which is random there.
fn sorted_pair(error: &str) -> String {
    let parts = error.split_once(": [").and_then(|(before, rest)| {
        let (pair, after) = rest.split_once("];")?;
        let (first, second) = pair.split_once("}, {")?;
        Some((before, first, second, after))
    });
    let Some((before, first, second, after)) = parts else {
        return error.to_owned();
    };
    let mut pair = [
        first.trim_start_matches('{').to_owned(),
        second.trim_end_matches('}').to_owned(),
    ];
    pair.sort();
    format!("{before}: {pair:?} {after}")
}
