//! Questions of all kinds, and what is right of an answer while servers are missing.

use std::{fmt, iter::Sum, ops::AddAssign};

use serde_json::Value;

use crate::{
    dataset::{RegionLabel, Times, series},
    holding::Holding,
    support::{self, client::Response},
};

/// A request and how its answer has to be.
pub(crate) struct Question {
    pub(crate) path: String,
    expected: Value,
}

/// Questions of all kinds, the answers computed from all the data.
pub(crate) fn questions(times: Times) -> Vec<Question> {
    let whole = Holding::of(&series(&["east", "west"], times, RegionLabel::Written));
    let at = times.first + 1000;
    let federated = whole.answer("/api/v1/series", &[]);
    let instant = |query: &str| format!("query?query={query}&time={at}");
    let range = |query: &str| {
        format!(
            "query_range?query={query}&start={}&end={at}&step=60",
            at - 600
        )
    };
    let paths = [
        instant("temperature_celsius"),
        instant("sum%20by(dc)(http_requests_total)"),
        instant("count({__name__=~%22.%2B%22})"),
        range("temperature_celsius"),
        range("sum(rate(http_requests_total[2m]))"),
        range("topk(2,temperature_celsius)"),
        format!(
            "series?match[]={{job=%22api%22}}&start={}&end={at}",
            times.first
        ),
        "labels".to_owned(),
        "label/instance/values".to_owned(),
        instant("http_requests_total[2m]"),
        instant("{job=%22room%22}[5m]"),
    ];
    let question = |path: String| {
        let (call, query) = path.split_once('?').unwrap_or((&path, ""));
        let params = support::stub::parameters(query);
        let body = whole.answer(&format!("/api/v1/{call}"), &params);
        let mut body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["status"], "success", "{path}: {body}");
        let expected = ordered(body["data"].take());
        Question {
            path: format!("/api/v1/{path}"),
            expected,
        }
    };
    // The last three need samples as they are, which can be read remotely.
    let mut questions: Vec<Question> = paths.into_iter().map(question).collect();
    let mut federated: Value = serde_json::from_str(&federated).unwrap();
    questions.push(Question {
        path: "/federate?match[]={job!=%22%22}".to_owned(),
        expected: Value::from(federated["data"].as_array_mut().unwrap().len()),
    });
    questions
}

/// The data of an answer. Of a page that is federated, the number of series.
fn data(question: &Question, text: &str) -> Value {
    if question.path.starts_with("/federate") {
        return Value::from(text.lines().filter(|line| !line.starts_with('#')).count());
    }
    let mut body: Value = serde_json::from_str(text).unwrap_or_default();
    body.get_mut("data")
        .map_or(Value::Null, |data| ordered(data.take()))
}

fn ordered(mut data: Value) -> Value {
    let list = if data.is_object() {
        &mut data["result"]
    } else {
        &mut data
    };
    if let Some(series) = list.as_array_mut() {
        series.sort_by_key(|one| one.get("metric").unwrap_or(one).to_string());
    }
    data
}

/// Whether two values are the same but for the last digits of numbers.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        (Value::String(text), Value::String(other)) => {
            let numbers = text.parse::<f64>().ok().zip(other.parse::<f64>().ok());
            text == other
                || numbers.is_some_and(|(a, b)| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()))
        }
        _ => a == b,
    }
}

/// What has become of queries.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    /// Whole answers.
    pub(crate) right: usize,
    /// Errors that name who is missing.
    named: usize,
    /// Answers of a part of the data, with a warning that names who is missing.
    warned: usize,
    /// Anything else.
    wrong: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.right += other.right;
        self.named += other.named;
        self.warned += other.warned;
        self.wrong += other.wrong;
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |mut all, one| {
            all += one;
            all
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            right,
            named,
            warned,
            wrong,
        } = self;
        write!(f, "{right:>6} {named:>6} {warned:>6} {wrong:>6}")
    }
}

/// Judges an answer, by what names the servers that something is wrong with.
pub(crate) fn judged(
    question: &Question,
    answer: Option<&Response>,
    names: &[String],
) -> (Tally, Option<String>) {
    let mut tally = Tally::default();
    let Some(answer) = answer else {
        tally.wrong = 1;
        return (tally, Some(format!("{}: no answer", question.path)));
    };
    let text = answer.text();
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    let names_one = |said: &str| names.iter().any(|name| said.contains(name));
    if answer.status == 200 && alike(&data(question, &text), &question.expected) {
        tally.right = 1;
    } else if answer.status == 200 && names_one(&body["warnings"].to_string()) {
        tally.warned = 1;
    } else if answer.status >= 400 && names_one(&text) {
        tally.named = 1;
    } else {
        tally.wrong = 1;
        let why = format!(
            "{}: {} {text}\nshould be {}",
            question.path, answer.status, question.expected
        );
        return (tally, Some(why));
    }
    (tally, None)
}
