//! Services and pods in Kubernetes: every recorded run against an API server is repeated, with its answers; and tokens that change.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed helper is a failed test, and golden tests print their counts"
)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
};

use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    config::secret::Secret,
    testing::{
        eventually, golden,
        pki::{Authority, named},
        process::Program,
        wire::free_tcp_port,
    },
    tls::{
        Pem,
        server::{Clients, Trust},
    },
};
use support::{
    Mpp,
    api::Api,
    command,
    kubernetes::{Recorded, with_certificates, write_files},
    prometheus::Prometheus,
    tls::server_config,
};
use tempfile::TempDir;

#[derive(Deserialize)]
struct Scenario {
    #[serde(rename = "scenario")]
    name: String,
    mpp_args: Vec<String>,
    kubeconfig: Option<Value>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    candidates: Vec<Candidate>,
    #[serde(default)]
    metrics: Vec<String>,
    #[serde(default)]
    api_requests: Vec<Request>,
    api_answer: Option<Recorded>,
    #[serde(default)]
    candidates_after_change: Vec<Candidate>,
    #[serde(default)]
    metrics_while_api_fails: Vec<String>,
    log: Vec<String>,
}

#[derive(Deserialize)]
struct Candidate {
    endpoint: String,
    selected: bool,
}

#[derive(Deserialize)]
struct Request {
    head: Option<String>,
}

