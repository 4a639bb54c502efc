//! Recorded cases made ready for a replay: replies to requests that are planned otherwise, at the present time.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    deviations,
    support::recorded::{Case, Exchange, Fault},
};

/// Returns a case with the replies to what is asked here.
pub(crate) fn prepared(file: &str, case: &Case, cases: &[Case]) -> Case {
    let name = format!("{file}:{}", case.id);
    let mut case = case.clone();
    let borrowed = deviations::BORROWED
        .iter()
        .filter(|(part, _)| name.starts_with(part));
    for (_, other) in borrowed {
        let other = cases.iter().find(|case| case.id == *other).unwrap();
        case.downstream.extend(other.downstream.iter().cloned());
    }
    let planned: Vec<_> = deviations::PLANNED_OTHERWISE
        .iter()
        .filter(|(other, ..)| name == *other)
        .collect();
    for exchange in &mut case.downstream {
        for (_, recorded, here) in &planned {
            let text = exchange.request.body.text.as_mut().unwrap();
            *text = text.replace(recorded, here);
        }
    }
    if deviations::SLOW.contains(&name.as_str()) {
        let slow = Fault {
            kind: "sleep".to_owned(),
            status: None,
            body: None,
            ct: None,
            s: Some(1.0),
        };
        for exchange in &case.downstream {
            let port = exchange.target.rsplit_once(':').unwrap().1.to_owned();
            case.fault.insert(port, slow.clone());
        }
    }
    let path = case.request.target.split('?').next().unwrap();
    if (is_query(path) || path == "/federate") && !asks_for_time(&case) {
        case.downstream.iter_mut().for_each(make_recent);
    }
    case
}

/// Moves the samples of a reply to a request for the present, so that they are as old as they were.
fn make_recent(exchange: &mut Exchange) {
    let form = exchange.request.body.text.as_deref().unwrap_or_default();
    let then = form.split('&').find_map(|pair| pair.strip_prefix("time="));
    let Some(then) = then.and_then(|then| then.parse::<f64>().ok()) else {
        return;
    };
    let now = Timestamp::now().as_millisecond() as f64 / 1000.0;
    let Some(response) = &mut exchange.response else {
        return;
    };
    let body = &mut response.body;
    if let Ok(mut value) = serde_json::from_slice::<Value>(&body.bytes()) {
        move_times(&mut value, now - then);
        body.text = Some(value.to_string());
    }
}

fn move_times(value: &mut Value, seconds: f64) {
    match value {
        Value::Array(pair) if pair.len() == 2 && pair[0].is_number() => {
            let time = pair[0].as_f64().unwrap() + seconds;
            pair[0] = ((time * 1000.0).round() / 1000.0).into();
        }
        Value::Array(list) => list.iter_mut().for_each(|value| move_times(value, seconds)),
        Value::Object(map) => map
            .values_mut()
            .for_each(|value| move_times(value, seconds)),
        _ => {}
    }
}

/// Whether a path is that of queries at one time.
pub(crate) fn is_query(path: &str) -> bool {
    path.ends_with("/query") || path.ends_with("Fv1/query")
}

/// Whether a case says for which time it asks.
pub(crate) fn asks_for_time(case: &Case) -> bool {
    let target = case.request.target.as_str();
    let form = String::from_utf8_lossy(&case.request.body.bytes()).into_owned();
    form.contains("time=1")
        || ["time=1", "time=2026", "time=-", "time=0"]
            .iter()
            .any(|part| target.contains(part))
}
