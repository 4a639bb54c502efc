//! Every recorded HTTP request through the real program: status, headers and fixed bodies (`tests/golden/http`).

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

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    net::SocketAddr,
};

use flate2::{Compression, write::ZlibEncoder};
use serde::Deserialize;
use shared::testing::{eventually, golden};
use tokio::task::block_in_place;

use peers::Peer;
use program::{Proxy, get, post, raw};

#[derive(Deserialize)]
struct Request {
    case: String,
    raw_b64: String,
}

#[derive(Deserialize)]
struct Response {
    case: String,
    status: String,
    headers: Vec<String>,
    body: String,
    #[serde(default)]
    forwarded: usize,
}

/// What we answer otherwise, and why.
const DEVIATIONS: [(&str, u16, &str); 4] = [
    ("metrics", 200, "ours: the page for Prometheus"),
    (
        "pprof-heap-debug1",
        404,
        "section 14: profiles of Go's runtime cannot be had, and that is said",
    ),
    ("pprof-goroutine-debug1", 404, "the same"),
    ("pprof-profile-1s", 404, "the same"),
];

/// Texts that the original's JSON library made; the status is the same.
fn own_words(case: &str, body: &str) -> bool {
    case.starts_with("import-") && (body.starts_with("json: ") || case == "import-leading-ws-bom")
}

fn names(headers: &[String]) -> BTreeSet<String> {
    let names = headers.iter().filter_map(|line| line.split_once(':'));
    names
        .map(|(name, _)| name.to_lowercase())
        // How a body is cut up is no contract; a connection that ends needs no word.
        .filter(|name| !["date", "transfer-encoding", "connection"].contains(&name.as_str()))
        .collect()
}

fn replay(version: &str, address: SocketAddr, destination: Option<&Peer>) {
    let requests: BTreeMap<String, Vec<u8>> =
        golden::json_lines::<Request>(support::path("http/requests.jsonl"))
            .into_iter()
            .map(|request| (request.case, golden::bytes(&request.raw_b64)))
            .collect();
    let (mut equal, mut reworded, mut deviating) = (0, 0, 0);
    for Response {
        case,
        status,
        headers,
        body,
        forwarded,
    } in golden::json_lines(support::path(&format!("http/responses-{version}.jsonl")))
    {
        let before = destination.map_or(0, |peer| peer.posted().len());
        let answer = raw(address, &requests[&case]);
        let expected: u16 = status.split(' ').nth(1).unwrap().parse().unwrap();
        if let Some((_, status, _)) = DEVIATIONS.iter().find(|(known, ..)| *known == case)
            && expected != answer.status
        {
            assert_eq!(answer.status, *status, "{version} {case}");
            deviating += 1;
            continue;
        }
        assert_eq!(answer.status, expected, "{version} {case}: {answer:?}");
        if own_words(&case, &body) {
            reworded += 1;
            continue;
        }
        let ours: Vec<String> = answer.head.lines().skip(1).map(str::to_owned).collect();
        let mut expected_names = names(&headers);
        let mut our_names = names(&ours);
        let index =
            case.starts_with("pprof-") && body.starts_with('<') || case.starts_with("config-");
        if index || case.starts_with("pprof-cmdline") {
            // Go sends these in chunks.
            expected_names.remove("content-length");
            our_names.remove("content-length");
        }
        assert_eq!(our_names, expected_names, "{version} {case}");
        match (case.as_str(), body.as_str()) {
            ("config-json" | "config-post" | "config-yaml", body) if body.starts_with("<see") => {}
            ("pprof-index", _) if expected == 200 => {}
            ("pprof-cmdline", _) if expected == 200 => {
                assert!(answer.text().contains("\0-f\0"), "{case}");
            }
            // How many symbols can be looked up: none here.
            ("pprof-symbol", _) if expected == 200 => assert_eq!(answer.text(), "num_symbols: 0\n"),
            (_, body) => assert_eq!(answer.text(), body, "{version} {case}"),
        }
        if let Some(peer) = destination {
            eventually(&format!("{version} {case}: {forwarded} forwarded"), || {
                (peer.posted().len() == before + forwarded).then_some(())
            });
        }
        equal += 1;
    }
    println!(
        "{version}: {equal} answers as recorded, {reworded} in our own words, {deviating} deviate"
    );
    assert!(equal + reworded + deviating > 20);
}

