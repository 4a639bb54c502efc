//! Applications in Marathon: every recorded run is repeated against servers that answer as recorded, and the DC/OS login over HTTPS.

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

use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    testing::{
        eventually, golden,
        pki::{Authority, rcgen},
        process::Program,
    },
    tls::server::Clients,
};
use support::{
    Mpp,
    api::{Api, Asked},
    command,
    marathon::{Cluster, LOGINS},
    prometheus::Prometheus,
    signature,
    tls::server_config,
};
use tempfile::TempDir;

#[derive(Deserialize)]
struct Scenario {
    #[serde(rename = "scenario")]
    name: String,
    mpp_args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    state: String,
    #[serde(default)]
    candidates: Vec<Row>,
    requests: Vec<RecordedRequest>,
}

#[derive(Deserialize)]
struct Row {
    selected: bool,
}

#[derive(Deserialize)]
struct RecordedRequest {
    server: u16,
    #[serde(default)]
    head: String,
    #[serde(default)]
    body: String,
    answered: Option<u16>,
}

/// What a run deviates in.
enum Instead {
    /// Other requests, and this many candidates.
    Asks(&'static [&'static str], usize),
    /// It says this and ends with 1.
    Fails(&'static str),
    /// It runs, with this many candidates.
    Runs(usize),
}

use Instead::{Asks, Fails, Runs};

/// Where a run is different: its name, the row of the specification, and what is different.
const DEVIATIONS: &[(&str, &str, Instead)] = &[
    (
        "app-spaces",
        "3.3: blanks are trimmed",
        Asks(
            &["GET /ping", "GET /v2/apps/prom", "GET /v2/apps/infra/prom"],
            3,
        ),
    ),
    ("task-without-ports", "L5", Runs(0)),
    (
        "trailing-slash-url",
        "3.3",
        Asks(&["GET /ping", "GET /v2/apps/prom"], 2),
    ),
    (
        "apps-500",
        "L5: no ping without credentials",
        Asks(&["GET /ping", "GET /v2/apps/prom"], 0),
    ),
    ("401-without-secret", "L5", Runs(0)),
    ("auth-endpoint-without-login_endpoint", "L5", Runs(2)),
    ("login-no-token", "L5", Fails("has no token")),
    ("login-not-json", "wording", Fails("has no token")),
    ("uid-quote", "3.3: escaped", Runs(2)),
    ("ping-404", "wording", Fails("Marathon API error: pong")),
    (
        "marathon-down",
        "L5: no ping without credentials",
        Asks(&["GET /ping", "GET /v2/apps/prom"], 2),
    ),
    ("tls-marathon-insecure", "L6", Runs(2)),
    (
        "login-401",
        "wording",
        Fails("Failed to construct marathon client: Failed to authenticate"),
    ),
    (
        "tls-login-verified",
        "wording",
        Fails("Failed to construct marathon client: Post"),
    ),
];

