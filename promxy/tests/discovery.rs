//! The sources of a group, followed: files that change, break and go, lists behind URLs, and several together.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails where it stands and says what it skipped"
)]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use promxy::{
    config::{Discovery, ServerGroup},
    discovery::{Discovered, Environment, Following, start},
    servergroup::targets::assemble_all,
};
use serde_json::{Value, json};
use shared::{
    lifecycle::Tasks,
    testing::{PATIENCE, eventually, process::Program, wire::free_tcp_port},
};
use support::{bytes_of, client::request, required};
use tokio::{sync::watch, time::timeout};

/// The sources that a group's keys say.
fn group(keys: &str) -> ServerGroup {
    let text = format!("promxy:\n  server_groups:\n  - name: g\n{keys}");
    let mut config = promxy::config::parse(&text).unwrap().config;
    config.server_groups.remove(0)
}

fn sources(keys: &str) -> Vec<Discovery> {
    group(keys).discovery
}

fn follow(keys: &str, tasks: &Tasks) -> watch::Receiver<Arc<Discovered>> {
    start("g", &sources(keys), &Environment::read(|_| None), tasks).unwrap()
}

/// Waits until what is found is as `is` says.
async fn wait_for(
    found: &mut watch::Receiver<Arc<Discovered>>,
    is: impl Fn(&Discovered) -> bool,
) -> Arc<Discovered> {
    let waited = timeout(PATIENCE, found.wait_for(|found| is(found))).await;
    waited.expect("it takes too long").unwrap().clone()
}

fn addresses(found: &Discovered) -> Vec<String> {
    let targets = found.targets();
    targets
        .map(|(target, _)| target.get("__address__").unwrap_or_default().to_owned())
        .collect()
}

/// A server that answers every request with the bytes that are set, and keeps the heads.
struct Web {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let web = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::default(),
            heads: Arc::default(),
        };
        let (answer, heads) = (Arc::clone(&web.answer), Arc::clone(&web.heads));
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                heads.lock().unwrap().push(String::from_utf8(head).unwrap());
                let bytes = answer.lock().unwrap().clone();
                let _gone = stream.write_all(bytes.as_bytes()).is_err();
            }
        });
        web
    }

    fn says(&self, status: &str, kind: &str, body: &str) {
        let length = body.len();
        *self.answer.lock().unwrap() = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }
}

#[tokio::test]
async fn static_configs_are_there_at_once_in_the_order_of_the_file() {
    let tasks = Tasks::new();
    let keys = "    static_configs:\n    - {targets: [b:1, a:1], labels: {x: y}}\n    - {targets: [c:1]}\n";
    let found = follow(keys, &tasks);
    let now = found.borrow().clone();
    assert!(now.is_complete());
    assert_eq!(addresses(&now), ["b:1", "a:1", "c:1"]);
    let targets = assemble_all(&group(keys), now.targets()).unwrap();
    assert_eq!(targets[1].labels.get("x"), Some("y"));
    assert_eq!(targets[2].url, "http://c:1");
    tasks.stop();
}

// The steps of `service_discovery.jsonl`: start, rewritten, broken, emptied, a second file, and one that is gone.
#[tokio::test]
async fn file_sd_follows_files_and_keeps_the_targets_of_a_broken_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let path = |name: &str| folder.path().join(name);
    fs::write(
        path("t.json"),
        r#"[{"targets":["127.0.0.1:25001"],"labels":{"env":"p"}}]"#,
    )
    .unwrap();
    let tasks = Tasks::new();
    let mut found = follow(
        &format!("    file_sd_configs:\n    - {{files: ['{at}/t*.json', '{at}/y.yml']}}\n"),
        &tasks,
    );
    let first = wait_for(&mut found, Discovered::is_complete).await;
    let entry = &first.sources[0].entries[0];
    assert_eq!(entry.labels.get("env"), Some("p"));
    assert_eq!(
        entry.labels.get("__meta_filepath"),
        Some(format!("{at}/t.json").as_str())
    );
    fs::write(
        path("t.json"),
        r#"[{"targets":["127.0.0.1:25002","127.0.0.1:25001"]}]"#,
    )
    .unwrap();
    let two = wait_for(&mut found, |found| addresses(found).len() == 2).await;
    assert_eq!(addresses(&two), ["127.0.0.1:25002", "127.0.0.1:25001"]);
    fs::write(path("t.json"), "[{broken").unwrap();
    let broken = wait_for(&mut found, |found| found.failure().is_some()).await;
    assert_eq!(addresses(&broken), addresses(&two));
    assert!(
        broken.failure().unwrap().contains("t.json: "),
        "{:?}",
        broken.failure()
    );
    fs::write(path("t.json"), "[]").unwrap();
    let empty = wait_for(&mut found, |found| addresses(found).is_empty()).await;
    assert!(empty.is_complete() && empty.failure().is_none());
    fs::write(path("y.yml"), "- targets: ['y:1']\n").unwrap();
    fs::write(path("t2.json"), r#"[{"targets":["j:1"]}]"#).unwrap();
    let three = wait_for(&mut found, |found| addresses(found).len() == 2).await;
    assert_eq!(addresses(&three), ["j:1", "y:1"]);
    fs::remove_file(path("t2.json")).unwrap();
    wait_for(&mut found, |found| addresses(found) == ["y:1"]).await;
    tasks.stop();
}

