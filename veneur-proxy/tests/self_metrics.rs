//! What the real program emits about itself, against what the originals emitted (`tests/golden/self-metrics`): every recorded
//! name, type and set of tags must come, by the recorded transport; what comes beside them is in the tables here.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

#[path = "support/peers.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod peers;
mod program;
mod support;

use std::collections::BTreeSet;

use prost::Message as _;
use serde::Deserialize;
use shared::testing::{eventually, golden, wire::UdpPeer};
use tokio::task::block_in_place;
use veneur_proxy::proto::{
    forwardrpc::{SEND_METRICS, SEND_METRICS_V2},
    ssf::{SsfMetric, SsfSpan},
};

use peers::{Peer, consul};
use program::{
    Proxy,
    client::{call, framed},
    post,
};

#[derive(Deserialize)]
struct Recording {
    #[serde(default)]
    statsd_metrics: Vec<Line>,
    #[serde(default)]
    ssf_metrics: Vec<Sample>,
}

#[derive(Deserialize, Debug)]
struct Line {
    name: String,
    r#type: String,
    tags: String,
}

#[derive(Deserialize, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Sample {
    name: String,
    r#type: String,
    tag_keys: Vec<String>,
    unit: String,
    #[serde(rename = "sample_rate", deserialize_with = "tenths")]
    rate: u32,
}

/// Rates are 0.1 or 1.
fn tenths<'de, D: serde::Deserializer<'de>>(rate: D) -> Result<u32, D::Error> {
    f64::deserialize(rate).map(|rate| (rate * 10.0).round() as u32)
}

fn recording(version: &str) -> Recording {
    golden::json(support::path(&format!("self-metrics/{version}.json")))
}

/// A line without its value, and without what is of the run.
fn shape(name: &str, kind: &str, tags: &str) -> String {
    let tags = tags.trim_start_matches('#');
    let tags: Vec<&str> = tags
        .split(',')
        .map(|tag| match tag.split_once(':') {
            Some((key @ ("destination" | "service"), _)) => key,
            _ => tag,
        })
        .collect();
    format!("{name}|{kind}|{}", tags.join(","))
}

