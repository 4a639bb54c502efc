//! Targets from DNS and from Kubernetes, against servers that stand in for both.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use shared::{
    config::secret::Secret,
    discovery::targets::{
        Group, Labels, State,
        dns::{Dns, Record, Servers},
        kubernetes::{Access, Kubernetes, Role, Selector},
        start,
    },
    http::client::{Authentication, Client, Credential, Settings, Versions},
    lifecycle::Tasks,
    testing::{
        PATIENCE,
        pki::{Authority, named},
    },
    tls::{
        Pem,
        client::{Roots, Settings as TlsSettings},
        server::{Server, Settings as ServerSettings},
    },
};
use support::{Peer, Reply};
use tokio::{sync::watch, time::timeout};

/// Waits until the groups are as `is` says.
async fn wait_for(
    states: &mut watch::Receiver<State>,
    is: impl Fn(&[Arc<Group>]) -> bool,
) -> Vec<Arc<Group>> {
    let found = states.wait_for(|state| state.groups.as_ref().is_some_and(|groups| is(groups)));
    let found = timeout(PATIENCE, found)
        .await
        .expect("it takes too long")
        .unwrap();
    found.groups.as_ref().unwrap().to_vec()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

// --- DNS ---

/// The name in wire form.
fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in name
        .trim_end_matches('.')
        .split('.')
        .filter(|part| !part.is_empty())
    {
        bytes.push(part.len() as u8);
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// What a name server says: a code and records of the kind that was asked for.
type Zone = Arc<Mutex<dyn Fn(&str, u16) -> (u8, Vec<Vec<u8>>) + Send>>;

/// A name server by UDP. Ends with the test.
fn name_server(zone: Zone) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let query = &buffer[..length];
            let (mut name, mut at) = (String::new(), 12);
            while query[at] != 0 {
                let part = usize::from(query[at]);
                name += std::str::from_utf8(&query[at + 1..at + 1 + part]).unwrap();
                name.push('.');
                at += part + 1;
            }
            let question = &query[12..at + 5];
            let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
            let (code, records) = zone.lock().unwrap()(&name.to_lowercase(), kind);
            let mut answer = query[..2].to_vec();
            answer.extend_from_slice(&[
                0x81,
                0x80 | code,
                0,
                1,
                0,
                records.len() as u8,
                0,
                0,
                0,
                0,
            ]);
            answer.extend_from_slice(question);
            for record in records {
                answer.extend_from_slice(&[0xc0, 12]);
                answer.extend_from_slice(&kind.to_be_bytes());
                answer.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
                answer.extend_from_slice(&(record.len() as u16).to_be_bytes());
                answer.extend_from_slice(&record);
            }
            socket.send_to(&answer, peer).unwrap();
        }
    });
    address
}

fn srv(port: u16, target: &str) -> Vec<u8> {
    let mut data = vec![0, 1, 0, 2];
    data.extend_from_slice(&port.to_be_bytes());
    data.extend(wire(target));
    data
}

fn dns(server: SocketAddr, names: &[&str], record: Record) -> Dns {
    Dns {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        record,
        port: 9090,
        refresh: Duration::from_millis(50),
        servers: Servers::These {
            addresses: vec![server],
            search: vec!["example.test".to_owned()],
            ndots: 1,
        },
    }
}

