//! What a capture says: bytes, batches, and what the gateway did.

use std::time::Duration;

use serde_json::{Value, json};
use shared::testing::golden as load;

use crate::support::{
    gateway::{Action, answer},
    golden, numbered,
};

/// Reads a capture. Those that were taken in other ways are brought to the form of most.
pub(crate) fn capture(case: &str) -> Value {
    let mut capture: Value = load::json(golden(&format!("{case}.json")));
    assert_eq!(capture["case"], case);
    if case.starts_with("e2e/") {
        for name in ["argv", "env", "stderr", "exit_status"] {
            capture[name] = capture[format!("proxy_{name}")].take();
        }
    }
    if let Some(seen) = capture.get("requests_seen_by_a_Go_net_http_server") {
        let requests = seen.as_array().unwrap().iter().map(as_on_the_wire);
        capture["requests"] = requests.collect();
    }
    if case.starts_with("timing/idle_keepalive") {
        // The words were not kept; the requests tell them.
        let head = capture["requests"][0]["head"].as_str().unwrap();
        let host = head.lines().find_map(|line| line.strip_prefix("Host: "));
        let mut words = vec![
            format!("-gateway=https://{}", host.unwrap()),
            "-api-key=test-key".to_owned(),
            "-listen-addr=".to_owned(),
            "-stat-addr=".to_owned(),
        ];
        if case.ends_with("_nocert") {
            capture["env"] = json!({"SSL_CERT_FILE": "/certs/ca.pem"});
        } else {
            words.push("-cert=/certs/ca.pem".to_owned());
        }
        capture["argv"] = json!(words);
    }
    capture
}

