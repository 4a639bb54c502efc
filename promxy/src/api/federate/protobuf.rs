//! Samples as `io.prometheus.client.MetricFamily`, in bytes and in text.

use std::fmt::Write as _;

use promql::{format::general, histogram::HistogramParts};
use prost::Message;

use super::exposition::{Escaping, Latest, Value, labels};
use crate::remote::messages::BucketSpan;

const UNTYPED: i32 = 3;
const HISTOGRAM: i32 = 4;

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Untyped>,
    #[prost(int64, optional, tag = "6")]
    timestamp_ms: Option<i64>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Untyped {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

/// A native histogram, with float counts.
#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(double, tag = "4")]
    count: f64,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(double, optional, tag = "8")]
    zero_count: Option<f64>,
    #[prost(message, repeated, tag = "9")]
    negative_spans: Vec<BucketSpan>,
    #[prost(double, repeated, tag = "11")]
    negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "12")]
    positive_spans: Vec<BucketSpan>,
    #[prost(double, repeated, tag = "14")]
    positive_counts: Vec<f64>,
}

fn families(
    samples: &[Latest],
    external: &[(String, String)],
    escaping: Escaping,
) -> Vec<MetricFamily> {
    let mut families: Vec<MetricFamily> = Vec::new();
    for sample in samples {
        let name = escaping.name(sample.labels.metric_name());
        let kind = match sample.value {
            Value::Float(_) => UNTYPED,
            Value::Histogram(_) => HISTOGRAM,
        };
        let pairs = labels(&sample.labels, external).map(|(name, value)| LabelPair {
            name: Some(escaping.name(name).into_owned()),
            value: Some(value.to_owned()),
        });
        let mut metric = Metric {
            labels: pairs.collect(),
            untyped: None,
            timestamp_ms: Some(sample.time),
            histogram: None,
        };
        match &sample.value {
            Value::Float(value) => {
                let value = Some(*value);
                metric.untyped = Some(Untyped { value });
            }
            Value::Histogram(histogram) => {
                metric.histogram = Some(native(histogram.to_parts()));
            }
        }
        match families.last_mut() {
            Some(family) if family.name == name && family.kind == Some(kind) => {
                family.metrics.push(metric);
            }
            _ => families.push(MetricFamily {
                name: name.into_owned(),
                kind: Some(kind),
                metrics: vec![metric],
            }),
        }
    }
    families
}

fn native(parts: HistogramParts) -> Histogram {
    let spans = |spans: Vec<promql::histogram::Span>| {
        let span = |span: promql::histogram::Span| BucketSpan {
            offset: span.offset,
            length: span.length,
        };
        spans.into_iter().map(span).collect()
    };
    Histogram {
        sum: parts.sum,
        count: parts.count,
        schema: Some(parts.schema),
        zero_threshold: Some(parts.zero_threshold),
        zero_count: Some(parts.zero_count),
        negative_spans: spans(parts.negative_spans),
        negative_counts: parts.negative_counts,
        positive_spans: spans(parts.positive_spans),
        positive_counts: parts.positive_counts,
    }
}

/// Writes families one behind the other, each with its length in front.
pub(super) fn delimited(
    samples: &[Latest],
    external: &[(String, String)],
    escaping: Escaping,
) -> Vec<u8> {
    let families = families(samples, external, escaping);
    families
        .iter()
        .flat_map(MetricFamily::encode_length_delimited_to_vec)
        .collect()
}

/// Writes families for people to read. Histograms show their count and sum alone.
pub(super) fn text(
    samples: &[Latest],
    external: &[(String, String)],
    escaping: Escaping,
) -> String {
    let mut out = String::new();
    for family in families(samples, external, escaping) {
        let kind = if family.kind == Some(HISTOGRAM) {
            "HISTOGRAM"
        } else {
            "UNTYPED"
        };
        let quote = |text: &str| promql::format::quote(text.as_bytes());
        let name = quote(&family.name);
        write!(out, "name: {name}\ntype: {kind}\n").expect("writing to a String cannot fail");
        for metric in family.metrics {
            out.push_str("metric: {\n");
            for LabelPair { name, value } in metric.labels {
                let (name, value) = (
                    quote(&name.unwrap_or_default()),
                    quote(&value.unwrap_or_default()),
                );
                write!(
                    out,
                    "  label: {{\n    name: {name}\n    value: {value}\n  }}\n"
                )
                .expect("writing to a String cannot fail");
            }
            if let Some(Untyped { value }) = metric.untyped {
                out.push_str("  untyped: {\n    value: ");
                out.push_str(&number(value.unwrap_or_default()));
                out.push_str("\n  }\n");
            }
            let time = metric.timestamp_ms.unwrap_or_default();
            let histogram = metric.histogram;
            writeln!(out, "  timestamp_ms: {time}").expect("writing to a String cannot fail");
            if let Some(Histogram { sum, count, .. }) = histogram {
                out.push_str("  histogram: {\n    sample_sum: ");
                out.push_str(&number(sum));
                out.push_str("\n    sample_count_float: ");
                out.push_str(&number(count));
                out.push_str("\n  }\n");
            }
            out.push_str("}\n");
        }
        out.push('\n');
    }
    out
}
/// Returns a number as the text form has it.
fn number(value: f64) -> String {
    if value.is_nan() {
        "nan".to_owned()
    } else if value.is_infinite() {
        let infinite = if value > 0.0 { "inf" } else { "-inf" };
        infinite.to_owned()
    } else {
        general(value)
    }
}
