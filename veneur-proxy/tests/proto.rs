//! The hand-written messages against bytes that originals sent: what is decoded and encoded again is the same.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use prost::Message;
use serde::Deserialize;
use shared::testing::golden;
use veneur_proxy::proto::{
    forwardrpc::MetricList,
    metricpb::{Metric, Scope, Type, Value},
    ssf::SsfSpan,
};

/// Equal but for the last bit, in which the test's JSON reader is wrong now and then.
#[track_caller]
fn near(found: f64, shown: f64) {
    assert!(
        found == shown || (found - shown).abs() <= shown.abs() * 1e-15,
        "{found} {shown}"
    );
}

/// A metric as the recording shows it; what is zero is left out.
#[derive(Deserialize)]
struct Shown {
    name: String,
    #[serde(default)]
    tags: Vec<String>,
    r#type: Option<String>,
    scope: Option<String>,
    counter: Option<serde_json::Value>,
    gauge: Option<serde_json::Value>,
    histogram: Option<serde_json::Value>,
    set: Option<serde_json::Value>,
}

#[test]
fn captured_lists_survive_decoding_and_encoding() {
    let mut checked = 0;
    for list in [
        "local-captures/v1.9.0-grpc/metriclist.bin",
        "local-captures/v13.2.0-grpc/metriclist.bin",
        "inputs/synthetic300.metriclist.bin",
    ] {
        let bytes = support::bytes(list);
        let decoded = MetricList::decode(&bytes[..]).unwrap();
        checked += decoded.metrics.len();
        assert!(decoded.encode_to_vec() == bytes, "{list}");
    }
    for message in support::delimited("local-captures/v14-grpc/metrics.delimited.bin") {
        let decoded = Metric::decode(&message[..]).unwrap();
        assert_eq!(decoded.encode_to_vec(), message);
        checked += 1;
    }
    println!("{checked} metrics are encoded as they were received");
    assert!(checked > 400, "{checked}");
}

#[test]
fn captured_metrics_hold_what_the_recording_shows() {
    let mut checked = 0;
    for (version, metrics) in support::captured_grpc() {
        let shown: Vec<Shown> = golden::json_lines(support::path(&format!(
            "local-captures/{version}-grpc/decoded.jsonl"
        )));
        assert_eq!(shown.len(), metrics.len(), "{version}");
        for (shown, message) in shown.iter().zip(&metrics) {
            let metric = Metric::decode(&message[..]).unwrap();
            assert_eq!(metric.name, shown.name.as_bytes());
            let tags: Vec<&[u8]> = shown.tags.iter().map(String::as_bytes).collect();
            assert_eq!(metric.tags, tags);
            let kind = Type::try_from(metric.r#type).unwrap();
            let shown_kind = shown.r#type.as_deref().unwrap_or("Counter");
            assert_eq!(kind.name(), shown_kind.to_lowercase());
            let scope = Scope::try_from(metric.scope).unwrap();
            assert_eq!(
                format!("{scope:?}"),
                shown.scope.as_deref().unwrap_or("Mixed")
            );
            check_value(metric.value.unwrap(), shown);
            checked += 1;
        }
    }
    println!("{checked} metrics hold what the recording shows");
    assert!(checked > 100, "{checked}");
}

fn check_value(value: Value, shown: &Shown) {
    let number = |shown: &serde_json::Value, key: &str| match shown[key].as_str() {
        Some("Infinity") => f64::INFINITY,
        Some("-Infinity") => f64::NEG_INFINITY,
        _ => shown[key].as_f64().unwrap_or(0.0),
    };
    match value {
        Value::Counter(counter) => {
            let shown = shown.counter.as_ref().unwrap();
            let text = shown["value"].as_str().unwrap_or("0");
            assert_eq!(counter.value.to_string(), text);
        }
        Value::Gauge(gauge) => {
            near(gauge.value, number(shown.gauge.as_ref().unwrap(), "value"));
        }
        Value::Histogram(histogram) => {
            let digest = histogram.t_digest.unwrap();
            let shown = &shown.histogram.as_ref().unwrap()["t_digest"];
            near(digest.compression, number(shown, "compression"));
            near(digest.min, number(shown, "min"));
            near(digest.max, number(shown, "max"));
            near(digest.reciprocal_sum, number(shown, "reciprocalSum"));
            let centroids = shown["main_centroids"].as_array().unwrap();
            assert_eq!(digest.main_centroids.len(), centroids.len());
            for (centroid, shown) in digest.main_centroids.iter().zip(centroids) {
                near(centroid.mean, number(shown, "mean"));
                near(centroid.weight, number(shown, "weight"));
            }
        }
        Value::Set(set) => {
            let shown = shown.set.as_ref().unwrap()["hyper_log_log"]
                .as_str()
                .unwrap();
            assert_eq!(set.hyper_log_log, golden::bytes(shown));
        }
    }
}

#[test]
fn sample_spans_of_the_originals_are_understood() {
    #[derive(Deserialize)]
    struct Recording {
        sample_datagram_hex: String,
    }
    for version in ["v1.9.0", "v13.2.0"] {
        let recording: Recording =
            golden::json(support::path(&format!("self-metrics/{version}.json")));
        let datagram = support::hex(&recording.sample_datagram_hex);
        let span = SsfSpan::decode(&datagram[..]).unwrap();
        assert_eq!(span.service, "veneur-proxy", "{version}");
        assert!(
            span.start_timestamp > 1_600_000_000_000_000_000,
            "{version}"
        );
        assert!(span.end_timestamp >= span.start_timestamp, "{version}");
        assert!(
            !span.metrics.is_empty() && !span.name.is_empty(),
            "{version}"
        );
        for sample in &span.metrics {
            assert!(
                sample.name.starts_with("veneur_proxy."),
                "{version} {}",
                sample.name
            );
            assert!(
                [0.1, 1.0].contains(&sample.sample_rate),
                "{version} {}",
                sample.name
            );
        }
        // Nothing in it is unknown here: encoding gives as many bytes, but for tags without a value, which the original
        // writes with an empty field.
        let tags = span.metrics.iter().flat_map(|sample| sample.tags.values());
        let empty = tags
            .chain(span.tags.values())
            .filter(|value| value.is_empty());
        assert_eq!(
            span.encoded_len() + 2 * empty.count(),
            datagram.len(),
            "{version}"
        );
    }
}
