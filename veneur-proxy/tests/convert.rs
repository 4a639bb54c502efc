//! Metrics of one format in the other, with what real local veneurs sent by HTTP and by gRPC.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::collections::BTreeMap;

use prost::Message;
use veneur_proxy::{
    convert::{to_json, to_protobuf},
    json_metric::ImportBody,
    proto::metricpb::{Metric, Value},
};

#[test]
fn what_came_by_http_becomes_what_the_same_veneur_sends_by_grpc() {
    let grpc: BTreeMap<_, _> = support::captured_grpc().into_iter().collect();
    let (mut checked, mut unmatched) = (0, 0);
    for version in ["v1.9.0", "v13.2.0"] {
        let sent: Vec<Metric> = grpc[version]
            .iter()
            .map(|message| Metric::decode(&message[..]).unwrap())
            .collect();
        let bytes = support::bytes(&format!(
            "local-captures/{version}-http/request.body.deflate"
        ));
        let body = ImportBody::open(b"deflate", &bytes, 1 << 20).unwrap();
        for element in body.metrics().unwrap() {
            let mut converted = to_protobuf(&element).unwrap();
            let twin = sent.iter().find(|metric| {
                (&metric.name, &metric.tags, metric.r#type)
                    == (&converted.name, &converted.tags, converted.r#type)
            });
            let Some(twin) = twin else {
                unmatched += 1;
                continue;
            };
            // JSON has no scope.
            converted.scope = twin.scope;
            let mut twin = twin.clone();
            if let (Some(Value::Set(ours)), Some(Value::Set(theirs))) =
                (&mut converted.value, &mut twin.value)
            {
                // The original writes a small set in the order of a Go map, another one each time.
                ours.hyper_log_log.sort_unstable();
                theirs.hyper_log_log.sort_unstable();
            }
            assert_eq!(converted, twin, "{version}");
            checked += 1;
        }
    }
    println!("HTTP to gRPC: {checked} metrics equal, {unmatched} sent by HTTP alone");
    assert!(checked > 80, "{checked} {unmatched}");
}

#[test]
fn what_came_by_http_survives_the_way_there_and_back_byte_for_byte() {
    let mut checked = 0;
    for (encoding, file) in [
        ("deflate", "local-captures/v1.9.0-http/request.body.deflate"),
        (
            "deflate",
            "local-captures/v13.2.0-http/request.body.deflate",
        ),
        ("", "inputs/synthetic300.json"),
    ] {
        let bytes = support::bytes(file);
        let body = ImportBody::open(encoding.as_bytes(), &bytes, 1 << 20).unwrap();
        for element in body.metrics().unwrap() {
            let there = to_protobuf(&element).unwrap();
            let back = to_json(&there).unwrap();
            let expected = element.text.replace("\"tags\":[]", "\"tags\":null");
            assert_eq!(back, expected, "{file}");
            checked += 1;
        }
    }
    println!("HTTP to gRPC and back: {checked} elements equal byte for byte");
    assert_eq!(checked, 389);
}

#[test]
fn what_came_by_grpc_survives_the_way_there_and_back() {
    let mut checked = 0;
    for (version, messages) in support::captured_grpc() {
        for message in messages {
            let metric = Metric::decode(&message[..]).unwrap();
            let text = format!("[{}]", to_json(&metric).unwrap());
            let body = ImportBody::open(b"", text.as_bytes(), 1 << 20).unwrap();
            let mut back = to_protobuf(&body.metrics().unwrap()[0]).unwrap();
            back.scope = metric.scope;
            assert_eq!(back.encode_to_vec(), message, "{version}");
            checked += 1;
        }
    }
    println!("gRPC to HTTP and back: {checked} messages equal byte for byte");
    assert!(checked > 100, "{checked}");
}

#[test]
fn no_value_makes_conversion_panic() {
    let mut rng = fastrand::Rng::with_seed(64);
    let bytes = support::bytes("inputs/synthetic300.json");
    let body = ImportBody::open(b"", &bytes, 1 << 20).unwrap();
    let elements = body.metrics().unwrap();
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..50_000 {
        let element = &elements[rng.usize(..elements.len())];
        let mut text = element.text.as_bytes().to_vec();
        let at = rng.usize(text.len() / 2..text.len() - 4);
        text[at] = rng.alphanumeric() as u8;
        let text = [b"[", &text[..], b"]"].concat();
        let Ok(body) = ImportBody::open(b"", &text, 1 << 20) else {
            continue;
        };
        for metric in body.metrics().unwrap_or_default() {
            match to_protobuf(&metric) {
                Ok(_) => taken += 1,
                Err(_) => refused += 1,
            }
        }
    }
    println!("mutated values: {taken} converted, {refused} refused");
    assert!(taken > 100 && refused > 100);
}
