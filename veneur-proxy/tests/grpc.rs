//! gRPC through the real program: recorded traffic reaches the recorded destinations as the same bytes, odd and broken calls
//! are answered as recorded, and health, TLS and its reloading work.

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

use std::{collections::BTreeMap, net::SocketAddr};

use serde::Deserialize;
use shared::testing::{self, eventually, golden};
use tokio::task::block_in_place;
use veneur_proxy::{
    proto::forwardrpc::{SEND_METRICS, SEND_METRICS_V2},
    wire,
};

use peers::{Manner, Peer, Speaks, consul};
use program::{
    Proxy,
    client::{Outcome, call, call_with, framed},
    get, post,
};

#[derive(Deserialize)]
struct Received {
    dest: String,
    #[serde(default)]
    body: String,
    #[serde(default)]
    messages_b64: Vec<String>,
}

fn received(case: &str) -> Vec<Received> {
    golden::json_lines(support::path(&format!("routing/{case}/received.jsonl")))
}

async fn four(first_port: u16, speaks: Speaks) -> Vec<Peer> {
    let mut peers = Vec::new();
    for port in first_port..first_port + 4 {
        let address = ([127, 0, 0, 1], port).into();
        peers.push(Peer::bind(address, speaks, Manner::Takes).await);
    }
    peers
}

fn ok() -> Outcome {
    Outcome {
        code: 0,
        text: String::new(),
        body: vec![0; 5].into(),
    }
}

fn ready(address: SocketAddr) {
    block_in_place(|| {
        eventually("readiness", || {
            (get(address, "/healthcheck/ready").status == 200).then_some(())
        });
    });
}

