//! Bodies of `POST /import`: statuses and texts as recorded (`tests/golden/http`), and no panic on any bytes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::collections::BTreeMap;

use serde::Deserialize;
use shared::testing::golden;
use veneur_proxy::json_metric::{self, ImportBody, ImportError};

/// Texts that came out of Go's JSON library and differ between its versions: here they are in our own words.
const OWN_WORDS: [(&str, &str); 11] = [
    (
        "import-object",
        "the body is an array of metrics, not an object",
    ),
    (
        "import-leading-ws-bom",
        "invalid character '\\u{feff}' looking for beginning of value",
    ),
    ("import-bad-base64", "metric 0: \"value\" is not base64"),
    ("import-base64-url", "metric 0: \"value\" is not base64"),
    ("import-base64-nopad", "metric 0: \"value\" is not base64"),
    (
        "import-name-number",
        "metric 0: \"name\" is a number, not a string",
    ),
    (
        "import-tags-string",
        "metric 0: \"tags\" is a string, not an array",
    ),
    (
        "import-value-number",
        "metric 0: \"value\" is a number, not base64",
    ),
    (
        "import-value-numarray-overflow",
        "metric 0: \"value\" holds 256, not a byte",
    ),
    (
        "import-element-string",
        "metric 0: a string is not a metric",
    ),
    (
        "import-bad-second-element",
        "metric 1: \"name\" is a number, not a string",
    ),
];

#[derive(Deserialize)]
struct Request {
    case: String,
    raw_b64: String,
}

#[derive(Deserialize)]
struct Response {
    case: String,
    request_line: String,
    status: String,
    body: String,
}

/// The value of the first `Content-Encoding` header, and the body.
fn parts(request: &[u8]) -> (String, Vec<u8>) {
    let at = request
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .unwrap();
    let head = str::from_utf8(&request[..at]).unwrap();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let encoding = header("Content-Encoding: ").unwrap_or_default();
    let mut body = &request[at + 4..];
    if header("Transfer-Encoding: chunked").is_some() {
        // One chunk: its size on a line, and after it the last one of size 0.
        let start = body.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        body = body[start..].strip_suffix(b"\r\n0\r\n\r\n").unwrap();
    }
    (encoding.to_owned(), body.to_vec())
}

#[test]
fn bodies_are_answered_as_recorded() {
    let own_words = BTreeMap::from(OWN_WORDS);
    let requests: BTreeMap<String, Vec<u8>> =
        golden::json_lines::<Request>(support::path("http/requests.jsonl"))
            .into_iter()
            .map(|request| (request.case, golden::bytes(&request.raw_b64)))
            .collect();
    let (mut taken, mut refused, mut reworded) = (0, 0, 0);
    for version in ["v1.9.0", "v13.2.0"] {
        let file = support::path(&format!("http/responses-{version}.jsonl"));
        for Response {
            case,
            request_line,
            status,
            body,
        } in golden::json_lines(file)
        {
            if !request_line.starts_with("POST /import HTTP")
                && !request_line.starts_with("POST /import?")
            {
                continue;
            }
            let (encoding, received) = parts(&requests[&case]);
            let outcome = answer(encoding.as_bytes(), &received);
            let (answered, text) = match &outcome {
                Ok(_) => (202, String::new()),
                Err(reason) => (reason.status(), format!("{reason}\n")),
            };
            assert_eq!(
                answered.to_string(),
                status.split(' ').nth(1).unwrap(),
                "{version} {case}: {outcome:?}"
            );
            if outcome.is_ok() {
                taken += 1;
            } else if text == body {
                refused += 1;
            } else {
                let ours = own_words.get(case.as_str());
                assert_eq!(ours, Some(&text.trim_end()), "{version} {case}: {body}");
                reworded += 1;
            }
        }
    }
    println!("/import: {taken} taken, {refused} refused in the same words, {reworded} in our own");
    assert_eq!(reworded, 2 * OWN_WORDS.len());
    assert!(taken >= 2 * 17 && refused >= 2 * 15);
}