#[tokio::test]
async fn http_sd_asks_as_prometheus_does_and_keeps_targets_through_failures() {
    let web = Web::start();
    web.says(
        "200 OK",
        "application/json; charset=utf-8",
        r#"[{"targets":["b:1","a:1"],"labels":{"from":"httpsd"}}]"#,
    );
    let tasks = Tasks::new();
    let url = format!("http://{}/sd?x=1", web.address);
    let keys = format!(
        "    http_sd_configs:\n    - {{url: '{url}', refresh_interval: 1s, basic_auth: {{username: u, password: p}}}}\n"
    );
    let mut found = follow(&keys, &tasks);
    let first = wait_for(&mut found, Discovered::is_complete).await;
    assert_eq!(addresses(&first), ["b:1", "a:1"]);
    assert_eq!(
        first.sources[0].entries[0].labels.get("__meta_url"),
        Some(url.as_str())
    );
    let head = web.heads.lock().unwrap()[0].to_lowercase();
    for line in [
        "get /sd?x=1 http/1.1",
        "accept: application/json",
        "x-prometheus-refresh-interval-seconds: 1\r",
        "authorization: basic dtpw",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    for (status, kind, body, expected) in [
        (
            "500 No",
            "application/json",
            "[]",
            "server returned HTTP status 500 Internal Server Error",
        ),
        (
            "200 OK",
            "text/html",
            "[]",
            "unsupported content type \"text/html\"",
        ),
        (
            "200 OK",
            "application/json",
            "[null]",
            "nil target group item found (index 0)",
        ),
    ] {
        web.says(status, kind, body);
        let failed = wait_for(&mut found, |found| found.failure() == Some(expected)).await;
        assert_eq!(addresses(&failed), ["b:1", "a:1"]);
    }
    web.says("200 OK", "application/json", "[]");
    wait_for(&mut found, |found| {
        addresses(found).is_empty() && found.failure().is_none()
    })
    .await;
    tasks.stop();
}

#[tokio::test]
async fn several_sources_stand_in_the_order_of_the_configuration_and_wait_for_nobody() {
    let web = Web::start();
    web.says("503 No", "text/plain", "");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.yml");
    fs::write(&file, "- targets: [f:1]\n").unwrap();
    let keys = format!(
        "    static_configs:\n    - targets: [s:1]\n    http_sd_configs:\n    - {{url: 'http://{}/', refresh_interval: 1s}}\n    file_sd_configs:\n    - files: ['{}']\n",
        web.address,
        file.display()
    );
    let tasks = Tasks::new();
    let discoveries = sources(&keys);
    let environment = Environment::read(|_| None);
    let following = Following::start("g", &discoveries, &environment, &tasks).unwrap();
    let mut found = following.watch();
    assert_eq!(addresses(&found.borrow()), ["s:1"]);
    let known = wait_for(&mut found, |found| {
        addresses(found).len() == 2 && found.failure().is_some()
    })
    .await;
    assert_eq!(addresses(&known), ["f:1", "s:1"]);
    assert!(!known.is_complete());
    web.says("200 OK", "application/json", r#"[{"targets":["h:1"]}]"#);
    let all = wait_for(&mut found, Discovered::is_complete).await;
    assert_eq!(addresses(&all), ["f:1", "h:1", "s:1"]);
    // The same configuration again is the same sources; another one is not.
    assert!(following.is_of(&sources(&keys)));
    assert!(!following.is_of(&sources(&keys.replace("s:1", "s:2"))));
    drop(following);
    let ended = timeout(PATIENCE, async { while found.changed().await.is_ok() {} }).await;
    assert!(ended.is_ok());
    assert_eq!(addresses(&found.borrow()), ["f:1", "h:1", "s:1"]);
}

#[tokio::test]
async fn a_source_that_cannot_be_used_is_refused_before_any_starts() {
    let tasks = Tasks::new();
    let f = |keys: &str, expected: &str| {
        let environment = Environment::read(|_| None);
        let error = start("g", &sources(keys), &environment, &tasks).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(tasks.running(), 0);
    };
    f(
        "    file_sd_configs:\n    - files: [a.json]\n    http_sd_configs:\n    - {url: 'http://x/', tls_config: {ca_file: /none}}\n",
        "unable to read CA cert: unable to read file /none: open /none: no such file or directory",
    );
}

#[tokio::test]
async fn a_source_that_is_out_of_place_fails_for_ever() {
    let tasks = Tasks::new();
    let environment = Environment::read(|_| None);
    let keys = "    kubernetes_sd_configs:\n    - role: pod\n";
    let found = start("g", &sources(keys), &environment, &tasks).unwrap();
    let found = found.borrow();
    assert!(!found.is_complete());
    assert_eq!(
        found.failure(),
        Some(
            "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
        )
    );
}

/// Asks an agent, and returns the answer if it is a 200.
fn ask(port: u16, method: &str, target: &str, body: &str) -> Option<String> {
    let answer = request(port, &bytes_of(method, target, &[], body.as_bytes()))?;
    (answer.status == 200).then(|| answer.text())
}

fn agent(binary: &Path, port: u16) -> Program {
    let [server, lan, wan] = [free_tcp_port(), free_tcp_port(), free_tcp_port()];
    let program = Program::spawn(
        Command::new(binary)
            .args([
                "agent",
                "-dev",
                "-bind=127.0.0.1",
                "-client=127.0.0.1",
                "-node=n1",
                "-dns-port=-1",
                "-grpc-port=-1",
                "-log-level=warn",
            ])
            .args([
                format!("-http-port={port}"),
                format!("-server-port={server}"),
                format!("-serf-lan-port={lan}"),
                format!("-serf-wan-port={wan}"),
            ]),
    );
    eventually("a Consul agent with its node in the catalog", || {
        let nodes = ask(port, "GET", "/v1/catalog/nodes", "")?;
        nodes.contains("\"n1\"").then_some(())
    });
    program
}

fn register(port: u16, id: &str, instance: u16, status: &str, tags: &[&str]) {
    let body: Value = json!({
        "ID": id, "Name": "prom", "Port": instance, "Address": "127.0.0.1", "Tags": tags, "Meta": {"role": "x"},
        "Check": {"CheckID": format!("check-{id}"), "TTL": "1h", "Status": status},
    });
    assert!(ask(port, "PUT", "/v1/agent/service/register", &body.to_string()).is_some());
}

// The labels are those that `service_discovery.jsonl` has recorded at step "consul_sd".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consul_sd_follows_a_real_catalogue_with_all_labels() {
    let Some(binary) = required("CONSUL_BIN") else {
        return;
    };
    let port = free_tcp_port();
    let program = tokio::task::block_in_place(|| agent(&binary, port));
    register(port, "prom1", 25001, "passing", &["prod", "v1"]);
    let tasks = Tasks::new();
    let mut found = follow(
        &format!(
            "    consul_sd_configs:\n    - {{server: '127.0.0.1:{port}', services: [prom], tags: [prod]}}\n"
        ),
        &tasks,
    );
    let first = wait_for(&mut found, |found| addresses(found) == ["127.0.0.1:25001"]).await;
    let entry = &first.sources[0].entries[0];
    let of_entry: Vec<(&str, &str)> = entry.labels.iter().collect();
    assert_eq!(
        of_entry,
        [
            ("__meta_consul_dc", "dc1"),
            ("__meta_consul_service", "prom")
        ]
    );
    let mut of_target: Vec<(&str, &str)> = entry.targets[0].iter().collect();
    // Newer versions say more of themselves.
    of_target.retain(|(name, _)| !name.starts_with("__meta_consul_metadata_"));
    let expected = [
        ("__address__", "127.0.0.1:25001"),
        ("__meta_consul_address", "127.0.0.1"),
        ("__meta_consul_health", "passing"),
        ("__meta_consul_node", "n1"),
        ("__meta_consul_service_address", "127.0.0.1"),
        ("__meta_consul_service_id", "prom1"),
        ("__meta_consul_service_metadata_role", "x"),
        ("__meta_consul_service_port", "25001"),
        ("__meta_consul_tagged_address_lan", "127.0.0.1"),
        ("__meta_consul_tagged_address_lan_ipv4", "127.0.0.1"),
        ("__meta_consul_tagged_address_wan", "127.0.0.1"),
        ("__meta_consul_tagged_address_wan_ipv4", "127.0.0.1"),
        ("__meta_consul_tags", ",prod,v1,"),
    ];
    assert_eq!(of_target, expected);
    // One that fails is a target too, and says so; one without the tag is none.
    register(port, "prom2", 25002, "critical", &["prod"]);
    register(port, "prom3", 25003, "passing", &["test"]);
    let two = wait_for(&mut found, |found| addresses(found).len() == 2).await;
    let targets = &two.sources[0].entries[0].targets;
    let critical = targets
        .iter()
        .find(|target| target.get("__address__") == Some("127.0.0.1:25002"));
    assert_eq!(
        critical.unwrap().get("__meta_consul_health"),
        Some("critical")
    );
    assert!(ask(port, "PUT", "/v1/agent/service/deregister/prom2", "").is_some());
    wait_for(&mut found, |found| addresses(found).len() == 1).await;
    drop(program);
    let gone = wait_for(&mut found, |found| found.failure().is_some()).await;
    assert_eq!(addresses(&gone), ["127.0.0.1:25001"]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(addresses(&found.borrow()), ["127.0.0.1:25001"]);
    tasks.stop();
}
