//! Keys that say what becomes of the answers of groups and replicas.

#![allow(clippy::unwrap_used, reason = "a failed test says what it expected")]

mod support;

use serde_json::{Value, json};
use support::{
    Promxy, config, group,
    stub::{Asked, Reply, Stub},
};

const NOW: i64 = 1_700_000_000;

/// A server whose queries all have this value, without labels.
fn number(value: &'static str) -> Stub {
    Stub::start(move |asked| {
        let time = asked.parameter("time");
        Reply::result(
            "vector",
            &format!(r#"{{"metric":{{}},"value":[{time},"{value}"]}}"#),
        )
    })
}

/// A server with a series of samples at these times before [`NOW`].
fn samples(before: &'static [i64], value: &'static str) -> Stub {
    Stub::start(move |_| {
        let values: Vec<String> = before
            .iter()
            .map(|seconds| format!(r#"[{},"{value}"]"#, NOW - seconds))
            .collect();
        Reply::result(
            "matrix",
            &format!(
                r#"{{"metric":{{"__name__":"x"}},"values":[{}]}}"#,
                values.join(",")
            ),
        )
    })
}

#[test]
fn groups_disjoint_makes_equal_partial_results_parts_of_a_whole() {
    let f = |groups: &str, query: &str, expected: &str, warns: bool| {
        let (first, second) = (number("5"), number("7"));
        let config = config(&[group(&[&first], ""), group(&[&second], "")]);
        let config = config.replace("promxy:\n", &format!("promxy:\n{groups}"));
        let promxy = Promxy::start(&config, &[]).ready();
        let (result, answer) = promxy.query(query, NOW);
        assert_eq!(result[0]["value"][1], json!(expected), "{answer}");
        let warned = answer["warnings"].to_string().contains("promxy.groups");
        assert_eq!(warned, warns, "{groups} {answer}");
    };
    f("", "sum(x)", "5", true);
    f("  groups: overlapping\n", "sum(x)", "5", true);
    f("  groups: disjoint\n", "sum(x)", "12", false);
    f("  groups: disjoint\n", "count(x)", "12", false);
    f("  groups: disjoint\n", "max(x)", "7", false);
}

#[test]
fn anti_affinity_dynamic_fills_holes_by_the_distance_of_samples() {
    const BASE: [i64; 9] = [540, 480, 300, 240, 180, 120, 60, 30, 0];
    const OTHER: [i64; 3] = [425, 365, 5];
    let f = |keys: &str, expected: &[i64]| {
        let (base, other) = (samples(&BASE, "1"), samples(&OTHER, "2"));
        let promxy = Promxy::start(&config(&[group(&[&base, &other], keys)]), &[]).ready();
        let (result, answer) = promxy.query("x[10m]", NOW);
        let found: Vec<i64> = result[0]["values"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .iter()
            .map(|sample| NOW - sample[0].as_i64().unwrap())
            .collect();
        assert_eq!(found, expected, "{keys}");
    };
    // The hole is less than twice the buffer.
    f("anti_affinity: 5m", &BASE);
    // Most samples are a minute apart, so the buffer is half of one.
    let filled = [540, 480, 425, 365, 300, 240, 180, 120, 60, 30, 0];
    f("anti_affinity: 5m\nanti_affinity_dynamic: true", &filled);
}

#[test]
fn prefer_max_takes_the_larger_of_two_replicas_at_one_time_too() {
    let f = |keys: &str, expected: &str| {
        let (low, high) = (number("1"), number("3"));
        let promxy = Promxy::start(&config(&[group(&[&low, &high], keys)]), &[]).ready();
        let (result, answer) = promxy.query("x", NOW);
        assert_eq!(result[0]["value"][1], json!(expected), "{keys} {answer}");
    };
    f("", "1");
    f("prefer_max: true", "3");
}

/// Answers a range query as servers do that begin at a multiple of the step.
fn snapped(asked: &Asked) -> Reply {
    let number = |name: &str| asked.parameter(name).parse::<f64>().unwrap() as i64;
    let (start, end, step) = (number("start"), number("end"), number("step"));
    let first = start - start % step;
    let values: Vec<String> = (0..=(end - start) / step)
        .map(|place| format!(r#"[{},"{place}"]"#, first + place * step))
        .collect();
    Reply::result(
        "matrix",
        &format!(
            r#"{{"metric":{{"i":"1"}},"values":[{}]}}"#,
            values.join(",")
        ),
    )
}

#[test]
fn align_query_range_with_step_puts_the_times_of_servers_that_snap_back_in_place() {
    let f = |keys: &str| -> Value {
        let stub = Stub::start(snapped);
        let promxy = Promxy::start(&config(&[group(&[&stub], keys)]), &[]).ready();
        promxy.query_range("up", NOW + 7, NOW + 187).0
    };
    let expected: Vec<Value> = (0..4)
        .map(|place| json!([NOW + 7 + place * 60, place.to_string()]))
        .collect();
    assert_eq!(
        f("align_query_range_with_step: true")[0]["values"],
        json!(expected)
    );
    // Without it these times are none of the query's.
    assert_eq!(f(""), json!([]));
}

/// A server with a native histogram, which answers a range of samples.
fn histogram(asked: &Asked) -> Reply {
    if asked.path().ends_with("/metadata") {
        let known =
            r#"{"status":"success","data":{"h":[{"type":"histogram","help":"","unit":""}]}}"#;
        return Reply::json(known);
    }
    let shown = r#"{"count":"3","sum":"6","buckets":[[0,"1","2","3"]]}"#;
    Reply::result(
        "matrix",
        &format!(
            r#"{{"metric":{{"__name__":"h"}},"histograms":[[{},{shown}]]}}"#,
            NOW - 1
        ),
    )
}

#[test]
fn allow_lossy_lets_histograms_come_as_json() {
    let f = |keys: &str| {
        let stub = Stub::start(histogram);
        let promxy = Promxy::start(&config(&[group(&[&stub], keys)]), &[]).ready();
        promxy.query("histogram_count(h)", NOW)
    };
    let (_, answer) = f("native_histogram: {allow_lossy: false}");
    let error = answer["error"].as_str().unwrap();
    let expected = "native histogram query targets server_group(s) ordinal=[0] without remote_read";
    assert!(error.starts_with(expected), "{error}");
    let (result, answer) = f("native_histogram: {allow_lossy: true}");
    assert_eq!(result[0]["value"], json!([NOW, "3"]), "{answer}");
}