/// Returns how many metrics a body has.
fn answer(encoding: &[u8], body: &[u8]) -> Result<usize, ImportError> {
    ImportBody::open(encoding, body, 1 << 22)?
        .metrics()
        .map(|metrics| metrics.len())
}

#[test]
fn mutated_bodies_are_taken_or_refused_and_taken_ones_can_be_read_again() {
    let mut rng = fastrand::Rng::with_seed(6);
    let seeds = [
        support::bytes("inputs/odd.json"),
        br#"[{"name":"a.b","type":"counter","tagstring":"x:1","tags":["x:1",null],"value":"AQAAAAAAAAA="}]"#.to_vec(),
        br#"[{"name":"\ud83d\ude00","value":[1,2,null,255],"tags":[]},null,{}]"#.to_vec(),
    ];
    let pieces: [&[u8]; 12] = [
        b"\"", b"\\", b"\\u", b"\\ud83d", b"[", b"]", b"{", b"}", b":", b",", b"null", b"\xff",
    ];
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..100_000 {
        let mut body = seeds[rng.usize(..seeds.len())].clone();
        for _ in 0..rng.usize(1..5) {
            let at = rng.usize(..=body.len());
            match rng.u8(..4) {
                0 if at < body.len() => body[at] = rng.u8(..),
                1 => {
                    let piece = pieces[rng.usize(..pieces.len())];
                    body.splice(at..at, piece.iter().copied());
                }
                2 if at < body.len() => {
                    body.remove(at);
                }
                _ if rng.u8(..8) == 0 => body.truncate(at),
                _ => {}
            }
        }
        let opened = ImportBody::open(b"", &body, 1 << 22).unwrap();
        let Ok(metrics) = opened.metrics() else {
            refused += 1;
            continue;
        };
        taken += 1;
        let mut forwarded = Vec::new();
        json_metric::write_body(&metrics, &mut forwarded);
        let again = ImportBody::open(b"", &forwarded, 1 << 22).unwrap();
        assert_eq!(again.metrics().unwrap(), metrics);
        for metric in &metrics {
            serde_json::from_str::<serde::de::IgnoredAny>(metric.text).unwrap();
        }
    }
    println!("mutated JSON: {taken} taken, {refused} refused");
    assert!(taken > 1_000 && refused > 1_000);
}

#[test]
fn mutated_zlib_streams_are_taken_or_refused() {
    let mut rng = fastrand::Rng::with_seed(1950);
    let seed = support::bytes("local-captures/v13.2.0-http/request.body.deflate");
    assert!(answer(b"deflate", &seed).is_ok());
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut body = seed.clone();
        for _ in 0..rng.usize(1..3) {
            let at = rng.usize(..body.len());
            // Mostly near the end, where the value may already be complete.
            let at = if rng.bool() {
                at
            } else {
                body.len() - 1 - at % 8
            };
            body[at] = rng.u8(..);
        }
        if rng.u8(..4) == 0 {
            body.truncate(rng.usize(..body.len()));
        }
        match answer(b"deflate", &body) {
            Ok(_) => taken += 1,
            Err(reason) => {
                assert!(!reason.to_string().is_empty());
                refused += 1;
            }
        }
    }
    println!("mutated zlib: {taken} taken, {refused} refused");
    assert!(taken > 100 && refused > 1_000);
}

#[test]
fn random_bytes_never_panic() {
    let mut rng = fastrand::Rng::with_seed(8127);
    let alphabet = b"[]{}\":,\\u09azntef. \n\xff\xed";
    for _ in 0..200_000 {
        let body: Vec<u8> = (0..rng.usize(..30))
            .map(|_| match rng.u8(..9) {
                0 => rng.u8(..),
                _ => alphabet[rng.usize(..alphabet.len())],
            })
            .collect();
        for encoding in ["", "deflate"] {
            if let Err(reason) = answer(encoding.as_bytes(), &body) {
                assert_eq!(reason.status(), 400);
            }
        }
    }
}
