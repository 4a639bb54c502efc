//! `/federate`: the latest sample of each series, for another Prometheus to scrape.

mod exposition;
mod protobuf;

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use futures_util::future::try_join_all;
use http::{HeaderMap, StatusCode, header::ACCEPT};
use jiff::Timestamp;
use promql::{parser::parse_selector, storage::is_stale};
use tokio::time::timeout;

use self::exposition::{Escaping, Latest, Value};
use super::params;
use crate::{
    merge::{self, Options},
    message::{
        Request,
        answer::{self, Response},
    },
    series::{Native, Samples, Series},
    state::State,
};

/// Forms of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Delimited,
    ProtobufText,
}

/// Answers a scrape.
pub async fn answer(state: &State, request: &Request) -> Response {
    let parsed = request.form.all("match[]");
    let parsed: Result<Vec<_>, _> = parsed
        .map(|text| parse_selector(text, &params::LANGUAGE))
        .collect();
    let selectors = match parsed {
        Ok(selectors) => selectors,
        Err(error) => return answer::error(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let now = Timestamp::now().as_millisecond();
    let lookback = i64::try_from(state.flags.lookback_delta.as_millis()).unwrap_or(i64::MAX);
    let start = now.saturating_sub(lookback);
    let upstream = state.upstream();
    let asker = state.asker(&request.headers);
    let asked = selectors
        .iter()
        .map(|matchers| upstream.raw(matchers, start, now, &asker));
    let limit = state.flags.query_timeout.unwrap_or(Duration::MAX);
    let answers = match timeout(limit, try_join_all(asked)).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => return failed(state, &error.message),
        Err(_) => return failed(state, "federation timed out"),
    };
    let warnings: usize = answers
        .iter()
        .map(|answer| answer.annotations.warnings.len())
        .sum();
    let counter = &state.telemetry.other.federation_warnings;
    counter.fetch_add(warnings as u64, Relaxed);
    let parts = answers.into_iter().flat_map(|answer| answer.data);
    let members: Vec<Vec<Series<Samples<Native>>>> = parts.map(|part| part.series).collect();
    let merged = merge::sets(members, Options::GROUPS, &());
    let mut latest: Vec<Latest> = merged
        .into_iter()
        .filter_map(|series| last(series, start))
        .collect();
    latest.sort_by(|a, b| a.labels.metric_name().cmp(b.labels.metric_name()));
    // Several selectors may have found a series in one group.
    latest.dedup_by(|a, b| a.labels == b.labels);
    let (form, escaping) = negotiate(&request.headers);
    let live = state.live();
    let external = &live.config.external_labels;
    let (content_type, body) = match form {
        Form::Text => (
            match escaping {
                Escaping::Underscores => {
                    "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
                }
                Escaping::None => "text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8",
            },
            exposition::write(&latest, external, escaping).into_bytes(),
        ),
        Form::Delimited => (
            match escaping {
                Escaping::Underscores => {
                    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores"
                }
                Escaping::None => {
                    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=allow-utf-8"
                }
            },
            protobuf::delimited(&latest, external, escaping),
        ),
        Form::ProtobufText => (
            match escaping {
                Escaping::Underscores => {
                    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text; escaping=underscores"
                }
                Escaping::None => {
                    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text; escaping=allow-utf-8"
                }
            },
            protobuf::text(&latest, external, escaping).into_bytes(),
        ),
    };
    answer::whole(StatusCode::OK, content_type, body)
}

fn failed(state: &State, reason: &str) -> Response {
    state
        .telemetry
        .other
        .federation_errors
        .fetch_add(1, Relaxed);
    answer::error(StatusCode::INTERNAL_SERVER_ERROR, reason)
}

/// Returns the last sample of a series if it is not too old and does not end the series.
fn last(series: Series<Samples<Native>>, start: i64) -> Option<Latest> {
    let Series { labels, data } = series;
    let float = data.floats.last().copied();
    let histogram = data.histograms.last().cloned();
    let (time, value) = match (float, histogram) {
        (Some((time, _)), Some((later, histogram))) if later > time => {
            (later, Value::Histogram(histogram))
        }
        (Some((time, value)), _) => (time, Value::Float(value)),
        (None, Some((time, histogram))) => (time, Value::Histogram(histogram)),
        (None, None) => return None,
    };
    let ends = match &value {
        Value::Float(value) => is_stale(*value),
        Value::Histogram(histogram) => is_stale(histogram.sum),
    };
    (time >= start && !ends).then_some(Latest {
        labels,
        time,
        value,
    })
}

/// Works out the form from `Accept`, by the order of the list: scrapers put what they like best first. Anything that is not known is
/// text, and so is `application/openmetrics-text`.
fn negotiate(headers: &HeaderMap) -> (Form, Escaping) {
    let accepted = headers
        .get(ACCEPT)
        .and_then(|accepted| accepted.to_str().ok());
    let mut escaping = Escaping::Underscores;
    for range in accepted.unwrap_or_default().split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let parameter = |name: &str| {
            let mut named = parameters.iter().filter(|(key, _)| *key == name);
            named.next().map(|(_, value)| *value)
        };
        let wanted = match parameter("escaping") {
            Some("allow-utf-8") => Escaping::None,
            _ => Escaping::Underscores,
        };
        match media_type {
            "application/vnd.google.protobuf"
                if parameter("proto") == Some("io.prometheus.client.MetricFamily") =>
            {
                match parameter("encoding") {
                    Some("delimited") => return (Form::Delimited, wanted),
                    Some("text" | "compact-text") => return (Form::ProtobufText, wanted),
                    _ => {}
                }
            }
            "text/plain" if matches!(parameter("version"), None | Some("0.0.4" | "1.0.0")) => {
                return (Form::Text, first(escaping, wanted));
            }
            "application/openmetrics-text" => escaping = first(escaping, wanted),
            _ => {}
        }
    }
    (Form::Text, escaping)
}

fn first(known: Escaping, wanted: Escaping) -> Escaping {
    if known == Escaping::None {
        known
    } else {
        wanted
    }
}