/// Ports of the recordings; only one test at a time can have them.
const PORTS: &str = "veneur-proxy-golden-ports";

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_calls_end_as_recorded_and_alone() {
    let peer = Peer::grpc().await;
    for generation in ["forward_addresses", "grpc_forward_address"] {
        let value = if generation == "forward_addresses" {
            format!("['{}']", peer.address)
        } else {
            peer.address.to_string()
        };
        let file = format!(
            "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\n{generation}: {value}\n"
        );
        let mut proxy = block_in_place(|| Proxy::start(&file));
        let address = block_in_place(|| proxy.grpc());
        let mut checked = 0;
        let mut f =
            async |path: &str, headers: &[(&str, &str)], body: Vec<u8>, code: u32, text: &str| {
                let outcome = call_with(address, path, headers, body).await;
                assert_eq!(outcome.code, code, "{path} {text}: {outcome:?}");
                assert!(outcome.text.contains(text), "{path} {text}: {outcome:?}");
                checked += 1;
            };
        for method in [SEND_METRICS, SEND_METRICS_V2] {
            f(
                method,
                &[("grpc-encoding", "gzip")],
                framed(b"x"),
                12,
                "grpc: Decompressor is not installed for grpc-encoding \"gzip\"",
            )
            .await;
            let large = framed(&vec![0; (4 << 20) + 1]);
            f(
                method,
                &[],
                large,
                8,
                "grpc: received message larger than max (4194305 vs. 4194304)",
            )
            .await;
            f(method, &[], framed(b"\x0a\x05x"), 13, "").await;
            f(
                method,
                &[],
                framed(b"whole")[..7].to_vec(),
                13,
                "unexpected EOF",
            )
            .await;
            f(method, &[("grpc-encoding", "identity")], framed(b""), 0, "").await;
        }
        // No stream is too short; a call without its message is broken.
        f(SEND_METRICS_V2, &[], Vec::new(), 0, "").await;
        f(SEND_METRICS, &[], Vec::new(), 13, "").await;
        f(
            "/forwardrpc.Forward/Nope",
            &[],
            framed(b""),
            12,
            "unknown method Nope for service forwardrpc.Forward",
        )
        .await;
        f(
            "/grpc.reflection.v1.ServerReflection/Info",
            &[],
            framed(b""),
            12,
            "unknown service",
        )
        .await;
        // The largest message that is allowed is.
        let metric = [&b"\x0a\xfb\xff\xff\x01"[..], &vec![b'n'; (4 << 20) - 5]].concat();
        assert_eq!(metric.len(), 4 << 20);
        f(SEND_METRICS_V2, &[], framed(&metric), 0, "").await;
        println!("{generation}: {checked} calls");
        block_in_place(|| proxy.program.terminate());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_before_a_corrupt_message_of_a_stream_are_taken() {
    let peer = Peer::grpc().await;
    let file = format!(
        "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\nforward_addresses: ['{}']\n",
        peer.address
    );
    let mut proxy = block_in_place(|| Proxy::start(&file));
    let (http, address) = block_in_place(|| (proxy.http(), proxy.grpc()));
    ready(http);
    let body = [
        framed(b"\x0a\x01a"),
        framed(b"\x0a\x01b"),
        framed(b"\x0a\x05x"),
    ]
    .concat();
    assert_eq!(call(address, SEND_METRICS_V2, body).await.code, 13);
    block_in_place(|| {
        eventually("two metrics", || {
            (peer.messages(SEND_METRICS_V2).len() == 2).then_some(())
        });
    });
    // A name that is not UTF-8 passes.
    assert_eq!(
        call(address, SEND_METRICS, framed(b"\x0a\x03\x0a\x01\xff")).await,
        ok()
    );
    block_in_place(|| {
        eventually("the third", || {
            (peer.messages(SEND_METRICS_V2).last()? == &b"\x0a\x01\xff"[..]).then_some(())
        });
        proxy.program.terminate();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_health_says_whether_metrics_can_be_taken() {
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    let peer = Peer::grpc().await;
    let start = |address: &str| {
        let file = format!(
            "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\nforward_addresses: ['{address}']\ndial_timeout: 200ms\n"
        );
        block_in_place(|| Proxy::start(&file))
    };
    let mut good = start(&peer.address.to_string());
    ready(block_in_place(|| good.http()));
    let address = block_in_place(|| good.grpc());
    let serving = call(address, CHECK, framed(b"")).await;
    assert_eq!((serving.code, &serving.body[5..]), (0, &b"\x08\x01"[..]));
    let named = call(address, CHECK, framed(b"\x0a\x12forwardrpc.Forward")).await;
    assert_eq!((named.code, &named.body[5..]), (0, &b"\x08\x01"[..]));
    assert_eq!(call(address, CHECK, framed(b"\x0a\x01x")).await.code, 5);
    let mut bad = start("127.0.0.1:1");
    let address = block_in_place(|| bad.grpc());
    let down = call(address, CHECK, framed(b"")).await;
    assert_eq!((down.code, &down.body[5..]), (0, &b"\x08\x02"[..]));
    block_in_place(|| {
        good.program.terminate();
        bad.program.terminate();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_served_checks_clients_and_is_reloaded_on_sighup() {
    use shared::{
        testing::pki::{Authority, named},
        tls::{H2, Pem, client},
    };
    let peer = Peer::grpc().await;
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("testing");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("ca.pem"), authority.pem()).unwrap();
    authority
        .issue(&named(&["localhost"]))
        .write(folder.path(), "server");
    let identity = authority
        .issue(&named(&["client"]))
        .write(folder.path(), "client");
    let tls = format!(
        "tls: {{ca_file: {0}/ca.pem, cert_file: {0}/server.pem, key_file: {0}/server.key, client_auth: require}}",
        folder.path().display()
    );
    let file = format!(
        "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\ngrpc_tls_address: 127.0.0.1:0\nforward_addresses: ['{}']\n{tls}\n",
        peer.address
    );
    let mut proxy = block_in_place(|| Proxy::start(&file));
    let address = block_in_place(|| proxy.grpc_tls());
    let settings = |authority: &Authority, identity| {
        let mut settings = client::Settings::SYSTEM;
        std::fs::write(path("trusted.pem"), authority.pem()).unwrap();
        settings.roots = client::Roots::Authorities(Pem::File(path("trusted.pem")));
        settings.identity = identity;
        settings.alpn = vec![H2];
        client::Client::new(&settings).unwrap()
    };
    let connect = async |client: &client::Client| {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        client.connect("localhost", stream, testing::PATIENCE).await
    };
    let good = settings(&authority, Some(identity.clone()));
    let stream = connect(&good).await.unwrap();
    let outcome =
        program::client::call_on(stream, SEND_METRICS, &[], framed(b"\x0a\x03\x0a\x01x")).await;
    assert_eq!(outcome, ok());
    // Without a certificate nothing comes through; TLS 1.3 tells the client only afterwards.
    let anonymous = settings(&authority, None);
    if let Ok(mut stream) = connect(&anonymous).await {
        let refused = tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await;
        assert!(!matches!(refused, Ok(1..)), "{refused:?}");
    }
    // Another authority signs the server's new certificate.
    let other = Authority::new("other");
    other
        .issue(&named(&["localhost"]))
        .write(folder.path(), "server");
    connect(&settings(&other, Some(identity.clone())))
        .await
        .unwrap_err();
    proxy.program.signal(nix::sys::signal::Signal::SIGHUP);
    block_in_place(|| proxy.program.wait_for_line("reloaded the files of TLS"));
    connect(&settings(&other, Some(identity))).await.unwrap();
    block_in_place(|| assert_eq!(proxy.program.terminate().code(), Some(0)));
}