fn expected_lines(recording: &Recording) -> BTreeSet<String> {
    let lines = recording.statsd_metrics.iter();
    lines
        .map(|line| shape(&line.name, &line.r#type, &line.tags))
        .collect()
}

fn lines(statsd: &UdpPeer) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for datagram in statsd.datagrams() {
        for line in String::from_utf8(datagram).unwrap().lines() {
            let (name, rest) = line.split_once(':').unwrap();
            let mut parts = rest.split('|').skip(1);
            let kind = parts.next().unwrap();
            found.insert(shape(name, kind, parts.next().unwrap_or("")));
        }
    }
    found
}

fn compare(version: &str, expected: &BTreeSet<String>, found: &BTreeSet<String>, beside: &[&str]) {
    let missing: Vec<_> = expected.difference(found).collect();
    let more: Vec<_> = found
        .difference(expected)
        .filter(|line| !beside.iter().any(|known| line.starts_with(known)))
        .collect();
    println!(
        "{version}: {} of {} recorded kinds of lines, {} more",
        expected.len() - missing.len(),
        expected.len(),
        found.len() - expected.intersection(found).count()
    );
    assert!(missing.is_empty(), "{version}: missing {missing:#?}");
    assert!(more.is_empty(), "{version}: not recorded: {more:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_lines_are_those_of_the_original() {
    let peer = Peer::grpc().await;
    let statsd = UdpPeer::bind();
    let file = format!(
        "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\nforward_addresses: ['{}']\nruntime_metrics_interval: 100ms\n\
         statsd: {{address: '{}', aggregation_interval: 100ms, messages_per_payload: 64}}\n",
        peer.address,
        statsd.address()
    );
    let mut proxy = block_in_place(|| Proxy::start(&file));
    let address = block_in_place(|| proxy.grpc());
    let list = support::bytes("inputs/synthetic300.metriclist.bin");
    assert_eq!(call(address, SEND_METRICS, framed(&list)).await.code, 0);
    assert_eq!(
        call(address, SEND_METRICS_V2, framed(b"\x0a\x01x"))
            .await
            .code,
        0
    );
    assert_eq!(
        call(address, SEND_METRICS_V2, framed(b"\x0a\x05x"))
            .await
            .code,
        13
    );
    let expected = expected_lines(&recording("v14"));
    block_in_place(|| {
        eventually("most lines", || {
            expected.is_subset(&lines(&statsd)).then_some(())
        });
        assert_eq!(proxy.program.terminate().code(), Some(0));
        // The last one, which nobody saw of the original.
        eventually("the exit", || {
            lines(&statsd).contains("exit|c|error:false").then_some(())
        });
    });
    // Seen in the source of the original, not in the recording.
    let beside = [
        "exit|c|",
        "veneur_proxy.forward.disconnect|",
        "veneur_proxy.grpc.conn_end|c|client:true",
    ];
    compare("v14", &expected, &lines(&statsd), &beside);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn legacy_lines_are_those_of_the_original() {
    let peer = Peer::http().await;
    let catalogue = consul(&[peer.address]).await;
    let statsd = UdpPeer::bind();
    let file = format!(
        "http_address: 127.0.0.1:0\nconsul_forward_service_name: veneur-global\nconsul_refresh_interval: 1s\nstats_address: '{}'\n",
        statsd.address()
    );
    let variables = [("CONSUL_HTTP_ADDR", &*catalogue.address.to_string())];
    let mut proxy =
        block_in_place(|| Proxy::start_with(&file, &["-generation", "legacy"], &variables));
    let expected = expected_lines(&recording("v1.8.1"));
    block_in_place(|| {
        let address = proxy.http();
        let body = support::bytes("local-captures/v13.2.0-http/request.body.deflate");
        assert_eq!(
            post(address, "Content-Encoding: deflate\r\n", &body).status,
            202
        );
        assert_eq!(
            post(address, "", &support::bytes("inputs/synthetic300.json")).status,
            202
        );
        eventually("all lines", || {
            expected.is_subset(&lines(&statsd)).then_some(())
        });
        proxy.program.terminate();
    });
    compare("v1.8.1", &expected, &lines(&statsd), &[]);
}

fn samples(ssf: &UdpPeer) -> BTreeSet<Sample> {
    let mut found = BTreeSet::new();
    for datagram in ssf.datagrams() {
        let span = SsfSpan::decode(&datagram[..]).unwrap();
        assert_eq!(span.service, "veneur-proxy");
        for sample in span.metrics {
            let kind = SsfMetric::try_from(sample.metric).unwrap();
            found.insert(Sample {
                name: sample.name,
                r#type: format!("{kind:?}").to_lowercase(),
                tag_keys: sample.tags.into_keys().collect(),
                unit: sample.unit,
                rate: (sample.sample_rate * 10.0).round() as u32,
            });
        }
    }
    found
}

/// In the spec's table, but not in the recording: sampled away, or nothing of it happened.
const SPECIFIED: [&str; 2] = [
    "veneur_proxy.proxy.duration_ns",
    "veneur_proxy.import.response_duration_ns",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dual_samples_are_those_of_the_originals() {
    let (http, grpc) = (Peer::http().await, Peer::grpc().await);
    let catalogue = consul(&[http.address]).await;
    let (ssf, statsd) = (UdpPeer::bind(), UdpPeer::bind());
    let file = format!(
        "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\nconsul_forward_service_name: veneur-global\n\
         grpc_forward_address: '{}'\nconsul_refresh_interval: 1s\nruntime_metrics_interval: 200ms\n\
         ssf_destination_address: udp://{}\nstats_address: '{}'\ntracing_client_flush_interval: 100ms\n",
        grpc.address,
        ssf.address(),
        statsd.address()
    );
    let variables = [("CONSUL_HTTP_ADDR", &*catalogue.address.to_string())];
    let mut proxy = block_in_place(|| Proxy::start_with(&file, &[], &variables));
    let (address, calls) = block_in_place(|| (proxy.http(), proxy.grpc()));
    let mut expected = BTreeSet::new();
    for version in ["v1.9.0", "v13.2.0"] {
        expected.extend(recording(version).ssf_metrics);
    }
    let list = support::bytes("inputs/synthetic300.metriclist.bin");
    // One request in ten is sampled.
    for round in 0.. {
        block_in_place(|| {
            assert_eq!(
                post(address, "", &support::bytes("inputs/synthetic300.json")).status,
                202
            );
            assert_eq!(post(address, "", b"{").status, 400);
            assert_eq!(
                post(address, "Content-Encoding: gzip\r\n", b"{").status,
                415
            );
            assert_eq!(
                post(address, "Content-Encoding: deflate\r\n", b"{}").status,
                400
            );
        });
        assert_eq!(call(calls, SEND_METRICS, framed(&list)).await.code, 0);
        if expected.is_subset(&samples(&ssf)) {
            println!(
                "v1.9.0, v13.2.0: {} kinds of samples after {round} rounds",
                expected.len()
            );
            break;
        }
        assert!(
            round < 300,
            "missing {:#?}",
            expected.difference(&samples(&ssf)).collect::<Vec<_>>()
        );
    }
    let found = samples(&ssf);
    let more: Vec<_> = found
        .difference(&expected)
        .filter(|sample| !SPECIFIED.contains(&sample.name.as_str()))
        .collect();
    assert!(more.is_empty(), "not recorded: {more:#?}");
    let about_spans = expected_lines(&recording("v1.9.0"));
    block_in_place(|| {
        eventually("lines about spans", || {
            about_spans.is_subset(&lines(&statsd)).then_some(())
        });
        proxy.program.terminate();
    });
    compare("v1.9.0 about spans", &about_spans, &lines(&statsd), &[]);
}
