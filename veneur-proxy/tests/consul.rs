//! Consul through the real program: recorded transcripts, with a relay in Consul's place that gives the recorded answers, and
//! a real agent (`CONSUL_BIN`; an error without it where `REQUIRE_REAL_SERVERS=1`).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

#[path = "support/peers.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod peers;
mod program;
mod support;

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
};

use axum::{Json, Router, extract::RawQuery, response::IntoResponse as _, routing};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    http::{Limits, serve},
    lifecycle::Tasks,
    testing::{PATIENCE, eventually, golden, process::Program, wire::free_tcp_port},
};
use tokio::{net::TcpListener, sync::watch, task::block_in_place};

use peers::{Manner, Peer};
use program::{Proxy, get, post};

#[derive(Deserialize)]
struct Step {
    #[serde(rename = "step")]
    name: String,
    request: Vec<String>,
    response_head: Vec<String>,
    response_body: Value,
    log: Vec<String>,
}

/// The answer of a step, not compressed.
fn answer(step: &Step) -> Manner {
    if step.response_head[0].starts_with('(') {
        return Manner::Resets;
    }
    let (kind, body) = match &step.response_body {
        Value::String(text) => ("text/plain", text.clone()),
        list => ("application/json", list.to_string()),
    };
    // A body that was cut off had a length that was right for it.
    Manner::Answers(format!(
        "{}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        step.response_head[0],
        body.len()
    ))
}

fn members(step: &Step) -> Option<BTreeSet<String>> {
    let entries = step.response_body.as_array()?;
    let members = entries.iter().map(|entry| {
        let address = entry["Node"]["Address"].as_str().unwrap();
        format!("{address}:{}", entry["Service"]["Port"])
    });
    Some(members.collect()).filter(|members: &BTreeSet<String>| !members.is_empty())
}

/// The ring as `/metrics` shows it.
fn ring(address: SocketAddr) -> BTreeSet<String> {
    let page = get(address, "/metrics").text();
    let shares = page
        .lines()
        .filter_map(|line| line.strip_prefix("veneur_proxy_destination_ring_share{destination=\""));
    shares
        .filter(|line| !line.ends_with(" 0"))
        .map(|line| {
            line.split_once('"')
                .unwrap()
                .0
                .trim_start_matches("http://")
                .to_owned()
        })
        .collect()
}

/// What stands for one failure in the log: the original's texts of its own and of Consul's client.
fn fixed_errors(step: &Step) -> Option<&'static str> {
    let log = step.log.join("\n");
    [
        "eceived no hosts from Consul",
        "Unexpected response code: 500 (No leader)",
    ]
    .into_iter()
    .find(|text| log.contains(text))
}