#[tokio::test]
async fn dns_records_become_targets_with_all_labels() {
    let zone = |name: &str, kind: u16| match (name, kind) {
        ("_prom._tcp.example.test.", 33) => (
            0,
            vec![srv(81, "b.example.test."), srv(82, "a.example.test.")],
        ),
        ("web.example.test.", 1) => (0, vec![vec![10, 0, 0, 2]]),
        ("web.example.test.", 28) => (
            0,
            vec![[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].to_vec()],
        ),
        ("example.test.", 15) => (0, vec![[vec![0, 10], wire("mx.example.test.")].concat()]),
        ("example.test.", 2) => (0, vec![wire("ns.example.test.")]),
        _ => (3, Vec::new()),
    };
    let server = name_server(Arc::new(Mutex::new(zone)));
    let tasks = Tasks::new();
    let f = async |name: &str, record: Record, expected: &[&[(&str, &str)]]| {
        let mut states = start(&tasks, "g", dns(server, &[name], record));
        let groups = wait_for(&mut states, |_| true).await;
        assert_eq!((groups.len(), groups[0].source.as_str()), (1, name));
        let mut targets = groups[0].targets.clone();
        targets.sort();
        let mut expected: Vec<Labels> = expected.iter().map(|pairs| labels(pairs)).collect();
        for target in &mut expected {
            target.insert("__meta_dns_name".to_owned(), name.to_owned());
        }
        expected.sort();
        assert_eq!(targets, expected);
    };
    f(
        "_prom._tcp.example.test",
        Record::Srv,
        &[
            &[
                ("__address__", "b.example.test:81"),
                ("__meta_dns_srv_record_port", "81"),
                ("__meta_dns_srv_record_target", "b.example.test."),
            ],
            &[
                ("__address__", "a.example.test:82"),
                ("__meta_dns_srv_record_port", "82"),
                ("__meta_dns_srv_record_target", "a.example.test."),
            ],
        ],
    )
    .await;
    // By the search domain.
    f("web", Record::A, &[&[("__address__", "10.0.0.2:9090")]]).await;
    f(
        "web",
        Record::Aaaa,
        &[&[("__address__", "[2001:db8::1]:9090")]],
    )
    .await;
    f(
        "example.test",
        Record::Mx,
        &[&[
            ("__address__", "mx.example.test:9090"),
            ("__meta_dns_mx_record_target", "mx.example.test."),
        ]],
    )
    .await;
    f(
        "example.test",
        Record::Ns,
        &[&[
            ("__address__", "ns.example.test:9090"),
            ("__meta_dns_ns_record_target", "ns.example.test."),
        ]],
    )
    .await;
    f("missing.example.test", Record::A, &[]).await;
    tasks.stop();
}

#[tokio::test]
async fn a_failing_name_server_keeps_targets_and_a_missing_name_removes_them() {
    let said: Arc<Mutex<(u8, u8)>> = Arc::new(Mutex::new((0, 1)));
    let now = Arc::clone(&said);
    let server = name_server(Arc::new(Mutex::new(move |_: &str, _: u16| {
        let (code, last) = *now.lock().unwrap();
        let records = if code == 0 {
            vec![vec![10, 0, 0, last]]
        } else {
            Vec::new()
        };
        (code, records)
    })));
    let tasks = Tasks::new();
    let mut states = start(&tasks, "g", dns(server, &["x.test."], Record::A));
    let has = |address: &'static str| {
        move |groups: &[Arc<Group>]| {
            groups[0]
                .targets
                .iter()
                .any(|target| target["__address__"] == address)
        }
    };
    wait_for(&mut states, has("10.0.0.1:9090")).await;
    *said.lock().unwrap() = (2, 0);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(has("10.0.0.1:9090")(
        states.borrow().groups.as_ref().unwrap()
    ));
    *said.lock().unwrap() = (0, 2);
    wait_for(&mut states, has("10.0.0.2:9090")).await;
    *said.lock().unwrap() = (3, 0);
    wait_for(&mut states, |groups| groups[0].targets.is_empty()).await;
    tasks.stop();
}

// --- Kubernetes ---

/// An API server: lists by path, and a watch for each list that events can be sent to.
struct Api {
    peer: Peer,
    address: SocketAddr,
    authority: Authority,
    events: Events,
}

type Events = Arc<Mutex<Vec<(String, Sender<Vec<u8>>)>>>;

