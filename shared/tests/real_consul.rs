//! Against the real thing: a Consul agent in development mode on loopback, polled and long-polled.
//!
//! Needs `CONSUL_BIN`, the path of the program. Skipped with a visible line where that is not set; an error where
//! `REQUIRE_REAL_SERVERS=1` asks for it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it skipped and fails where it stands"
)]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use shared::{
    discovery::{
        Discovery, Empty, Metrics, Plan, Schedule, Snapshot,
        consul::{Asking, Consul, Service, Settings},
    },
    lifecycle::Tasks,
    testing::{PATIENCE, eventually, process::Program, wire::free_tcp_port},
};
use tokio::{task::block_in_place, time::timeout};

/// The program, or nothing to skip.
fn binary() -> Option<PathBuf> {
    let path = std::env::var_os("CONSUL_BIN").map(PathBuf::from);
    if path.is_none() {
        let required = std::env::var("REQUIRE_REAL_SERVERS").as_deref() == Ok("1");
        assert!(!required, "CONSUL_BIN is not set");
        println!("skipped: CONSUL_BIN does not say where the program consul is");
    }
    path
}

/// A running agent.
struct Agent {
    program: Program,
    port: u16,
}

impl Agent {
    /// Starts an agent that answers HTTP on `port`, and waits until it leads itself.
    fn start(binary: &PathBuf, port: u16) -> Self {
        let [server, serf_lan, serf_wan] = [free_tcp_port(), free_tcp_port(), free_tcp_port()];
        let ports = [
            format!("-http-port={port}"),
            format!("-server-port={server}"),
            format!("-serf-lan-port={serf_lan}"),
            format!("-serf-wan-port={serf_wan}"),
        ];
        let program = Program::spawn(
            Command::new(binary)
                .args([
                    "agent",
                    "-dev",
                    "-bind=127.0.0.1",
                    "-client=127.0.0.1",
                    "-node=test",
                ])
                .args(["-dns-port=-1", "-grpc-port=-1", "-log-level=warn"])
                .args(["-hcl", "performance { raft_multiplier = 1 }"])
                .args(ports),
        );
        let agent = Self { program, port };
        eventually("a Consul agent with its node in the catalog", || {
            let nodes = agent.ask("GET", "/v1/catalog/nodes", "")?;
            nodes.contains("\"test\"").then_some(())
        });
        agent
    }

    /// Asks the agent, apart from what is under test, and returns the answer if it is a 200.
    fn ask(&self, method: &str, target: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.0\r\nHost: consul\r\nContent-Length: {length}\r\n\r\n{body}"
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

    fn put(&self, target: &str, body: &Value) {
        let answer = self.ask("PUT", target, &body.to_string());
        assert!(answer.is_some(), "PUT {target}");
    }

    /// Registers an instance whose check passes for an hour.
    fn register(&self, port: u16) {
        let body = json!({
            "ID": format!("global-{port}"), "Name": "global", "Port": port, "Address": "127.0.0.9",
            "Tags": ["blue"],
            "Check": { "CheckID": format!("check-{port}"), "TTL": "1h", "Status": "passing" },
        });
        self.put("/v1/agent/service/register", &body);
    }
}

/// A service that is followed, and what the watch must show.
struct Following {
    tasks: Tasks,
    discovery: Discovery,
    /// How long the longest successful look-up took.
    longest: Arc<Mutex<Duration>>,
}

impl Following {
    fn start(port: u16, asking: Asking, schedule: Schedule) -> Self {
        let settings = Settings::from_variables("test", |name| {
            (name == "CONSUL_HTTP_ADDR").then(|| format!("127.0.0.1:{port}"))
        });
        let (name, datacenter) = ("global".to_owned(), Some("dc1".to_owned()));
        let service = Service { name, datacenter };
        let consul = Consul::new(&settings.unwrap(), service, asking).unwrap();
        let plan = Plan {
            schedule,
            deadline: Duration::from_secs(5),
            empty: Empty::Fails,
        };
        let (tasks, metrics) = (Tasks::new(), Metrics::new("test"));
        let longest = Arc::<Mutex<Duration>>::default();
        let discovery = Discovery::start(&tasks, &metrics, "global", plan, consul, {
            let longest = Arc::clone(&longest);
            move |refresh| {
                if refresh.result.is_ok() {
                    let mut longest = longest.lock().unwrap();
                    *longest = refresh.took.max(*longest);
                }
            }
        });
        Self {
            tasks,
            discovery,
            longest,
        }
    }