/// A request as Go's server tells it, with the headers in the order in which the original writes them.
fn as_on_the_wire(seen: &Value) -> Value {
    let path = seen["path"].as_str().unwrap();
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\n",
        seen["host"].as_str().unwrap()
    );
    let headers = seen["headers"].as_object().unwrap();
    let order = [
        "User-Agent",
        "Content-Length",
        "X-Polymur-Key",
        "Accept-Encoding",
    ];
    assert_eq!(headers.len(), order.len(), "{headers:?}");
    for name in order {
        let value = headers[name][0].as_str().unwrap();
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    let members: Vec<Value> = seen["gzip_members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| json!({"decoded": {"text": member["decoded"]}}))
        .collect();
    let body = if path == "/ping" {
        "key is valid\n"
    } else {
        "Batch Received\n"
    };
    json!({
        "path": path,
        "head": head,
        "gzip_members": members,
        "server_action": "resp",
        "response": {"status": 200, "headers": {}, "body": body},
    })
}

pub(crate) fn bytes_of(value: &Value) -> Vec<u8> {
    if let Some(text) = value.get("text").and_then(Value::as_str) {
        return text.as_bytes().to_vec();
    }
    if let Some(text) = value.get("b64").and_then(Value::as_str) {
        return load::bytes(text);
    }
    // A long one: the numbered points, or a line of x between two others.
    let length = value["len"].as_u64().unwrap() as usize;
    let head = value["head"].as_str().unwrap();
    let tail = value["tail"].as_str().unwrap();
    if let Some(first) = head.strip_prefix("m.") {
        let first = first.split(' ').next().unwrap().parse().unwrap();
        let mut points = numbered(first..first + 20_000);
        points.truncate(length);
        assert!(points.ends_with(tail.as_bytes()), "{tail}");
        return points;
    }
    if let Some(filler) = head.chars().last()
        && head.ends_with(&String::from(filler).repeat(20))
    {
        let lead = head.trim_end_matches(filler);
        let end = tail.trim_start_matches(filler);
        let middle = String::from(filler).repeat(length - lead.len() - end.len());
        return [lead, &middle, end].concat().into_bytes();
    }
    // Random lines that were not kept: as many others, of the same length in all.
    let last = tail.trim_end().rsplit(' ').nth(1).unwrap();
    let lines: usize = last.parse::<usize>().unwrap() + 1;
    let mut x = 1_u64;
    let mut out = Vec::with_capacity(length);
    for number in 0..lines {
        let end = length * (number + 1) / lines;
        let (start, point) = (format!("r.{number}."), format!(" {number} 1500000000\n"));
        out.extend_from_slice(start.as_bytes());
        while out.len() + point.len() < end {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            out.push(b'a' + (x % 26) as u8);
        }
        out.extend_from_slice(point.as_bytes());
    }
    out
}

/// The batches of the recorded requests, those without lines left out; each gzip member was a batch.
pub(crate) fn recorded_batches(requests: &[Value]) -> Vec<Vec<u8>> {
    let mut batches = Vec::new();
    for request in requests {
        let members = request.get("gzip_members").and_then(Value::as_array);
        for member in members.into_iter().flatten() {
            let decoded = bytes_of(&member["decoded"]);
            if !decoded.is_empty() {
                batches.push(decoded);
            }
        }
    }
    batches
}

/// What the gateway did with each request, in order; for pings and for the rest.
pub(crate) fn script(case: &str, requests: &[Value]) -> Vec<(String, Action)> {
    let action = |request: &Value| {
        let response = request.get("response").filter(|value| value.is_object());
        let written = response.map(|response| {
            let headers = response["headers"].as_object();
            let headers: Vec<(String, String)> = headers
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                .collect();
            let body = response["body"].as_str().unwrap();
            let encoded = headers.iter().any(|(name, _)| name == "Content-Encoding");
            let body: Vec<u8> = if encoded {
                body.chars().map(|c| c as u8).collect()
            } else {
                body.as_bytes().to_vec()
            };
            (
                answer(response["status"].as_u64().unwrap() as u16, &headers, &body),
                headers,
            )
        });
        let name = request["server_action"].as_str().unwrap_or("resp");
        match (name, written) {
            ("resp", Some((bytes, headers)))
                if headers.contains(&("Connection".to_owned(), "close".to_owned())) =>
            {
                Action::AnswerAndClose(bytes)
            }
            ("resp", Some((bytes, _))) => Action::Answer(bytes),
            // What was done was not kept.
            ("resp", None) => Action::received(),
            ("delay", _) => Action::After(
                Duration::from_secs(3),
                Box::new(Action::status(200, "key is valid\n")),
            ),
            ("hang", _) => Action::Hang,
            ("close", _) => Action::Close,
            ("rst", _) => Action::Reset,
            ("raw" | "raw_close", _) => raw(case),
            (early, _) if early.starts_with("('resp_close', 413") => {
                Action::Early(answer(413, &[], b"too big\n"))
            }
            ("('rst_after', 1000)", _) => Action::ResetWithin(1_000),
            (other, _) => panic!("{case}: {other}"),
        }
    };
    let mut script: Vec<(String, Action)> = requests
        .iter()
        .map(|request| {
            let path = request["path"].as_str().unwrap();
            (path.to_owned(), action(request))
        })
        .collect();
    // What only the words of the capture say.
    let wait = |milliseconds, then: &Action| {
        Action::After(Duration::from_millis(milliseconds), Box::new(then.clone()))
    };
    match case {
        "queue/cap_2_recovers" => script[1].1 = wait(4_000, &script[1].1),
        // It says that it keeps the connection, and closes it.
        "failure/stale_keepalive" => {
            script[1].1 = Action::AnswerAndClose(answer(200, &[], b"Batch Received\n"));
        }
        _ if case.starts_with("timing/concurrency") => {
            for (_, action) in &mut script[1..] {
                *action = wait(200, action);
            }
        }
        _ => {}
    }
    script
}

/// Bytes that the captures describe in words only.
pub(crate) fn raw(case: &str) -> Action {
    match case {
        "startup/ping_garbage" => Action::AnswerAndClose(b"hello there\r\n".to_vec()),
        "startup/ping_truncated" | "failure/ingest_truncated_reply" => {
            Action::AnswerAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_vec())
        }
        "failure/reply_chunked" => Action::Answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n1\r\n\n\r\n0\r\n\r\n".to_vec(),
        ),
        other => panic!("{other} has an answer that nobody has described"),
    }
}
