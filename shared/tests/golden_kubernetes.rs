//! What veneur-proxies and mpp asked Kubernetes and made of its answers (`golden/kubernetes`), replayed over HTTPS: the same
//! requests, the same addresses.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test counts its cases and fails where it stands"
)]

mod support;

use std::{collections::BTreeMap, fs, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    discovery::{
        Answer, Error, Lookup as _,
        kubernetes::{
            Asking, Cluster, Counting, Kind, PodQuery, Pods, Port, Readiness, Service,
            ServiceQuery, host_port, http_url,
        },
    },
    testing::{
        PATIENCE,
        golden::json as golden,
        pki::{Authority, named},
    },
    tls::server::{Clients, Server, Settings, Trust},
};
use support::{Peer, Reply};
use tokio::time::timeout;

#[derive(Deserialize)]
struct Veneur {
    request: Vec<String>,
    pods: Value,
    destinations: Vec<String>,
    errors: Vec<String>,
}

fn answer(status: u16, body: &Value) -> Reply {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {length}"
    );
    Reply::Bytes(format!("{head}\r\n\r\n{body}").into_bytes())
}

/// A server with a certificate of `authority` for loopback, which asks clients for one of that authority too, if they have.
fn tls(authority: &Authority) -> Arc<rustls::ServerConfig> {
    let identity = authority.issue(&named(&["127.0.0.1"])).identity();
    let mut settings = Settings::new(identity, &[]);
    let pem = shared::config::secret::Secret::new(authority.pem());
    settings.clients = Clients::VerifiedIfGiven(Trust {
        authorities: shared::tls::Pem::Text(pem),
        names: Vec::new(),
    });
    Server::new(settings).unwrap().config()
}

#[tokio::test]
async fn veneur_proxies_find_the_same_pods_with_the_same_request() {
    let cases: BTreeMap<String, Veneur> = golden("tests/golden/kubernetes/veneur-pods.json");
    for (version, case) in &cases {
        let list = json!({"kind": "PodList", "apiVersion": "v1", "items": case.pods});
        let authority = Authority::new("cluster");
        let (peer, address) = Peer::tcp(Some(tls(&authority)), move |_, _| answer(200, &list));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
        fs::write(folder.path().join("token"), "TOKEN123").unwrap();
        let variables = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some(address.ip().to_string()),
            "KUBERNETES_SERVICE_PORT" => Some(address.port().to_string()),
            _ => None,
        };
        let cluster = Cluster::in_cluster(variables, folder.path()).unwrap();
        let query = PodQuery {
            namespace: None,
            selector: "app=veneur-global".to_owned(),
            counting: Counting::Running,
            port: Port::LastOrNamed(vec!["http".to_owned()]),
            naming: http_url,
        };
        let mut pods = Pods::new(cluster, query, Asking::Polling);
        let found = timeout(PATIENCE, pods.look_up()).await.unwrap().unwrap();
        let [logged] = &case.destinations[..] else {
            panic!("{version}: {:?}", case.destinations)
        };
        let logged = logged.split(['[', ']']).nth(1).unwrap();
        assert_eq!(addresses(&found), logged.split(' ').collect::<Vec<_>>());
        assert_eq!(found.skipped.len(), case.errors.len(), "{version}");
        let heads = peer.heads();
        let [head] = &heads[..] else {
            panic!("{heads:?}")
        };
        assert_eq!(head[0], case.request[0], "{version}");
        assert_eq!(
            header(head, "authorization"),
            header(&case.request, "authorization")
        );
        assert_eq!(header(head, "accept"), Some("application/json"));
    }
    println!("veneur-proxy: {} versions", cases.len());
    assert_eq!(cases.len(), 2);
}

fn addresses(answer: &Answer) -> Vec<&str> {
    let members = answer.members.iter();
    members.map(|member| member.address.as_str()).collect()
}

fn header<'h>(head: &'h [String], name: &str) -> Option<&'h str> {
    head.iter().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

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
    api_requests: Vec<Request>,
    api_answer: Option<Recorded>,
    log: Vec<String>,
}

