//! Recorded traffic through the outbound half, on real sockets: the same requests and messages reach the same
//! destinations; and local veneurs' captures reach every kind of destination by every way (nine directions).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

#[path = "support/outbound.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod outbound;
#[path = "support/peers.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod peers;
#[path = "support/recorded.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod recorded;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use shared::testing::{self, golden};
use veneur_proxy::{
    config::Generation,
    convert,
    forward::{Inbound, TraceContext},
    json_metric::{ImportBody, JsonMetric},
    proto::{
        forwardrpc::{MetricList, SEND_METRICS, SEND_METRICS_V2},
        metricpb::Metric,
    },
};

use outbound::{Outbound, try_start, until};
use peers::{Manner, Peer, Speaks, consul};
use recorded::{PORTS, four, received};

/// Dual proxies find their destinations by Consul.
async fn dual(service_key: &str, peers: &[Peer], asked: Generation) -> Outbound {
    let addresses: Vec<_> = peers.iter().map(|peer| peer.address).collect();
    let consul = consul(&addresses).await;
    let file = format!(
        "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\n{service_key}: veneur-global\n\
         consul_refresh_interval: 60s\nforward_timeout: 10s\n"
    );
    let variables = [("CONSUL_HTTP_ADDR", consul.address.to_string())];
    let started = try_start(&file, &variables, Some(asked)).await.unwrap();
    let asked_for = consul.posted();
    assert_eq!(
        asked_for[0].head[0],
        "GET /v1/health/service/veneur-global?passing=1 HTTP/1.1"
    );
    started
}

