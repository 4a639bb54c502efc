//! How the Kubernetes sources ask, follow tokens, watch, and what they make of slices; against a raw API server.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use serde_json::{Value, json};
use shared::{
    discovery::{
        Answer, Discovery, Empty, Error, Lookup, Metrics, Plan, Schedule,
        kubernetes::{
            Asking, Cluster, Counting, Kind, PodQuery, Pods, Port, Readiness, Service,
            ServiceQuery, host_port,
        },
    },
    lifecycle::Tasks,
    testing::{
        PATIENCE,
        pki::{Authority, named},
    },
    tls::server::{Server, Settings},
};
use support::{Peer, Reply};
use tokio::time::timeout;

/// An API server, and the folder of a service account that it knows.
struct Api {
    peer: Peer,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Api {
    /// Answers with what `reply` says about the number of a request, from 0, and its head.
    fn start(reply: impl Fn(usize, &[String]) -> Reply + Send + Sync + 'static) -> Self {
        let authority = Authority::new("cluster");
        let identity = authority.issue(&named(&["127.0.0.1"])).identity();
        let tls = Server::new(Settings::new(identity, &[])).unwrap().config();
        let (peer, address) = Peer::tcp(Some(tls), reply);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
        fs::write(folder.path().join("token"), "first\n").unwrap();
        Self {
            peer,
            address,
            folder,
        }
    }

    fn cluster(&self) -> Cluster {
        let variables = |name: &str| {
            Some(match name {
                "KUBERNETES_SERVICE_HOST" => self.address.ip().to_string(),
                _ => self.address.port().to_string(),
            })
        };
        Cluster::in_cluster(variables, self.folder.path()).unwrap()
    }

    fn pods(&self, asking: Asking) -> Pods {
        let query = PodQuery {
            namespace: Some("ns".to_owned()),
            selector: "app in (x, y),!old".to_owned(),
            counting: Counting::Ready,
            port: Port::First,
            naming: host_port,
        };
        Pods::new(self.cluster(), query, asking)
    }

    fn service(&self, kind: Kind, readiness: Readiness, asking: Asking) -> Service {
        let query = ServiceQuery {
            namespace: "ns".to_owned(),
            name: "web".to_owned(),
            kind,
            readiness,
            port: Port::First,
            naming: host_port,
        };
        Service::new(self.cluster(), query, asking)
    }

    /// The first lines of the requests so far.
    fn lines(&self) -> Vec<String> {
        self.peer
            .heads()
            .iter()
            .map(|head| head[0].clone())
            .collect()
    }
}

fn head(status: u16) -> String {
    format!("HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\n")
}

fn said(status: u16, body: &Value) -> Reply {
    let body = body.to_string();
    let length = body.len();
    let head = head(status);
    Reply::Bytes(format!("{head}Content-Length: {length}\r\n\r\n{body}").into_bytes())
}

/// The beginning of a watch, whose events come through the sender that belongs to `events`.
fn watched(events: &Arc<Mutex<Receiver<Vec<u8>>>>) -> Reply {
    let head = format!("{}Transfer-Encoding: chunked\r\n\r\n", head(200));
    Reply::Pieces(head.into_bytes(), Arc::clone(events))
}

fn send(events: &Sender<Vec<u8>>, event: &Value) {
    let line = format!("{event}\n");
    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
    events.send(chunk.into_bytes()).unwrap();
}

/// A pod, ready or not, with a port 80.
fn pod(name: &str, ip: &str, ready: &str, version: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "resourceVersion": version.to_string(), "labels": {"app.kubernetes.io/name": "x"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]},
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
    })
}

fn pods(version: u32, items: &[Value]) -> Value {
    let metadata = json!({"resourceVersion": version.to_string()});
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items})
}

async fn look_up(source: &mut impl Lookup) -> Result<Answer, Error> {
    timeout(PATIENCE, source.look_up()).await.unwrap()
}

async fn addresses(source: &mut impl Lookup) -> Result<Vec<String>, Error> {
    let members = look_up(source).await?.members;
    Ok(members.into_iter().map(|member| member.address).collect())
}