impl Api {
    fn start(lists: Value) -> Self {
        let authority = Authority::new("cluster");
        let identity = authority.issue(&named(&["127.0.0.1"])).identity();
        let tls = Server::new(ServerSettings::new(identity, &[]))
            .unwrap()
            .config();
        let events: Events = Arc::default();
        let kept = Arc::clone(&events);
        let (peer, address) = Peer::tcp(Some(tls), move |_, head| {
            let target = head[0].split(' ').nth(1).unwrap();
            let (path, query) = target.split_once('?').unwrap();
            let begin = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
            if query.contains("watch=true") {
                let (sender, receiver) = channel();
                kept.lock().unwrap().push((path.to_owned(), sender));
                let head = format!("{begin}Transfer-Encoding: chunked\r\n\r\n");
                return Reply::Pieces(head.into_bytes(), Arc::new(Mutex::new(receiver)));
            }
            let kind = path.rsplit('/').next().unwrap();
            let Some(items) = lists.get(kind) else {
                return Reply::Bytes(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 22\r\n\r\n{\"message\":\"not here\"}".to_vec());
            };
            let items: Vec<&Value> = items.as_array().unwrap().iter().collect();
            let body = json!({"metadata": {"resourceVersion": "7"}, "items": items}).to_string();
            Reply::Bytes(
                format!("{begin}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes(),
            )
        });
        Self {
            peer,
            address,
            authority,
            events,
        }
    }

    fn source(&self, role: Role) -> Kubernetes {
        let client = Client::new(Settings {
            tls: TlsSettings {
                roots: Roots::Authorities(Pem::Text(Secret::new(self.authority.pem()))),
                ..TlsSettings::SYSTEM
            },
            authentication: Authentication::Header {
                scheme: "Bearer".to_owned(),
                credential: Some(Credential::Inline(Secret::new("tok"))),
            },
            versions: Versions::Http1,
            ..Settings::PLAIN
        });
        Kubernetes {
            access: Access::Direct {
                url: format!("https://{}", self.address),
                client: client.unwrap(),
            },
            role,
            namespaces: Vec::new(),
            selectors: Vec::new(),
            attach_node: false,
            attach_namespace: false,
        }
    }

    /// Sends an event to the last watch of a kind.
    fn send(&self, kind: &str, event: &Value) {
        let sender = shared::testing::eventually("a watch", || {
            let events = self.events.lock().unwrap();
            let found = events.iter().rev().find(|(path, _)| path.ends_with(kind));
            found.map(|(_, sender)| sender.clone())
        });
        let line = format!("{event}\n");
        sender
            .send(format!("{:x}\r\n{line}\r\n", line.len()).into_bytes())
            .unwrap();
    }

    async fn groups(&self, source: Kubernetes) -> Vec<Arc<Group>> {
        let tasks = Tasks::new();
        let mut states = start(&tasks, "g", source);
        let groups = wait_for(&mut states, |_| true).await;
        tasks.stop();
        groups
    }
}

fn pod() -> Value {
    json!({
        "metadata": {
            "name": "web-0", "namespace": "ns", "uid": "u1", "resourceVersion": "3",
            "labels": {"app.kubernetes.io/name": "web"}, "annotations": {"scrape": "yes"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "x", "controller": true}],
        },
        "spec": {
            "nodeName": "n1",
            "containers": [
                {"name": "main", "image": "img:1", "ports": [{"containerPort": 80, "name": "http", "protocol": "TCP"}, {"containerPort": 81}]},
                {"name": "side"},
            ],
            "initContainers": [{"name": "first", "image": "init:1"}],
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.1", "hostIP": "192.0.2.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "main", "containerID": "docker://a", "image": "", "imageID": "", "ready": true, "restartCount": 0}],
        },
    })
}

const POD: &[(&str, &str)] = &[
    ("__meta_kubernetes_pod_annotation_scrape", "yes"),
    ("__meta_kubernetes_pod_annotationpresent_scrape", "true"),
    ("__meta_kubernetes_pod_controller_kind", "StatefulSet"),
    ("__meta_kubernetes_pod_controller_name", "web"),
    ("__meta_kubernetes_pod_host_ip", "192.0.2.1"),
    ("__meta_kubernetes_pod_ip", "10.0.0.1"),
    ("__meta_kubernetes_pod_label_app_kubernetes_io_name", "web"),
    (
        "__meta_kubernetes_pod_labelpresent_app_kubernetes_io_name",
        "true",
    ),
    ("__meta_kubernetes_pod_name", "web-0"),
    ("__meta_kubernetes_pod_node_name", "n1"),
    ("__meta_kubernetes_pod_phase", "Running"),
    ("__meta_kubernetes_pod_ready", "true"),
    ("__meta_kubernetes_pod_uid", "u1"),
];

