//! What was recorded of a step and what it shows here, in the same form.

use std::{collections::BTreeMap, sync::Mutex};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::support::client::Response;

/// Lines of parts that are not here: rules and Alertmanagers.
const NOT_HERE: [&str; 6] = [
    "Starting rule manager...",
    "Stopping rule manager...",
    "Rule manager stopped",
    "Stopping notification manager...",
    "Notification manager stopped",
    "Notifier manager stopped",
];

/// Headers that are compared. The others are dates, and what the test's own connections ask for.
const HEADERS: [&str; 5] = [
    "allow",
    "content-length",
    "content-type",
    "vary",
    "x-content-type-options",
];

/// Bodies were cut behind so many characters.
const CUT: usize = 400;

/// A recorded line.
#[derive(Clone, Deserialize)]
struct Line {
    step: String,
    #[serde(flatten)]
    shown: Map<String, Value>,
}

/// What was shown, by key.
type Facts = BTreeMap<String, String>;

/// All recorded steps, and what became of them.
pub(crate) struct Steps {
    lines: Vec<Line>,
    compared: Mutex<BTreeMap<String, Vec<Difference>>>,
}

/// A key that shows something else.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) key: String,
    pub(crate) expected: String,
    pub(crate) got: String,
}

impl Steps {
    pub(crate) fn read(file: &str) -> Self {
        Self {
            lines: crate::support::golden(file),
            compared: Mutex::default(),
        }
    }

    /// Returns what was recorded under a key of a step.
    #[track_caller]
    pub(crate) fn recorded(&self, step: &str, key: &str) -> Value {
        self.line(step).shown[key].clone()
    }

    #[track_caller]
    fn line(&self, step: &str) -> &Line {
        let mut lines = self.lines.iter();
        let line = lines.find(|line| line.step == step);
        line.unwrap_or_else(|| panic!("{step:?} was not recorded"))
    }

    /// Takes what a step has shown here.
    #[track_caller]
    pub(crate) fn shown(&self, step: &str, got: &[(&str, String)]) {
        let place = self.lines.iter().position(|line| line.step == step);
        let line = self.line(step);
        let mut expected = Facts::new();
        for (key, value) in &line.shown {
            let fact = match key.as_str() {
                "metrics" => self.metrics(place.unwrap(), value),
                key => fact(key, value),
            };
            expected.insert(key.clone(), fact);
        }
        let mut differences = Vec::new();
        for (key, expected) in expected {
            let got = got.iter().find(|(other, _)| *other == key);
            let got = got.map_or_else(|| "nothing".to_owned(), |(_, got)| got.clone());
            if got != expected {
                differences.push(Difference { key, expected, got });
            }
        }
        let mut compared = self.compared.lock().unwrap();
        let before = compared.insert(step.to_owned(), differences);
        assert!(before.is_none(), "{step:?} was shown before");
    }

    /// Says of the gauges of reloads whether the last one was right, and whether there was a right one since they were shown last.
    fn metrics(&self, place: usize, value: &Value) -> String {
        let gauges = words(value);
        if gauges
            .iter()
            .all(|line| !line.starts_with("prometheus_config_last_reload"))
        {
            return gauges.join("\n");
        }
        let mut earlier = self.lines[..place].iter().rev();
        let before = earlier.find_map(|line| line.shown.get("metrics"));
        reloads(&gauges, &before.map(words).unwrap_or_default())
    }

    /// Returns the differences of each step, and the steps that were not shown.
    pub(crate) fn finish(self) -> (usize, BTreeMap<String, Vec<Difference>>, Vec<String>) {
        let compared = self.compared.into_inner().unwrap();
        let missing = self.lines.iter().map(|line| line.step.clone());
        let missing = missing.filter(|step| !compared.contains_key(step));
        let missing = missing.collect();
        (self.lines.len(), compared, missing)
    }
}