#[tokio::test]
async fn pods_are_asked_for_by_namespace_and_selector_and_bear_labels() {
    let mut terminating = pod("c", "10.0.0.3", "True", 1);
    terminating["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let list = pods(
        1,
        &[
            pod("a", "10.0.0.1", "True", 1),
            pod("b", "10.0.0.2", "False", 1),
            terminating,
            pod("d", "", "True", 1),
            pod("e", "fd00::5", "True", 1),
        ],
    );
    let api = Api::start(move |_, _| said(200, &list));
    let mut source = api.pods(Asking::Polling);
    let answer = look_up(&mut source).await.unwrap();
    assert_eq!(answer.skipped, ["pod ns/d has no address"]);
    let found: Vec<_> = answer
        .members
        .iter()
        .map(|one| one.address.as_str())
        .collect();
    assert_eq!(found, ["10.0.0.1:80", "[fd00::5]:80"]);
    assert_eq!(
        api.lines(),
        [
            "GET /api/v1/namespaces/ns/pods?labelSelector=app%20in%20%28x%2C%20y%29%2C%21old HTTP/1.1"
        ]
    );
    let labels: Vec<_> = answer.members[0]
        .labels
        .iter()
        .map(|(name, value)| {
            (
                name.strip_prefix("__meta_kubernetes_").unwrap(),
                value.as_str(),
            )
        })
        .collect();
    let expected = [
        ("namespace", "ns"),
        ("pod_container_image", "i"),
        ("pod_container_name", "c"),
        ("pod_container_port_number", "80"),
        ("pod_container_port_protocol", "TCP"),
        ("pod_ip", "10.0.0.1"),
        ("pod_label_app_kubernetes_io_name", "x"),
        ("pod_labelpresent_app_kubernetes_io_name", "true"),
        ("pod_name", "a"),
        ("pod_node_name", "n1"),
        ("pod_phase", "Running"),
        ("pod_ready", "true"),
    ];
    assert_eq!(labels, expected);
}

#[tokio::test]
async fn a_token_that_rotates_on_disk_is_followed_and_one_that_is_gone_is_kept() {
    let api = Api::start(|_, head| {
        let known = [
            "authorization: Bearer first",
            "authorization: Bearer second",
        ];
        if head.iter().any(|line| known.contains(&line.as_str())) {
            said(200, &pods(1, &[]))
        } else {
            said(401, &json!({"kind": "Status", "message": "Unauthorized"}))
        }
    });
    let mut source = api.pods(Asking::Polling);
    let token = api.folder.path().join("token");
    look_up(&mut source).await.unwrap();
    fs::write(&token, "second").unwrap();
    look_up(&mut source).await.unwrap();
    fs::remove_file(&token).unwrap();
    look_up(&mut source).await.unwrap();
    fs::write(&token, "third").unwrap();
    let refused = look_up(&mut source).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Unexpected response code: 401 (Unauthorized)"
    );
    let tokens: Vec<_> = api
        .peer
        .heads()
        .iter()
        .flatten()
        .filter_map(|line| line.strip_prefix("authorization: Bearer "))
        .map(str::to_owned)
        .collect();
    assert_eq!(tokens, ["first", "second", "second", "third"]);
}

#[tokio::test]
async fn a_server_that_is_away_or_talks_nonsense_leaves_the_last_members() {
    let api = Api::start(|number, _| match number {
        0 => said(200, &pods(1, &[pod("a", "10.0.0.1", "True", 1)])),
        1 => said(500, &json!({"message": "boom"})),
        2 => Reply::Bytes(format!("{}Content-Length: 3\r\n\r\n{{x}}", head(200)).into_bytes()),
        3 => Reply::Close,
        4 => Reply::Silence,
        _ => said(200, &json!({"items": null})),
    });
    let plan = Plan {
        schedule: Schedule::OnRequest,
        deadline: Duration::from_secs(2),
        empty: Empty::Fails,
    };
    let tasks = Tasks::new();
    let source = api.pods(Asking::Polling);
    let discovery = Discovery::start(&tasks, &Metrics::new("test"), "k", plan, source, |_| {});
    discovery.first().await.unwrap().unwrap();
    for expected in [
        "Unexpected response code: 500 (boom)",
        "cannot read the answer",
        "",
        "no answer within",
        "no members found",
    ] {
        let refused = discovery.refresh().await.unwrap().unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
        let snapshot = discovery.snapshot();
        assert_eq!(snapshot.addresses().collect::<Vec<_>>(), ["10.0.0.1:80"]);
    }
}