const NAMESPACE: (&str, &str) = ("__meta_kubernetes_namespace", "ns");

fn with(parts: &[&[(&str, &str)]]) -> Labels {
    labels(&parts.concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role_pod_has_a_target_for_each_port_and_follows_the_watch() {
    let node = json!({"metadata": {"name": "n1", "labels": {"zone": "a"}}});
    let namespace = json!({"metadata": {"name": "ns", "annotations": {"team": "t"}}});
    let api = Api::start(json!({"pods": [pod()], "nodes": [node], "namespaces": [namespace]}));
    let groups = api.groups(api.source(Role::Pod)).await;
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].source, "pod/ns/web-0");
    assert_eq!(groups[0].labels, with(&[POD, &[NAMESPACE]]));
    let port = |address, name: &'static [(&'static str, &'static str)], number| {
        let common: &[(&str, &str)] = &[
            ("__address__", address),
            ("__meta_kubernetes_pod_container_id", "docker://a"),
            ("__meta_kubernetes_pod_container_image", "img:1"),
            ("__meta_kubernetes_pod_container_init", "false"),
            ("__meta_kubernetes_pod_container_name", "main"),
            ("__meta_kubernetes_pod_container_port_number", number),
            ("__meta_kubernetes_pod_container_port_protocol", "TCP"),
        ];
        with(&[common, name])
    };
    let expected = [
        port(
            "10.0.0.1:80",
            &[("__meta_kubernetes_pod_container_port_name", "http")],
            "80",
        ),
        port("10.0.0.1:81", &[], "81"),
        labels(&[
            ("__address__", "10.0.0.1"),
            ("__meta_kubernetes_pod_container_init", "false"),
            ("__meta_kubernetes_pod_container_name", "side"),
        ]),
        labels(&[
            ("__address__", "10.0.0.1"),
            ("__meta_kubernetes_pod_container_image", "init:1"),
            ("__meta_kubernetes_pod_container_init", "true"),
            ("__meta_kubernetes_pod_container_name", "first"),
        ]),
    ];
    assert_eq!(groups[0].targets, expected);

    let tasks = Tasks::new();
    let attached = Kubernetes {
        attach_node: true,
        attach_namespace: true,
        ..api.source(Role::Pod)
    };
    let mut states = start(&tasks, "g", attached);
    let groups = wait_for(&mut states, |_| true).await;
    for (name, value) in [
        ("__meta_kubernetes_node_name", "n1"),
        ("__meta_kubernetes_node_label_zone", "a"),
        ("__meta_kubernetes_namespace_annotation_team", "t"),
        ("__meta_kubernetes_namespace_annotationpresent_team", "true"),
    ] {
        assert_eq!(
            groups[0].labels.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    let mut second = pod();
    second["metadata"]["name"] = json!("web-1");
    second["status"]["podIP"] = json!("10.0.0.2");
    api.send("pods", &json!({"type": "ADDED", "object": second}));
    wait_for(&mut states, |groups| groups.len() == 2).await;
    api.send(
        "pods",
        &json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}),
    );
    api.send("nodes", &json!({"type": "MODIFIED", "object": {"metadata": {"name": "n1", "labels": {"zone": "b"}}}}));
    wait_for(&mut states, |groups| {
        groups
            .iter()
            .all(|group| group.labels["__meta_kubernetes_node_label_zone"] == "b")
    })
    .await;
    api.send("pods", &json!({"type": "DELETED", "object": second}));
    wait_for(&mut states, |groups| groups.len() == 1).await;
    // What the server has forgotten is listed anew.
    let before = api.peer.heads().len();
    api.send(
        "pods",
        &json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}),
    );
    shared::testing::eventually("another list", || {
        let heads = api.peer.heads();
        let new = heads.get(before..)?;
        new.iter()
            .any(|head| head[0].contains("/pods?limit="))
            .then_some(())
    });
    assert_eq!(states.borrow().groups.as_ref().unwrap().len(), 1);
    tasks.stop();
}

