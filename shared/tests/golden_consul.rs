//! What veneur-proxies asked Consul and were answered (`golden/consul`), replayed: the same request, the same members.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test counts its cases and fails where it stands"
)]

mod support;

use std::{
    io::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;
use shared::{
    discovery::{
        Discovery, Empty, Metrics, Plan, Schedule,
        consul::{Asking, Consul, Service, Settings},
    },
    lifecycle::Tasks,
    testing::{PATIENCE, golden::json_lines},
};
use support::{Peer, Reply};

#[derive(Deserialize)]
struct Step {
    #[serde(rename = "step")]
    name: String,
    request: Vec<String>,
    response_head: Vec<String>,
    response_body: Value,
    log: Vec<String>,
}

/// Puts a recorded answer together again. The recording keeps bodies unpacked, so they are packed anew.
fn reply(step: &Step) -> Reply {
    if !step.response_head[0].starts_with("HTTP/") {
        return Reply::Close;
    }
    let mut body = match &step.response_body {
        Value::String(text) => text.clone().into_bytes(),
        list => serde_json::to_vec(list).unwrap(),
    };
    if step
        .response_head
        .contains(&"Content-Encoding: gzip".to_owned())
    {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&body).unwrap();
        body = packer.finish().unwrap();
    }
    let mut bytes = Vec::new();
    for line in &step.response_head {
        if !line.starts_with("Content-Length: ") {
            bytes.extend_from_slice(format!("{line}\r\n").as_bytes());
        }
    }
    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body);
    Reply::Bytes(bytes)
}

/// The members that the step lists, or `None` where it makes the original keep its own.
fn listed(step: &Step) -> Option<Vec<String>> {
    let entries = step
        .response_body
        .as_array()
        .filter(|entries| !entries.is_empty())?;
    let member = |entry: &Value| {
        let (node, port) = (&entry["Node"]["Address"], &entry["Service"]["Port"]);
        format!("{}:{port}", node.as_str().unwrap())
    };
    let mut members: Vec<_> = entries.iter().map(member).collect();
    // The older versions log what they found, which says how a member is spelled.
    if let Some((_, found)) = step
        .log
        .iter()
        .find_map(|line| line.split_once("destinations=\"["))
    {
        let found = found.split(']').next().unwrap();
        assert_eq!(
            members,
            found.split(' ').collect::<Vec<_>>(),
            "{}",
            step.name
        );
    }
    members.sort_unstable();
    Some(members)
}

async fn replay(version: &str) -> usize {
    let path = format!(
        "{}/tests/golden/consul/transcript-{version}.jsonl",
        env!("CARGO_MANIFEST_DIR")
    );
    let steps: Vec<Step> = json_lines(path);
    let now = Arc::new(Mutex::new(Reply::Silence));
    let answer = Arc::clone(&now);
    let (peer, address) = Peer::tcp(None, move |_, _| answer.lock().unwrap().clone());
    let settings = Settings::from_variables("Go-http-client/1.1", |name| {
        (name == "CONSUL_HTTP_ADDR").then(|| address.to_string())
    });
    let name = "veneur-global".to_owned();
    let service = Service {
        name,
        datacenter: None,
    };
    let consul = Consul::new(&settings.unwrap(), service, Asking::Polling).unwrap();
    let plan = Plan {
        schedule: Schedule::OnRequest,
        deadline: PATIENCE,
        empty: Empty::Fails,
    };
    *now.lock().unwrap() = reply(&steps[0]);
    let tasks = Tasks::new();
    let discovery = Discovery::start(&tasks, &Metrics::new("test"), version, plan, consul, |_| {});
    let mut members = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let case = format!("{version}: {}", step.name);
        let outcome = if number == 0 {
            discovery.first().await.unwrap()
        } else {
            *now.lock().unwrap() = reply(step);
            discovery.refresh().await.unwrap()
        };
        let listed = listed(step);
        assert_eq!(outcome.is_ok(), listed.is_some(), "{case}: {outcome:?}");
        members = listed.unwrap_or(members);
        let snapshot = discovery.snapshot();
        assert_eq!(snapshot.addresses().collect::<Vec<_>>(), members, "{case}");
        if step.response_head[0].contains(" 500 ") {
            let text = outcome.unwrap_err().to_string();
            assert_eq!(text, "Unexpected response code: 500 (No leader)", "{case}");
            let logged = |line: &String| line.contains(&format!("error=\"{text}\""));
            assert!(step.log.iter().any(logged), "{case}");
        }
        let mut head = peer.heads().pop().unwrap();
        let mut expected = step.request.clone();
        expected[1] = format!("Host: {address}");
        // The order of the headers is not kept, and a line that says nothing is added.
        head.retain(|line| line != "Accept: */*");
        head[1..].sort_unstable();
        expected[1..].sort_unstable();
        assert_eq!(head, expected, "{case}");
    }
    tasks.stop();
    let _drained = tasks.drain(Duration::from_secs(5)).await;
    steps.len()
}

#[tokio::test]
async fn recorded_consul_answers_give_the_recorded_requests_and_members() {
    let mut steps = 0;
    for version in ["v1.9.0", "v13.2.0", "v14"] {
        steps += replay(version).await;
    }
    println!("{steps} steps of 3 versions");
    assert_eq!(steps, 39);
}
