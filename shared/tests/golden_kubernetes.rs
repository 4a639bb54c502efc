//! What veneur-proxies asked Kubernetes and made of its answers (`golden/kubernetes`), replayed over HTTPS: the same request, the
//! same addresses. What mpp asked is replayed by mpp's tests.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test counts its cases and fails where it stands"
)]

mod support;

use std::{collections::BTreeMap, fs, sync::Arc};

use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    discovery::{
        Answer, Lookup as _,
        kubernetes::{Asking, Cluster, Counting, PodQuery, Pods, Port, http_url},
    },
    testing::{
        PATIENCE,
        golden::json as golden,
        pki::{Authority, named},
    },
    tls::server::{Server, Settings},
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

fn answer(body: &Value) -> Reply {
    let body = body.to_string();
    let length = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}");
    Reply::Bytes(format!("{head}\r\n\r\n{body}").into_bytes())
}

/// A server with a certificate of `authority` for loopback.
fn tls(authority: &Authority) -> Arc<rustls::ServerConfig> {
    let identity = authority.issue(&named(&["127.0.0.1"])).identity();
    Server::new(Settings::new(identity, &[])).unwrap().config()
}

#[tokio::test]
async fn veneur_proxies_find_the_same_pods_with_the_same_request() {
    let cases: BTreeMap<String, Veneur> = golden("tests/golden/kubernetes/veneur-pods.json");
    for (version, case) in &cases {
        let list = json!({"kind": "PodList", "apiVersion": "v1", "items": case.pods});
        let authority = Authority::new("cluster");
        let (peer, address) = Peer::tcp(Some(tls(&authority)), move |_, _| answer(&list));
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