#[derive(Deserialize)]
struct Candidate {
    endpoint: String,
}

#[derive(Deserialize)]
struct Request {
    head: Option<String>,
}

#[derive(Deserialize)]
struct Recorded {
    status: u16,
    body_hex: Option<String>,
    body: Option<String>,
}

/// Where we find something else than mpp: the scenario, what we find instead (addresses, or an error's text), and why.
const DEVIATIONS: &[(&str, &str, &str)] = &[
    ("svc-port-no-match", "", "no port is no member"),
    (
        "svc-protocol-absent",
        "http://127.0.0.1:24001",
        "the default protocol is TCP",
    ),
    (
        "svc-two-subsets",
        "http://127.0.0.1:24001 http://127.0.0.2:24001",
        "all subsets are the service's",
    ),
    (
        "svc-ipv6",
        "http://[::1]:24001",
        "an IPv6 address needs brackets",
    ),
    (
        "svc-json-error",
        "401 (no)",
        "JSON is what is asked for, also of errors",
    ),
    (
        "svc-poll",
        "http://127.0.0.1:24001",
        "the recorded failure came after the recorded answer",
    ),
    (
        "pods-sidecar-first",
        "http://127.0.0.1:8080",
        "mpp found the same; nothing answered there",
    ),
    (
        "pods-port-number",
        "http://127.0.0.1:24001 http://127.0.0.2:24001",
        "a number needs no declaration",
    ),
    (
        "pods-pending",
        "http://127.0.0.2:24001 http://127.0.0.3:24001",
        "a pod without address is no member",
    ),
    (
        "auth-tokenfile",
        "http://127.0.0.1:24001",
        "the line end is not part of a token",
    ),
    (
        "auth-exec",
        "the credential plugin \"false\" failed",
        "plugins are run; this one fails",
    ),
    (
        "tls-insecure-skip",
        "http://127.0.0.1:24001",
        "who says so is taken at his word",
    ),
];

#[tokio::test]
async fn mpp_finds_the_same_endpoints_with_the_same_requests() {
    let scenarios: Vec<Scenario> = golden("tests/golden/kubernetes/mpp-locator.json");
    let (mut same, mut deviating, mut failures) = (0, 0, Vec::new());
    for scenario in &scenarios {
        let name = &scenario.name;
        let found = replay(scenario).await;
        let got = found.addresses();
        let expected: Vec<_> = scenario
            .candidates
            .iter()
            .map(|one| one.endpoint.as_str())
            .collect();
        let expected = expected.join(" ");
        let deviation = DEVIATIONS.iter().find(|(deviating, ..)| deviating == name);
        let (alike, expected) = match deviation {
            Some((_, instead, _)) if instead.starts_with("http") || instead.is_empty() => {
                deviating += 1;
                (got == *instead, (*instead).to_owned())
            }
            Some((_, instead, _)) => {
                deviating += 1;
                (
                    found.result.is_err() && got.contains(instead),
                    (*instead).to_owned(),
                )
            }
            None => {
                same += 1;
                match scenario.log.iter().find_map(|line| fault(line)) {
                    Some(words) => (found.result.is_err() && got.contains(&words), words),
                    None => (got == expected, expected),
                }
            }
        };
        if !alike {
            failures.push(format!("{name}: expected {expected:?}, got {got:?}"));
        }
        failures.extend(misrequested(scenario, &found));
    }
    println!("mpp: {same} scenarios alike, {deviating} deviate as listed");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(deviating, DEVIATIONS.len());
}

/// Compares the request line and the credentials of what was sent first. Selectors are sent as they are given, where mpp
/// leaves parts out.
fn misrequested(scenario: &Scenario, found: &Found) -> Option<String> {
    let recorded = scenario.api_requests.first()?.head.as_ref()?;
    let sent = found.head.as_ref()?;
    let recorded: Vec<_> = recorded
        .trim_end()
        .split("\r\n")
        .map(str::to_owned)
        .collect();
    let (line, credentials) = (
        |head: &[String]| head[0].clone(),
        |head: &[String]| header(head, "authorization").map(str::to_owned),
    );
    let same_line = line(sent) == line(&recorded) || scenario.name.starts_with("pods-selector");
    let alike = same_line && credentials(sent) == credentials(&recorded);
    (!alike).then(|| format!("{}: sent {sent:?} instead of {recorded:?}", scenario.name))
}

