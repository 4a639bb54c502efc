//! What targets get, against what the original put on the wire.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod groups_support;

use std::{collections::BTreeMap, fs, sync::Arc};

use groups_support::{Reply, Seen, Stub, start};
use promql::parser::{Matcher, ParserOptions, parse_selector};
use promxy::{
    remote::{decode, messages::ReadRequest},
    servergroup::time_range::Grid,
    upstream::{Asked, Asker, Upstream as _},
};
use serde::Deserialize;
use shared::testing::golden;

#[derive(Deserialize)]
struct Step {
    #[serde(rename = "step")]
    name: String,
    config: String,
    result: BTreeMap<String, Call>,
}

#[derive(Deserialize)]
struct Call {
    downstream: Vec<Sent>,
}

#[derive(Deserialize)]
struct Sent {
    line: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

/// Headers that say who asks, which are part of a configuration.
const TOLD: [&str; 6] = [
    "Authorization",
    "X-Scope-OrgID",
    "X-A",
    "Content-Type",
    "Content-Encoding",
    "X-Prometheus-Remote-Read-Version",
];

/// Steps that differ, which call, the header that does, what it is here, and why.
const HEADERS: [(&str, &str, &str, &str, &str); 11] = [
    (
        "authorization",
        "query",
        "Authorization",
        "Bearer abc",
        "D29",
    ),
    (
        "authorization",
        "range_raw",
        "Authorization",
        "Bearer abc",
        "D29",
    ),
    ("oauth2", "query", "Authorization", "Bearer tok1", "D29"),
    ("oauth2", "range_raw", "Authorization", "Bearer tok1", "D29"),
    ("http_headers_in_http_client", "query", "X-A", "b", "S4"),
    ("http_headers_in_http_client", "range_raw", "X-A", "b", "S4"),
    ("remote_read", "range_raw", "X-Scope-OrgID", "t1", "D28"),
    (
        "remote_read_authorization",
        "query",
        "Authorization",
        "Bearer abc",
        "D29",
    ),
    (
        "remote_read_authorization",
        "range_raw",
        "Authorization",
        "Bearer abc",
        "S4: with the default type",
    ),
    (
        "remote_read_oauth2",
        "query",
        "Authorization",
        "Bearer tok1",
        "D29",
    ),
    // The token of the recording was not asked for twice either.
    (
        "remote_read_oauth2",
        "range_raw",
        "Authorization",
        "Bearer tok1",
        "none, listed with its call",
    ),
];

fn matchers(selector: &str) -> Vec<Matcher> {
    parse_selector(selector, &ParserOptions::v3_5()).unwrap()
}

fn reply(seen: &Seen) -> Reply {
    let data = match seen.path.as_str() {
        path if path.ends_with("/token") => {
            return Reply::json(
                200,
                r#"{"access_token":"tok1","token_type":"Bearer","expires_in":3600}"#,
            );
        }
        path if path.ends_with("/read") => {
            return Reply::json(
                200,
                promxy::remote::encode(&promxy::remote::messages::ReadResponse::default()),
            );
        }
        path if path.contains("/query") && !path.ends_with("exemplars") => {
            r#"{"resultType":"matrix","result":[]}"#
        }
        path if path.ends_with("/metadata") => "{}",
        _ => "[]",
    };
    Reply::json(200, format!(r#"{{"status":"success","data":{data}}}"#))
}

/// Makes the call of a step, at the time that the recording names.
async fn ask(running: &groups_support::Running, name: &str, sent: Option<&Sent>) {
    let body = sent
        .and_then(|sent| sent.body.as_deref())
        .unwrap_or_default();
    let time = body.split('&').find_map(|pair| pair.strip_prefix("time="));
    let time = time.map_or(1_700_000_000_000, |time| {
        (time.parse::<f64>().unwrap() * 1000.0).round() as i64
    });
    let asker = Asker {
        headers: Arc::new([("X-Scope-OrgID".to_owned(), String::from("client"))]),
        ..Asker::default()
    };
    let asker = if sent.is_some_and(|sent| {
        let mut headers = sent.headers.iter();
        headers.any(|(name, _)| name == "X-Scope-Orgid")
    }) {
        asker
    } else {
        Asker::default()
    };
    let up = matchers("up");
    let asked = Asked {
        selectors: vec![up.clone()],
        ..Asked::default()
    };
    let groups = &running.groups;
    let failure = match name {
        "query" => groups.query("up", Grid::instant(time), &asker).await.err(),
        "range_raw" => groups.raw(&up, time - 9_999, time, &asker).await.err(),
        "series" => groups.series(&asked, &asker).await.err(),
        "labels" => groups.label_names(&asked, &asker).await.err(),
        "label_values" => {
            let none = Asked::default();
            groups.label_values("job", &none, &asker).await.err()
        }
        "metadata" => groups.metadata("up", None, &asker).await.err(),
        "exemplars" => groups.exemplars(&asked, &asker).await.err(),
        other => panic!("unknown call {other}"),
    };
    if let Some(failure) = failure {
        assert!(failure.message.contains("https://"), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_do_on_the_wire_what_http_client_says() {
    let steps: Vec<Step> = golden::json_lines(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/surface/http_client.jsonl"
    ));
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("pw"), "filepass\n").unwrap();
    fs::write(files.path().join("tok"), "filetoken\n").unwrap();
    let (mut same, mut deviations) = (0, 0);
    for step in &steps {
        let (stub, other) = (Stub::new(reply), Stub::new(reply));
        let at = files.path().display();
        let keys = step
            .config
            .replace("127.0.0.1:25180", &other.address.to_string())
            .replace("password_file: pw", &format!("password_file: {at}/pw"))
            .replace("token_file: tok", &format!("token_file: {at}/tok"));
        let running = start(&groups_support::one_group(&[&stub], &keys));
        for (name, call) in &step.result {
            let place = format!("{} {name}", step.name);
            ask(&running, name, call.downstream.first()).await;
            let seen = match step.name.as_str() {
                "proxy_url" => {
                    let seen = other.take();
                    let expected = format!("http://{}/api/v1/query", stub.address);
                    assert_eq!(seen[0].target, expected, "{place}");
                    same += 1;
                    continue;
                }
                "https_scheme_to_http_server" => {
                    assert!(
                        stub.take().iter().all(|seen| seen.path.is_empty()),
                        "{place}"
                    );
                    same += 1;
                    continue;
                }
                _ => stub.take(),
            };
            assert_eq!(seen.len(), call.downstream.len(), "{place}");
            deviations += usize::from(!is_same(step, name, &call.downstream[0], &seen[0]));
            same += 1;
        }
    }
    println!(
        "http_client.jsonl: {same} requests of {} steps as recorded, {deviations} of them but for what a table lists",
        steps.len()
    );
    assert_eq!(steps.len(), 22);
    assert_eq!((same, deviations), (64, 14));
}

/// Compares a request with the recorded one, and says whether nothing had to be excused.
fn is_same(step: &Step, name: &str, sent: &Sent, seen: &Seen) -> bool {
    let place = format!("{} {name}", step.name);
    let mut excused = false;
    let mut line = sent.line.clone();
    if seen.path.ends_with("/read") && seen.target.contains('?') {
        // D28: parameters of every request.
        line += "?nocache=1";
        excused = true;
    }
    assert_eq!(format!("{} {}", seen.method, seen.target), line, "{place}");
    for header in TOLD {
        let known = sent.headers.iter();
        let recorded = known
            .filter(|(known, _)| known.eq_ignore_ascii_case(header))
            .map(|(_, value)| value.as_str())
            .next();
        let listed = HEADERS
            .iter()
            .find(|row| row.0 == step.name && row.1 == name && row.2 == header);
        let expected = listed.map(|row| row.3).or(recorded);
        let found = seen.header(header);
        match expected {
            Some(expected) if expected.starts_with("AWS4") => {
                let begin = expected.split('/').next().unwrap();
                assert!(found.unwrap().starts_with(begin), "{place}");
            }
            _ => assert_eq!(found, expected, "{place} {header}"),
        }
        excused |= listed.is_some() && recorded != expected;
    }
    let agent = sent.headers.iter().find(|(known, _)| known == "User-Agent");
    if agent.is_some_and(|(_, agent)| agent == "custom") {
        assert_eq!(seen.header("User-Agent"), Some("custom"), "{place}");
    }
    let body = sent.body.clone().unwrap_or_default();
    if name == "exemplars" {
        // D31: times that nobody named are not sent.
        let pairs = body.split('&');
        let left = pairs.filter(|pair| !pair.starts_with("start=") && !pair.starts_with("end="));
        assert_eq!(
            String::from_utf8_lossy(&seen.body),
            left.collect::<Vec<_>>().join("&"),
            "{place}"
        );
        return false;
    }
    if seen.path.ends_with("/read") {
        let request: ReadRequest = decode(&seen.body, 1 << 20).unwrap();
        let query = &request.queries[0];
        assert_eq!(query.end_timestamp_ms - query.start_timestamp_ms, 9_999);
        assert_eq!(request.accepted_response_types, [1, 0], "{place}");
        return !excused;
    }
    assert_eq!(String::from_utf8_lossy(&seen.body), body, "{place}");
    !excused
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_whose_last_answer_was_short_are_not_answered_packed() {
    // As many series as each query says, packed for whoever takes it so.
    let stub = Stub::new(|seen: &Seen| {
        let count = seen
            .param("query")
            .and_then(|query| query.strip_prefix("up"));
        let series = (0..count.and_then(|count| count.parse().ok()).unwrap_or(1))
            .map(|i: usize| format!(r#"{{"metric":{{"i":"{i}"}},"value":[1700000000,"1"]}}"#));
        let result = series.collect::<Vec<_>>().join(",");
        match (Reply::vector(&result), seen.header("Accept-Encoding")) {
            (Reply::Full { body, .. }, Some("gzip")) => Reply::gzip(&body),
            (plain, _) => plain,
        }
    });
    let running = start(&groups_support::one_group(&[&stub], ""));
    stub.take();
    let f = async |query: &str, series: usize, encoding: &str| {
        let (grid, asker) = (Grid::instant(1_700_000_000_000), Asker::default());
        let answer = running.groups.query(query, grid, &asker).await.unwrap();
        let found: usize = answer.data.iter().map(|part| part.series.len()).sum();
        assert_eq!(found, series, "{query}");
        for seen in stub.take() {
            assert_eq!(seen.header("Accept-Encoding"), Some(encoding), "{query}");
        }
    };
    for encoding in ["gzip", "identity", "identity"] {
        f("up1", 1, encoding).await;
    }
    for _ in 0..3 {
        f("up1000", 1000, "gzip").await;
    }
    f("up1", 1, "identity").await;
}
