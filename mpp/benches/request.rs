//! What the proxy itself does for one request, without sockets: headers on the way there, the choice of a server, headers on the way
//! back.

use std::{net::IpAddr, sync::Arc};

use divan::Bencher;
use http::{HeaderMap, HeaderName, HeaderValue};
use mpp::{
    backend::Backend,
    config::{self, Strategy},
    endpoint::Endpoint,
    proxy::{
        affinity::Affinity,
        choice::Router,
        headers::{Origin, forward, served_by, set_cookie, strip_hop_by_hop},
    },
    select::Selection,
};

fn main() {
    divan::main();
}

/// What a Grafana behind a load balancer sends with a query.
const REQUEST: &[(&str, &str)] = &[
    ("host", "prometheus.example:9090"),
    ("user-agent", "Grafana/11.2.0"),
    ("content-length", "112"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("accept-encoding", "gzip"),
    ("connection", "keep-alive"),
    ("x-datasource-uid", "PBFA97CFB590B2093"),
    ("x-grafana-org-id", "1"),
    ("x-panel-id", "12"),
    ("x-forwarded-for", "192.0.2.17"),
    ("x-forwarded-proto", "https"),
    (
        "cookie",
        "session=0123456789abcdef; MPP.Route=http://10.0.0.2:9090",
    ),
];

/// What Prometheus answers with.
const ANSWER: &[(&str, &str)] = &[
    ("content-encoding", "gzip"),
    ("content-type", "application/json"),
    ("date", "Sat, 21 Nov 2026 12:00:00 GMT"),
    ("vary", "Origin"),
    ("content-length", "2048"),
];

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

fn backends(count: u8) -> Vec<Arc<Backend>> {
    (1..=count)
        .map(|number| {
            let endpoint = Endpoint::parse(&format!("http://10.0.0.{number}:9090"));
            Arc::new(Backend::new(endpoint.expect("it is an address"), 1))
        })
        .collect()
}

/// A router with cookies, and with addresses that have all asked before if `source_ip`.
fn router(strategy: Strategy, source_ip: bool, selection: &Selection) -> Router {
    let affinity = Affinity::new(&config::Affinity {
        cookies: !source_ip,
        source_ip,
        shown: String::new(),
        remembered: 256,
    });
    let without = HeaderMap::new();
    affinity.remember(affinity.source(&without, PEER), &selection.targets[0]);
    Router::new(strategy, affinity)
}

#[divan::bench]
fn request_headers(bencher: Bencher<'_, '_>) {
    let request = headers(REQUEST);
    let origin = Origin {
        client: HeaderValue::from_static("192.0.2.9"),
        scheme: HeaderValue::from_static("http"),
        host: request.get("host").cloned(),
        server: HeaderValue::from_static("mpp-0"),
    };
    bencher
        .with_inputs(|| request.clone())
        .bench_local_values(|mut headers| {
            strip_hop_by_hop(&mut headers);
            forward(&mut headers, &origin);
            headers
        });
}

#[divan::bench]
fn answer_headers(bencher: Bencher<'_, '_>) {
    let answer = headers(ANSWER);
    let backend = backends(1).remove(0);
    bencher
        .with_inputs(|| answer.clone())
        .bench_local_values(|mut headers| {
            strip_hop_by_hop(&mut headers);
            served_by(&mut headers, &backend);
            set_cookie(&mut headers, &backend);
            headers
        });
}

#[divan::bench(args = [1, 3, 30])]
fn choice_at_random(bencher: Bencher<'_, '_>, servers: u8) {
    let selection = Selection::of(backends(servers), Vec::new());
    let router = router(Strategy::Random, false, &selection);
    let without = HeaderMap::new();
    bencher.bench_local(|| router.choose(&selection, divan::black_box(&without), PEER, &[]));
}

#[divan::bench(args = [3, 30])]
fn choice_of_the_least_busy(bencher: Bencher<'_, '_>, servers: u8) {
    let selection = Selection::of(backends(servers), Vec::new());
    let router = router(Strategy::LeastRequests, false, &selection);
    let without = HeaderMap::new();
    bencher.bench_local(|| router.choose(&selection, divan::black_box(&without), PEER, &[]));
}

#[divan::bench(args = [3, 30])]
fn choice_by_cookie(bencher: Bencher<'_, '_>, servers: u8) {
    let selection = Selection::of(backends(servers), Vec::new());
    let router = router(Strategy::Random, false, &selection);
    let request = headers(REQUEST);
    bencher.bench_local(|| router.choose(&selection, divan::black_box(&request), PEER, &[]));
}

#[divan::bench(args = [3, 30])]
fn choice_by_address(bencher: Bencher<'_, '_>, servers: u8) {
    let selection = Selection::of(backends(servers), Vec::new());
    let router = router(Strategy::Random, true, &selection);
    let without = HeaderMap::new();
    bencher.bench_local(|| router.choose(&selection, divan::black_box(&without), PEER, &[]));
}