/// Two slices of a service: one with a ready, an unready and an undecided endpoint, one of IPv6 without a port.
fn slices() -> Value {
    let endpoint = |ip: &str, conditions: Value| json!({"addresses": [ip], "conditions": conditions, "nodeName": "n1"});
    json!({"metadata": {"resourceVersion": "5"}, "items": [
        {
            "metadata": {"name": "web-1", "namespace": "ns", "resourceVersion": "4"}, "addressType": "IPv4",
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                endpoint("10.0.0.1", json!({"ready": true})),
                endpoint("10.0.0.2", json!({"ready": false})),
                endpoint("10.0.0.3", json!({})),
            ],
        },
        {
            "metadata": {"name": "web-2", "namespace": "ns", "resourceVersion": "5"}, "addressType": "IPv6",
            "ports": [{"name": "http", "protocol": "TCP"}],
            "endpoints": [endpoint("fd00::1", json!({"ready": true}))],
        },
    ]})
}

#[tokio::test]
async fn slices_of_a_service_give_ready_endpoints_or_all() {
    let api = Api::start(|_, _| said(200, &slices()));
    let mut ready = api.service(Kind::Slices, Readiness::Ready, Asking::Polling);
    let answer = look_up(&mut ready).await.unwrap();
    let found: Vec<_> = answer
        .members
        .iter()
        .map(|one| one.address.as_str())
        .collect();
    assert_eq!(found, ["10.0.0.1:8080", "10.0.0.3:8080"]);
    assert_eq!(answer.skipped, ["endpoint slice web-2 has no such port"]);
    let labels = &answer.members[0].labels;
    assert_eq!(labels["__meta_kubernetes_endpointslice_port_name"], "http");
    assert_eq!(labels["__meta_kubernetes_service_name"], "web");
    let mut all = api.service(Kind::Slices, Readiness::Any, Asking::Polling);
    let found = addresses(&mut all).await.unwrap();
    assert_eq!(found, ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"]);
    let line = "GET /apis/discovery.k8s.io/v1/namespaces/ns/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dweb HTTP/1.1";
    assert_eq!(api.lines(), [line, line]);
}

#[tokio::test]
async fn endpoints_are_read_first_and_slices_where_there_are_none() {
    let old = json!({"subsets": [
        {"addresses": [{"ip": "10.0.1.1"}], "notReadyAddresses": [{"ip": "10.0.1.2"}], "ports": [{"port": 9}]},
        {"addresses": [{"ip": "10.0.1.3"}], "ports": [{"port": 10}]},
    ]});
    let api = Api::start(move |number, head| match number {
        0 | 1 => said(200, &old),
        2 | 4 => said(403, &json!({"message": "forbidden"})),
        _ if head[0].contains("endpointslices") && number == 3 => said(200, &slices()),
        _ => said(404, &json!({"message": "nothing"})),
    });
    let f = async |kind, readiness| {
        let mut source = api.service(kind, readiness, Asking::Polling);
        addresses(&mut source)
            .await
            .map_err(|error| error.to_string())
    };
    let both = Kind::EndpointsOrSlices;
    let found = f(both, Readiness::Ready).await.unwrap();
    assert_eq!(found, ["10.0.1.1:9", "10.0.1.3:10"]);
    let found = f(both, Readiness::Any).await.unwrap();
    assert_eq!(found, ["10.0.1.1:9", "10.0.1.2:9", "10.0.1.3:10"]);
    let found = f(both, Readiness::Ready).await.unwrap();
    assert_eq!(found, ["10.0.0.1:8080", "10.0.0.3:8080"]);
    let refused = f(both, Readiness::Ready).await.unwrap_err();
    assert_eq!(refused, "Unexpected response code: 403 (forbidden)");
}

const WATCHING: Asking = Asking::Watching { wait: PATIENCE };

#[tokio::test]
async fn a_watch_tells_of_changes_as_they_happen_and_starts_over_when_it_is_too_old() {
    let (events, first) = channel();
    let (_quiet, second) = channel();
    let watches = [first, second].map(|events| Arc::new(Mutex::new(events)));
    let api = Api::start(move |number, _| match number {
        0 => said(200, &pods(10, &[pod("a", "10.0.0.1", "True", 9)])),
        1 => watched(&watches[0]),
        2 => said(200, &pods(20, &[pod("d", "10.0.0.4", "True", 19)])),
        _ => watched(&watches[1]),
    });
    let tasks = Tasks::new();
    let plan = Plan {
        schedule: Schedule::LongPoll {
            retry: Duration::from_millis(10),
        },
        deadline: PATIENCE,
        empty: Empty::Counts,
    };
    let source = api.pods(WATCHING);
    let discovery = Discovery::start(&tasks, &Metrics::new("test"), "k", plan, source, |_| {});
    let mut snapshots = discovery.watch();
    let mut expect = async |expected: &[&str]| {
        let found = snapshots.wait_for(|now| now.addresses().eq(expected.iter().copied()));
        let found = timeout(PATIENCE, found).await.is_ok();
        assert!(
            found,
            "no {expected:?} after {:?}: {:?}",
            api.lines(),
            discovery.outcomes().borrow()
        );
    };
    expect(&["10.0.0.1:80"]).await;
    let event = |kind: &str, object: &Value| json!({"type": kind, "object": object});
    send(&events, &event("ADDED", &pod("b", "10.0.0.2", "True", 11)));
    expect(&["10.0.0.1:80", "10.0.0.2:80"]).await;
    send(
        &events,
        &event("MODIFIED", &pod("a", "10.0.0.1", "False", 12)),
    );
    expect(&["10.0.0.2:80"]).await;
    send(
        &events,
        &event("DELETED", &pod("b", "10.0.0.2", "True", 13)),
    );
    expect(&[]).await;
    let gone = json!({"kind": "Status", "status": "Failure", "message": "too old", "reason": "Expired", "code": 410});
    send(&events, &event("ERROR", &gone));
    expect(&["10.0.0.4:80"]).await;
    let lines = api.lines();
    let has = |line: usize, parts: &[&str]| {
        for part in parts {
            assert!(lines[line].contains(part), "{part}: {}", lines[line]);
        }
    };
    let selector = "labelSelector=app+in+%28x%2C+y%29%2C%21old";
    has(0, &["/pods?", selector]);
    has(1, &["/pods?", selector, "watch=true", "resourceVersion=10"]);
    has(2, &["/pods?", selector]);
    drop(events);
}

#[tokio::test]
async fn a_quiet_watch_answers_after_its_time_and_forgetting_asks_anew() {
    let (_events, quiet) = channel();
    let quiet = Arc::new(Mutex::new(quiet));
    let api = Api::start(move |_, head| {
        if head[0].contains("watch=true") {
            watched(&quiet)
        } else {
            said(200, &slices())
        }
    });
    let asking = Asking::Watching {
        wait: Duration::from_millis(20),
    };
    let mut source = api.service(Kind::Slices, Readiness::Ready, asking);
    assert_eq!(source.waits(), Duration::ZERO);
    let first = addresses(&mut source).await.unwrap();
    assert_eq!(source.waits(), Duration::from_millis(20));
    assert_eq!(addresses(&mut source).await.unwrap(), first);
    source.forget();
    assert_eq!(source.waits(), Duration::ZERO);
    assert_eq!(addresses(&mut source).await.unwrap(), first);
    let lines = api.lines();
    let lists = lines.iter().filter(|line| !line.contains("watch=true"));
    assert_eq!(lists.count(), 2, "{lines:?}");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let api = Api::start(|_, _| Reply::Close);
    let folder = api.folder.path();
    let text = |result: Result<Cluster, _>| result.map(drop).map_err(|error| format!("{error}"));
    let found = Cluster::in_cluster(|_| Some(String::new()), folder);
    assert!(
        text(found)
            .unwrap_err()
            .starts_with("unable to load in-cluster configuration")
    );
    let all = |_: &str| Some("1".to_owned());
    let name = |file: &str| folder.join(file).display().to_string();
    fs::remove_file(folder.join("token")).unwrap();
    let refused = text(Cluster::in_cluster(all, folder)).unwrap_err();
    assert!(refused.contains(&name("token")), "{refused}");
    fs::write(folder.join("ca.crt"), "").unwrap();
    let refused = text(Cluster::in_cluster(all, folder)).unwrap_err();
    assert_eq!(refused, format!("{}: no certificate in it", name("ca.crt")));
    let refused = text(Cluster::from_kubeconfig(&folder.join("absent")).await).unwrap_err();
    assert!(refused.contains(&name("absent")), "{refused}");
    fs::write(folder.join("odd"), "clusters: 7").unwrap();
    let refused = text(Cluster::from_kubeconfig(&folder.join("odd")).await).unwrap_err();
    assert!(
        refused.starts_with(&format!("{}: unmarshal kubeconfig: ", name("odd"))),
        "{refused}"
    );
}
