//! The recorded runs over TLS, of the status page, with two locators and with a verbose log, repeated.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed helper is a failed test, and golden tests print their counts"
)]

mod support;

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};
use shared::testing::{pki::Authority, wire::free_tcp_port};
use support::{
    Mpp,
    client::request,
    exchange::Step,
    prometheus::{Manners, Prometheus},
    tls::TlsFront,
    transcript::{Run, arguments, compare_exchange, part, repeat},
    trio::Trio,
};
use tempfile::TempDir;

const TLS_AND_STATUS: &[Run] = &[
    (
        "https-unverifiable",
        https_unverifiable,
        "L6: -k is for Prometheus too",
    ),
    ("https-verified", https_verified, "H1, A1"),
    ("both-affinity-status", both_affinity_status, ""),
    ("two-locators-one-fails", two_locators_one_fails, ""),
    (
        "verbose-log",
        verbose_log,
        "10: no credentials, no dumps of requests; Z2: round trips at debug",
    ),
];

#[test]
fn the_recorded_runs_over_tls_with_status_pages_and_logs_are_repeated() {
    repeat(
        "http/tls-affinity-status-locators-verbose.json",
        TLS_AND_STATUS,
    );
}

/// Rows as recorded, settings as recorded.
fn compare_status(recorded: &Value, mpp: &Mpp, real: impl Fn(&str) -> String) {
    let candidates: Vec<Value> = part(&recorded["candidates"]);
    let expected: Vec<(String, bool)> = candidates
        .iter()
        .map(|row| {
            let address = row["endpoint"].as_str().unwrap();
            (real(address), row["selected"].as_bool().unwrap())
        })
        .collect();
    assert_eq!(mpp.candidates(), expected);
    let differences =
        support::runtime_differences(&part(&recorded["status_runtime"]), &mpp.status());
    assert!(differences.is_empty(), "{differences:?}");
}

/// Starts a run before one server behind TLS.
fn before_tls(recorded: &Value, front: &TlsFront, authority: &Authority) -> Mpp {
    let folder = TempDir::new().unwrap();
    let endpoints: String = part(&recorded["endpoints_file"]);
    let endpoints = endpoints.replace("24005", &front.port.to_string());
    fs::write(folder.path().join("endpoints.txt"), endpoints).unwrap();
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let environment: BTreeMap<String, String> = recorded.get("env").map(part).unwrap_or_default();
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let args = arguments(recorded);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mpp = Mpp::spawn(folder, &args, &environment);
    mpp.wait_until_answering(1);
    mpp
}

fn https_unverifiable(recorded: &Value) {
    let server = Prometheus::start("tls1", Manners::good("1"));
    let authority = Authority::new("unknown");
    let front = TlsFront::start(&authority, "127.0.0.1", &server);
    let mpp = before_tls(recorded, &front, &authority);
    assert_eq!(recorded["candidates"], json!([]));
    assert_eq!(mpp.candidates(), [(front.url(), true)]);
    assert_eq!(mpp.get("/x").status, 200);
    assert_eq!(front.refusals(), 0);
}

fn https_verified(recorded: &Value) {
    let server = Prometheus::start("tls1", Manners::good("1"));
    let authority = Authority::new("known");
    let front = TlsFront::start(&authority, "127.0.0.1", &server);
    let mpp = before_tls(recorded, &front, &authority);
    let port = front.port.to_string();
    compare_status(recorded, &mpp, |text| text.replace("24005", &port));
    let steps: Vec<Step> = part(&recorded["steps"]);
    for step in &steps {
        compare_exchange(
            step,
            mpp.port,
            &[("tls1", &server)],
            |text| text.replace(&port, "24005"),
            |_| {},
        );
    }
    let mut probes: Vec<String> = server
        .probes()
        .iter()
        .map(|line| line.split("&time=").next().unwrap().to_owned())
        .collect();
    probes.sort();
    probes.dedup();
    let asked: Vec<String> = part(&recorded["tls_probes"]);
    let asked = asked
        .iter()
        .map(|line| line.split("&time=").next().unwrap());
    assert_eq!(probes, asked.collect::<Vec<_>>());
}

fn both_affinity_status(recorded: &Value) {
    let servers = Trio::usual();
    let args = arguments(recorded);
    let args: Vec<&str> = args[2..].iter().map(String::as_str).collect();
    let mpp = servers.front(&args);
    compare_status(recorded, &mpp, |text| servers.real(text));
}

fn two_locators_one_fails(recorded: &Value) {
    let servers = Trio::usual();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("endpoints.txt"), servers.endpoints()).unwrap();
    let kubeconfig = json!({
        "clusters": [{"name": "c", "cluster": {"server": format!("http://127.0.0.1:{}", free_tcp_port())}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    });
    fs::write(
        folder.path().join("kubeconfig.yaml"),
        kubeconfig.to_string(),
    )
    .unwrap();
    let args = arguments(recorded);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mpp = Mpp::spawn(folder, &args, &[]);
    mpp.wait_until_answering(3);
    compare_status(recorded, &mpp, |text| servers.real(text));
    for text in [
        "Using kubeconfig kubeconfig.yaml",
        "failed to resolve endpoints: ",
        "New targets differ from current selection []; updating rewriter => [",
    ] {
        let log: Vec<String> = part(&recorded["log"]);
        assert!(log.iter().any(|line| line.contains(text)), "{text}");
        mpp.program.wait_for_line(text);
    }
}

/// Of the recorded lines those that people look for; what is left out is inner life of the original's libraries.
const LOOKED_FOR: &[&str] = &[
    "level=debug msg=\"Got selection lock; performing selection\"",
    "level=debug msg=\"Locator &{endpoints.txt} resolved the following endpoints: [http://127.0.0.1:24001]\"",
    "level=info msg=\"New targets differ from current selection []; updating rewriter => [http://127.0.0.1:24001]\"",
    "level=debug msg=\"Returning selection lock\"",
    "level=debug msg=\"Backend selection is sleeping for 1h0m0s\"",
    "level=info msg=\"mpp is listening on port 24010\"",
];

fn verbose_log(recorded: &Value) {
    let servers = Trio::usual();
    let mpp = Mpp::start(
        &servers[0].url(),
        &[
            "--verbose",
            "--routing-strategy",
            "random",
            "--selection-interval",
            "1h",
        ],
    );
    mpp.wait_until_answering(1);
    let bytes = "GET /x?secret=1 HTTP/1.1\r\nHost: mpp.example:9090\r\nUser-Agent: golden-client/1\r\nAuthorization: Basic dXNlcjpwYXNz\r\n\r\n";
    assert_eq!(request(mpp.port, bytes.as_bytes()).unwrap().status, 200);
    let round_trip = mpp.program.wait_for_line("Round trip: ");
    assert!(round_trip.contains("level=debug"), "{round_trip}");
    assert!(
        round_trip.contains(&format!("{}/x?secret=1, code: 200", servers[0].url())),
        "{round_trip}"
    );
    let log: Vec<String> = part(&recorded["log"]);
    for text in LOOKED_FOR {
        assert!(log.iter().any(|line| line.contains(text)), "{text}");
        let text = servers.real(text).replace("24010", &mpp.port.to_string());
        mpp.program.wait_for_line(&text);
    }
    let ours = mpp.program.stderr().join("\n");
    assert!(log.iter().any(|line| line.contains("dXNlcjpwYXNz")));
    assert!(!ours.contains("dXNlcjpwYXNz"), "{ours}");
}
