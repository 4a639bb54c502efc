//! Requests and answers on their way: every recorded exchange is repeated, byte for byte as the client sent it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed helper is a failed test, and golden tests print their counts"
)]

mod support;

use serde::Deserialize;
use shared::testing::golden;
use support::{
    Mpp,
    client::request,
    exchange::{self, Step},
    prometheus::{Manners, Prometheus, Reply},
    trio::Trio,
};

#[derive(Deserialize)]
struct Scenario {
    steps: Vec<Step>,
}

/// Where one exchange deviates: label, row of the specification, fact, and its value instead (`None`: it is absent).
type Deviation = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
);

/// Beside these, [`exchange::wanted`] says what is different everywhere.
const REQUESTS: &[Deviation] = &[
    (
        "path with fragment characters",
        "a fragment is no part of a request",
        "target",
        Some("/graph?g0.expr=up&g0.tab=1"),
    ),
    (
        "POST empty body",
        "6: Content-Length: 0",
        "> transfer-encoding",
        None,
    ),
    (
        "POST empty body",
        "6: Content-Length: 0",
        "> content-length",
        Some("0"),
    ),
    (
        "POST empty body",
        "6: Content-Length: 0",
        "request body",
        Some(""),
    ),
    (
        "unknown method",
        "6: Content-Length: 0",
        "> transfer-encoding",
        None,
    ),
    (
        "unknown method",
        "6: Content-Length: 0",
        "request body",
        Some(""),
    ),
    (
        "double leading slash",
        "R8",
        "target",
        Some("//double/lead"),
    ),
    ("bare question mark", "R8", "target", Some("/x?")),
    ("absolute-form target", "R8", "target", Some("/abs?x=1")),
    (
        "hop-by-hop request headers",
        "H2",
        "> proxy-connection",
        None,
    ),
    ("hop-by-hop request headers", "H2", "> x-hop", None),
    (
        "empty User-Agent",
        "7: passed as it is",
        "> user-agent",
        Some(""),
    ),
    (
        "HTTP/1.0 without Host",
        "H1: there is none",
        "> x-forwarded-host",
        None,
    ),
];

const RESPONSES: &[Deviation] = &[
    (
        "gzip body, client sent no Accept-Encoding",
        "7: not unpacked for those who did not ask for it packed",
        "< content-encoding",
        Some("gzip"),
    ),
    (
        "gzip body, client sent no Accept-Encoding",
        "7",
        "< content-length",
        Some("30"),
    ),
    (
        "response headers incl. hop-by-hop pass",
        "H2",
        "< keep-alive",
        None,
    ),
    (
        "response headers incl. hop-by-hop pass",
        "H2",
        "< proxy-authenticate",
        None,
    ),
    (
        "response headers incl. hop-by-hop pass",
        "H2",
        "< x-hop",
        None,
    ),
];

#[test]
fn recorded_requests_reach_the_server_as_recorded() {
    let scenario: Scenario = golden::json(support::golden("http/routing-requests.json"));
    let servers = Trio::usual();
    let mpp = servers.front(&["--selection-interval", "1h"]);
    replay("requests", &scenario, REQUESTS, &servers, &mpp, |_| {
        Reply::Served
    });
}

#[test]
fn recorded_answers_reach_the_client_as_recorded() {
    let scenario: Scenario = golden::json(support::golden("http/routing-responses.json"));
    let servers = Trio::usual();
    let mpp = servers.front(&["--selection-interval", "1h"]);
    replay("answers", &scenario, RESPONSES, &servers, &mpp, answer_of);
}

