//! How many bytes the answers to one query may have (`--query.max-bytes`).

#![allow(clippy::unwrap_used, reason = "a failed test says what it expected")]

mod support;

use serde_json::{Value, json};
use support::{
    Promxy, config, group,
    stub::{Asked, Reply, Stub},
};

const NOW: i64 = 1_700_000_000;
const SERIES: usize = 1000;

fn answer(asked: &Asked) -> Reply {
    let metric = |number: usize| format!(r#"{{"i":"{number}"}}"#);
    if asked.path().ends_with("/series") {
        let sets: Vec<String> = (0..SERIES).map(metric).collect();
        return Reply::json(format!(
            r#"{{"status":"success","data":[{}]}}"#,
            sets.join(",")
        ));
    }
    let time = asked.parameter("time");
    let series = (0..SERIES).map(|number| {
        let metric = metric(number);
        format!(r#"{{"metric":{metric},"value":[{time},"1"]}}"#)
    });
    Reply::result("vector", &series.collect::<Vec<_>>().join(","))
}

fn length(answer: &Value) -> usize {
    answer["data"]["result"].as_array().map_or(0, Vec::len)
}

#[test]
fn query_max_bytes_bounds_text_and_series() {
    let f = |bytes: &str, expected: Result<usize, &str>| {
        let stub = Stub::start(answer);
        let flag = format!("--query.max-bytes={bytes}");
        let promxy = Promxy::start(&config(&[group(&[&stub], "")]), &[&flag]).ready();
        let (_, answer) = promxy.query("up", NOW);
        match expected {
            Ok(expected) => assert_eq!(length(&answer), expected, "{bytes}: {answer}"),
            Err(expected) => {
                assert_eq!(answer["errorType"], json!("execution"), "{bytes}");
                let error = answer["error"].as_str().unwrap();
                assert!(error.ends_with(expected), "{bytes}: {error}");
            }
        }
        let flags = promxy.get("/api/v1/status/flags").text();
        let flags: Value = serde_json::from_str(&flags).unwrap();
        assert_eq!(flags["data"]["query.max-bytes"], json!(bytes));
    };
    f("4294967296", Ok(SERIES));
    f("-1", Ok(SERIES));
    // Some fifty bytes of text for each series ...
    f(
        "30000",
        Err("the answers to this query are larger than 30000 bytes"),
    );
    // ... and two hundred that they take here.
    f(
        "200000",
        Err("the answers to this query are larger than 200000 bytes"),
    );
    f("300000", Ok(SERIES));
}

#[test]
fn query_max_bytes_bounds_lists_of_series_too() {
    let stub = Stub::start(answer);
    let promxy =
        Promxy::start(&config(&[group(&[&stub], "")]), &["--query.max-bytes=5000"]).ready();
    let answer = promxy.get("/api/v1/series?match[]=up");
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(
        answer.text().contains("larger than 5000 bytes"),
        "{}",
        answer.text()
    );
}