    /// Waits for exactly the members on `ports`.
    async fn expect(&self, step: &str, ports: &[u16]) -> Snapshot {
        let expected: Vec<_> = ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let mut watch = self.discovery.watch();
        let reached = timeout(
            PATIENCE,
            watch.wait_for(|snapshot| snapshot.addresses().eq(&expected)),
        );
        let Ok(reached) = reached.await else {
            panic!(
                "{step}: expected {expected:?}, got {:?}",
                self.discovery.snapshot()
            );
        };
        println!("{step}: {expected:?}");
        reached.unwrap().clone()
    }

    /// Waits until a look-up has failed with a text that contains `reason`.
    async fn expect_failure(&self, step: &str, reason: &str) {
        let mut outcomes = self.discovery.outcomes();
        let failed = outcomes.wait_for(|outcome| match outcome {
            Some(Err(error)) => error.to_string().contains(reason),
            _ => false,
        });
        let failed = timeout(PATIENCE, failed).await;
        assert!(failed.is_ok(), "{step}: no failure");
        println!("{step}: failed as it should");
    }
}

async fn membership(asking: Asking, schedule: Schedule) {
    let Some(binary) = binary() else { return };
    let port = free_tcp_port();
    let mut agent = block_in_place(|| Agent::start(&binary, port));
    let following = Following::start(port, asking, schedule);
    following
        .expect_failure("nothing registered", "no members")
        .await;
    agent.register(8101);
    agent.register(8102);
    let snapshot = following.expect("two registered", &[8101, 8102]).await;
    assert!(snapshot.version() > Some(0));
    let label = |name: &str| snapshot.members()[0].labels.get(name).map(String::as_str);
    assert_eq!(label("__meta_consul_service_address"), Some("127.0.0.9"));
    assert_eq!(label("__meta_consul_tags"), Some(",blue,"));
    assert_eq!(label("__meta_consul_dc"), Some("dc1"));
    agent.register(8103);
    following
        .expect("a third registered", &[8101, 8102, 8103])
        .await;
    agent.put("/v1/agent/check/fail/check-8101", &Value::Null);
    following.expect("the first critical", &[8102, 8103]).await;
    agent.put("/v1/agent/check/warn/check-8102", &Value::Null);
    following.expect("the second warning", &[8103]).await;
    agent.put("/v1/agent/check/pass/check-8101", &Value::Null);
    following
        .expect("the first passing again", &[8101, 8103])
        .await;
    agent.put(
        "/v1/agent/service/maintenance/global-8103?enable=true",
        &Value::Null,
    );
    following.expect("the third in maintenance", &[8101]).await;
    agent.put("/v1/agent/service/deregister/global-8101", &Value::Null);
    following
        .expect_failure("the last deregistered", "no members")
        .await;
    following.expect("and kept", &[8101]).await;
    agent.register(8104);
    following.expect("another registered", &[8104]).await;

    if let Asking::Blocking { wait } = asking {
        block_in_place(|| {
            eventually(
                "Consul to answer, after the wait, that nothing changed",
                || (*following.longest.lock().unwrap() >= wait).then_some(()),
            );
        });
        println!("nothing changed: {:?}", following.longest.lock().unwrap());
    }

    block_in_place(|| agent.program.terminate());
    following.expect_failure("the agent stopped", "error").await;
    following.expect("and its members kept", &[8104]).await;
    // A new agent counts from the beginning: the index goes backwards.
    let agent = block_in_place(|| Agent::start(&binary, port));
    agent.register(8104);
    agent.register(8105);
    following.expect("the agent back", &[8104, 8105]).await;
    following.tasks.stop();
    let drained = following.tasks.drain(PATIENCE).await;
    assert_eq!(drained, shared::lifecycle::Drained::Completely);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polling_follows_a_real_agent_and_outlives_it() {
    let interval = Duration::from_millis(100);
    membership(Asking::Polling, Schedule::Every(interval)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_polls_follow_a_real_agent_and_outlive_it() {
    let wait = Duration::from_secs(2);
    let retry = Duration::from_millis(100);
    membership(Asking::Blocking { wait }, Schedule::LongPoll { retry }).await;
}