#[tokio::test]
async fn role_service_names_its_ports() {
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name, "namespace": "ns", "labels": {"a": "b"}}, "spec": spec});
    let api = Api::start(json!({"services": [
        service("lb", json!({"type": "LoadBalancer", "clusterIP": "10.1.0.1", "loadBalancerIP": "192.0.2.9", "ports": [{"name": "web", "port": 80, "protocol": "TCP"}]})),
        service("out", json!({"type": "ExternalName", "externalName": "x.example", "ports": [{"port": 81}]})),
    ]}));
    let groups = api.groups(api.source(Role::Service)).await;
    assert_eq!(groups[0].source, "svc/ns/lb");
    let expected = [
        NAMESPACE,
        ("__meta_kubernetes_service_label_a", "b"),
        ("__meta_kubernetes_service_labelpresent_a", "true"),
        ("__meta_kubernetes_service_name", "lb"),
    ];
    assert_eq!(groups[0].labels, labels(&expected));
    let expected = [
        ("__address__", "lb.ns.svc:80"),
        ("__meta_kubernetes_service_cluster_ip", "10.1.0.1"),
        ("__meta_kubernetes_service_loadbalancer_ip", "192.0.2.9"),
        ("__meta_kubernetes_service_port_name", "web"),
        ("__meta_kubernetes_service_port_number", "80"),
        ("__meta_kubernetes_service_port_protocol", "TCP"),
        ("__meta_kubernetes_service_type", "LoadBalancer"),
    ];
    assert_eq!(groups[0].targets, [labels(&expected)]);
    let expected = [
        ("__address__", "out.ns.svc:81"),
        ("__meta_kubernetes_service_external_name", "x.example"),
        ("__meta_kubernetes_service_port_number", "81"),
        ("__meta_kubernetes_service_port_protocol", "TCP"),
        ("__meta_kubernetes_service_type", "ExternalName"),
    ];
    assert_eq!(groups[1].targets, [labels(&expected)]);
}

const SERVICE: &[(&str, &str)] = &[
    NAMESPACE,
    ("__meta_kubernetes_service_label_a", "b"),
    ("__meta_kubernetes_service_labelpresent_a", "true"),
    ("__meta_kubernetes_service_name", "web"),
];

fn service() -> Value {
    json!({"metadata": {"name": "web", "namespace": "ns", "labels": {"a": "b"}}, "spec": {}})
}

const CONTAINER: &[(&str, &str)] = &[
    ("__meta_kubernetes_pod_container_image", "img:1"),
    ("__meta_kubernetes_pod_container_init", "false"),
    ("__meta_kubernetes_pod_container_name", "main"),
    ("__meta_kubernetes_pod_container_port_protocol", "TCP"),
];