struct Found {
    result: Result<Answer, String>,
    head: Option<Vec<String>>,
}

impl Found {
    fn addresses(&self) -> String {
        match &self.result {
            Ok(answer) => addresses(answer).join(" "),
            Err(text) => text.clone(),
        }
    }
}

/// What mpp logged about a start that failed, an API that refused, or one that it did not trust.
fn fault(line: &str) -> Option<String> {
    let line = line.replace("\\\"", "\"");
    if let Some((_, text)) = line.split_once("Failed to create kubernetes locator: ") {
        return Some(text.trim_end_matches("\" ").to_owned());
    }
    if let Some((_, text)) = line.split_once("kubernetes api: Failure ") {
        // "404 the text": we say "Unexpected response code: 404 (the text)".
        let (status, text) = text.trim_end_matches("\" ").split_once(' ')?;
        return Some(format!("{status} ({text})"));
    }
    let untrusted = line.contains("certificate signed by unknown authority");
    untrusted.then(|| "invalid peer certificate".to_owned())
}

async fn replay(scenario: &Scenario) -> Found {
    let args = |name: &str| {
        let place = scenario.mpp_args.iter().position(|arg| arg == name)?;
        scenario.mpp_args.get(place + 1).cloned()
    };
    let authority = Authority::new("cluster");
    let reply = scenario.api_answer.as_ref().map_or_else(
        || answer(200, &endpoints()),
        |recorded| answer(recorded.status, &decoded(recorded)),
    );
    let secured = match &scenario.kubeconfig {
        None => true,
        Some(config) => config.to_string().contains("https://"),
    };
    let tls = secured.then(|| tls(&authority));
    let (peer, address) = Peer::tcp(tls, move |_, _| reply.clone());
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let client = authority.issue(&named(&["mpp-client"]));
    for (name, text) in &scenario.files {
        write(name, text);
    }
    for (name, text) in [
        ("ca.pem", authority.pem()),
        ("ca.crt", authority.pem()),
        ("cli.pem", client.certificate.clone()),
        ("cli.key", client.key.clone()),
    ] {
        write(name, &text);
    }
    if scenario.name.starts_with("auth-tokenfile-and") {
        write("tokfile", "file-token");
    } else {
        write("tokfile", "tok-1\n");
    }
    let cluster = if let Some(config) = &scenario.kubeconfig {
        let mut text = config.to_string();
        for port in ["24050", "24051"] {
            text = text.replace(port, &address.port().to_string());
        }
        for (name, pem) in [
            ("ca.pem", authority.pem()),
            ("cli.pem", client.certificate),
            ("cli.key", client.key),
        ] {
            text = text.replace(&format!("<base64 of {name}>"), &STANDARD.encode(pem));
        }
        write("kubeconfig.yaml", &text);
        Cluster::from_kubeconfig(&folder.path().join("kubeconfig.yaml")).await
    } else {
        let get = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("127.0.0.1".to_owned()),
            _ => Some(address.port().to_string()),
        };
        Cluster::in_cluster(get, folder.path())
    };
    let result = match cluster {
        Err(error) => Err(error.to_string()),
        Ok(cluster) => {
            let found = timeout(PATIENCE, look_up(cluster, args)).await.unwrap();
            found.map_err(|error| error.to_string())
        }
    };
    let head = peer.heads().first().cloned();
    Found { result, head }
}