/// What is different in a run.
enum Instead {
    /// These rows; those behind `-` are not selected.
    Rows(&'static [&'static str]),
    /// This request line.
    Asks(&'static str),
    /// One more request, for the same service in another way.
    AsksAgain(&'static str),
    /// No rows, and this in the log.
    Fails(&'static str),
}

use Instead::{Asks, AsksAgain, Fails, Rows};

const PODS: &str = "GET /api/v1/namespaces/monitoring/pods?labelSelector=";
const SLICES: &str = "GET /apis/discovery.k8s.io/v1/namespaces/monitoring/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dprometheus";

/// Where a run is different: its name, the row of the specification, and what is different. Everywhere: JSON is asked for, not
/// protobuf (3.2).
const DEVIATIONS: &[(&str, &str, Instead)] = &[
    ("svc-port-no-match", "L3: no port is no server", Rows(&[])),
    (
        "svc-protocol-absent",
        "L3: the default is TCP",
        Rows(&["http://127.0.0.1:24001"]),
    ),
    (
        "svc-two-subsets",
        "L3: all subsets",
        Rows(&["http://127.0.0.1:24001", "http://127.0.0.2:24001"]),
    ),
    ("svc-ipv6", "L3: brackets", Rows(&["-http://[::1]:24001"])),
    (
        "svc-404",
        "3.2: slices where there are no Endpoints",
        AsksAgain(SLICES),
    ),
    (
        "svc-403",
        "3.2: slices where there are no Endpoints",
        AsksAgain(SLICES),
    ),
    (
        "svc-json-error",
        "3.2: JSON is what is asked for",
        Fails("401 (no)"),
    ),
    (
        "pods-sidecar-first",
        "5: the status page shows the last round as it was",
        Rows(&["-http://127.0.0.1:8080"]),
    ),
    (
        "pods-port-number",
        "L3: a number needs no declaration",
        Rows(&["http://127.0.0.1:24001", "http://127.0.0.2:24001"]),
    ),
    (
        "pods-pending",
        "L3: pods that run, and have an address",
        Rows(&["http://127.0.0.3:24001"]),
    ),
    ("pods-selector-double-eq", "L2", Asks("app%3D%3Dprometheus")),
    (
        "pods-selector-not-equal",
        "L2",
        Asks("app%3Dprometheus%2Cenv%21%3Ddev"),
    ),
    (
        "pods-selector-set-based",
        "L2",
        Asks("app%20in%20%28a%2Cb%29"),
    ),
    ("pods-selector-exists", "L2", Asks("app")),
    (
        "pods-selector-spaces",
        "L2",
        Asks("app%3Dprometheus%2C%20tier%3Ddb"),
    ),
    (
        "pods-selector-prefix",
        "L2",
        Asks("app.kubernetes.io%2Fname%3Dprometheus"),
    ),
    ("pods-selector-value-with-eq", "L2", Asks("a%3Db%3Dc")),
    ("pods-selector-empty-value", "L2", Asks("app%3D")),
    (
        "auth-tokenfile",
        "3.2: the line end is no part of a token",
        Rows(&["http://127.0.0.1:24001"]),
    ),
    (
        "auth-exec",
        "3.2: plugins are run; this one fails",
        Fails("the credential plugin \"false\" failed"),
    ),
    (
        "tls-insecure-skip",
        "3.2: honoured",
        Rows(&["http://127.0.0.1:24001"]),
    ),
];

/// The port of the recorded servers, and of one that is not there.
const RECORDED_PORTS: [&str; 2] = ["24001", "8080"];

#[test]
fn every_recorded_run_asks_the_same_and_finds_the_same_servers() {
    let scenarios: Vec<Scenario> = golden::json(support::golden("locators/kubernetes.json"));
    let (port, servers) = Prometheus::start_on_one_port();
    let ports = [port, free_tcp_port()].map(|port| port.to_string());
    let (mut deviating, mut requests, mut failures) = (0, 0, Vec::new());
    for scenario in &scenarios {
        let instead = DEVIATIONS
            .iter()
            .find(|(name, ..)| *name == scenario.name)
            .map(|(.., instead)| instead);
        deviating += usize::from(instead.is_some());
        let mut run = Run::start(scenario, &ports);
        let differences = run.compare(instead);
        requests += run.api.asked().len();
        failures.extend(
            differences
                .into_iter()
                .map(|what| format!("{}: {what}", scenario.name)),
        );
        if scenario.name == "svc-poll" {
            run.change_and_fail();
        }
    }
    drop(servers);
    println!(
        "kubernetes: {} runs with {requests} requests, {deviating} deviate as listed, {} wrong",
        scenarios.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(deviating, DEVIATIONS.len());
}

/// A recorded run under way again.
struct Run<'s> {
    scenario: &'s Scenario,
    ports: &'s [String; 2],
    api: Api,
    /// What the API answers.
    answer: Arc<Mutex<(u16, String)>>,
    /// It serves, or has ended by itself.
    mpp: Result<Mpp, Program>,
}

impl<'s> Run<'s> {
    fn start(scenario: &'s Scenario, ports: &'s [String; 2]) -> Self {
        let authority = Authority::new("cluster");
        let config = scenario.kubeconfig.as_ref().map(Value::to_string);
        let secured = config.as_ref().is_none_or(|text| text.contains("https://"));
        let clients = if scenario.name.starts_with("tls-client-cert") {
            Clients::Verified(Trust {
                authorities: Pem::Text(Secret::new(authority.pem())),
                names: Vec::new(),
            })
        } else {
            Clients::Ignored
        };
        let tls = secured.then(|| server_config(&authority, clients));
        let (status, body) = scenario.api_answer.as_ref().map_or_else(
            || (200, endpoints(&["127.0.0.1"])),
            |recorded| (recorded.status, recorded.decoded()),
        );
        let answer = Arc::new(Mutex::new((status, ours(&body.to_string(), ports))));
        let answering = Arc::clone(&answer);
        let api = Api::start(tls, move |_| answering.lock().unwrap().clone());
        let folder = TempDir::new().unwrap();
        let client = authority.issue(&named(&["mpp-client"]));
        let files = &scenario.files;
        write_files(&scenario.name, files, folder.path(), &authority, &client);
        if let Some(config) = config {
            let config = with_certificates(&config, &authority, &client);
            let config = config
                .replace("24050", &api.port.to_string())
                .replace("24051", &api.port.to_string());
            fs::write(folder.path().join("kubeconfig.yaml"), config).unwrap();
        }
        let mpp = launch(scenario, folder, &api, ports);
        Self {
            scenario,
            ports,
            api,
            answer,
            mpp,
        }
    }

    /// Returns what is neither as recorded nor as listed.
    fn compare(&mut self, instead: Option<&Instead>) -> Vec<String> {
        let started = self.mpp.is_ok();
        let fault = match instead {
            Some(Fails(words)) => Some((*words).to_owned()),
            Some(Rows(_)) => None,
            _ => self.scenario.log.iter().find_map(|line| fault(line)),
        };
        let mut differences = match &self.mpp {
            Ok(mpp) => mpp.differences(|| self.compare_rows(mpp, instead)),
            Err(_) => Vec::new(),
        };
        let stderr = match &mut self.mpp {
            Ok(mpp) => mpp.program.stderr(),
            Err(program) => {
                let code = program.wait().code();
                if code != Some(1) {
                    differences.push(format!("exit status {code:?}"));
                }
                program.stderr()
            }
        };
        let told = fault.as_ref().is_none_or(|words| {
            let words = words.replace('"', "\\\"");
            stderr.iter().any(|line| line.contains(&words))
        });
        if !told || (!started && fault.is_none()) {
            differences.push(format!("expected {fault:?}, got {stderr:#?}"));
        }
        differences.extend(self.compare_requests(instead));
        differences
    }

    fn compare_rows(&self, mpp: &Mpp, instead: Option<&Instead>) -> Vec<String> {
        let rows: Vec<(String, bool)> = mpp
            .candidates()
            .into_iter()
            .map(|(address, selected)| (recorded(&address, self.ports), selected))
            .collect();
        let expected: Vec<(String, bool)> = match instead {
            Some(Rows(rows)) => rows
                .iter()
                .map(|row| match row.strip_prefix('-') {
                    Some(address) => (address.to_owned(), false),
                    None => ((*row).to_owned(), true),
                })
                .collect(),
            Some(Fails(_)) => Vec::new(),
            _ => named_rows(&self.scenario.candidates),
        };
        let mut differences = Vec::new();
        if rows != expected {
            differences.push(format!("expected {expected:?}, got {rows:?}"));
        }
        let selected = mpp.metric("mpp_selected_backends");
        let as_recorded = matches!(instead, None | Some(Asks(_) | AsksAgain(_)));
        let recorded = self.scenario.metrics.first().filter(|_| as_recorded);
        let expected = recorded.cloned().unwrap_or_else(|| {
            let selected = expected.iter().filter(|(_, selected)| *selected).count();
            format!("mpp_selected_backends {selected}")
        });
        if format!("mpp_selected_backends {selected}") != expected {
            differences.push(format!("expected {expected}, got {selected}"));
        }
        differences
    }

    /// Compares lines and credentials of what was asked in the first round.
    fn compare_requests(&self, instead: Option<&Instead>) -> Option<String> {
        let asked = self.api.asked();
        let got: Vec<(String, String)> = asked
            .iter()
            .map(|asked| (asked.line.clone(), asked.header("authorization").to_owned()))
            .collect();
        let mut expected: Vec<(String, String)> = self
            .scenario
            .api_requests
            .iter()
            .filter_map(|request| request.head.as_deref())
            .map(line_and_credentials)
            .take(1)
            .collect();
        match instead {
            Some(Asks(selector)) => expected[0].0 = format!("{PODS}{selector}"),
            Some(AsksAgain(line)) => {
                expected.push(((*line).to_owned(), expected[0].1.clone()));
            }
            // The recorded server was not asked, or not understood.
            Some(Fails(_)) if got.is_empty() => return None,
            Some(Rows(_)) if expected.is_empty() => return None,
            _ => {}
        }
        let rounds = got.chunks(expected.len().max(1));
        let alike = (got.is_empty() == expected.is_empty())
            && rounds.into_iter().all(|round| round == expected);
        (!alike).then(|| format!("expected the requests {expected:?}, got {got:?}"))
    }

    /// The rest of `svc-poll`: other servers, then an API that fails while the old selection stays.
    fn change_and_fail(&self) {
        let Ok(mpp) = &self.mpp else {
            panic!("it has ended")
        };
        let hosts = self.scenario.candidates_after_change.iter().map(|row| {
            let host = row.endpoint.strip_prefix("http://").unwrap();
            host.split(':').next().unwrap()
        });
        let body = endpoints(&hosts.collect::<Vec<_>>()).to_string();
        *self.answer.lock().unwrap() = (200, ours(&body, self.ports));
        let expected = named_rows(&self.scenario.candidates_after_change);
        eventually("the change to be followed", || {
            let rows = mpp.candidates().into_iter();
            let rows: Vec<_> = rows
                .map(|(address, selected)| (recorded(&address, self.ports), selected))
                .collect();
            (rows == expected).then_some(())
        });
        *self.answer.lock().unwrap() = (500, json!({"message": "boom"}).to_string());
        let expected = self.scenario.metrics_while_api_fails[0].as_str();
        eventually("the failure to be noticed", || {
            let selected = mpp.metric("mpp_selected_backends");
            (format!("mpp_selected_backends {selected}") == expected).then_some(())
        });
        // The status page shows the last round as it was (5), recorded with the old rows; requests still go to the old servers.
        assert_eq!(mpp.candidates(), []);
        assert_eq!(mpp.get("/x").status, 200);
        mpp.program
            .wait_for_line("failed to resolve endpoints: kubernetes api:");
    }
}

/// The arguments of a run, and the surroundings of a pod where there is no kubeconfig.
fn launch(
    scenario: &Scenario,
    folder: TempDir,
    api: &Api,
    ports: &[String; 2],
) -> Result<Mpp, Program> {
    let port = api.port.to_string();
    let account = folder.path().to_str().unwrap().to_owned();
    let surroundings = [
        ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
        ("KUBERNETES_SERVICE_PORT", port.as_str()),
        ("MPP_KUBE_SERVICE_ACCOUNT_FOLDER", account.as_str()),
    ];
    let environment: &[(&str, &str)] = match &scenario.kubeconfig {
        Some(_) => &[("PATH", "/usr/bin:/bin")],
        None => &surroundings,
    };
    let words = scenario.mpp_args.iter();
    let args = words
        .take_while(|word| *word != "--port")
        .map(|word| ours(word, ports));
    let mut command = command(folder.path(), environment);
    command
        .args(["--listen-address", "127.0.0.1", "--port", "0"])
        .args(args);
    Mpp::run(folder, &mut command)
}

/// What mpp logged about a start that failed, an API that refused, or one that it did not trust, in our words.
fn fault(line: &str) -> Option<String> {
    let line = line.replace("\\\"", "\"");
    if let Some((_, text)) = line.split_once("Failed to create kubernetes locator: ") {
        return Some(text.trim_end_matches("\" ").to_owned());
    }
    if let Some((_, text)) = line.split_once("kubernetes api: Failure ") {
        // "404 the text": we say "Unexpected response code: 404 (the text)".
        let (status, text) = text.trim_end_matches("\" ").split_once(' ')?;
        // It comes after what is compared.
        return (status != "500").then(|| format!("{status} ({text})"));
    }
    let untrusted = line.contains("certificate signed by unknown authority");
    untrusted.then(|| "invalid peer certificate".to_owned())
}

fn line_and_credentials(head: &str) -> (String, String) {
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1");
    let credentials = lines.find_map(|line| line.strip_prefix("Authorization: "));
    (line.to_owned(), credentials.unwrap_or_default().to_owned())
}

fn named_rows(candidates: &[Candidate]) -> Vec<(String, bool)> {
    let rows = candidates.iter();
    rows.map(|row| (row.endpoint.clone(), row.selected))
        .collect()
}

/// Puts our ports in the place of the recorded ones.
fn ours(text: &str, ports: &[String; 2]) -> String {
    let pairs = RECORDED_PORTS.into_iter().zip(ports);
    pairs.fold(text.to_owned(), |text, (recorded, port)| {
        text.replace(recorded, port)
    })
}

/// Puts the recorded ports in the place of ours.
fn recorded(address: &str, ports: &[String; 2]) -> String {
    let pairs = RECORDED_PORTS.into_iter().zip(ports);
    pairs.fold(address.to_owned(), |text, (recorded, port)| {
        text.replace(&format!(":{port}"), &format!(":{recorded}"))
    })
}

fn endpoints(hosts: &[&str]) -> Value {
    let addresses: Vec<Value> = hosts.iter().map(|host| json!({"ip": host})).collect();
    json!({"kind": "Endpoints", "apiVersion": "v1", "subsets": [{
        "addresses": addresses,
        "ports": [{"name": "web", "port": 24001, "protocol": "TCP"}],
    }]})
}