#[tokio::test]
async fn role_endpoints_knows_the_pods_and_their_other_ports() {
    let endpoints = json!({
        "metadata": {"name": "web", "namespace": "ns"},
        "subsets": [{
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            "addresses": [{"ip": "10.0.0.1", "nodeName": "n1", "hostname": "h", "targetRef": {"kind": "Pod", "name": "web-0", "namespace": "ns"}}],
            "notReadyAddresses": [{"ip": "10.0.0.9"}],
        }],
    });
    let api =
        Api::start(json!({"endpoints": [endpoints], "services": [service()], "pods": [pod()]}));
    let groups = api.groups(api.source(Role::Endpoints)).await;
    assert_eq!(groups[0].source, "endpoints/ns/web");
    assert_eq!(
        groups[0].labels,
        with(&[SERVICE, &[("__meta_kubernetes_endpoints_name", "web")]])
    );
    let first: &[(&str, &str)] = &[
        ("__address__", "10.0.0.1:80"),
        ("__meta_kubernetes_endpoint_address_target_kind", "Pod"),
        ("__meta_kubernetes_endpoint_address_target_name", "web-0"),
        ("__meta_kubernetes_endpoint_hostname", "h"),
        ("__meta_kubernetes_endpoint_node_name", "n1"),
        ("__meta_kubernetes_endpoint_port_name", "http"),
        ("__meta_kubernetes_endpoint_port_protocol", "TCP"),
        ("__meta_kubernetes_endpoint_ready", "true"),
        ("__meta_kubernetes_pod_container_port_name", "http"),
        ("__meta_kubernetes_pod_container_port_number", "80"),
    ];
    let other: &[(&str, &str)] = &[
        ("__address__", "10.0.0.9:80"),
        ("__meta_kubernetes_endpoint_port_name", "http"),
        ("__meta_kubernetes_endpoint_port_protocol", "TCP"),
        ("__meta_kubernetes_endpoint_ready", "false"),
    ];
    let uncovered: &[(&str, &str)] = &[
        ("__address__", "10.0.0.1:81"),
        ("__meta_kubernetes_pod_container_port_number", "81"),
    ];
    let expected = [
        with(&[first, CONTAINER, POD]),
        labels(other),
        with(&[uncovered, CONTAINER, POD]),
    ];
    assert_eq!(groups[0].targets, expected);
}

