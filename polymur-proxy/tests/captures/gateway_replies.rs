//! What the real gateway answers to each recorded request, and what the gateway of these tests does.

use std::io::{Read as _, Write as _};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use shared::testing::golden as load;

use crate::{
    end_to_end::text,
    support::{
        self,
        gateway::{Action, Gateway},
        numbered,
    },
};

/// Forms of requests that the proxy never sends, and that the gateway of the tests does not take.
const NOT_SENT: [&str; 5] = [
    // HTTP/1.0, HEAD, chunks, Expect, and plain HTTP to a port for TLS.
    "ping_http10",
    "ping_head",
    "ingest_chunked",
    "ingest_expect_100",
    "plain_http_to_tls_port",
];

/// Sends each request, and compares status, body, and whether the connection ends.
pub(crate) fn replay(capture: &Value) {
    let keys: Vec<String> = capture["keys_made_by_pgw_key"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            line.as_str()
                .unwrap()
                .rsplit(' ')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    let gateway = Gateway::start(None, move |_, _| Action::RealOf(keys.clone()));
    let (mut replayed, mut left_out, mut wrong) = (0, 0, Vec::new());
    for reply in capture["replies"].as_array().unwrap() {
        let case = text(reply, "case");
        if NOT_SENT.contains(&case) {
            left_out += 1;
            continue;
        }
        replayed += 1;
        let mut stream = support::open(gateway.address);
        // A gateway that answers early may have hung up before all is written.
        let request = request(case, reply);
        let _sent = stream.write_all(&request).is_ok();
        let _closed = stream.shutdown(std::net::Shutdown::Write).is_ok();
        let mut got = Vec::new();
        let _reset = stream.read_to_end(&mut got).is_err();
        let got = answers(&String::from_utf8(got).unwrap());
        let expected = answers(text(reply, "response"));
        if got != expected {
            wrong.push(format!("{case}: expected {expected:?}, got {got:?}"));
        }
    }
    println!(
        "{replayed} replies of the real gateway replayed, {left_out} to requests that the proxy never sends"
    );
    assert_eq!(left_out, NOT_SENT.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The request as it was; bodies too large to be kept are made again.
fn request(case: &str, reply: &Value) -> Vec<u8> {
    if let Some(bytes) = reply["request_b64"].as_str() {
        return load::bytes(bytes);
    }
    let (head, _) = text(reply, "request").split_once("\r\n\r\n").unwrap();
    let body = match case {
        "ingest_5000" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&numbered(0..5_000)).unwrap();
            encoder.finish().unwrap()
        }
        "ingest_bad_key_large_body" => vec![0xa1; 400_000],
        other => panic!("{other} has a body that nobody has described"),
    };
    let lines = head.split("\r\n").map(|line| match line.split_once(": ") {
        Some(("Content-Length", _)) => format!("Content-Length: {}\r\n", body.len()),
        _ => format!("{line}\r\n"),
    });
    let head: String = lines.chain(["\r\n".to_owned()]).collect();
    [head.as_bytes(), &body].concat()
}

/// Status and body of each of some answers.
fn answers(bytes: &str) -> Vec<(String, String)> {
    let mut rest = bytes;
    let mut answers = Vec::new();
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        let status = head.split(' ').nth(1).unwrap_or_default();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        let (body, next) = after.split_at(length);
        answers.push((status.to_owned(), body.to_owned()));
        rest = next;
    }
    answers
}
