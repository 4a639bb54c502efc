//! Where servers are found: the recorded endpoints files, the recorded Marathon runs, and Kubernetes and Marathon over HTTPS.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed helper is a failed test, and golden tests print their counts"
)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    testing::{
        eventually, golden,
        pki::{Authority, named, rcgen},
        process::Program,
    },
    tls::server::{Server, Settings},
};
use support::{
    Mpp,
    api::{Api, Asked},
    command, listening_port,
    prometheus::{Manners, Prometheus},
};
use tempfile::TempDir;

#[derive(Deserialize)]
struct FileScenario {
    scenario: String,
    endpoints_file: String,
    #[serde(default)]
    status_page: Option<Page>,
    request_served_by: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    endpoint: String,
    selected: bool,
}

/// Where an endpoints file is read differently: the row of the specification, and the selected addresses instead, then others.
const FILES: &[(&str, &str, &[&str], &[&str])] = &[
    (
        "ep-crlf",
        "L1",
        &[
            "http://127.0.0.1:24001",
            "http://127.0.0.1:24002",
            "http://127.0.0.1:24003",
        ],
        &[],
    ),
    (
        "ep-tab",
        "L1",
        &[
            "http://127.0.0.1:24001",
            "http://127.0.0.1:24002",
            "http://127.0.0.1:24003",
        ],
        &[],
    ),
    (
        "ep-comment",
        "L1",
        &[
            "http://127.0.0.1:24001",
            "http://127.0.0.1:24002",
            "http://127.0.0.1:24003",
        ],
        &[],
    ),
    (
        "ep-comment-trailing",
        "L1",
        &["http://127.0.0.1:24001", "http://127.0.0.1:24002"],
        &[],
    ),
    (
        "ep-no-scheme",
        "L1",
        &[
            "http://127.0.0.1:24001",
            "http://localhost:24002",
            "http://127.0.0.1:24003",
        ],
        &[],
    ),
    (
        "ep-path",
        "a slash at the end is not shown",
        &["http://127.0.0.1:24001/prom", "http://127.0.0.1:24002/prom"],
        &[],
    ),
    (
        "ep-query",
        "a bad line is skipped",
        &["http://127.0.0.1:24002"],
        &[],
    ),
    ("ep-userinfo", "masked", &["http://127.0.0.1:24001"], &[]),
    (
        "ep-case",
        "the scheme is shown in lower case",
        &["http://127.0.0.1:24001"],
        &[],
    ),
    (
        "ep-bom",
        "L1",
        &[
            "http://127.0.0.1:24001",
            "http://127.0.0.1:24002",
            "http://127.0.0.1:24003",
        ],
        &[],
    ),
    ("ep-comma", "a bad line is skipped", &[], &[]),
    (
        "ep-bad-url",
        "a bad line is skipped",
        &["http://127.0.0.1:24002"],
        &[],
    ),
];

