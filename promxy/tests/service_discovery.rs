//! `service_discovery.jsonl`, line by line: what discovery finds comes out as labels of series, and its changes follow.
//!
//! Meta labels are copied to labels of series (`d_...`) by relabelling, as in the recorded configurations. Two servers stand for the
//! recorded ones, a third for what names them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod support;

use std::{
    fs,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use shared::testing::eventually;
use tempfile::TempDir;

use support::{
    Promxy, golden,
    stub::{Reply, Stub},
};

/// The recorded servers.
const RECORDED: [u16; 2] = [25001, 25002];

/// Steps that show something else: the step, the key, the reason.
const DEVIATIONS: &[(&str, &str, &str)] = &[
    (
        "file_sd file broken",
        "logs",
        "the syntax of JSON is told in our library's words",
    ),
    (
        "http_sd request headers",
        "User-Agent",
        "each program has its own name",
    ),
    (
        "dns_sd type A localhost (needs a resolver that answers; otherwise zero targets)",
        "targets",
        "not run: what `localhost` is depends on the machine's resolver",
    ),
    (
        "consul gone: targets kept",
        "logs",
        "the failure is logged, where the original says nothing",
    ),
];

/// What was recorded, and what differs.
struct Replay {
    lines: Vec<Value>,
    servers: [Stub; 2],
    seen: Mutex<Vec<String>>,
    failures: Mutex<Vec<String>>,
}

/// A server with the metric of two others.
fn server() -> Stub {
    Stub::start(|asked| {
        let series = RECORDED.map(|port| {
            format!(
                r#"{{"metric":{{"__name__":"prometheus_ready","instance":"127.0.0.1:{port}","job":"prometheus"}},"value":[1,"1"]}}"#
            )
        });
        let data = match asked.path() {
            "/api/v1/query" => format!(
                r#"{{"resultType":"vector","result":[{}]}}"#,
                series.join(",")
            ),
            _ => "[]".to_owned(),
        };
        Reply::json(format!(r#"{{"status":"success","data":{data}}}"#))
    })
}

impl Replay {
    fn start() -> Self {
        Self {
            lines: golden("service_discovery.jsonl"),
            servers: [server(), server()],
            seen: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    fn address(&self, number: usize) -> String {
        format!("127.0.0.1:{}", self.servers[number].port)
    }

    fn recorded(&self, step: &str) -> &Value {
        let mut lines = self.lines.iter();
        lines.find(|line| line["step"] == step).unwrap()
    }

    /// Waits until a step shows as many targets as recorded, and compares the series, with the recorded places in place of ours.
    fn step(&self, promxy: &Promxy, step: &str, replaced: &[(String, String)]) {
        let recorded = self.recorded(step);
        let targets = recorded["targets"].as_array().unwrap();
        let targets: Vec<&str> = targets.iter().map(|line| line.as_str().unwrap()).collect();
        let back = |text: String| {
            let mut text = text;
            for (ours, theirs) in replaced {
                text = text.replace(ours, theirs);
            }
            for (number, port) in RECORDED.iter().enumerate() {
                text = text.replace(&self.address(number), &format!("127.0.0.1:{port}"));
            }
            text
        };
        let expected = recorded.get("series").map(sorted);
        let shown = || {
            let answer = promxy.get("/api/v1/query?query=prometheus_ready&time=1");
            let answer: Value = serde_json::from_str(&back(answer.text())).unwrap();
            let series = answer["data"]["result"].as_array().cloned();
            let series = series.unwrap_or_default().into_iter();
            let labels = series.map(|series| series["metric"].clone()).collect();
            (promxy.metrics("server_group_targets"), sorted(&labels))
        };
        eventually(&format!("{step}: {targets:?}"), || {
            let (found, series) = shown();
            let is_same = found == targets && expected.as_ref().is_none_or(|e| *e == series);
            is_same.then_some(())
        });
        self.seen.lock().unwrap().push(step.to_owned());
    }

    fn differs(&self, step: &str, key: &str, difference: Option<String>) {
        let is_known = DEVIATIONS
            .iter()
            .any(|known| (known.0, known.1) == (step, key));
        let failure = match (difference, is_known) {
            (None, false) | (Some(_), true) => return,
            (None, true) => format!("{step:?} {key} does not deviate any more"),
            (Some(difference), false) => format!("{step:?} {key}: {difference}"),
        };
        self.failures.lock().unwrap().push(failure);
    }

    /// Looks for the recorded line of a log that says something.
    fn log(&self, promxy: &Promxy, step: &str, text: &str) {
        let line = promxy.program.wait_for_line(text);
        let rest = |line: &str| line.split_once("level=").map(|(_, rest)| rest.to_owned());
        let recorded = self.recorded(step)["logs"].as_str().unwrap();
        let mut expected = recorded
            .lines()
            .filter(|line| line.contains(text))
            .filter_map(rest);
        let got = rest(&line).unwrap();
        let is_same = expected.any(|line| line == got);
        self.differs(
            step,
            "logs",
            (!is_same).then(|| format!("expected one of {recorded}\ngot {got}")),
        );
    }
}

/// Starts promxy with one source, whose meta labels become labels of series.
fn promxy(folder: TempDir, group: &str, source: &str) -> Promxy {
    let config = format!(
        "promxy:\n  server_groups:\n  - {group}\n    relabel_configs:\n    - {{action: labelmap, regex: __(.+), replacement: d_$1}}\n    {source}\n"
    );
    Promxy::start_in(folder, &config, &[], &[])
}

fn sorted(series: &Value) -> Vec<String> {
    let mut series: Vec<String> = series
        .as_array()
        .unwrap()
        .iter()
        .map(Value::to_string)
        .collect();
    series.sort();
    series
}

#[test]
fn discovery_shows_what_was_recorded() {
    let replay = Replay::start();
    files(&replay);
    http(&replay);
    consul(&replay);
    // What `localhost` is, the machine's resolver says.
    let dns = DEVIATIONS[2].0;
    replay.seen.lock().unwrap().push(dns.to_owned());
    let seen = replay.seen.into_inner().unwrap();
    let failures = replay.failures.into_inner().unwrap();
    let lines = replay.lines.len();
    println!(
        "service_discovery.jsonl: {} of {lines} steps the same, {} but for a key in the table of deviations",
        lines - DEVIATIONS.len(),
        DEVIATIONS.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    for line in &replay.lines {
        assert!(
            seen.contains(&line["step"].as_str().unwrap().to_owned()),
            "{line}"
        );
    }
}

fn files(replay: &Replay) {
    let (first, second) = (replay.address(0), replay.address(1));
    let folder = TempDir::new().unwrap();
    let place = folder.path().to_owned();
    // Written beside and moved, so that nobody reads half of it.
    let write = |name: &str, text: &str| {
        fs::write(place.join("new"), text).unwrap();
        fs::rename(place.join("new"), place.join(name)).unwrap();
    };
    let one = json!([{"targets": [first], "labels": {"env": "p"}}]);
    write("t.json", &one.to_string());
    let source = "file_sd_configs: [{files: ['t*.json'], refresh_interval: 1s}]";
    let promxy = promxy(folder, "name: f", source);
    replay.step(&promxy, "file_sd start", &[]);
    write("t.json", &json!([{"targets": [first, second]}]).to_string());
    replay.step(&promxy, "file_sd file rewritten with two targets", &[]);
    write("t.json", "[{b");
    replay.log(&promxy, "file_sd file broken", "err=");
    replay.step(&promxy, "file_sd file broken", &[]);
    write("t.json", "[]");
    replay.step(&promxy, "file_sd file emptied", &[]);
    replay.log(
        &promxy,
        "file_sd file emptied",
        "transitioned to zero targets",
    );
    write("t2.json", &json!([{"targets": [second]}]).to_string());
    replay.step(&promxy, "file_sd second file appears", &[]);
}

fn http(replay: &Replay) {
    let groups = json!([{"targets": [replay.address(0)], "labels": {"from": "httpsd"}}]);
    let source = Stub::start(move |_| Reply::json(groups.to_string()));
    let place = format!("127.0.0.1:{}", source.port);
    let keys = format!("http_sd_configs: [{{url: 'http://{place}/sd?x=1', refresh_interval: 5s}}]");
    let promxy = promxy(TempDir::new().unwrap(), "scheme: http", &keys);
    let replaced = [(place, "127.0.0.1:25092".to_owned())];
    replay.step(&promxy, "http_sd", &replaced);
    let step = "http_sd request headers";
    let recorded = &replay.recorded(step)["request"];
    let asked = source.asked().remove(0);
    assert_eq!(recorded["method"], asked.method.as_str());
    assert_eq!(recorded["path"], asked.target.as_str());
    for (name, value) in recorded["headers"].as_object().unwrap() {
        if name == "Host" {
            continue;
        }
        let got = asked.header(&name.to_ascii_lowercase());
        let is_same = got == value.as_str();
        let difference = (!is_same).then(|| format!("expected {value}, got {got:?}"));
        replay.differs(step, name, difference);
    }
    replay.seen.lock().unwrap().push(step.to_owned());
}

/// What Consul says of an instance, as far as the recorded labels show it.
fn instance(id: &str, address: &str) -> Value {
    let port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let host = "127.0.0.1";
    json!({
        "Node": {
            "Node": "n1", "Address": host, "Datacenter": "dc1", "Meta": {},
            "TaggedAddresses": {"lan": host, "lan_ipv4": host, "wan": host, "wan_ipv4": host},
        },
        "Service": {
            "ID": id, "Service": "prom", "Tags": ["prod", "v1"], "Address": host, "Port": port, "Meta": {"role": "x"},
        },
        "Checks": [{"Status": "passing", "ServiceID": id}],
    })
}

fn consul(replay: &Replay) {
    let instances = Arc::new(Mutex::new(vec![instance("prom1", &replay.address(0))]));
    let listed = Arc::clone(&instances);
    let agent = Stub::start(move |asked| match asked.path() {
        "/v1/catalog/services" => Reply::json(r#"{"consul":[],"prom":["prod","v1"]}"#),
        "/v1/agent/self" => Reply::json(r#"{"Config":{"Datacenter":"dc1"}}"#),
        "/v1/health/service/prom" => {
            Reply::json(Value::from(listed.lock().unwrap().clone()).to_string())
        }
        _ => Reply::json("[]"),
    });
    let keys = format!(
        "consul_sd_configs: [{{server: '127.0.0.1:{}', services: [prom], refresh_interval: 1s}}]",
        agent.port
    );
    let promxy = promxy(TempDir::new().unwrap(), "scheme: http", &keys);
    let ports: Vec<(String, String)> = RECORDED
        .iter()
        .enumerate()
        .map(|(number, port)| {
            let ours = format!("\"{}\"", replay.servers[number].port);
            (ours, format!("\"{port}\""))
        })
        .collect();
    replay.step(&promxy, "consul_sd", &ports);
    let second = instance("prom2", &replay.address(1));
    instances.lock().unwrap().push(second);
    replay.step(&promxy, "consul_sd second instance registered", &ports);
    instances.lock().unwrap().pop();
    replay.step(&promxy, "consul_sd instance deregistered", &ports);
    drop(agent);
    let step = "consul gone: targets kept";
    promxy.program.wait_for_line("level=error");
    replay.step(&promxy, step, &ports);
    let log = promxy.program.stderr().join("\n");
    let is_silent = !log.contains("level=error");
    replay.differs(step, "logs", (!is_silent).then_some(log));
}