#[test]
fn every_recorded_run_asks_the_same() {
    let scenarios: Vec<Scenario> = golden::json(support::golden("locators/marathon.json"));
    let (port, _servers) = Prometheus::start_on_one_port();
    let authority = Authority::new("test");
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let key = key.unwrap();
    let (mut deviating, mut requests, mut failures) = (0, 0, Vec::new());
    for scenario in &scenarios {
        let cluster = Cluster::start(&scenario.name, port, &authority);
        let mut mpp = launch(scenario, &cluster, &key);
        let instead = DEVIATIONS
            .iter()
            .find(|(name, ..)| *name == scenario.name)
            .map(|(.., instead)| instead);
        deviating += usize::from(instead.is_some());
        let mut wrong = compare(scenario, instead, &mut mpp);
        if let Ok(mpp) = &mpp {
            go_on(scenario, &cluster, mpp);
        }
        let asked = cluster.asked();
        requests += asked.len();
        wrong.extend(match instead {
            None => compare_requests(scenario, &asked, &key),
            Some(Asks(expected, _)) => {
                let lines: Vec<&str> = asked.iter().map(|asked| asked.line.as_str()).collect();
                (lines != *expected).then(|| format!("expected {expected:?}, got {lines:?}"))
            }
            Some(Fails(_) | Runs(_)) => None,
        });
        failures.extend(
            wrong
                .into_iter()
                .map(|what| format!("{}: {what}", scenario.name)),
        );
    }
    println!(
        "marathon: {} runs with {requests} requests, {deviating} deviate as listed, {} wrong",
        scenarios.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(deviating, DEVIATIONS.len());
}

fn launch(scenario: &Scenario, cluster: &Cluster, key: &rcgen::KeyPair) -> Result<Mpp, Program> {
    let pem = Value::from(key.serialize_pem()).to_string();
    let real = |text: &str| {
        cluster
            .real(text)
            .replace("\"<RSA PRIVATE KEY PEM>\\n\"", &pem)
    };
    let words = scenario.mpp_args.iter();
    let args = words
        .take_while(|word| *word != "--port")
        .map(|word| real(word));
    let environment = scenario.env.iter();
    let folder = TempDir::new().unwrap();
    let mut command = command(folder.path(), &[]);
    command
        .args(["--listen-address", "127.0.0.1", "--port", "0"])
        .args(args)
        .envs(environment.map(|(name, value)| (name, real(value))));
    Mpp::run(folder, &mut command)
}

/// Compares how it ends, and how many servers it finds.
fn compare(
    scenario: &Scenario,
    instead: Option<&Instead>,
    mpp: &mut Result<Mpp, Program>,
) -> Vec<String> {
    let expected = match instead {
        Some(Fails(_)) => None,
        Some(Runs(count) | Asks(_, count)) => Some(*count),
        None if scenario.state == "running" => {
            let rows = scenario.candidates.iter();
            Some(rows.filter(|row| row.selected).count())
        }
        None => None,
    };
    match (expected, mpp) {
        (Some(expected), Ok(mpp)) => mpp.differences(|| {
            let selected = mpp.metric("mpp_selected_backends") as usize;
            let differs = selected != expected;
            let text = || format!("expected {expected} selected, got {selected}");
            differs.then(text).into_iter().collect()
        }),
        (None, Err(program)) => {
            let code = program.wait().code();
            let stderr = program.stderr().join("\n");
            let words = match instead {
                Some(Fails(words)) => words,
                _ => "Failed to create marathon locator: ",
            };
            let alike = code == Some(1) && stderr.contains(words);
            let text = || format!("expected {words:?} and 1, got {code:?} and {stderr}");
            (!alike).then(text).into_iter().collect()
        }
        (Some(_), Err(program)) => vec![format!("it ended: {:#?}", program.stderr())],
        (None, Ok(mpp)) => vec![format!("it runs: {:#?}", mpp.program.stderr())],
    }
}

/// What happens later in some runs: the token is replaced, or Marathon goes away and returns.
fn go_on(scenario: &Scenario, cluster: &Cluster, mpp: &Mpp) {
    let selected = |count: f64| {
        eventually(&format!("{}: {count} selected", scenario.name), || {
            (mpp.metric("mpp_selected_backends") == count).then_some(())
        });
        // The old selection stays.
        assert_eq!(mpp.get("/x").status, 200, "{}", scenario.name);
    };
    let logins = || {
        let asked = cluster.asked();
        let logins = asked.iter().filter(|asked| LOGINS.contains(&asked.server));
        logins.count()
    };
    match scenario.name.as_str() {
        "token-refresh" => {
            cluster.rotated.store(true, Relaxed);
            eventually("the new token to be used", || {
                let last = cluster.asked().last()?.clone();
                (last.answered == 200 && last.header("authorization") == "token=tok-B")
                    .then_some(())
            });
            let rounds = mpp.status()["selection"]["rounds"].as_u64().unwrap();
            mpp.wait_for_rounds(rounds + 1);
            selected(2.0);
            // L5: recorded with a round that finds nobody.
            let lost = mpp.program.stderr().join("\n").contains("no valid");
            assert!(!lost, "no round is lost");
        }
        "token-refresh-still-401" => {
            cluster.rotated.store(true, Relaxed);
            selected(0.0);
            assert!(logins() >= 2);
        }
        "marathon-down" => {
            cluster.servers[&24090].set_down(true);
            selected(0.0);
            mpp.program
                .wait_for_line("all the Marathon hosts are presently down");
            cluster.servers[&24090].set_down(false);
            selected(2.0);
        }
        _ => {}
    }
}

/// Compares what was asked, byte for byte where it matters.
fn compare_requests(scenario: &Scenario, asked: &[Asked], key: &rcgen::KeyPair) -> Option<String> {
    let mut recorded: Vec<&RecordedRequest> = scenario
        .requests
        .iter()
        .filter(|request| !request.head.is_empty())
        .collect();
    recorded.dedup_by_key(|request| (request.server, &request.head, request.answered));
    // What repeats is repeated for as long as the run lasts.
    if asked.len() < recorded.len() {
        return Some(format!(
            "expected {} requests, got {asked:?}",
            recorded.len()
        ));
    }
    recorded
        .iter()
        .zip(asked)
        .find_map(|(recorded, asked)| differs(recorded, asked, key))
}

fn differs(recorded: &RecordedRequest, asked: &Asked, key: &rcgen::KeyPair) -> Option<String> {
    let mut lines = recorded.head.split("\r\n");
    let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1");
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let header = |name: &str| {
        let found = headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| *value)
    };
    let f = |what: &str, expected: &str, got: &str| {
        (expected != got).then(|| format!("{line}: {what} expected {expected:?}, got {got:?}"))
    };
    let body = match recorded.body.split_once("<JWT>") {
        None => asked.body.clone(),
        Some((before, after)) => {
            let token = asked.body.strip_prefix(before)?.strip_suffix(after)?;
            signature::check(token, key);
            format!("{before}<JWT>{after}")
        }
    };
    f("line", line, &asked.line)
        .or_else(|| {
            f(
                "server",
                &recorded.server.to_string(),
                &asked.server.to_string(),
            )
        })
        .or_else(|| {
            // The login was asked for any type, or none: that means the same.
            let names = ["authorization", "content-type", "accept"];
            let names = &names[..if LOGINS.contains(&asked.server) { 2 } else { 3 }];
            names
                .iter()
                .find_map(|name| f(name, header(name), asked.header(name)))
        })
        .or_else(|| f("body", &recorded.body, &body))
}

#[test]
fn login_and_marathon_speak_https_and_a_token_that_is_refused_is_replaced_within_the_round() {
    let (port, _servers) = Prometheus::start_on_one_port();
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
    let login = Api::start(
        Some(server_config(&authority, Clients::Ignored)),
        move |_| (200, json!({"token": current(&flag)}).to_string()),
    );
    let flag = Arc::clone(&rotated);
    let api = Api::start(
        Some(server_config(&authority, Clients::Ignored)),
        move |asked| {
            if asked.header("authorization") != format!("token={}", current(&flag)) {
                return (401, json!({"message": "no"}).to_string());
            }
            (
                200,
                json!({"app": {"tasks": [{"host": "127.0.0.1", "ports": [port]}]}}).to_string(),
            )
        },
    );
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