/// Names of headers, in lower case. What v1.x alone had is left out: it closed its connections.
fn header_names(head: &[String]) -> BTreeSet<String> {
    let lines = head.iter().skip(1).filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, _)| name.to_lowercase())
        .filter(|name| name != "connection")
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_posts_reach_the_same_destinations_with_the_same_bodies_and_headers() {
    let _ports = testing::exclusive(PORTS);
    let (mut requests, mut metrics) = (0, 0);
    for (version, asked) in [
        ("v1.8.1", Generation::Legacy),
        ("v1.9.0", Generation::Legacy),
        ("v1.9.0", Generation::Dual),
        ("v13.2.0", Generation::Dual),
    ] {
        // 9.0.0 is a dual proxy by its ring, and wrote the trace as legacy ones do.
        let old_trace = version == "v1.9.0";
        if old_trace && asked == Generation::Legacy {
            continue;
        }
        for (case, encoding, input) in [
            ("http-synthetic300", "", "inputs/synthetic300.json"),
            (
                "http-local-v1.9.0",
                "deflate",
                "local-captures/v1.9.0-http/request.body.deflate",
            ),
            (
                "http-local-v13.2.0",
                "deflate",
                "local-captures/v13.2.0-http/request.body.deflate",
            ),
        ] {
            if !support::path(&format!("routing/{version}/{case}")).exists() {
                continue;
            }
            let peers = four(22111, Speaks::Http).await;
            let running = dual("consul_forward_service_name", &peers, asked).await;
            let input = support::bytes(input);
            let body = ImportBody::open(encoding.as_bytes(), &input, 1 << 20).unwrap();
            let trace =
                (case == "http-synthetic300" && version != "v1.8.1").then_some(TraceContext {
                    trace_id: 0x2a,
                    span_id: 7,
                });
            let mut batch = running.destinations.batch(Inbound::Http, trace);
            let count = batch.import(&body).unwrap();
            running.destinations.accept(batch).await;
            let sums = running.end().await;
            assert_eq!(sums.delivered(), count as u64);
            metrics += count;
            let mut expected = BTreeMap::new();
            for got in received(&format!("{version}/{case}")) {
                let dest = got.dest.trim_start_matches("http://").to_owned();
                expected.insert(dest, got);
            }
            for peer in &peers {
                let posted = peer.posted();
                let Some(expected) = expected.remove(&peer.address.to_string()) else {
                    assert!(posted.is_empty(), "{version} {case}");
                    continue;
                };
                assert_eq!(posted.len(), 1, "{version} {case} {}", peer.address);
                assert_eq!(posted[0].text(), expected.body, "{version} {case}");
                assert_eq!(posted[0].head[0], expected.head[0]);
                if !old_trace {
                    assert_eq!(
                        header_names(&posted[0].head),
                        header_names(&expected.head),
                        "{version} {case}"
                    );
                }
                if trace.is_some() {
                    assert_eq!(posted[0].header("ot-tracer-traceid"), Some("2a"));
                }
                requests += 1;
            }
            assert!(expected.is_empty(), "{version} {case}");
        }
    }
    println!("POST: {requests} requests, {metrics} metrics as recorded");
    assert!(requests >= 28 && metrics > 900, "{requests} {metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_calls_reach_the_same_destinations_with_the_same_bytes() {
    let _ports = testing::exclusive(PORTS);
    let (mut calls, mut metrics) = (0, 0);
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
            let peers = four(22121, Speaks::Grpc).await;
            let running = dual("consul_forward_grpc_service_name", &peers, Generation::Dual).await;
            running.list(&support::bytes(input)).await;
            let sums = running.end().await;
            metrics += sums.delivered();
            let mut sent = BTreeMap::new();
            for peer in &peers {
                for call in peer.calls() {
                    assert_eq!(call.path, SEND_METRICS);
                    assert!(call.headers.contains_key("grpc-timeout"));
                    calls += 1;
                    sent.insert(peer.address.to_string(), call.messages);
                }
            }
            let mut expected = BTreeMap::new();
            for got in received(&format!("{version}/{case}")) {
                assert!(got.deadline_s.is_some());
                let messages: Vec<_> = got
                    .messages_b64
                    .iter()
                    .map(|text| golden::bytes(text).into())
                    .collect();
                expected.insert(got.dest, messages);
            }
            assert!(sent == expected, "{version} {case}");
        }
    }
    println!("SendMetrics: {calls} calls, {metrics} metrics equal byte for byte");
    assert!(calls >= 20 && metrics > 600, "{calls} {metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_streams_reach_the_same_destinations_with_the_same_bytes() {
    let _ports = testing::exclusive(PORTS);
    let captured: BTreeMap<&str, Vec<Vec<u8>>> = support::captured_grpc().into_iter().collect();
    let synthetic = support::bytes("inputs/synthetic300.metriclist.bin");
    let mut metrics = 0;
    for (case, list, messages) in [
        ("v1-synthetic300", Some(synthetic.clone()), None),
        ("v2-synthetic300", None, Some(split(&synthetic))),
        (
            "v1-local-v13.2.0",
            Some(support::bytes("local-captures/v13.2.0-grpc/metriclist.bin")),
            None,
        ),
        ("v2-local-v14", None, Some(captured["v14"].clone())),
    ] {
        let peers = four(22121, Speaks::Grpc).await;
        let addresses: Vec<String> = peers.iter().map(|peer| peer.address.to_string()).collect();
        let running = Outbound::start(&format!(
            "forward_addresses: [{}]\nshutdown_timeout: 10s\n",
            addresses
                .iter()
                .map(|address| format!("'{address}'"))
                .collect::<Vec<_>>()
                .join(",")
        ))
        .await;
        until("all four in the ring", || {
            running.destinations.connected() == 4
        })
        .await;
        if let Some(list) = list {
            running.list(&list).await;
        }
        if let Some(messages) = messages {
            running.stream(messages.iter().map(Vec::as_slice)).await;
        }
        metrics += running.end().await.delivered();
        for got in received(&format!("v14/{case}")) {
            let peer = peers
                .iter()
                .find(|peer| peer.address.to_string() == got.dest)
                .unwrap();
            let expected: Vec<_> = got
                .messages_b64
                .iter()
                .map(|text| golden::bytes(text))
                .collect();
            assert!(
                peer.messages(SEND_METRICS_V2) == expected,
                "{case} {}",
                got.dest
            );
            assert!(peer.calls().iter().all(|call| call.closed));
        }
    }
    println!("SendMetricsV2: {metrics} metrics equal byte for byte");
    assert!(metrics > 600, "{metrics}");
}

