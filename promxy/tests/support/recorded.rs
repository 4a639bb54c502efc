//! Recorded exchanges, replayed: four servers answer with what the recorded ones answered, and promxy gets the recorded request.
//!
//! promxy's plan sends other texts here and there. A request is matched by what it means: parameters decoded and sorted, selectors
//! with sorted matchers, times as numbers, the range of a raw fetch left out. What matches nothing gets status 599, which
//! fails the case.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use promql::parser::{NodeKind, ParserOptions, parse};
use serde::Deserialize;

use super::{
    Promxy, bytes_of,
    client::{Response, request},
    groups,
    stub::{Asked, Reply, Stub, parameters},
};

/// The ports of the recorded targets.
const TARGETS: [u16; 4] = [25201, 25202, 25211, 25212];

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) request: Sent,
    pub(crate) response: Got,
    #[serde(default)]
    pub(crate) downstream: Vec<Exchange>,
    #[serde(default)]
    pub(crate) fault: HashMap<String, Fault>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Sent {
    pub(crate) method: String,
    pub(crate) target: String,
    #[serde(default)]
    pub(crate) headers: HashMap<String, String>,
    #[serde(default)]
    pub(crate) body: Body,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Got {
    pub(crate) status: Option<u16>,
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) body: Body,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Body {
    pub(crate) text: Option<String>,
    pub(crate) base64: Option<String>,
}

impl Body {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match (&self.text, &self.base64) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(packed)) => STANDARD.decode(packed).unwrap(),
            (None, None) => Vec::new(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Exchange {
    pub(crate) target: String,
    pub(crate) request: ExchangeRequest,
    pub(crate) response: Option<Got>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ExchangeRequest {
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) body: Body,
}

/// What was done to a target's answers.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Fault {
    pub(crate) kind: String,
    pub(crate) status: Option<u16>,
    pub(crate) body: Option<String>,
    pub(crate) ct: Option<String>,
    pub(crate) s: Option<f64>,
}

/// What the servers answer to the present case.
#[derive(Default)]
struct Script {
    replies: HashMap<(u16, String), Vec<(f64, Got)>>,
    faults: HashMap<u16, Fault>,
    unmatched: Vec<String>,
}

/// promxy before four servers.
pub(crate) struct Replay {
    pub(crate) promxy: Promxy,
    pub(crate) stubs: Vec<Stub>,
    script: Arc<Mutex<Script>>,
}

impl Replay {
    /// Starts servers, and promxy with two groups of two.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::with(args, |ports| groups(&[&ports[..2], &ports[2..]]))
    }

    /// Starts servers, and promxy with the configuration for their ports.
    pub(crate) fn with(args: &[&str], config: impl FnOnce(&[u16]) -> String) -> Self {
        let script: Arc<Mutex<Script>> = Arc::default();
        let stubs: Vec<Stub> = TARGETS
            .iter()
            .map(|target| {
                let (script, target) = (Arc::clone(&script), *target);
                Stub::start(move |asked| script.lock().unwrap().reply(target, asked))
            })
            .collect();
        let ports: Vec<u16> = stubs.iter().map(|stub| stub.port).collect();
        let promxy = Promxy::start(&config(&ports), args).ready();
        Self {
            promxy,
            stubs,
            script,
        }
    }

    /// Sends a case's request. Returns the answer, with recorded ports in place of ours, and requests that matched nothing.
    pub(crate) fn run(&self, case: &Case) -> (Response, Vec<String>) {
        self.expect(&[case]);
        let headers: Vec<(&str, &str)> = case
            .request
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let bytes = bytes_of(
            &case.request.method,
            &case.request.target,
            &headers,
            &case.request.body.bytes(),
        );
        let mut response = request(self.promxy.port, &bytes).expect("an answer");
        if let Ok(mut text) = String::from_utf8(response.body.clone()) {
            for (stub, target) in self.stubs.iter().zip(TARGETS) {
                text = text.replace(
                    &format!("127.0.0.1:{}", stub.port),
                    &format!("127.0.0.1:{target}"),
                );
            }
            response.body = text.into_bytes();
        }
        let unmatched = std::mem::take(&mut self.script.lock().unwrap().unmatched);
        (response, unmatched)
    }

    /// Has the servers answer as in these cases.
    pub(crate) fn expect(&self, cases: &[&Case]) {
        let mut script = Script::default();
        for case in cases {
            for Exchange {
                target,
                request,
                response,
            } in &case.downstream
            {
                let port = target.rsplit_once(':').unwrap().1.parse().unwrap();
                let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
                let body = request.body.text.as_deref().unwrap_or_default();
                let (meaning, time) = meaning(path, parameters(&format!("{query}&{body}")));
                if let Some(response) = response {
                    script
                        .replies
                        .entry((port, meaning))
                        .or_default()
                        .push((time, response.clone()));
                }
            }
            for (port, fault) in &case.fault {
                script.faults.insert(port.parse().unwrap(), fault.clone());
            }
        }
        *self.script.lock().unwrap() = script;
    }
}

