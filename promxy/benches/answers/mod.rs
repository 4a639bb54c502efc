//! Answers of servers, made up.

#![allow(dead_code, reason = "each bench uses its part")]

use std::fmt::Write as _;

use promxy::{labels::Labels, servergroup::time_range::Grid};

/// The first time of all grids.
pub(crate) const START: i64 = 1_700_000_000_000;

/// How far times are apart. Milliseconds.
pub(crate) const STEP: i64 = 15_000;

/// The labels of a series, as many and as long as usual.
fn pairs(number: usize) -> [(&'static str, String); 5] {
    let instance = format!("10.0.{}.{}:9090", number / 250, number % 250);
    [
        ("__name__", "http_requests_total".to_owned()),
        ("code", "200".to_owned()),
        ("handler", "/api/v1/query_range".to_owned()),
        ("instance", instance),
        ("job", "prometheus".to_owned()),
    ]
}

pub(crate) fn labels(number: usize) -> Labels {
    pairs(number).into_iter().collect()
}

pub(crate) fn grid(steps: usize) -> Grid {
    Grid {
        start: START,
        end: START + (steps as i64 - 1) * STEP,
        step: STEP,
    }
}

/// The answer to a query of a range: so many series with a number at each step.
pub(crate) fn matrix(series: usize, steps: usize, mut number: impl FnMut() -> f64) -> String {
    envelope("matrix", series, |body| {
        body.push_str("\"values\":[");
        for step in 0..steps as i64 {
            let comma = if step == 0 { "" } else { "," };
            let (time, value) = ((START + step * STEP) / 1000, number());
            write!(body, r#"{comma}[{time},"{value}"]"#).expect("a String takes it");
        }
        body.push(']');
    })
}

/// The answer to a query of one time: so many series.
pub(crate) fn vector(series: usize, mut number: impl FnMut() -> f64) -> String {
    envelope("vector", series, |body| {
        let (time, value) = (START / 1000, number());
        write!(body, r#""value":[{time},"{value}"]"#).expect("a String takes it");
    })
}

fn envelope(kind: &str, series: usize, mut values: impl FnMut(&mut String)) -> String {
    let mut body = format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":["#);
    for place in 0..series {
        body += if place == 0 {
            "{\"metric\":{"
        } else {
            ",{\"metric\":{"
        };
        for (number, (name, value)) in pairs(place).into_iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(body, r#"{comma}"{name}":"{value}""#).expect("a String takes it");
        }
        body += "},";
        values(&mut body);
        body += "}";
    }
    body + "]}}"
}
