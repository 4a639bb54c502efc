//! Every recorded metric goes where the original sent it, for every version and case (`tests/golden/routing`).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::collections::BTreeMap;

use prost::Message;
use serde::Deserialize;
use shared::{hashing::consistent::ConsistentRing, testing::golden};
use veneur_proxy::{
    json_metric::{self, ImportBody},
    proto::metricpb::Metric,
    route::{IgnoreTags, Routed, TagRule, place},
    wire::{self, WireMetric},
};

/// What one destination got by one request.
#[derive(Deserialize)]
struct Received {
    dest: String,
    #[serde(default)]
    body: String,
    #[serde(default)]
    messages_b64: Vec<String>,
}

/// What the destinations got by HTTP; each got one request.
fn received_bodies(case: &str) -> BTreeMap<String, String> {
    let received: Vec<Received> =
        golden::json_lines(support::path(&format!("routing/{case}/received.jsonl")));
    let count = received.len();
    let bodies: BTreeMap<_, _> = received
        .into_iter()
        .map(|got| (got.dest, got.body))
        .collect();
    assert_eq!(bodies.len(), count, "{case}");
    bodies
}

/// What the destinations got by gRPC.
fn received_messages(case: &str) -> BTreeMap<String, Vec<Vec<u8>>> {
    let received: Vec<Received> =
        golden::json_lines(support::path(&format!("routing/{case}/received.jsonl")));
    let mut messages: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for got in received {
        let decoded = got
            .messages_b64
            .iter()
            .map(|message| golden::bytes(message));
        messages.entry(got.dest).or_default().extend(decoded);
    }
    messages
}

fn ring(scheme: &str, first_port: u16) -> ConsistentRing {
    let members: Vec<String> = (first_port..first_port + 4)
        .map(|port| format!("{scheme}127.0.0.1:{port}"))
        .collect();
    ConsistentRing::new(&members)
}

fn http_ring(version: &str) -> ConsistentRing {
    ring(if version == "v1.8.1" { "http://" } else { "" }, 22111)
}

#[test]
fn http_bodies_are_those_of_the_original() {
    let mut checked = 0;
    for (version, case, encoding, input) in [
        (
            "v1.8.1",
            "http-synthetic300",
            "",
            "inputs/synthetic300.json",
        ),
        (
            "v1.9.0",
            "http-synthetic300",
            "",
            "inputs/synthetic300.json",
        ),
        (
            "v13.2.0",
            "http-synthetic300",
            "",
            "inputs/synthetic300.json",
        ),
        (
            "v1.8.1",
            "http-local-v1.9.0",
            "deflate",
            "local-captures/v1.9.0-http/request.body.deflate",
        ),
        (
            "v1.9.0",
            "http-local-v1.9.0",
            "deflate",
            "local-captures/v1.9.0-http/request.body.deflate",
        ),
        (
            "v13.2.0",
            "http-local-v1.9.0",
            "deflate",
            "local-captures/v1.9.0-http/request.body.deflate",
        ),
        (
            "v1.9.0",
            "http-local-v13.2.0",
            "deflate",
            "local-captures/v13.2.0-http/request.body.deflate",
        ),
        (
            "v13.2.0",
            "http-local-v13.2.0",
            "deflate",
            "local-captures/v13.2.0-http/request.body.deflate",
        ),
    ] {
        let input = support::bytes(input);
        let body = ImportBody::open(encoding.as_bytes(), &input, 1 << 20).unwrap();
        let metrics = body.metrics().unwrap();
        checked += metrics.len();
        let ring = http_ring(version);
        let placed = place(&ring, &IgnoreTags::default(), metrics);
        let mut sent = BTreeMap::new();
        for (member, group) in ring.members().iter().zip(&placed.groups) {
            if !group.is_empty() {
                let mut body = Vec::new();
                json_metric::write_body(group, &mut body);
                sent.insert(member.clone(), String::from_utf8(body).unwrap());
            }
        }
        assert_eq!(
            sent,
            received_bodies(&format!("{version}/{case}")),
            "{version} {case}"
        );
    }
    println!("HTTP: {checked} metrics in bodies equal byte for byte");
    assert!(checked > 900, "{checked}");
}