async fn look_up(cluster: Cluster, args: impl Fn(&str) -> Option<String>) -> Result<Answer, Error> {
    let namespace = args("--kube-namespace").unwrap_or_else(|| "default".to_owned());
    let port = args("--kube-port").map_or(Port::First, Port::Wanted);
    match (
        args("--kube-service-name"),
        args("--kube-pod-label-selector"),
    ) {
        (None, Some(selector)) => {
            let query = PodQuery {
                namespace: Some(namespace),
                selector,
                counting: Counting::All,
                port,
                naming: http_url,
            };
            Pods::new(cluster, query, Asking::Polling).look_up().await
        }
        (name, _) => {
            let query = ServiceQuery {
                namespace,
                name: name.unwrap(),
                kind: Kind::Endpoints,
                readiness: Readiness::Ready,
                port,
                naming: |place| format!("http://{}", host_port(place)),
            };
            Service::new(cluster, query, Asking::Polling)
                .look_up()
                .await
        }
    }
}

/// What the server of the scenarios without a recorded answer answered.
fn endpoints() -> Value {
    json!({"subsets": [{
        "addresses": [{"ip": "127.0.0.1"}],
        "ports": [{"name": "web", "port": 24001, "protocol": "TCP"}],
    }]})
}

/// Turns an answer in Kubernetes' protobuf into the same answer in JSON.
fn decoded(recorded: &Recorded) -> Value {
    if let Some(body) = &recorded.body {
        return serde_json::from_str(body).unwrap_or_else(|_| json!(body));
    }
    let hex = recorded.body_hex.as_ref().unwrap();
    let bytes: Vec<_> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let Some(message) = bytes.strip_prefix(b"k8s\0") else {
        return serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(hex));
    };
    let unknown = Message::read(message);
    let kind = unknown.messages(1)[0].text(2).unwrap();
    let raw = &unknown.messages(2)[0];
    match kind.as_str() {
        "Endpoints" => {
            let address = |one: Message| json!({"ip": one.text(1)});
            let port = |one: Message| json!({"name": one.text(1), "port": one.number(2), "protocol": one.text(3)});
            let subset = |one: Message| {
                json!({
                    "addresses": one.map(1, address),
                    "notReadyAddresses": one.map(2, address),
                    "ports": one.map(3, port),
                })
            };
            json!({"subsets": raw.map(2, subset)})
        }
        "PodList" => {
            let port = |one: Message| json!({"name": one.text(1), "containerPort": one.number(3).unwrap_or(0), "protocol": one.text(4)});
            let container = |one: Message| json!({"name": one.text(1).unwrap_or_default(), "ports": one.map(6, port)});
            let pod = |one: Message| {
                let (spec, status) = (one.messages(2), one.messages(3));
                let containers = spec.first().map(|spec| spec.map(2, container));
                let status = status
                    .first()
                    .map(|status| json!({"phase": status.text(1), "podIP": status.text(6)}));
                json!({"spec": {"containers": containers.unwrap_or_default()}, "status": status})
            };
            json!({"items": raw.map(2, pod)})
        }
        "Status" => json!({"kind": "Status", "message": raw.text(3), "code": raw.number(6)}),
        other => panic!("an answer of kind {other}"),
    }
}

/// The fields of a protobuf message: numbers, and what has a length.
struct Message(Vec<(u64, Result<u64, Vec<u8>>)>);

impl Message {
    fn read(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let value = match tag & 7 {
                0 => Ok(varint(&mut bytes)),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)).unwrap();
                    let (value, rest) = bytes.split_at(length);
                    bytes = rest;
                    Err(value.to_vec())
                }
                other => panic!("wire type {other}"),
            };
            fields.push((tag >> 3, value));
        }
        Self(fields)
    }

    fn messages(&self, field: u64) -> Vec<Self> {
        let all = self.0.iter().filter(|(number, _)| *number == field);
        all.map(|(_, value)| Self::read(value.as_ref().unwrap_err()))
            .collect()
    }

    fn map(&self, field: u64, f: impl Fn(Self) -> Value) -> Vec<Value> {
        self.messages(field).into_iter().map(f).collect()
    }

    fn text(&self, field: u64) -> Option<String> {
        let (_, value) = self.0.iter().find(|(number, _)| *number == field)?;
        Some(String::from_utf8(value.clone().unwrap_err()).unwrap())
    }

    fn number(&self, field: u64) -> Option<u64> {
        let (_, value) = self.0.iter().find(|(number, _)| *number == field)?;
        value.clone().ok()
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
