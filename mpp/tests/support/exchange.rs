//! A recorded exchange and one of ours, as facts that can be compared.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{client::Response, host_name, prometheus::Seen};

#[derive(Deserialize)]
pub(crate) struct Step {
    pub(crate) label: String,
    pub(crate) client_sent: String,
    #[serde(default)]
    pub(crate) backend_saw: Vec<RecordedRequest>,
    pub(crate) client_got: String,
}

#[derive(Deserialize)]
pub(crate) struct RecordedRequest {
    pub(crate) backend: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// An exchange as facts by name; header names in lower case.
pub(crate) type Facts = BTreeMap<String, String>;

/// The recorded exchange, with what is meant to be different everywhere: `X-Forwarded-Host` is the client's host (H1), the cookie
/// has a path (A1), `Accept-Encoding`, `User-Agent` and `Content-Type` are not invented (7), chunked answers stay chunked (R6), the
/// bodies of our own 400s are ours.
pub(crate) fn wanted(step: &Step) -> Facts {
    let client: BTreeMap<String, String> = headers(&step.client_sent).collect();
    let mut facts = Facts::new();
    for recorded in &step.backend_saw {
        facts.insert("server".to_owned(), recorded.backend.clone());
        request_facts(&recorded.head, &recorded.body, &mut facts);
        if !client.contains_key("x-forwarded-host")
            && let Some(host) = client.get("host")
        {
            facts.insert("> x-forwarded-host".to_owned(), host.clone());
        }
        for invented in ["accept-encoding", "user-agent"] {
            if !client.contains_key(invented) {
                facts.remove(&format!("> {invented}"));
            }
        }
    }
    let (head, body) = step.client_got.split_once("\r\n\r\n").unwrap();
    // An interim answer comes before the real one.
    let (head, body) = match body.split_once("\r\n\r\n") {
        Some((head, body)) if step.client_got.starts_with("HTTP/1.1 100") => (head, body),
        _ => (head, body),
    };
    let status = head.split(' ').nth(1).unwrap();
    facts.insert("status".to_owned(), status.to_owned());
    if status == "400" && step.backend_saw.is_empty() {
        return facts;
    }
    answer_facts(headers(head), body, &mut facts);
    facts
}

/// Our exchange: the answer, and who saw which request. `recorded` puts recorded ports in the place of ours.
pub(crate) fn got(
    answer: Option<&Response>,
    seen: &[(String, Seen)],
    recorded: impl Fn(&str) -> String,
) -> Facts {
    let recorded = |text: &str| recorded(&text.replace(&host_name(), "HOSTNAME"));
    let mut facts = Facts::new();
    for (server, request) in seen {
        facts.insert("server".to_owned(), server.clone());
        let body = if request.body.len() > 100_000 {
            format!("<{} bytes>", request.body.len())
        } else {
            request.body.iter().map(|byte| char::from(*byte)).collect()
        };
        request_facts(&recorded(&request.head), &body, &mut facts);
    }
    let Some(answer) = answer else {
        return facts;
    };
    facts.insert("status".to_owned(), answer.status.to_string());
    if answer.status == 400 && seen.is_empty() {
        return facts;
    }
    let body: String = answer.body.iter().map(|byte| char::from(*byte)).collect();
    let headers = answer
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), recorded(value)));
    answer_facts(headers, &body, &mut facts);
    facts
}

/// Says where they differ, a line per fact.
pub(crate) fn differences(want: &Facts, got: &Facts) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = got.keys().chain(want.keys()).collect();
    names
        .into_iter()
        .filter(|name| got.get(*name) != want.get(*name))
        .map(|name| {
            format!(
                "  {name}: expected {:?}, got {:?}",
                want.get(name),
                got.get(name)
            )
        })
        .collect()
}

pub(crate) fn request_facts(head: &str, body: &str, facts: &mut Facts) {
    let line = head.lines().next().unwrap();
    let (method, rest) = line.split_once(' ').unwrap();
    facts.insert("method".to_owned(), method.to_owned());
    facts.insert(
        "target".to_owned(),
        rest.rsplit_once(' ').unwrap().0.to_owned(),
    );
    facts.insert("request body".to_owned(), body.to_owned());
    for (name, value) in headers(head) {
        append(facts, format!("> {name}"), &value);
    }
}

fn answer_facts(headers: impl Iterator<Item = (String, String)>, body: &str, facts: &mut Facts) {
    let shown = if body.contains("bytes total>") {
        // Recorded in short.
        "<3000000 bytes>".to_owned()
    } else if body.len() > 100_000 {
        let length = body.len();
        format!("<{length} bytes>")
    } else {
        body.to_owned()
    };
    facts.insert("body".to_owned(), shown);
    for (name, value) in headers {
        // Times differ; how a body is framed does not matter; a type that the server did not give is not invented.
        let framing = name == "transfer-encoding" || name == "content-length" && value != "30";
        let invented =
            name == "content-type" && value == "text/plain; charset=utf-8" && body != "OK";
        if name == "date"
            || name == "connection"
            || framing
            || invented
            || name == "vary" && value.contains("Accept,")
        {
            continue;
        }
        append(
            facts,
            format!("< {name}"),
            &value
                .replace("; HttpOnly", "; Path=/; HttpOnly")
                .replace("Path=/; Path=/", "Path=/"),
        );
    }
}

fn append(facts: &mut Facts, name: String, value: &str) {
    let entry = facts.entry(name).or_default();
    if !entry.is_empty() {
        entry.push_str(" | ");
    }
    entry.push_str(value);
}

fn headers(head: &str) -> impl Iterator<Item = (String, String)> {
    head.split("\r\n")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
}