/// The original decodes and encodes odd elements; we forward them as received. Destination, order and meaning agree.
#[test]
fn odd_http_metrics_go_where_the_original_sent_them() {
    type Strings = (String, String, String);
    let strings = |metrics: &[json_metric::JsonMetric<'_>]| -> Vec<Strings> {
        metrics
            .iter()
            .map(|m| {
                (
                    m.name.to_string(),
                    m.kind.to_string(),
                    m.tagstring.to_string(),
                )
            })
            .collect()
    };
    let input = support::bytes("inputs/odd.json");
    let body = ImportBody::open(b"", &input, 1 << 20).unwrap();
    let mut checked = 0;
    for version in ["v1.8.1", "v1.9.0", "v13.2.0"] {
        let ring = http_ring(version);
        let placed = place(&ring, &IgnoreTags::default(), body.metrics().unwrap());
        let mut received = received_bodies(&format!("{version}/http-odd"));
        for (member, group) in ring.members().iter().zip(&placed.groups) {
            checked += group.len();
            let Some(expected) = received.remove(member) else {
                assert!(group.is_empty(), "{version} {member}");
                continue;
            };
            let expected = ImportBody::open(b"", expected.as_bytes(), 1 << 20).unwrap();
            assert_eq!(
                strings(group),
                strings(&expected.metrics().unwrap()),
                "{version} {member}"
            );
        }
        assert!(received.is_empty(), "{version}");
    }
    println!("HTTP: {checked} odd metrics go where they went");
    assert_eq!(checked, 3 * 19);
}

#[test]
fn unary_messages_are_those_of_the_original() {
    let mut checked = 0;
    for version in ["v1.9.0", "v13.2.0"] {
        for (case, input) in [
            ("grpc-synthetic300", "inputs/synthetic300.metriclist.bin"),
            (
                "grpc-local-v1.9.0",
                "local-captures/v1.9.0-grpc/metriclist.bin",
            ),
            (
                "grpc-local-v13.2.0",
                "local-captures/v13.2.0-grpc/metriclist.bin",
            ),
        ] {
            let input = support::bytes(input);
            let metrics = wire::read_list(&input).unwrap();
            checked += metrics.len();
            let ring = ring("", 22121);
            let placed = place(&ring, &IgnoreTags::default(), metrics);
            let mut sent = BTreeMap::new();
            for (member, group) in ring.members().iter().zip(&placed.groups) {
                if !group.is_empty() {
                    let mut list = Vec::new();
                    wire::write_list(group, &mut list);
                    sent.insert(member.clone(), vec![list]);
                }
            }
            assert!(
                sent == received_messages(&format!("{version}/{case}")),
                "{version} {case}"
            );
        }
    }
    println!("SendMetrics: {checked} metrics in messages equal byte for byte");
    assert!(checked > 600, "{checked}");
}

#[test]
fn streamed_messages_are_those_of_the_original() {
    let list_input = support::bytes("inputs/synthetic300.metriclist.bin");
    let synthetic: Vec<Vec<u8>> = wire::read_list(&list_input)
        .unwrap()
        .iter()
        .map(|metric| metric.message().to_vec())
        .collect();
    let mut inputs: BTreeMap<&str, Vec<Vec<u8>>> = support::captured_grpc().into_iter().collect();
    inputs.insert("synthetic300", synthetic);
    let mut checked = 0;
    for (case, input) in [
        ("v1-synthetic300", "synthetic300"),
        ("v2-synthetic300", "synthetic300"),
        ("v1-local-v13.2.0", "v13.2.0"),
        ("v2-local-v14", "v14"),
    ] {
        let metrics = inputs[input]
            .iter()
            .map(|message| WireMetric::read(message).unwrap());
        checked += metrics.len();
        let ring = ring("", 22121);
        let placed = place(&ring, &IgnoreTags::default(), metrics);
        let sent: BTreeMap<String, Vec<Vec<u8>>> = ring
            .members()
            .iter()
            .zip(&placed.groups)
            .filter(|(_, group)| !group.is_empty())
            .map(|(member, group)| {
                let messages = group.iter().map(|metric| metric.message().to_vec());
                (member.clone(), messages.collect())
            })
            .collect();
        assert!(sent == received_messages(&format!("v14/{case}")), "{case}");
    }
    println!("SendMetricsV2: {checked} metrics in messages equal byte for byte");
    assert!(checked > 600, "{checked}");
}

