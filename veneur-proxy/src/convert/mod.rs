//! From a metric in JSON to the same metric in protobuf, and back. Pure.
//!
//! Values keep every bit: counters and gauges are eight bytes in JSON, sets are the same bytes in both, and a digest is
//! decoded and encoded by `gob`. A timer stays a timer (the original's short-lived bridge made it a histogram).
//!
//! JSON has no scope. What comes by HTTP gets the scope that a local veneur gives it when it sends by gRPC: counters
//! and gauges are global, everything else is mixed.

mod gob;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use thiserror::Error;

use crate::{
    json_metric::{
        JsonMetric,
        scan::{self, Key, Kind},
    },
    proto::metricpb::{
        CounterValue, GaugeValue, HistogramValue, Metric, Scope, SetValue, Type, Value,
    },
};

/// Why a metric has no counterpart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConvertError {
    /// A type that the other format does not have.
    #[error("unknown metric type")]
    Type,
    /// A counter or gauge whose value is not eight bytes.
    #[error("value is not eight bytes long")]
    Length,
    /// A histogram or timer whose value is not a digest.
    #[error("value is not a t-digest")]
    Digest,
    /// No value, or one of another type.
    #[error("no value of the metric's type")]
    Value,
    /// A name or tag that is not UTF-8, which JSON cannot have.
    #[error("name or tag is not UTF-8")]
    Text,
}

/// Converts an element of an `/import` body.
pub fn to_protobuf(metric: &JsonMetric<'_>) -> Result<Metric, ConvertError> {
    let kind = Type::from_name(&metric.kind).ok_or(ConvertError::Type)?;
    let (mut tags, mut bytes) = (Vec::new(), None);
    for (key, value) in scan::members(metric.text) {
        match key {
            Key::Tags if Kind::of(value) == Kind::Array => {
                tags = scan::elements(value).map(tag).collect();
            }
            Key::Tags => tags.clear(),
            Key::Value => bytes = value_bytes(value)?,
            Key::Name | Key::Type | Key::Tagstring => {}
        }
    }
    let bytes = bytes.ok_or(ConvertError::Value)?;
    let eight = || <[u8; 8]>::try_from(&bytes[..]).map_err(|_| ConvertError::Length);
    let (value, scope) = match kind {
        Type::Counter => {
            let value = i64::from_le_bytes(eight()?);
            (Value::Counter(CounterValue { value }), Scope::Global)
        }
        Type::Gauge => {
            let value = f64::from_le_bytes(eight()?);
            (Value::Gauge(GaugeValue { value }), Scope::Global)
        }
        Type::Histogram | Type::Timer => {
            let t_digest = Some(gob::decode(&bytes)?);
            (Value::Histogram(HistogramValue { t_digest }), Scope::Mixed)
        }
        Type::Set => {
            let hyper_log_log = bytes;
            (Value::Set(SetValue { hyper_log_log }), Scope::Mixed)
        }
    };
    Ok(Metric {
        name: metric.name.as_bytes().to_vec(),
        tags,
        r#type: kind.into(),
        value: Some(value),
        scope: scope.into(),
    })
}

/// Converts a metric that came by gRPC to an element of an `/import` body.
pub fn to_json(metric: &Metric) -> Result<String, ConvertError> {
    #[derive(Serialize)]
    struct Element<'a> {
        name: &'a str,
        r#type: &'a str,
        tagstring: String,
        /// Null without any, as veneurs write it.
        tags: Option<Vec<&'a str>>,
        value: String,
    }
    let kind = Type::try_from(metric.r#type).map_err(|_| ConvertError::Type)?;
    let value = match (kind, &metric.value) {
        (Type::Counter, Some(Value::Counter(counter))) => counter.value.to_le_bytes().to_vec(),
        (Type::Gauge, Some(Value::Gauge(gauge))) => gauge.value.to_le_bytes().to_vec(),
        (Type::Histogram | Type::Timer, Some(Value::Histogram(histogram))) => {
            gob::encode(histogram.t_digest.as_ref().ok_or(ConvertError::Value)?)
        }
        (Type::Set, Some(Value::Set(set))) => set.hyper_log_log.clone(),
        _ => return Err(ConvertError::Value),
    };
    let text = |bytes| str::from_utf8(bytes).map_err(|_| ConvertError::Text);
    let tags: Vec<&str> = metric
        .tags
        .iter()
        .map(|tag| text(tag))
        .collect::<Result<_, _>>()?;
    let element = Element {
        name: text(&metric.name)?,
        r#type: kind.name(),
        tagstring: tags.join(","),
        tags: (!tags.is_empty()).then_some(tags),
        value: STANDARD.encode(value),
    };
    let text = serde_json::to_string(&element).expect("strings always have a JSON form");
    Ok(escape_like_go(text))
}

/// Escapes what Go escapes for the sake of HTML; in JSON these characters stand in strings alone.
fn escape_like_go(json: String) -> String {
    const ESCAPED: [(char, &str); 5] = [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
    ];
    if !json.contains(ESCAPED.map(|(c, _)| c)) {
        return json;
    }
    ESCAPED
        .into_iter()
        .fold(json, |json, (c, escape)| json.replace(c, escape))
}

fn tag(element: &str) -> Vec<u8> {
    match Kind::of(element) {
        Kind::String => scan::string(element).into_owned().into_bytes(),
        _ => Vec::new(),
    }
}

/// Decodes base64 or a list of bytes; `None` for null.
fn value_bytes(value: &str) -> Result<Option<Vec<u8>>, ConvertError> {
    let decoded = match Kind::of(value) {
        Kind::Null => return Ok(None),
        Kind::Array => scan::elements(value).map(scan::byte).collect(),
        _ => {
            let mut text = scan::string(value).into_owned();
            text.retain(|c| c != '\r' && c != '\n');
            STANDARD.decode(text).ok()
        }
    };
    decoded.map(Some).ok_or(ConvertError::Value)
}