fn dual(peer: &Peer) -> String {
    format!(
        "http_address: 127.0.0.1:0\nforward_address: http://{}\n",
        peer.address
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dual_answers_are_those_of_the_originals() {
    let peer = Peer::http().await;
    block_in_place(|| {
        let mut proxy = Proxy::start(&dual(&peer));
        for version in ["v1.9.0", "v13.2.0"] {
            replay(version, proxy.http(), Some(&peer));
        }
        assert_eq!(proxy.program.terminate().code(), Some(0));
    });
}

fn stream(peer: &Peer, profiling: bool) -> String {
    format!(
        "http_address: 127.0.0.1:0\nforward_addresses: ['{}']\nhttp: {{enable_config: {profiling}, enable_profiling: {profiling}}}\n",
        peer.address
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_answers_are_those_of_the_original() {
    let peer = Peer::grpc().await;
    block_in_place(|| {
        for (version, profiling) in [("v14", true), ("v14-config-profiling-off", false)] {
            let mut proxy = Proxy::start(&stream(&peer, profiling));
            let address = proxy.http();
            eventually("a connected destination", || {
                (get(address, "/healthcheck").status == 204).then_some(())
            });
            replay(version, address, None);
            assert_eq!(proxy.program.terminate().code(), Some(0));
        }
    });
}

/// The pages show the recorded file as the original does, but for the secret and for addresses that the test changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_pages_are_those_of_the_original_without_the_secret() {
    let input = String::from_utf8(support::bytes("http/v14-config.input.yaml")).unwrap();
    // Neither Consul nor certificates are here: without an address TLS is not served.
    let file = input
        .replace("127.0.0.1:22301", "127.0.0.1:0")
        .replace("127.0.0.1:22302", "127.0.0.1:0")
        .replace("grpc_tls_address: 127.0.0.1:22303\n", "");
    block_in_place(|| {
        let mut proxy = Proxy::start_with(&file, &[], &[("CONSUL_HTTP_ADDR", "127.0.0.1:1")]);
        let address = proxy.http();
        for (path, golden) in [
            ("/config/json", "http/v14-config.json"),
            ("/config/yaml", "http/v14-config.yaml"),
        ] {
            let expected = String::from_utf8(support::bytes(golden)).unwrap();
            let expected = expected
                .replace("127.0.0.1:22301", "127.0.0.1:0")
                .replace("127.0.0.1:22302", "127.0.0.1:0")
                .replace(
                    "grpc_tls_address: 127.0.0.1:22303",
                    "grpc_tls_address: \"\"",
                )
                .replace(
                    "\"GrpcTlsAddress\": \"127.0.0.1:22303\"",
                    "\"GrpcTlsAddress\": \"\"",
                )
                .replace("https://secret@example.com/1", "REDACTED");
            assert_eq!(get(address, path).text(), expected, "{path}");
        }
        proxy.program.terminate();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_beyond_the_limits_are_refused_with_413() {
    let peer = Peer::http().await;
    let config = format!(
        "{}max_request_bytes: 100000\nmax_inflated_bytes: 1000000\n",
        dual(&peer)
    );
    block_in_place(|| {
        let mut proxy = Proxy::start(&config);
        let address = proxy.http();
        let mut bomb = ZlibEncoder::new(Vec::new(), Compression::best());
        for _ in 0..64 {
            bomb.write_all(&vec![b' '; 1 << 20]).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        assert!(bomb.len() < 100_000);
        let refused = post(address, "Content-Encoding: deflate\r\n", &bomb);
        assert_eq!(refused.status, 413, "{refused:?}");
        // Announced, and in chunks that announce nothing.
        assert_eq!(post(address, "", &vec![b' '; 200_000]).status, 413);
        let mut chunked = b"POST /import HTTP/1.1\r\nHost: p\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..13 {
            chunked.extend_from_slice(b"2000\r\n");
            chunked.extend_from_slice(&[b' '; 0x2000]);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        assert_eq!(raw(address, &chunked).status, 413);
        assert_eq!(
            post(address, "", br#"[{"name":"a","type":"counter"}]"#).status,
            202
        );
        let page = get(address, "/metrics").text();
        assert!(
            page.contains("veneur_proxy_import_refused_total{cause=\"size\"} 3"),
            "{page}"
        );
        proxy.program.terminate();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_and_metrics_tell_the_truth_in_every_generation() {
    let (http, grpc) = (Peer::http().await, Peer::grpc().await);
    block_in_place(|| {
        for config in [dual(&http), stream(&grpc, false)] {
            let mut proxy = Proxy::start(&config);
            let address = proxy.http();
            eventually("readiness", || {
                (get(address, "/healthcheck/ready").status == 200).then_some(())
            });
            let page = get(address, "/metrics");
            assert!(page.text().contains("veneur_proxy_build_info{"), "{page:?}");
            assert!(
                page.text().contains("veneur_proxy_destination_ring_share{"),
                "{page:?}"
            );
            proxy.program.terminate();
        }
        let mut nobody = Proxy::start(
            "http_address: 127.0.0.1:0\nforward_addresses: ['127.0.0.1:1']\ndial_timeout: 50ms\n",
        );
        let address = nobody.http();
        assert_eq!(get(address, "/healthcheck").status, 503);
        assert_eq!(get(address, "/healthcheck/ready").status, 503);
        nobody.program.terminate();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_is_served_on_a_unix_socket() {
    let peer = Peer::http().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.sock");
    let config = format!(
        "http_address: {}\nforward_address: http://{}\n",
        path.display(),
        peer.address
    );
    block_in_place(|| {
        let mut proxy = Proxy::start(&config);
        let mut socket = eventually("the socket", || {
            std::os::unix::net::UnixStream::connect(&path).ok()
        });
        socket
            .write_all(b"GET /healthcheck HTTP/1.0\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut socket, &mut answer).unwrap();
        assert_eq!(program::parse(&answer).body, b"ok\n");
        assert_eq!(proxy.program.terminate().code(), Some(0));
        assert!(!path.exists());
    });
}