/// Odd metrics are forwarded as received; the original dropped what it does not know. The destinations agree.
#[test]
fn odd_grpc_metrics_go_where_the_original_sent_them() {
    #[derive(Deserialize)]
    struct Unary {
        case: String,
        sent: String,
        dest: String,
        received: String,
        identical: bool,
    }
    #[derive(Deserialize)]
    struct Way {
        dest: String,
        received: String,
        identical: bool,
    }
    #[derive(Deserialize)]
    #[expect(non_snake_case, reason = "the methods' names")]
    struct Stream {
        case: String,
        sent: String,
        via_SendMetricsV2: Way,
        via_SendMetrics: Way,
    }
    let ring = ring("", 22121);
    let check = |case: &str, metric: WireMetric<'_>, dest: &str| {
        let mut key = Vec::new();
        metric.write_key(&IgnoreTags::default(), &mut key);
        assert_eq!(ring.owner(&key), Some(dest), "{case}");
    };
    let (mut checked, mut identical) = (0, 0);
    for version in ["v1.9.0", "v13.2.0"] {
        let file = support::path(&format!("routing/{version}/grpc-odd/results.jsonl"));
        for Unary {
            case,
            sent,
            dest,
            received,
            identical: same,
        } in golden::json_lines(file)
        {
            let sent = support::hex(&sent);
            let metrics = wire::read_list(&sent).unwrap();
            check(&case, metrics[0], &dest);
            let mut list = Vec::new();
            wire::write_list(&metrics, &mut list);
            assert_eq!(list, sent, "{case}");
            assert_eq!(list == support::hex(&received), same, "{case}");
            checked += 1;
            identical += usize::from(same);
        }
    }
    for Stream {
        case,
        sent,
        via_SendMetricsV2,
        via_SendMetrics,
    } in golden::json_lines(support::path("routing/v14/odd/results.jsonl"))
    {
        for way in [via_SendMetricsV2, via_SendMetrics] {
            let (sent, received) = (support::hex(&sent), support::hex(&way.received));
            check(&case, WireMetric::read(&sent).unwrap(), &way.dest);
            assert_eq!(sent == received, way.identical, "{case}");
            checked += 1;
            identical += usize::from(way.identical);
        }
    }
    println!(
        "gRPC: {checked} odd metrics go where they went, {identical} of them as the same bytes"
    );
    assert_eq!(checked, 4 * 22);
}

#[test]
fn ignored_tags_take_no_part_in_routing() {
    #[derive(Deserialize)]
    struct Recording {
        ignore_tags: Vec<Rule>,
        nodes: Vec<String>,
        results: Vec<Outcome>,
    }
    #[derive(Deserialize)]
    struct Rule {
        kind: String,
        value: String,
    }
    #[derive(Deserialize)]
    struct Outcome {
        name: String,
        tags: Vec<String>,
        routing_key: String,
        dest: String,
    }
    let recording: Recording = golden::json(support::path("routing/v14/ignore-tags/results.json"));
    let ring = ConsistentRing::new(&recording.nodes);
    let rules = recording.ignore_tags.iter();
    let ignored = IgnoreTags::new(
        rules
            .map(|rule| TagRule::new(&rule.kind, &rule.value).unwrap())
            .collect(),
    );
    for Outcome {
        name,
        tags,
        routing_key,
        dest,
    } in &recording.results
    {
        let message = Metric {
            name: name.clone().into(),
            tags: tags.iter().map(|tag| tag.clone().into()).collect(),
            ..Metric::default()
        }
        .encode_to_vec();
        let mut key = Vec::new();
        WireMetric::read(&message)
            .unwrap()
            .write_key(&ignored, &mut key);
        assert_eq!(String::from_utf8_lossy(&key), *routing_key);
        assert_eq!(ring.owner(&key), Some(dest.as_str()), "{name} {tags:?}");
    }
    println!(
        "ignore_tags: {} keys and destinations as recorded",
        recording.results.len()
    );
    assert!(recording.results.len() >= 50);
}