fn split(list: &[u8]) -> Vec<Vec<u8>> {
    let metrics = veneur_proxy::wire::read_list(list).unwrap();
    metrics
        .iter()
        .map(|metric| metric.message().to_vec())
        .collect()
}

/// What arrived, as protobuf, in an order of its own.
fn arrived(peer: &Peer) -> Vec<Vec<u8>> {
    let mut metrics: Vec<Vec<u8>> = Vec::new();
    for posted in peer.posted() {
        let text = posted.text();
        let body = ImportBody::open(b"", text.as_bytes(), 1 << 24).unwrap();
        metrics.extend(body.metrics().unwrap().iter().map(as_protobuf));
    }
    for list in peer.messages(SEND_METRICS) {
        let list = MetricList::decode(list).unwrap();
        metrics.extend(list.metrics.iter().map(Metric::encode_to_vec));
    }
    for message in peer.messages(SEND_METRICS_V2) {
        metrics.push(Metric::decode(message).unwrap().encode_to_vec());
    }
    metrics.sort();
    metrics
}

fn as_protobuf(metric: &JsonMetric<'_>) -> Vec<u8> {
    convert::to_protobuf(metric).unwrap().encode_to_vec()
}

/// A metric as it comes out of a way that has no scope.
fn through_json(message: &[u8]) -> Vec<u8> {
    let text = convert::to_json(&Metric::decode(message).unwrap()).unwrap();
    let text = format!("[{text}]");
    let body = ImportBody::open(b"", text.as_bytes(), 1 << 20).unwrap();
    as_protobuf(&body.metrics().unwrap()[0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captures_of_local_veneurs_take_all_nine_directions() {
    let captured: BTreeMap<&str, Vec<Vec<u8>>> = support::captured_grpc().into_iter().collect();
    let (mut directions, mut metrics) = (0, 0);
    for inbound in [Inbound::Http, Inbound::Unary, Inbound::Stream] {
        for (key, protocol, speaks) in [
            ("forward_address", "unary", Speaks::Http),
            ("grpc_forward_address", "unary", Speaks::Grpc),
            ("grpc_forward_address", "stream", Speaks::Grpc),
            ("grpc_forward_address", "auto", Speaks::Grpc),
        ] {
            let peer = Peer::bind("127.0.0.1:0".parse().unwrap(), speaks, Manner::Takes).await;
            let running = Outbound::start(&format!(
                "{key}: '{}'\nforward_protocol: {protocol}\nforward_timeout: 10s\n",
                peer.address
            ))
            .await;
            let mut expected: Vec<Vec<u8>> = match inbound {
                Inbound::Http => {
                    let bytes = support::bytes("local-captures/v13.2.0-http/request.body.deflate");
                    let body = ImportBody::open(b"deflate", &bytes, 1 << 20).unwrap();
                    let mut batch = running.destinations.batch(inbound, None);
                    batch.import(&body).unwrap();
                    running.destinations.accept(batch).await;
                    body.metrics().unwrap().iter().map(as_protobuf).collect()
                }
                Inbound::Unary => {
                    let list = support::bytes("local-captures/v13.2.0-grpc/metriclist.bin");
                    running.list(&list).await;
                    split(&list)
                }
                Inbound::Stream => {
                    let messages = captured["v14"].clone();
                    running.stream(messages.iter().map(Vec::as_slice)).await;
                    messages
                }
            };
            if speaks == Speaks::Http && inbound != Inbound::Http {
                expected = expected
                    .iter()
                    .map(|message| through_json(message))
                    .collect();
            }
            let sums = running.end().await;
            assert_eq!(
                sums.delivered(),
                expected.len() as u64,
                "{inbound:?} {key} {protocol}"
            );
            expected.sort();
            assert!(arrived(&peer) == expected, "{inbound:?} {key} {protocol}");
            directions += usize::from(protocol != "auto");
            metrics += expected.len();
        }
    }
    println!(
        "bridge: {metrics} metrics in {directions} directions, and once more where the protocol was found out"
    );
    assert_eq!(directions, 9);
}