impl Script {
    fn reply(&mut self, target: u16, asked: &Asked) -> Reply {
        if let Some(fault) = self.faults.get(&target) {
            let (meaning, time) = meaning(asked.path(), asked.parameters());
            let answer = || {
                let body = fault.body.clone().unwrap_or_default().into_bytes();
                let content_type = fault.ct.clone().unwrap_or_else(|| "text/plain".to_owned());
                (body, content_type)
            };
            let recorded = self
                .replies
                .get(&(target, meaning))
                .and_then(|replies| nearest(replies, time));
            return match fault.kind.as_str() {
                "close" => Reply::Close,
                "sleep" => {
                    let time = Duration::from_secs_f64(fault.s.unwrap_or(3.0));
                    let reply = recorded.map_or(Reply::Close, |got| Reply::json(got.body.bytes()));
                    Reply::After(time, Box::new(reply))
                }
                _ => {
                    let (body, content_type) = answer();
                    Reply::Answer {
                        status: fault.status.unwrap_or(200),
                        content_type,
                        body,
                    }
                }
            };
        }
        let (meaning, time) = meaning(asked.path(), asked.parameters());
        let replies = self.replies.get(&(target, meaning.clone()));
        let Some(got) = replies.and_then(|replies| nearest(replies, time)) else {
            self.unmatched.push(format!("{target}: {meaning}"));
            return Reply::Answer {
                status: 599,
                content_type: "text/plain".to_owned(),
                body: b"nothing was recorded for this".to_vec(),
            };
        };
        let content_type = got.headers.iter().find(|(name, _)| name == "Content-Type");
        Reply::Answer {
            status: got.status.unwrap_or(200),
            content_type: content_type.map_or_else(String::new, |(_, kind)| kind.clone()),
            body: got.body.bytes(),
        }
    }
}

fn nearest(replies: &[(f64, Got)], time: f64) -> Option<Got> {
    let distance = |other: f64| (other - time).abs();
    let best = replies
        .iter()
        .min_by(|a, b| distance(a.0).total_cmp(&distance(b.0)));
    best.map(|(_, got)| got.clone())
}

/// Returns what a request asks for, and at which time.
fn meaning(path: &str, parameters: Vec<(String, String)>) -> (String, f64) {
    let mut at = 0.0;
    let mut parts: Vec<String> = Vec::new();
    for (name, value) in parameters {
        match name.as_str() {
            "time" => at = value.parse().unwrap(),
            "start" | "end" | "step" => {
                parts.push(format!("{name}={}", value.parse::<f64>().unwrap()));
            }
            "query" | "match[]" => parts.push(format!("{name}={}", canonical(&value))),
            "timeout" | "limit" => {}
            _ => parts.push(format!("{name}={value}")),
        }
    }
    parts.sort();
    (format!("{path} {}", parts.join("&")), at)
}

/// Returns a query with the matchers of its one selector sorted, without its range; or as it is.
fn canonical(text: &str) -> String {
    let Ok(query) = parse(text, &ParserOptions::v3_5()) else {
        return text.to_owned();
    };
    let is_raw = matches!(query.root().kind, NodeKind::Matrix(_));
    let is_selector = matches!(query.root().kind, NodeKind::Vector(_));
    if !is_raw && !is_selector {
        return query.to_string();
    }
    let selector = query.nodes().find_map(|(_, node)| match &node.kind {
        NodeKind::Vector(selector) => Some(selector),
        _ => None,
    });
    let mut matchers: Vec<String> = selector
        .unwrap()
        .matchers
        .iter()
        .map(ToString::to_string)
        .collect();
    matchers.sort();
    let raw = if is_raw { "[]" } else { "" };
    format!("{{{}}}{raw}", matchers.join(","))
}