#[tokio::test]
async fn role_endpointslice_knows_conditions_zone_and_topology() {
    let slice = json!({
        "metadata": {"name": "web-x", "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "appProtocol": "h2c"}],
        "endpoints": [{
            "addresses": ["10.0.0.1"], "hostname": "h", "nodeName": "n1", "zone": "z1",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "deprecatedTopology": {"topology.kubernetes.io/zone": "z1"},
            "targetRef": {"kind": "Pod", "name": "web-0", "namespace": "ns"},
        }],
    });
    let api =
        Api::start(json!({"endpointslices": [slice], "services": [service()], "pods": [pod()]}));
    let groups = api.groups(api.source(Role::EndpointSlice)).await;
    let own: &[(&str, &str)] = &[
        ("__meta_kubernetes_endpointslice_address_type", "IPv4"),
        (
            "__meta_kubernetes_endpointslice_label_kubernetes_io_service_name",
            "web",
        ),
        (
            "__meta_kubernetes_endpointslice_labelpresent_kubernetes_io_service_name",
            "true",
        ),
        ("__meta_kubernetes_endpointslice_name", "web-x"),
    ];
    assert_eq!(groups[0].source, "endpointslice/ns/web-x");
    assert_eq!(groups[0].labels, with(&[SERVICE, own]));
    let first: &[(&str, &str)] = &[
        ("__address__", "10.0.0.1:80"),
        ("__meta_kubernetes_endpointslice_address_target_kind", "Pod"),
        (
            "__meta_kubernetes_endpointslice_address_target_name",
            "web-0",
        ),
        (
            "__meta_kubernetes_endpointslice_endpoint_conditions_ready",
            "true",
        ),
        (
            "__meta_kubernetes_endpointslice_endpoint_conditions_serving",
            "true",
        ),
        (
            "__meta_kubernetes_endpointslice_endpoint_conditions_terminating",
            "false",
        ),
        ("__meta_kubernetes_endpointslice_endpoint_hostname", "h"),
        ("__meta_kubernetes_endpointslice_endpoint_node_name", "n1"),
        (
            "__meta_kubernetes_endpointslice_endpoint_topology_present_topology_kubernetes_io_zone",
            "true",
        ),
        (
            "__meta_kubernetes_endpointslice_endpoint_topology_topology_kubernetes_io_zone",
            "z1",
        ),
        ("__meta_kubernetes_endpointslice_endpoint_zone", "z1"),
        ("__meta_kubernetes_endpointslice_port", "80"),
        ("__meta_kubernetes_endpointslice_port_app_protocol", "h2c"),
        ("__meta_kubernetes_endpointslice_port_name", "http"),
        ("__meta_kubernetes_endpointslice_port_protocol", "TCP"),
        ("__meta_kubernetes_pod_container_port_name", "http"),
        ("__meta_kubernetes_pod_container_port_number", "80"),
    ];
    assert_eq!(groups[0].targets[0], with(&[first, CONTAINER, POD]));
    assert_eq!(groups[0].targets.len(), 2);
}

#[tokio::test]
async fn role_node_prefers_internal_addresses_and_role_ingress_knows_its_scheme() {
    let node = json!({
        "metadata": {"name": "n1"}, "spec": {"providerID": "p://1"},
        "status": {
            "addresses": [{"type": "Hostname", "address": "h1"}, {"type": "InternalIP", "address": "10.0.0.7"}, {"type": "InternalIP", "address": "10.0.0.8"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        },
    });
    let ingress = json!({
        "metadata": {"name": "i", "namespace": "ns"},
        "spec": {
            "ingressClassName": "nginx", "tls": [{"hosts": ["*.example"]}],
            "rules": [
                {"host": "a.example", "http": {"paths": [{"path": "/x", "pathType": "Prefix", "backend": {}}, {"pathType": "Prefix", "backend": {}}]}},
                {"host": "b"},
            ],
        },
    });
    let api = Api::start(json!({"nodes": [node], "ingresses": [ingress]}));
    let groups = api.groups(api.source(Role::Node)).await;
    assert_eq!(
        groups[0].labels,
        labels(&[
            ("__meta_kubernetes_node_name", "n1"),
            ("__meta_kubernetes_node_provider_id", "p://1")
        ])
    );
    let expected = [
        ("__address__", "10.0.0.7:10250"),
        ("__meta_kubernetes_node_address_Hostname", "h1"),
        ("__meta_kubernetes_node_address_InternalIP", "10.0.0.7"),
        ("instance", "n1"),
    ];
    assert_eq!(groups[0].targets, [labels(&expected)]);
    let groups = api.groups(api.source(Role::Ingress)).await;
    let expected = [
        NAMESPACE,
        ("__meta_kubernetes_ingress_class_name", "nginx"),
        ("__meta_kubernetes_ingress_name", "i"),
    ];
    assert_eq!(groups[0].labels, labels(&expected));
    let target = |host, scheme, path| {
        labels(&[
            ("__address__", host),
            ("__meta_kubernetes_ingress_host", host),
            ("__meta_kubernetes_ingress_path", path),
            ("__meta_kubernetes_ingress_scheme", scheme),
        ])
    };
    let expected = [
        target("a.example", "https", "/x"),
        target("a.example", "https", "/"),
        target("b", "http", "/"),
    ];
    assert_eq!(groups[0].targets, expected);
}

#[tokio::test]
async fn namespaces_and_selectors_are_asked_for_and_a_refusal_is_told() {
    let api = Api::start(json!({"pods": []}));
    let source = Kubernetes {
        namespaces: vec!["one".to_owned(), "two".to_owned()],
        selectors: vec![Selector {
            role: "pod".to_owned(),
            label: "app=x".to_owned(),
            field: "status.phase=Running".to_owned(),
        }],
        ..api.source(Role::Pod)
    };
    assert!(api.groups(source).await.is_empty());
    let heads = api.peer.heads();
    for namespace in ["one", "two"] {
        let expected = format!(
            "GET /api/v1/namespaces/{namespace}/pods?labelSelector=app%3Dx&fieldSelector=status.phase%3DRunning&limit=500 HTTP/1.1"
        );
        assert!(heads.iter().any(|head| head[0] == expected), "{heads:?}");
    }
    assert!(
        heads[0]
            .iter()
            .any(|line| line == "authorization: Bearer tok")
    );
    let tasks = Tasks::new();
    let mut states = start(&tasks, "g", api.source(Role::Service));
    let failed = states.wait_for(|state| state.failure.is_some());
    let state = timeout(PATIENCE, failed).await.unwrap().unwrap().clone();
    assert_eq!(state.groups, None);
    assert_eq!(
        state.failure.as_deref(),
        Some("failed to list or watch services: not here (403)")
    );
    tasks.stop();
}