fn words(value: &Value) -> Vec<String> {
    let words = value.as_array().unwrap().iter();
    words
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

/// What is compared of the gauges of reloads.
pub(crate) fn reloads(now: &[String], before: &[String]) -> String {
    let find = |lines: &[String], name: &str| {
        let mut lines = lines.iter();
        lines.find(|line| line.starts_with(name)).cloned()
    };
    let time = "prometheus_config_last_reload_success_timestamp_seconds";
    let is_whole = find(now, "process_reload_time_seconds")
        .is_some_and(|line| !line.contains('.') || line.contains("e+"));
    let successful = find(now, "prometheus_config_last_reload_successful ");
    let is_new = find(now, time) != find(before, time);
    format!("{successful:?}, whole seconds: {is_whole}, a new time: {is_new}")
}

/// What is compared of a recorded value.
fn fact(key: &str, value: &Value) -> String {
    match (key, value) {
        ("logs", Value::String(text)) => logs(text.lines()),
        ("runtimeinfo", Value::String(text)) => runtime_info(text),
        ("stdout", Value::String(text)) => access_log(text.lines()),
        ("exited_after_s", Value::Number(seconds)) => not_before(seconds.as_f64().unwrap()),
        ("n", _) => "some".to_owned(),
        ("q", Value::String(text)) => instant(text),
        ("results", Value::Array(results)) => {
            let status = |result: &Value| {
                (
                    result[0].as_u64().unwrap(),
                    result[2].as_str().unwrap().to_owned(),
                )
            };
            statuses(results.iter().map(status))
        }
        ("queries_active_prefix", Value::String(text)) => active(text),
        (_, Value::Array(items)) if items.iter().any(|item| item.get("status").is_some()) => {
            let items: Vec<String> = items.iter().map(recorded_answer).collect();
            items.join("\n")
        }
        (_, Value::Object(object)) if object.contains_key("status") => recorded_answer(value),
        (_, Value::Array(items)) if items.iter().all(Value::is_string) => words(value).join("\n"),
        (_, value) => value.to_string(),
    }
}

/// A time that has passed at least.
pub(crate) fn not_before(seconds: f64) -> String {
    format!("not before {} s", seconds.floor())
}

/// The kinds of answers, whatever their number.
pub(crate) fn statuses(answers: impl Iterator<Item = (u64, String)>) -> String {
    let mut kinds: Vec<String> = answers
        .map(|(status, body)| match status {
            200 => "200".to_owned(),
            _ => format!("{status} {body}"),
        })
        .collect();
    kinds.sort();
    kinds.dedup();
    kinds.join("\n")
}

/// The list of running queries without its time and its filling.
pub(crate) fn active(text: &str) -> String {
    let text = text.trim_end_matches('\0');
    let (head, rest) = text.split_once("\"timestamp_sec\":").unwrap_or((text, ""));
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{head}\"timestamp_sec\":<TIME>{rest}")
}

fn recorded_answer(value: &Value) -> String {
    let Some(status) = value["status"].as_u64() else {
        return "no answer".to_owned();
    };
    let headers = value["headers"].as_array().unwrap().iter();
    let headers = headers.map(|header| {
        let name = header[0].as_str().unwrap().to_ascii_lowercase();
        (name, header[1].as_str().unwrap().to_owned())
    });
    written(status, headers.collect(), value["body"].as_str().unwrap())
}

/// What is compared of an answer.
pub(crate) fn answer(response: &Response) -> String {
    written(
        response.status.into(),
        response.headers.clone(),
        &response.text(),
    )
}

fn written(status: u64, mut headers: Vec<(String, String)>, body: &str) -> String {
    headers.retain(|(name, _)| HEADERS.contains(&name.as_str()));
    headers.sort();
    let body: String = body.chars().take(CUT).collect();
    format!("{status} {headers:?} {body}")
}

/// The value of an instant query without its time.
pub(crate) fn instant(text: &str) -> String {
    let mut value: Value = serde_json::from_str(text).unwrap();
    for sample in value["data"]["result"].as_array_mut().unwrap() {
        sample["value"][0] = Value::from("<TIME>");
    }
    value.to_string()
}

/// Lines of a log without their times, those of parts that are not here left out; of lines that repeat, one.
pub(crate) fn logs<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines = lines.filter(|line| !line.is_empty());
    let lines = lines.filter(|line| !NOT_HERE.iter().any(|part| line.contains(part)));
    let timeless = |line: &str| {
        let text = line.split_once("level=").map_or(line, |(_, rest)| rest);
        masked(&masked(text, "timestamp_sec\\\":"), "address=\"127.0.0.1:")
    };
    let mut lines: Vec<String> = lines.map(timeless).collect();
    lines.dedup();
    lines.join("\n")
}

/// Leaves out the digits behind a text.
fn masked(line: &str, text: &str) -> String {
    let Some((head, rest)) = line.split_once(text) else {
        return line.to_owned();
    };
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{head}{text}<N>{rest}")
}

/// The keys of the runtime's description, and whether the last reload was right.
pub(crate) fn runtime_info(text: &str) -> String {
    // serde_json sorts keys; their order is another test's.
    let value: Value = serde_json::from_str(text).unwrap();
    let data = value["data"].as_object().unwrap();
    let keys: Vec<&String> = data.keys().collect();
    format!("{keys:?} {}", data["reloadConfigSuccess"])
}

/// Lines of the access log without times.
pub(crate) fn access_log<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines = lines.map(|line| json_line(line).unwrap_or_else(|| text_line(line)));
    let lines: Vec<String> = lines.collect();
    lines.join("\n")
}

fn json_line(line: &str) -> Option<String> {
    let mut line: Value = serde_json::from_str(line).ok()?;
    for key in ["time", "duration"] {
        line[key] = Value::from("<TIME>");
    }
    let bytes = line["responseBytes"].as_u64().unwrap();
    line["responseBytes"] = Value::from(length(bytes));
    Some(line.to_string())
}

fn text_line(line: &str) -> String {
    let (peer, rest) = line.split_once(" [").unwrap();
    let (_, rest) = rest.split_once("] ").unwrap();
    let (request, rest) = rest.rsplit_once("\" ").unwrap();
    let (_, form) = rest.split_once(' ').unwrap();
    let (request, bytes) = request.rsplit_once(' ').unwrap();
    let bytes = length(bytes.parse().unwrap());
    format!("{peer} {request} {bytes} {form}")
}

/// The length of an answer; that of a number depends on the time, whose milliseconds may end with zeros.
fn length(bytes: u64) -> u64 {
    if (77..=81).contains(&bytes) {
        81
    } else {
        bytes
    }
}
