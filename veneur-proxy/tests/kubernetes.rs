//! Destinations from Kubernetes: recorded answers, watches and endpoint slices, over HTTPS with a service account's token.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

#[path = "support/api.rs"]
mod api;
#[path = "support/outbound.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod outbound;
#[path = "support/peers.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod peers;
mod program;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Mutex,
};

use serde::Deserialize;
use serde_json::{Value, json};
use shared::testing::golden;
use tokio::{sync::mpsc, task::block_in_place};
use veneur_proxy::forward::Inbound;

use api::{Api, Reply};
use outbound::{try_start, until};
use peers::Peer;
use program::{Proxy, get};

fn pods(items: &[Value]) -> Value {
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "10"}, "items": items})
}

fn pod(name: &str, address: SocketAddr, port_name: Option<&str>) -> Value {
    let port = json!({"containerPort": address.port(), "protocol": "TCP", "name": port_name});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "resourceVersion": "9", "labels": {"app": "veneur-global"}},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [port]}]},
        "status": {"phase": "Running", "podIP": address.ip().to_string()},
    })
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

#[derive(Deserialize)]
struct Recorded {
    request: Vec<String>,
    pods: Vec<Value>,
    destinations: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_finds_the_recorded_pods_with_the_recorded_request() {
    let cases: BTreeMap<String, Recorded> = golden::json(support::path("kubernetes/pods.json"));
    for (version, case) in &cases {
        let list = pods(&case.pods);
        let api = Api::start(move |_| Reply::Said(200, list.clone())).await;
        let file = api.file("consul_forward_service_name", "http_address: 127.0.0.1:0\n");
        let variables = api.variables();
        let variables = variables
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        block_in_place(|| {
            let mut proxy = Proxy::start_with(&file, &[], &variables);
            let page = get(proxy.http(), "/metrics").text();
            let found: BTreeSet<&str> = page
                .lines()
                .filter(|line| line.starts_with("veneur_proxy_destination_ring_share{"))
                .map(|line| line.split('"').find(|part| part.contains(':')).unwrap())
                .collect();
            let logged = case.destinations[0].split(['[', ']']).nth(1).unwrap();
            let expected: BTreeSet<&str> = logged.split(' ').collect();
            assert_eq!(found, expected, "{version}\n{page}");
            assert_eq!(proxy.program.terminate().code(), Some(0));
        });
        assert_eq!(api.lines(), BTreeSet::from([case.request[0].clone()]));
        println!("{version}: {} pods", case.pods.len());
    }
    assert_eq!(cases.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_destinations_in_kubernetes_are_dialled_whatever_their_names_begin_with() {
    let peers = [Peer::grpc().await, Peer::grpc().await];
    let [named, unnamed] = [&peers[0], &peers[1]].map(|peer| peer.address);
    let list = pods(&[pod("a", named, Some("grpc")), pod("b", unnamed, None)]);
    let api = Api::start(move |_| Reply::Said(200, list.clone())).await;
    let running = api
        .outbound(
            "consul_forward_grpc_service_name",
            "grpc_address: 127.0.0.1:0\n",
        )
        .await;
    let members = running.destinations.members(Inbound::Unary);
    let expected = BTreeSet::from([named.to_string(), format!("http://{unnamed}")]);
    assert_eq!(BTreeSet::from_iter(members), expected);
    running
        .list(&support::bytes("inputs/synthetic300.metriclist.bin"))
        .await;
    assert_eq!(running.end().await.delivered(), 300);
    let arrived = peers.each_ref().map(Peer::metrics);
    assert_eq!(arrived.iter().sum::<usize>(), 300);
    assert!(arrived.iter().all(|count| *count > 0), "{arrived:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubernetes_watch_follows_pods_as_they_come_and_go() {
    let (events, first) = mpsc::channel(8);
    let watches = Mutex::new(Some(first));
    let listed = pods(&[pod("a", at("10.0.0.1:80"), None)]);
    let api = Api::start(move |target| {
        let watch = target.contains("watch=true");
        match watch.then(|| watches.lock().unwrap().take()).flatten() {
            Some(events) => Reply::Watched(events),
            None if watch => Reply::Said(500, json!({"message": "no more watches"})),
            None => Reply::Said(200, listed.clone()),
        }
    })
    .await;
    let running = api
        .outbound("consul_forward_service_name", "kubernetes_watch: 60s\n")
        .await;
    let ring = async |expected: &[&str]| {
        let expected = expected.iter().map(|name| format!("http://{name}"));
        let expected: BTreeSet<String> = expected.collect();
        until(&format!("{expected:?}"), || {
            BTreeSet::from_iter(running.destinations.members(Inbound::Http)) == expected
        })
        .await;
    };
    ring(&["10.0.0.1:80"]).await;
    let event = |kind: &str, object: Value| json!({"type": kind, "object": object});
    let second = pod("b", at("10.0.0.2:80"), None);
    events.send(event("ADDED", second.clone())).await.unwrap();
    ring(&["10.0.0.1:80", "10.0.0.2:80"]).await;
    let mut failed = pod("a", at("10.0.0.1:80"), None);
    failed["status"]["phase"] = json!("Failed");
    events.send(event("MODIFIED", failed)).await.unwrap();
    ring(&["10.0.0.2:80"]).await;
    let third = pod("c", at("10.0.0.3:80"), None);
    events.send(event("ADDED", third)).await.unwrap();
    ring(&["10.0.0.2:80", "10.0.0.3:80"]).await;
    events.send(event("DELETED", second)).await.unwrap();
    ring(&["10.0.0.3:80"]).await;
    let watch = api
        .lines()
        .into_iter()
        .find(|line| line.contains("watch=true"));
    let watch = watch.unwrap();
    assert!(
        watch.contains("/api/v1/pods?") && watch.contains("resourceVersion=10"),
        "{watch}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubernetes_service_gives_the_ready_endpoints_of_its_slices() {
    let endpoint =
        |ip: &str, ready: bool| json!({"addresses": [ip], "conditions": {"ready": ready}});
    let slices = json!({"metadata": {"resourceVersion": "5"}, "items": [{
        "metadata": {"name": "global-1", "namespace": "monitoring"}, "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": 8128, "protocol": "TCP"}],
        "endpoints": [endpoint("10.0.0.1", true), endpoint("10.0.0.2", false)],
    }]});
    let api = Api::start(move |_| Reply::Said(200, slices.clone())).await;
    let found = async |more: &str| {
        let more = format!("forward_protocol: http\nkubernetes_service: global\n{more}");
        let running = api.outbound("forward_service", &more).await;
        let members = || running.destinations.members(Inbound::Unary);
        until("members", || !members().is_empty()).await;
        members().join(" ")
    };
    assert_eq!(found("").await, "10.0.0.1:8128");
    assert_eq!(
        found("kubernetes_ready: false\n").await,
        "10.0.0.1:8128 10.0.0.2:8128"
    );
    assert_eq!(
        found("kubernetes_namespace: other\n").await,
        "10.0.0.1:8128"
    );
    let path = "/apis/discovery.k8s.io/v1/namespaces";
    let query = "endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dglobal";
    let line = |namespace: &str| format!("GET {path}/{namespace}/{query} HTTP/1.1");
    assert_eq!(
        api.lines(),
        BTreeSet::from([line("monitoring"), line("other")])
    );
}

/// A veneur has both ports; which of them it is depends on what is spoken, not on their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_of_a_service_or_pod_is_the_one_that_fits_the_protocol() {
    let ports = |reversed: bool, key: &str| {
        let mut ports = vec![
            json!({"name": "http", key: 8127, "protocol": "TCP"}),
            json!({"name": "grpc", key: 8128, "protocol": "TCP"}),
            json!({"name": "debug", key: 6060, "protocol": "TCP"}),
        ];
        if reversed {
            ports.reverse();
        }
        ports
    };
    let mut checked = 0;
    for reversed in [false, true] {
        let api = Api::start(move |target| {
            let items = if target.contains("endpointslices") {
                json!([{
                    "metadata": {"name": "global-1", "namespace": "monitoring"}, "addressType": "IPv4",
                    "ports": ports(reversed, "port"),
                    "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}],
                }])
            } else {
                let mut pod = pod("a", at("10.0.0.1:1"), None);
                pod["spec"]["containers"][0]["ports"] = json!(ports(reversed, "containerPort"));
                json!([pod])
            };
            Reply::Said(200, json!({"metadata": {"resourceVersion": "5"}, "items": items}))
        })
        .await;
        for service in ["", "kubernetes_service: global\n"] {
            for (key, more, way, expected) in [
                (
                    "consul_forward_service_name",
                    "",
                    Inbound::Http,
                    "http://10.0.0.1:8127",
                ),
                (
                    "consul_forward_grpc_service_name",
                    "",
                    Inbound::Unary,
                    "10.0.0.1:8128",
                ),
                (
                    "consul_forward_grpc_service_name",
                    "forward_protocol: stream\n",
                    Inbound::Unary,
                    "10.0.0.1:8128",
                ),
                (
                    "consul_forward_grpc_service_name",
                    "forward_protocol: http\n",
                    Inbound::Unary,
                    "http://10.0.0.1:8127",
                ),
                (
                    "forward_service",
                    "forward_protocol: http\nkubernetes_ready: false\n",
                    Inbound::Unary,
                    "10.0.0.1:8127",
                ),
            ] {
                let running = api.outbound(key, &format!("{service}{more}")).await;
                until(expected, || !running.destinations.members(way).is_empty()).await;
                let found = running.destinations.members(way);
                assert_eq!(
                    found,
                    [expected],
                    "{key} {service} {more} reversed: {reversed}"
                );
                checked += 1;
            }
        }
    }
    println!("ports by protocol: {checked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_and_empty_answers_of_kubernetes_keep_the_last_members() {
    let steps = Mutex::new(vec![
        Reply::Said(200, pods(&[pod("b", at("10.0.0.2:80"), None)])),
        Reply::Said(200, pods(&[])),
        Reply::Said(403, json!({"message": "forbidden"})),
        Reply::Said(200, pods(&[pod("a", at("10.0.0.1:80"), None)])),
    ]);
    let api = Api::start(move |_| {
        let mut steps = steps.lock().unwrap();
        match &steps[..] {
            // The last answer stays.
            [Reply::Said(status, object)] => Reply::Said(*status, object.clone()),
            _ => steps.pop().unwrap(),
        }
    })
    .await;
    let running = api.outbound("consul_forward_service_name", "").await;
    let members = || running.destinations.members(Inbound::Http);
    assert_eq!(members(), ["http://10.0.0.1:80"]);
    until("the fourth answer", || {
        let now = members();
        assert_eq!(now.len(), 1, "{now:?}");
        now == ["http://10.0.0.2:80"]
    })
    .await;
    assert!(api.heads.lock().unwrap().len() >= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_service_account_or_a_wish_in_a_stream_file_consul_is_asked() {
    let destination = at("127.0.0.1:9");
    let consul = peers::consul(&[destination]).await;
    let variables = [("CONSUL_HTTP_ADDR", consul.address.to_string())];
    let dual = "consul_forward_service_name: x\nconsul_refresh_interval: 1s\nkubernetes_service_account: /nowhere\n";
    let running = try_start(dual, &variables, None).await.unwrap();
    assert_eq!(
        running.destinations.members(Inbound::Http),
        [destination.to_string()]
    );
    let stream = "forward_service: x\ndiscovery_interval: 1s\nforward_protocol: http\n";
    let running = try_start(stream, &variables, None).await.unwrap();
    until("a member", || {
        running.destinations.members(Inbound::Unary) == [destination.to_string()]
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = dual.replace("/nowhere", folder.path().to_str().unwrap());
    let broken = try_start(&file, &variables, None).await;
    let refused = broken.err().unwrap().to_string();
    assert!(refused.contains("KUBERNETES_SERVICE_HOST"), "{refused}");
}
