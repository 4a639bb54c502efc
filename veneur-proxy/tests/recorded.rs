//! Recorded traffic through the real program: it reaches the recorded destinations as the same bytes, by HTTP and by gRPC.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

#[path = "support/peers.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod peers;
mod program;
#[path = "support/recorded.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod recorded;
mod support;

use std::collections::BTreeMap;

use shared::testing::{self, eventually, golden};
use tokio::task::block_in_place;
use veneur_proxy::{
    proto::forwardrpc::{SEND_METRICS, SEND_METRICS_V2},
    wire,
};

use peers::{Peer, Speaks, consul};
use program::{
    Proxy,
    client::{call, framed, ok},
    post, ready,
};
use recorded::{PORTS, four, received};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_imports_reach_the_recorded_destinations() {
    let _ports = testing::exclusive(PORTS);
    let mut metrics = 0;
    for (version, generation, names) in [
        ("v1.8.1", "legacy", "http://"),
        ("v1.9.0", "dual", ""),
        ("v13.2.0", "dual", ""),
    ] {
        let peers = four(22111, Speaks::Http).await;
        let addresses: Vec<_> = peers.iter().map(|peer| peer.address).collect();
        let catalogue = consul(&addresses).await;
        let file = "http_address: 127.0.0.1:0\nconsul_forward_service_name: veneur-global\nconsul_refresh_interval: 60s\n";
        let mut proxy = block_in_place(|| {
            Proxy::start_with(
                file,
                &["-generation", generation],
                &[("CONSUL_HTTP_ADDR", &catalogue.address.to_string())],
            )
        });
        let address = block_in_place(|| proxy.http());
        for (case, headers, input) in [
            ("http-synthetic300", "", "inputs/synthetic300.json"),
            (
                "http-local-v1.9.0",
                "Content-Encoding: deflate\r\n",
                "local-captures/v1.9.0-http/request.body.deflate",
            ),
            (
                "http-local-v13.2.0",
                "Content-Encoding: deflate\r\n",
                "local-captures/v13.2.0-http/request.body.deflate",
            ),
        ] {
            if !support::path(&format!("routing/{version}/{case}")).exists() {
                continue;
            }
            let before: Vec<usize> = peers.iter().map(|peer| peer.posted().len()).collect();
            let answer = block_in_place(|| post(address, headers, &support::bytes(input)));
            assert_eq!(answer.status, 202);
            let expected: BTreeMap<String, String> = received(&format!("{version}/{case}"))
                .into_iter()
                .map(|got| (got.dest, got.body))
                .collect();
            block_in_place(|| {
                eventually(&format!("{version} {case}"), || {
                    let after: usize = peers.iter().map(|peer| peer.posted().len()).sum();
                    (after == before.iter().sum::<usize>() + expected.len()).then_some(())
                });
            });
            let mut found = BTreeMap::new();
            for (peer, before) in peers.iter().zip(before) {
                for posted in &peer.posted()[before..] {
                    metrics += serde_json::from_str::<Vec<serde_json::Value>>(&posted.text())
                        .unwrap()
                        .len();
                    found.insert(format!("{names}{}", peer.address), posted.text());
                }
            }
            assert_eq!(found, expected, "{version} {case}");
        }
        block_in_place(|| assert_eq!(proxy.program.terminate().code(), Some(0)));
        for peer in peers {
            peer.stop().await;
        }
    }
    println!("HTTP: {metrics} metrics in bodies equal byte for byte, at the recorded destinations");
    assert!(metrics > 900, "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_calls_reach_the_recorded_destinations() {
    let _ports = testing::exclusive(PORTS);
    let lists: [(&str, &str); 3] = [
        ("grpc-synthetic300", "inputs/synthetic300.metriclist.bin"),
        (
            "grpc-local-v1.9.0",
            "local-captures/v1.9.0-grpc/metriclist.bin",
        ),
        (
            "grpc-local-v13.2.0",
            "local-captures/v13.2.0-grpc/metriclist.bin",
        ),
    ];
    let synthetic = support::bytes("inputs/synthetic300.metriclist.bin");
    let v13 = support::bytes("local-captures/v13.2.0-grpc/metriclist.bin");
    let streamed = |messages: Vec<Vec<u8>>| {
        messages
            .iter()
            .flat_map(|message| framed(message))
            .collect::<Vec<u8>>()
    };
    let single: Vec<Vec<u8>> = wire::read_list(&synthetic)
        .unwrap()
        .iter()
        .map(|metric| metric.message().to_vec())
        .collect();
    let v14 = support::delimited("local-captures/v14-grpc/metrics.delimited.bin");
    let streams: [(&str, &str, Vec<u8>); 4] = [
        ("v1-synthetic300", SEND_METRICS, framed(&synthetic)),
        ("v2-synthetic300", SEND_METRICS_V2, streamed(single)),
        ("v1-local-v13.2.0", SEND_METRICS, framed(&v13)),
        ("v2-local-v14", SEND_METRICS_V2, streamed(v14)),
    ];
    let mut runs: Vec<(String, &str, &str, Vec<u8>)> = Vec::new();
    for version in ["v1.9.0", "v13.2.0"] {
        for (case, input) in lists {
            runs.push((
                format!("{version}/{case}"),
                "dual",
                SEND_METRICS,
                framed(&support::bytes(input)),
            ));
        }
    }
    for (case, method, body) in streams {
        runs.push((format!("v14/{case}"), "stream", method, body));
    }
    let mut metrics = 0;
    for (case, generation, method, body) in runs {
        let peers = four(22121, Speaks::Grpc).await;
        let addresses: Vec<_> = peers.iter().map(|peer| peer.address).collect();
        let catalogue = consul(&addresses).await;
        let file = if generation == "dual" {
            "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\nconsul_forward_grpc_service_name: g\nconsul_refresh_interval: 60s\nforward_timeout: 10s\n".to_owned()
        } else {
            let addresses: Vec<_> = addresses
                .iter()
                .map(|address| format!("'{address}'"))
                .collect();
            format!(
                "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\nforward_addresses: [{}]\n",
                addresses.join(", ")
            )
        };
        let mut proxy = block_in_place(|| {
            Proxy::start_with(
                &file,
                &[],
                &[("CONSUL_HTTP_ADDR", &catalogue.address.to_string())],
            )
        });
        let address = block_in_place(|| proxy.grpc());
        assert_eq!(call(address, method, body).await, ok(), "{case}");
        let mut expected: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        for got in received(&case) {
            let messages = got
                .messages_b64
                .iter()
                .map(|message| golden::bytes(message));
            expected.entry(got.dest).or_default().extend(messages);
        }
        let path = if generation == "dual" {
            SEND_METRICS
        } else {
            SEND_METRICS_V2
        };
        let found = || -> BTreeMap<String, Vec<Vec<u8>>> {
            peers
                .iter()
                .map(|peer| {
                    (
                        peer.address.to_string(),
                        peer.messages(path)
                            .iter()
                            .map(|message| message.to_vec())
                            .collect(),
                    )
                })
                .filter(|(_, messages): &(_, Vec<Vec<u8>>)| !messages.is_empty())
                .collect()
        };
        block_in_place(|| {
            eventually(&format!("{case}: as many messages"), || {
                let count = |all: &BTreeMap<String, Vec<Vec<u8>>>| {
                    all.values().map(Vec::len).sum::<usize>()
                };
                (count(&found()) == count(&expected)).then_some(())
            });
        });
        assert!(found() == expected, "{case}");
        metrics += peers.iter().map(Peer::metrics).sum::<usize>();
        block_in_place(|| assert_eq!(proxy.program.terminate().code(), Some(0), "{case}"));
        for peer in peers {
            peer.stop().await;
        }
    }
    println!(
        "gRPC: {metrics} metrics in messages equal byte for byte, at the recorded destinations"
    );
    assert!(metrics > 1_300, "{metrics}");
}

/// Odd metrics, each alone, arrive as they were sent; the original rewrote some.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_metrics_arrive_as_they_were_sent() {
    let peer = Peer::grpc().await;
    let file = format!(
        "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\nforward_addresses: ['{}']\n",
        peer.address
    );
    let mut proxy = block_in_place(|| Proxy::start(&file));
    let (http, address) = block_in_place(|| (proxy.http(), proxy.grpc()));
    ready(http);
    let odd = support::odd_metrics();
    for metric in &odd {
        assert_eq!(call(address, SEND_METRICS_V2, framed(metric)).await, ok());
    }
    block_in_place(|| {
        eventually("all of them", || {
            (peer.messages(SEND_METRICS_V2).len() == odd.len()).then_some(())
        });
    });
    let mut found: Vec<Vec<u8>> = peer
        .messages(SEND_METRICS_V2)
        .iter()
        .map(|message| message.to_vec())
        .collect();
    let mut sent = odd.clone();
    found.sort();
    sent.sort();
    assert_eq!(found, sent);
    println!("gRPC: {} odd metrics arrive as they were sent", odd.len());
    block_in_place(|| proxy.program.terminate());
}