async fn replay(version: &str, file: &str) {
    let steps: Vec<Step> =
        golden::json_lines(support::path(&format!("consul/transcript-{version}.jsonl")));
    let catalogue = Peer::http().await;
    catalogue.behave(answer(&steps[0]));
    let mut proxy = block_in_place(|| {
        Proxy::start_with(
            file,
            &[],
            &[("CONSUL_HTTP_ADDR", &catalogue.address.to_string())],
        )
    });
    let address = block_in_place(|| proxy.http());
    let (mut checked, mut kept) = (0, 0);
    let mut last = BTreeSet::new();
    for step in &steps {
        let before = catalogue.posted().len();
        let logged = proxy.program.stderr().len();
        catalogue.behave(answer(step));
        let expected = members(step).unwrap_or_else(|| {
            kept += 1;
            last.clone()
        });
        block_in_place(|| {
            eventually(&format!("{version} {}", step.name), || {
                // A relay that closes keeps no request; the failure is seen in the log.
                let resets = answer(step) == Manner::Resets;
                let asked = catalogue.posted().len() > before + 1;
                let failed = proxy.program.stderr()[logged..]
                    .iter()
                    .any(|line| line.contains("level=error"));
                (if resets { failed } else { asked } && ring(address) == expected).then_some(())
            });
        });
        if let Some(posted) = catalogue.posted().last() {
            let shape = |head: &[String]| -> BTreeSet<String> {
                let lines = head
                    .iter()
                    .filter(|line| !line.to_lowercase().starts_with("host:"));
                lines.map(|line| line.to_lowercase()).collect()
            };
            let ours = shape(&posted.head);
            let mut expected = shape(&step.request);
            // A client that does not take compressed answers need not ask for them.
            if !ours.iter().any(|line| line.starts_with("accept-encoding")) {
                expected.retain(|line| !line.starts_with("accept-encoding"));
            }
            let ours: BTreeSet<String> = ours
                .into_iter()
                .filter(|line| !line.starts_with("accept:"))
                .collect();
            assert_eq!(ours, expected, "{version} {}", step.name);
        }
        if let Some(text) = fixed_errors(step) {
            let said = proxy.program.stderr();
            let said = said[logged..].iter().find(|line| line.contains(text));
            let said = said.unwrap_or_else(|| panic!("{version} {}: no {text:?}", step.name));
            let words = if version == "v14" {
                "failed discover destinations"
            } else {
                "Destinations may be stale!"
            };
            assert!(said.contains(words), "{said}");
        }
        last = expected;
        checked += 1;
    }
    block_in_place(|| assert_eq!(proxy.program.terminate().code(), Some(0)));
    println!("{version}: {checked} steps, members kept in {kept}");
    assert!(checked >= 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dual_proxies_follow_the_recorded_transcripts() {
    let file = "http_address: 127.0.0.1:0\nconsul_forward_service_name: veneur-global\nconsul_refresh_interval: 100ms\n";
    for version in ["v1.9.0", "v13.2.0"] {
        replay(version, file).await;
    }
}

/// The stream proxy's destinations join when they are connected, so here they are spoken to by HTTP, which needs no connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_proxies_follow_the_recorded_transcript() {
    let file = "http_address: 127.0.0.1:0\nforward_service: veneur-global\ndiscovery_interval: 100ms\nforward_protocol: http\n";
    replay("v14", file).await;
}

/// Asks the agent, apart from what is under test.
fn ask(port: u16, method: &str, target: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!(
        "{method} {target} HTTP/1.0\r\nHost: consul\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer
        .split_once(' ')?
        .1
        .starts_with("200")
        .then_some(answer)
}

/// A Consul that answers blocking queries: at once if the index is not its own, else when there is news.
struct Blocking {
    address: SocketAddr,
    /// The index and the destinations.
    now: watch::Sender<(u64, Vec<SocketAddr>)>,
    queries: Arc<Mutex<Vec<String>>>,
    tasks: Tasks,
}

impl Blocking {
    async fn start(first: &[SocketAddr]) -> Self {
        let (now, seen) = watch::channel((1, first.to_vec()));
        let queries: Arc<Mutex<Vec<String>>> = Arc::default();
        let asked = Arc::clone(&queries);
        let answer = move |RawQuery(query): RawQuery| {
            let query = query.unwrap_or_default();
            asked.lock().unwrap().push(query.clone());
            let mut seen = seen.clone();
            async move {
                let known = query
                    .split('&')
                    .find_map(|part| part.strip_prefix("index="));
                let known = known.map_or(0, |index| index.parse::<u64>().unwrap());
                let (index, addresses) = seen
                    .wait_for(|(index, _)| *index != known)
                    .await
                    .unwrap()
                    .clone();
                let entries = addresses.iter().map(|address| {
                    json!({
                        "Node": {"Node": "n", "Address": address.ip()},
                        "Service": {"ID": address, "Service": "g", "Address": "", "Port": address.port()},
                        "Checks": [],
                    })
                });
                let index = [("X-Consul-Index", index.to_string())];
                (index, Json(entries.collect::<Vec<_>>())).into_response()
            }
        };
        let router = Router::new().route("/v1/health/service/g", routing::get(answer));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, tasks) = (listener.local_addr().unwrap(), Tasks::new());
        serve(&tasks, listener, router, Limits::ADMIN);
        Self {
            address,
            now,
            queries,
            tasks,
        }
    }

    fn tell(&self, addresses: &[SocketAddr]) {
        self.now
            .send_modify(|now| *now = (now.0 + 1, addresses.to_vec()));
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// The interval is so long that only an answer to a blocking query can bring the news.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consul_blocking_wait_brings_changes_as_they_happen() {
    let peers = [Peer::http().await, Peer::http().await];
    let [first, second] = peers.each_ref().map(|peer| peer.address);
    let consul = Blocking::start(&[first]).await;
    let file = "http_address: 127.0.0.1:0\nconsul_forward_service_name: g\nconsul_refresh_interval: 1h\nconsul_blocking_wait: 90s\n";
    block_in_place(|| {
        let variables = [("CONSUL_HTTP_ADDR", &*consul.address.to_string())];
        let mut proxy = Proxy::start_with(file, &[], &variables);
        let address = proxy.http();
        let reached = |expected: &[SocketAddr]| {
            let names: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
            eventually("the ring", || (ring(address) == names).then_some(()));
        };
        reached(&[first]);
        consul.tell(&[first, second]);
        reached(&[first, second]);
        // Nobody is no news: the last members stay.
        consul.tell(&[]);
        proxy.program.wait_for_line("Received no hosts from Consul");
        reached(&[first, second]);
        let body = support::bytes("inputs/synthetic300.json");
        assert_eq!(post(address, "", &body).status, 202);
        eventually("300 metrics", || {
            (peers.iter().map(Peer::metrics).sum::<usize>() == 300).then_some(())
        });
        assert_eq!(proxy.program.terminate().code(), Some(0));
    });
    let queries = consul.queries.lock().unwrap().clone();
    let index = |number: u64| format!("index={number}");
    assert!(!queries[0].contains("index="), "{queries:?}");
    for (query, number) in queries[1..].iter().zip(1..) {
        assert!(query.contains(&index(number)), "{queries:?}");
        assert!(query.contains("wait=90"), "{queries:?}");
    }
    println!("blocking queries: {queries:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_consul_is_followed_and_survivors_keep_their_metrics() {
    follow_a_real_consul("consul_refresh_interval: 200ms").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_consul_is_followed_by_consul_blocking_wait() {
    follow_a_real_consul("consul_refresh_interval: 1h\nconsul_blocking_wait: 60s").await;
}

async fn follow_a_real_consul(asking: &str) {
    let Some(binary) = std::env::var_os("CONSUL_BIN") else {
        let required = std::env::var("REQUIRE_REAL_SERVERS").as_deref() == Ok("1");
        assert!(!required, "CONSUL_BIN is not set");
        println!("skipped: CONSUL_BIN does not say where the program consul is");
        return;
    };
    let peers = [Peer::http().await, Peer::http().await, Peer::http().await];
    let port = free_tcp_port();
    let body = support::bytes("inputs/synthetic300.json");
    block_in_place(|| {
        let [server, serf_lan, serf_wan] = [free_tcp_port(), free_tcp_port(), free_tcp_port()];
        let mut agent = Program::spawn(
            Command::new(&binary)
                .args([
                    "agent",
                    "-dev",
                    "-bind=127.0.0.1",
                    "-client=127.0.0.1",
                    "-node=test",
                    "-dns-port=-1",
                    "-grpc-port=-1",
                    "-log-level=warn",
                ])
                .args(["-hcl", "performance { raft_multiplier = 1 }"])
                .args([
                    format!("-http-port={port}"),
                    format!("-server-port={server}"),
                    format!("-serf-lan-port={serf_lan}"),
                    format!("-serf-wan-port={serf_wan}"),
                ]),
        );
        eventually("an agent", || {
            ask(port, "GET", "/v1/catalog/nodes", "")?
                .contains("\"test\"")
                .then_some(())
        });
        let put = |target: &str, body: &Value| {
            assert!(
                ask(port, "PUT", target, &body.to_string()).is_some(),
                "{target}"
            );
        };
        let register = |peer: &Peer| {
            let port = peer.address.port();
            let check =
                json!({"CheckID": format!("check-{port}"), "TTL": "1h", "Status": "passing"});
            put(
                "/v1/agent/service/register",
                &json!({"ID": format!("s-{port}"), "Name": "global", "Port": port, "Check": check}),
            );
        };
        peers.iter().for_each(register);
        let name = |peer: &Peer| peer.address.to_string();
        let file =
            format!("http_address: 127.0.0.1:0\nconsul_forward_service_name: global\n{asking}\n");
        let mut proxy = Proxy::start_with(
            &file,
            &[],
            &[("CONSUL_HTTP_ADDR", &format!("127.0.0.1:{port}"))],
        );
        let address = proxy.http();
        let reached = |step: &str, expected: &[&Peer]| {
            let expected: BTreeSet<String> = expected.iter().map(|peer| name(peer)).collect();
            eventually(step, || (ring(address) == expected).then_some(()));
        };
        // Which metrics a destination got of one more batch.
        let batch = || -> Vec<BTreeSet<String>> {
            let before: Vec<usize> = peers.iter().map(|peer| peer.posted().len()).collect();
            let total = || peers.iter().map(Peer::metrics).sum::<usize>();
            let had = total();
            assert_eq!(post(address, "", &body).status, 202);
            eventually("a batch", || (total() == had + 300).then_some(()));
            let of = |(peer, before): (&Peer, usize)| {
                let posted = peer.posted();
                let elements = posted[before..]
                    .iter()
                    .flat_map(|posted| serde_json::from_str::<Vec<Value>>(&posted.text()).unwrap());
                elements.map(|element| element.to_string()).collect()
            };
            peers.iter().zip(before).map(of).collect()
        };
        let [first, second, third] = &peers;
        reached("all three", &[first, second, third]);
        let all = batch();
        put(
            &format!("/v1/agent/check/fail/check-{}", second.address.port()),
            &Value::Null,
        );
        reached("without the critical one", &[first, third]);
        let without = batch();
        for place in [0, 2] {
            assert!(
                without[place].is_superset(&all[place]),
                "a survivor's metric moved"
            );
        }
        assert!(without[1].is_empty());
        put(
            &format!("/v1/agent/check/pass/check-{}", second.address.port()),
            &Value::Null,
        );
        reached("back again", &[first, second, third]);
        assert_eq!(batch(), all);
        put(
            &format!("/v1/agent/service/deregister/s-{}", third.address.port()),
            &Value::Null,
        );
        reached("one deregistered", &[first, second]);
        agent.kill();
        proxy.program.wait_for_line("Destinations may be stale!");
        reached("and kept without an agent", &[first, second]);
        assert_eq!(batch().iter().map(BTreeSet::len).sum::<usize>(), 300);
        assert_eq!(proxy.program.terminate().code(), Some(0));
        println!("real Consul, {asking:?}: followed; 300 metrics stay where they were");
    });
}