fn replay(
    what: &str,
    scenario: &Scenario,
    deviations: &[Deviation],
    servers: &Trio,
    mpp: &Mpp,
    reply: impl Fn(&Step) -> Reply,
) {
    let mut failures = Vec::new();
    let mut deviating = 0;
    for step in &scenario.steps {
        servers[1].set(|manners| manners.proxied = reply(step));
        let sent: Vec<u8> = step.client_sent.chars().map(|c| c as u8).collect();
        let sent = if step.client_sent.contains("Content-Length: 3000000") {
            let (head, _) = step.client_sent.split_once("\r\n\r\n").unwrap();
            [head.as_bytes(), b"\r\n\r\n", &vec![b'x'; 3_000_000]].concat()
        } else {
            sent
        };
        let answer = request(mpp.port, &sent);
        let seen: Vec<_> = servers
            .iter()
            .zip(["b1", "b2", "b3"])
            .flat_map(|(server, name)| {
                let seen = server.take_seen().into_iter();
                seen.map(move |seen| (name.to_owned(), seen))
            })
            .collect();
        let got = exchange::got(answer.as_ref(), &seen, |text| servers.recorded(text));
        let mut want = exchange::wanted(step);
        let mut listed = false;
        for (label, _, fact, value) in deviations {
            if step.label.starts_with(label) {
                listed = true;
                match value {
                    Some(value) => want.insert((*fact).to_owned(), (*value).to_owned()),
                    None => want.remove(*fact),
                };
            }
        }
        // What the recorded gzip answer unpacks to is compared in words only.
        if step
            .label
            .starts_with("gzip body, client sent no Accept-Encoding")
        {
            want.insert("body".to_owned(), got["body"].clone());
        }
        deviating += usize::from(listed);
        let differences = exchange::differences(&want, &got);
        if !differences.is_empty() {
            failures.push(format!("{}\n{}", step.label, differences.join("\n")));
        }
    }
    println!(
        "http: {} {what}, {deviating} with listed deviations, {} wrong",
        scenario.steps.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What the recorded server answered: the data names it, and the recorded result leaves little choice.
fn answer_of(step: &Step) -> Reply {
    const DATE: &str = "Date: Mon, 01 Jan 2024 00:00:00 GMT\r\n";
    let raw = |text: String| Reply::Raw(text.into_bytes());
    let plain = |status: &str, body: &str| {
        raw(format!(
            "HTTP/1.1 {status}\r\n{DATE}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let (_, gzip_body) = step.client_got.split_once("\r\n\r\n").unwrap();
    let gzip = || {
        let packed: Vec<u8> =
            if step.label.contains("no Accept-Encoding: mpp") || step.label.starts_with("HEAD") {
                vec![0x1f; 30]
            } else {
                gzip_body.chars().map(|c| c as u8).collect()
            };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{DATE}Content-Encoding: gzip\r\nContent-Length: 30\r\n\r\n"
        );
        let body: &[u8] = if step.label.starts_with("HEAD") {
            &[]
        } else {
            &packed
        };
        Reply::Raw([head.as_bytes(), body].concat())
    };
    let chunked = |rest: &str| {
        raw(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{DATE}Transfer-Encoding: chunked\r\n\r\n{rest}"
        ))
    };
    match step.label.as_str() {
        "chunked becomes Content-Length" => chunked("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
        "trailers dropped" => chunked("5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n"),
        "chunked empty body" => chunked("0\r\n\r\n"),
        "Content-Length: 0" => raw(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{DATE}Content-Length: 0\r\n\r\n"
        )),
        "close-delimited body" => Reply::RawThenClose(
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{DATE}X: close-me\r\n\r\nuntil close").into_bytes(),
        ),
        "HTTP/1.0 backend" => Reply::RawThenClose(
            format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n{DATE}X: close-me\r\n\r\nold").into_bytes(),
        ),
        label if label.contains("gzip") => gzip(),
        "204" => raw(format!("HTTP/1.1 204 No Content\r\n{DATE}X-A: 1\r\n\r\n")),
        "304" => raw(format!("HTTP/1.1 304 Not Modified\r\n{DATE}ETag: \"x\"\r\n\r\n")),
        "redirect not followed, Location not rewritten" => raw(format!(
            "HTTP/1.1 302 Found\r\n{DATE}Location: http://127.0.0.1:24002/graph\r\nContent-Length: 0\r\n\r\n"
        )),
        "response headers incl. hop-by-hop pass" => raw(format!(
            "HTTP/1.1 200 OK\r\n{DATE}Access-Control-Allow-Origin: *\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=3\r\nProxy-Authenticate: Basic\r\nServer: Prometheus\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\nVary: Origin\r\nContent-Length: 2\r\n\r\nok"
        )),
        "no Content-Type, no Date from backend" => raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()),
        "backend sends MPP.ServedBy itself" => raw(format!(
            "HTTP/1.1 200 OK\r\n{DATE}MPP.ServedBy: spoof\r\nMPP.ServedBy: spoof2\r\nContent-Length: 2\r\n\r\nok"
        )),
        "1xx then 200" => raw(format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n{DATE}Content-Length: 2\r\n\r\nok"
        )),
        "103 then 200" => raw(format!(
            "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n{DATE}Content-Length: 2\r\n\r\nok"
        )),
        "custom reason phrase lost" => plain("200 Sure thing", "ok"),
        "422 passes" => raw(format!(
            "HTTP/1.1 422 Unprocessable Entity\r\nContent-Type: application/json\r\n{DATE}Content-Length: 61\r\n\r\n{{\"status\":\"error\",\"errorType\":\"execution\",\"error\":\"too many\"}}"
        )),
        "400 passes" => plain("400 Bad Request", "bad"),
        "429 passes, not retried" => Reply::Status(429, "backend says 429"),
        "3 MB response (spooled to disk above 1 MiB)" => plain("200 OK", &"y".repeat(3_000_000)),
        label => panic!("no answer is known for {label:?}"),
    }
}

#[test]
fn a_long_body_is_streamed_without_being_kept_and_one_too_long_is_refused() {
    let server = Prometheus::start("b1", Manners::good("1"));
    let mpp = Mpp::start(&server.url(), &["--max-request-bytes", "4000000"]);
    mpp.wait_until_answering(1);
    let send = |length: usize| {
        let head = format!("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
        request(mpp.port, &[head.as_bytes(), &vec![b'x'; length]].concat())
    };
    assert_eq!(send(3_000_000).unwrap().status, 200);
    assert_eq!(server.take_seen()[0].body.len(), 3_000_000);
    let chunked = |chunks: usize| {
        let mut bytes =
            b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..chunks {
            bytes.extend_from_slice(b"f4240\r\n");
            bytes.extend(std::iter::repeat_n(b'y', 1_000_000));
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        request(mpp.port, &bytes)
    };
    assert_eq!(chunked(3).unwrap().status, 200);
    assert_eq!(server.take_seen()[0].body.len(), 3_000_000);
    let head = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 4000001\r\n\r\n";
    assert_eq!(request(mpp.port, head.as_bytes()).unwrap().status, 413);
}