#[test]
fn every_recorded_endpoints_file_is_read() {
    let scenarios: Vec<FileScenario> =
        golden::json(support::golden("locators/endpoints-file.json"));
    let (mut deviating, mut failures) = (0, Vec::new());
    for scenario in &scenarios {
        let servers = ["b1", "b2", "b3"].map(|name| Prometheus::start(name, Manners::good("1")));
        let swap = |text: &str, back: bool| {
            let mut text = text.to_owned();
            for (place, server) in servers.iter().enumerate() {
                let (from, to) = (format!(":2400{}", place + 1), format!(":{}", server.port));
                text = if back {
                    text.replace(&to, &from)
                } else {
                    text.replace(&from, &to)
                };
            }
            text
        };
        let mpp = Mpp::start(
            &swap(&scenario.endpoints_file, false),
            &["--routing-strategy", "random", "--selection-interval", "1h"],
        );
        mpp.wait_for_rounds(1);
        let rows: Vec<(String, bool)> = mpp.status()["backends"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                (
                    swap(row["address"].as_str().unwrap(), true),
                    row["selected"].as_bool().unwrap(),
                )
            })
            .collect();
        let deviation = FILES.iter().find(|(name, ..)| *name == scenario.scenario);
        let expected: Vec<(String, bool)> = match deviation {
            Some((_, _, selected, others)) => {
                deviating += 1;
                let selected = selected.iter().map(|address| ((*address).to_owned(), true));
                selected
                    .chain(others.iter().map(|address| ((*address).to_owned(), false)))
                    .collect()
            }
            None => scenario
                .status_page
                .iter()
                .flat_map(|page| &page.rows)
                .map(|row| (row.endpoint.clone(), row.selected))
                .collect(),
        };
        if rows != expected {
            failures.push(format!(
                "{}: expected {expected:?}, got {rows:?}",
                scenario.scenario
            ));
        }
        let answer = mpp.get("/prom-path?x=1");
        let none = scenario
            .request_served_by
            .as_deref()
            .is_some_and(|by| by.starts_with("none"));
        if (answer.status == 503) != none {
            failures.push(format!("{}: status {}", scenario.scenario, answer.status));
        }
        if scenario.scenario == "ep-path" || scenario.scenario == "ep-userinfo" {
            // R7: requests ignore the path of the address; its credentials are for probes alone.
            let seen: Vec<_> = servers.iter().flat_map(Prometheus::seen).collect();
            assert!(
                seen[0].head.starts_with("GET /prom-path?x=1 HTTP/1.1\r\n"),
                "{seen:?}"
            );
            assert!(
                !seen[0].head.to_lowercase().contains("authorization"),
                "{seen:?}"
            );
            let page = mpp.get("/mpp/status").text();
            assert!(!page.contains("u:p@"), "credentials are shown");
        }
    }
    println!(
        "endpoints files: {}, {deviating} deviate as listed, {} wrong",
        scenarios.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[derive(Deserialize)]
struct MarathonScenario {
    scenario: String,
    mpp_args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    state: String,
    #[serde(default)]
    candidates: Vec<Row>,
    requests: Vec<RecordedRequest>,
}

#[derive(Deserialize)]
struct RecordedRequest {
    server: u16,
    #[serde(default)]
    head: String,
    #[serde(default)]
    body: String,
}

/// What a recorded run deviates in.
enum Instead {
    /// Other requests, and so other candidates: those of the applications that answer.
    Requests(&'static [&'static str], usize),
    /// It says this and ends with 1.
    Fails(&'static str),
    /// It runs, without candidates.
    RunsWithNone,
    /// It runs, with this many.
    Runs(usize),
}

const MARATHON: &[(&str, &str, Instead)] = &[
    (
        "app-spaces",
        "blanks are trimmed",
        Instead::Requests(
            &["GET /ping", "GET /v2/apps/prom", "GET /v2/apps/infra/prom"],
            3,
        ),
    ),
    ("task-without-ports", "L5", Instead::RunsWithNone),
    (
        "trailing-slash-url",
        "3.3",
        Instead::Requests(&["GET /ping", "GET /v2/apps/prom"], 2),
    ),
    (
        "apps-500",
        "L5: no ping without credentials",
        Instead::RunsWithNone,
    ),
    ("401-without-secret", "L5", Instead::RunsWithNone),
    (
        "auth-endpoint-without-login_endpoint",
        "L5",
        Instead::Runs(2),
    ),
    ("login-no-token", "L5", Instead::Fails("has no token")),
    ("login-not-json", "wording", Instead::Fails("has no token")),
    ("uid-quote", "3.3: escaped", Instead::Runs(2)),
    (
        "ping-404",
        "wording",
        Instead::Fails("Marathon API error: pong"),
    ),
    ("token-refresh", "L5", Instead::Runs(2)),
    (
        "token-refresh-still-401",
        "replayed up to the rotation",
        Instead::Runs(2),
    ),
    (
        "marathon-down",
        "L5: no ping without credentials; replayed up to the outage",
        Instead::Runs(2),
    ),
    ("tls-marathon-insecure", "L6", Instead::Runs(2)),
    (
        "login-401",
        "wording",
        Instead::Fails("Failed to construct marathon client: Failed to authenticate"),
    ),
    (
        "tls-login-verified",
        "wording",
        Instead::Fails("Failed to construct marathon client: Post"),
    ),
];

/// Marathon, its second member, the logins and a Marathon with TLS, by their recorded ports.
fn marathon(scenario: &str, port: u16, authority: &Authority) -> BTreeMap<u16, Api> {
    let app = move |hosts: &[&str]| {
        let tasks: Vec<Value> = hosts
            .iter()
            .map(|host| json!({"host": host, "ports": [port, port + 1], "state": "TASK_STAGING"}))
            .collect();
        json!({"app": {"id": "x", "tasks": tasks}}).to_string()
    };
    let name = scenario.to_owned();
    let apps = move |asked: &Asked| -> (u16, String) {
        let target = asked.line.split(' ').nth(1).unwrap_or_default();
        let (_, id) = target.split_once("/v2/apps/").unwrap_or(("", ""));
        match (name.as_str(), target.ends_with("/ping"), id) {
            ("ping-503", true, _) => (503, "no".to_owned()),
            ("ping-404", true, _) => (404, "pong\n".to_owned()),
            (_, true, _) => (200, "pong\n".to_owned()),
            ("apps-500", ..) => (500, "no".to_owned()),
            ("401-without-secret", ..) => (
                401,
                json!({"message": "Invalid username or password."}).to_string(),
            ),
            (_, _, "prom" | "staging") => (200, app(&["127.0.0.1", "127.0.0.2"])),
            (_, _, "infra/prom") => (200, app(&["127.0.0.3"])),
            (_, _, "empty") => (200, app(&[])),
            (_, _, "noports") => (
                200,
                json!({"app": {"tasks": [{"host": "127.0.0.1", "ports": []}]}}).to_string(),
            ),
            (_, _, id) => (
                404,
                json!({"message": format!("App '/{id}' does not exist")}).to_string(),
            ),
        }
    };
    let name = scenario.to_owned();
    let login = move |_: &Asked| match name.as_str() {
        "login-401" => (401, "no".to_owned()),
        "login-no-token" => (200, "{}".to_owned()),
        "login-not-json" => (200, "nope".to_owned()),
        _ => (200, json!({"token": "tok-A"}).to_string()),
    };
    let tls = server_config(authority);
    BTreeMap::from([
        (24090, Api::start(None, apps.clone())),
        (24092, Api::start(None, apps.clone())),
        (24094, Api::start(Some(Arc::clone(&tls)), apps)),
        (24091, Api::start(None, login.clone())),
        (24093, Api::start(Some(tls), login)),
    ])
}

fn server_config(authority: &Authority) -> Arc<rustls::ServerConfig> {
    let identity = authority.issue(&named(&["127.0.0.1"])).identity();
    Server::new(Settings::new(identity, &[])).unwrap().config()
}

/// Three servers on one port of three addresses.
fn same_port() -> (u16, Vec<Prometheus>) {
    eventually("a port that is free on three addresses", || {
        let first = Prometheus::start("t1", Manners::good("1"));
        let port = first.port;
        let others: Vec<_> = ["127.0.0.2", "127.0.0.3"]
            .into_iter()
            .filter(|host| std::net::TcpListener::bind((*host, port)).is_ok())
            .collect();
        (others.len() == 2).then(|| {
            let others = others
                .into_iter()
                .map(|host| Prometheus::start_at(host, port, host, Manners::good("1")));
            (port, std::iter::once(first).chain(others).collect())
        })
    })
}

fn rsa_key() -> rcgen::KeyPair {
    rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap()
}

#[test]
fn every_recorded_marathon_run_asks_the_same() {
    let scenarios: Vec<MarathonScenario> = golden::json(support::golden("locators/marathon.json"));
    let (port, _servers) = same_port();
    let authority = Authority::new("test");
    let key = rsa_key();
    let (mut deviating, mut failures) = (0, Vec::new());
    for scenario in &scenarios {
        let apis = marathon(&scenario.scenario, port, &authority);
        let real = |text: &str| {
            let mut text = text.to_owned();
            for (recorded, api) in &apis {
                // The first member of the list is the one that is down.
                let down = scenario.scenario == "url-list" && *recorded == 24090;
                let port = if down { 1 } else { api.port };
                text = text.replace(
                    &format!("127.0.0.1:{recorded}"),
                    &format!("127.0.0.1:{port}"),
                );
            }
            let pem = Value::from(key.serialize_pem()).to_string();
            text.replace("\"<RSA PRIVATE KEY PEM>\\n\"", &pem)
        };
        let args: Vec<String> = scenario
            .mpp_args
            .iter()
            .take_while(|word| *word != "--port")
            .map(|word| real(word))
            .collect();
        let environment: Vec<(String, String)> = scenario
            .env
            .iter()
            .map(|(name, value)| (name.clone(), real(value)))
            .collect();
        let environment: Vec<(&str, &str)> = environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let folder = TempDir::new().unwrap();
        let mut program = Program::spawn(
            command(folder.path(), &environment)
                .args(["--listen-address", "127.0.0.1", "--port", "0"])
                .args(&args),
        );
        let port = eventually(&format!("{} to start or end", scenario.scenario), || {
            if program.exited().is_some() {
                return Some(None);
            }
            let lines = program.stderr();
            let line = lines
                .iter()
                .find(|line| line.contains("listening on port"))?;
            let selected = ["New targets differ", "no valid selection"];
            lines
                .iter()
                .any(|line| selected.iter().any(|text| line.contains(text)))
                .then(|| Some(listening_port(line)))
        });
        let stderr = program.stderr().join("\n");
        let candidates = port.map(|port| {
            let answer =
                support::client::request(port, b"GET /mpp/status.json HTTP/1.1\r\nHost: h\r\n\r\n")
                    .unwrap();
            let status: Value = serde_json::from_slice(&answer.body).unwrap();
            status["backends"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|row| row["selected"] == true)
                .count()
        });
        let mut asked: Vec<(u16, Asked)> = apis
            .iter()
            .flat_map(|(recorded, api)| {
                api.asked().into_iter().map(move |asked| (*recorded, asked))
            })
            .collect();
        // A login comes before what it is for.
        asked.sort_by_key(|(server, _)| !matches!(server, 24091 | 24093));
        let lines: Vec<&str> = asked.iter().map(|(_, asked)| asked.line.as_str()).collect();
        let deviation = MARATHON
            .iter()
            .find(|(name, ..)| *name == scenario.scenario);
        deviating += usize::from(deviation.is_some());
        let wrong = match deviation {
            Some((_, _, Instead::Requests(expected, count))) => (lines != *expected
                || candidates != Some(*count))
            .then(|| format!("{lines:?} {candidates:?}")),
            Some((_, _, Instead::Fails(text))) => {
                let status = program.exited().and_then(|status| status.code());
                (status != Some(1) || !stderr.contains(text))
                    .then(|| format!("{status:?} {stderr}"))
            }
            Some((_, _, Instead::RunsWithNone)) => {
                (candidates != Some(0)).then(|| format!("{candidates:?} {stderr}"))
            }
            Some((_, _, Instead::Runs(count))) => {
                (candidates != Some(*count)).then(|| format!("{candidates:?} {stderr}"))
            }
            None => same_requests(scenario, &asked, candidates, &key),
        };
        if let Some(wrong) = wrong {
            failures.push(format!("{}: {wrong}", scenario.scenario));
        }
    }
    println!(
        "marathon: {} runs, {deviating} deviate as listed, {} wrong",
        scenarios.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn same_requests(
    scenario: &MarathonScenario,
    asked: &[(u16, Asked)],
    candidates: Option<usize>,
    key: &rcgen::KeyPair,
) -> Option<String> {
    let running = scenario.state == "running";
    let expected = running.then(|| {
        scenario
            .candidates
            .iter()
            .filter(|row| row.selected)
            .count()
    });
    if candidates != expected {
        return Some(format!(
            "expected {expected:?} selected, got {candidates:?}"
        ));
    }
    let recorded: Vec<&RecordedRequest> = scenario
        .requests
        .iter()
        .filter(|request| !request.head.is_empty())
        .collect();
    let asked: Vec<_> = asked.iter().take(recorded.len()).collect();
    if asked.len() != recorded.len() {
        return Some(format!(
            "expected {} requests, got {asked:?}",
            recorded.len()
        ));
    }
    for (recorded, (server, asked)) in recorded.iter().zip(asked) {
        let mut lines = recorded.head.split("\r\n");
        let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1");
        let header = |name: &str| {
            recorded
                .head
                .split("\r\n")
                .filter_map(|line| line.split_once(": "))
                .find(|(other, _)| other.eq_ignore_ascii_case(name))
                .map_or("", |(_, value)| value)
        };
        if recorded.server != *server || line != asked.line {
            return Some(format!(
                "expected {line} at {}, got {} at {server}",
                recorded.server, asked.line
            ));
        }
        for name in ["authorization", "content-type"] {
            if header(name) != asked.header(name) {
                return Some(format!(
                    "{line}: {name} expected {:?}, got {:?}",
                    header(name),
                    asked.header(name)
                ));
            }
        }
        let body = match recorded.body.split_once("<JWT>") {
            None => asked.body.clone(),
            Some((before, after)) => {
                let token = asked.body.strip_prefix(before)?.strip_suffix(after)?;
                check_token(token, key);
                format!("{before}<JWT>{after}")
            }
        };
        if body != recorded.body {
            return Some(format!(
                "{line}: body expected {:?}, got {:?}",
                recorded.body, asked.body
            ));
        }
    }
    None
}

/// The token is the recorded one, byte for byte but for the key that signs it.
fn check_token(token: &str, key: &rcgen::KeyPair) {
    let parts: Vec<&str> = token.split('.').collect();
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    assert_eq!(decoded(parts[0]), br#"{"alg":"RS256","typ":"JWT"}"#);
    assert_eq!(decoded(parts[1]), br#"{"uid": "mpp-svc"}"#);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let message = format!("{}.{}", parts[0], parts[1]);
    let signature = decoded(parts[2]);
    let verified = provider
        .signature_verification_algorithms
        .mapping
        .iter()
        .any(|(scheme, algorithms)| {
            *scheme == rustls::SignatureScheme::RSA_PKCS1_SHA256
                && algorithms.iter().any(|algorithm| {
                    algorithm
                        .verify_signature(key.public_key_raw(), message.as_bytes(), &signature)
                        .is_ok()
                })
        });
    assert!(verified, "the signature is good");
}

#[test]
fn a_token_that_marathon_refuses_is_replaced_within_the_round() {
    let (port, _servers) = same_port();
    let authority = Authority::new("test");
    let rotated = Arc::new(AtomicBool::new(false));
    let current = |rotated: &AtomicBool| {
        if rotated.load(Relaxed) {
            "tok-B"
        } else {
            "tok-A"
        }
    };
    let flag = Arc::clone(&rotated);
    let login = Api::start(Some(server_config(&authority)), move |_| {
        (200, json!({"token": current(&flag)}).to_string())
    });
    let flag = Arc::clone(&rotated);
    let api = Api::start(Some(server_config(&authority)), move |asked| {
        if asked.header("authorization") != format!("token={}", current(&flag)) {
            return (401, json!({"message": "no"}).to_string());
        }
        (
            200,
            json!({"app": {"tasks": [{"host": "127.0.0.1", "ports": [port]}]}}).to_string(),
        )
    });
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let secret = json!({"uid": "u", "password": "p", "login_endpoint": format!("https://127.0.0.1:{}/l", login.port)});
    let mpp = Mpp::spawn(
        folder,
        &[
            "--marathon-url",
            &format!("https://127.0.0.1:{}", api.port),
            "--marathon-apps",
            "prom",
            "--marathon-principal-secret",
            &secret.to_string(),
            "--selection-interval",
            "200ms",
        ],
        &[("SSL_CERT_FILE", "ca.pem")],
    );
    mpp.wait_for_rounds(2);
    assert_eq!(mpp.get("/x").status, 200);
    rotated.store(true, Relaxed);
    let rounds = mpp.status()["selection"]["rounds"].as_u64().unwrap();
    eventually("the new token to be used", || {
        api.asked()
            .iter()
            .any(|asked| asked.header("authorization") == "token=tok-B")
            .then_some(())
    });
    mpp.wait_for_rounds(rounds + 3);
    assert!(
        !mpp.program
            .stderr()
            .iter()
            .any(|line| line.contains("no valid selection")),
        "no round was lost"
    );
    assert_eq!(login.asked().len(), 2);
}

/// An API server that knows one token, and what it was asked.
fn kubernetes(authority: &Authority, token: &Arc<std::sync::Mutex<String>>, port: u16) -> Api {
    let token = Arc::clone(token);
    Api::start(Some(server_config(authority)), move |asked| {
        if asked.header("authorization") != format!("Bearer {}", token.lock().unwrap()) {
            return (401, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "Unauthorized", "reason": "Unauthorized", "code": 401}).to_string());
        }
        let target = asked.line.split(' ').nth(1).unwrap();
        if target == "/api/v1/namespaces/monitoring/endpoints/prometheus" {
            return (200, json!({
                "kind": "Endpoints", "apiVersion": "v1", "metadata": {"name": "prometheus", "namespace": "monitoring"},
                "subsets": [{
                    "addresses": [{"ip": "127.0.0.1"}, {"ip": "127.0.0.2"}],
                    "notReadyAddresses": [{"ip": "127.0.0.9"}],
                    "ports": [{"name": "other", "port": 1, "protocol": "TCP"}, {"name": "web", "port": port, "protocol": "TCP"}],
                }],
            }).to_string());
        }
        if target.starts_with("/api/v1/namespaces/monitoring/pods?labelSelector=") {
            let pod = |name: &str, ip: &str, ready: &str| {
                json!({
                    "metadata": {"name": name, "namespace": "monitoring"},
                    "spec": {"containers": [{"name": "prometheus", "ports": [{"name": "web", "containerPort": port, "protocol": "TCP"}]}]},
                    "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
                })
            };
            return (200, json!({
                "kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"},
                "items": [pod("p-0", "127.0.0.1", "True"), pod("p-1", "127.0.0.3", "True"), pod("p-2", "127.0.0.9", "False")],
            }).to_string());
        }
        (404, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "not found", "reason": "NotFound", "code": 404}).to_string())
    })
}

#[test]
fn a_service_and_pods_are_found_over_https_and_a_token_that_rotates_on_disk_is_followed() {
    let (port, _servers) = same_port();
    let authority = Authority::new("test");
    let token = Arc::new(std::sync::Mutex::new("first".to_owned()));
    let api = kubernetes(&authority, &token, port);
    for (args, target, addresses) in [
        (
            ["--kube-service-name", "prometheus", "--kube-port", "web"],
            "GET /api/v1/namespaces/monitoring/endpoints/prometheus",
            ["127.0.0.1", "127.0.0.2"],
        ),
        (
            [
                "--kube-pod-label-selector",
                "app in (prometheus),tier!=test",
                "--kube-port",
                "web",
            ],
            "GET /api/v1/namespaces/monitoring/pods?labelSelector=app",
            ["127.0.0.1", "127.0.0.3"],
        ),
    ] {
        "first".clone_into(&mut token.lock().unwrap());
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        fs::write(folder.path().join("token"), "first\n").unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "c", "cluster": {"server": format!("https://127.0.0.1:{}", api.port), "certificate-authority": "ca.pem"}}],
            "users": [{"name": "u", "user": {"tokenFile": "token"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        });
        fs::write(
            folder.path().join("kubeconfig.yaml"),
            kubeconfig.to_string(),
        )
        .unwrap();
        let mpp = Mpp::spawn(
            folder,
            &[
                &args[..],
                &[
                    "--kubeconfig",
                    "kubeconfig.yaml",
                    "--kube-namespace",
                    "monitoring",
                    "--routing-strategy",
                    "random",
                    "--selection-interval",
                    "200ms",
                ],
            ]
            .concat(),
            &[],
        );
        mpp.wait_for_rounds(1);
        let expected: Vec<String> = addresses
            .iter()
            .map(|address| format!("http://{address}:{port}"))
            .collect();
        let selected = || -> Vec<String> {
            let status = mpp.status();
            let rows = status["backends"].as_array().unwrap().clone();
            rows.iter()
                .filter(|row| row["selected"] == true)
                .map(|row| row["address"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(selected(), expected);
        let asked = api.asked();
        assert!(
            asked
                .iter()
                .any(|asked| asked.line.starts_with(target) && asked.answered == 200),
            "{asked:?}"
        );
        // The token changes on disk, as bound service account tokens do; the old one is refused from now on.
        mpp.write("token", "second\n");
        "second".clone_into(&mut token.lock().unwrap());
        eventually("the new token to be used", || {
            let asked = api.asked();
            let last = asked.last()?;
            (last.header("authorization") == "Bearer second" && last.answered == 200).then_some(())
        });
        eventually("servers to be found with it", || {
            (selected() == expected).then_some(())
        });
        assert_eq!(mpp.get("/x").status, 200);
    }
    // The selector goes out whole: dropping the part that is not understood would mean every pod (L2).
    let selectors: Vec<String> = api
        .asked()
        .iter()
        .filter(|asked| asked.line.contains("labelSelector"))
        .map(|asked| asked.line.clone())
        .collect();
    assert!(
        selectors[0].contains("tier") && selectors[0].contains("test"),
        "{selectors:?}"
    );
}

#[test]
fn a_pod_finds_its_cluster_by_its_surroundings() {
    let (port, _servers) = same_port();
    let authority = Authority::new("test");
    let token = Arc::new(std::sync::Mutex::new("pod".to_owned()));
    let api = kubernetes(&authority, &token, port);
    let folder = TempDir::new().unwrap();
    for (name, text) in [
        ("ca.crt", authority.pem()),
        ("token", "pod".to_owned()),
        ("namespace", "other".to_owned()),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let account = folder.path().to_str().unwrap().to_owned();
    let api_port = api.port.to_string();
    let mpp = Mpp::spawn(
        folder,
        &[
            "--kube-service-name",
            "prometheus",
            "--kube-namespace",
            "monitoring",
            "--kube-port",
            &port.to_string(),
        ],
        &[
            ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
            ("KUBERNETES_SERVICE_PORT", &api_port),
            ("MPP_KUBE_SERVICE_ACCOUNT_FOLDER", &account),
        ],
    );
    mpp.wait_for_rounds(1);
    assert_eq!(mpp.get("/x").status, 200);
    mpp.program.wait_for_line("Using in-cluster kubeconfig");
}
