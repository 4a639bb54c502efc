//! Keys that say what targets are asked, and which of them.

#![allow(clippy::unwrap_used, reason = "a failed test says what it expected")]

mod support;

use serde_json::json;
use support::{
    Promxy, config, group,
    stub::{Asked, Reply, Stub},
};

const NOW: i64 = 1_700_000_000;

fn one(asked: &Asked) -> Reply {
    match asked.path().rsplit('/').next().unwrap() {
        "query" => {
            let time = asked.parameter("time");
            let series = format!(r#"{{"metric":{{"env":"e","i":"1"}},"value":[{time},"1"]}}"#);
            Reply::result("vector", &series)
        }
        "query_range" => {
            let start = asked.parameter("start");
            let series = format!(r#"{{"metric":{{"env":"e","i":"1"}},"values":[[{start},"1"]]}}"#);
            Reply::result("matrix", &series)
        }
        _ => Reply::json(r#"{"status":"success","data":[]}"#),
    }
}

/// Starts promxy with one group in front of a server.
fn start(keys: &str) -> (Promxy, Stub) {
    let stub = Stub::start(one);
    let promxy = Promxy::start(&config(&[group(&[&stub], keys)]), &[]).ready();
    (promxy, stub)
}

#[test]
fn static_labels_of_a_label_filter_keep_requests_away_that_a_target_cannot_answer() {
    let f = |filter: &str, query: &str, is_asked: bool| {
        let (promxy, stub) = start(&format!("label_filter: {filter}"));
        let (result, answer) = promxy.query(query, NOW);
        assert_eq!(answer["status"], json!("success"), "{answer}");
        assert_eq!(
            result.as_array().unwrap().len(),
            usize::from(is_asked),
            "{query} {filter}"
        );
        assert_eq!(
            stub.asked().len(),
            usize::from(is_asked),
            "{query} {filter}"
        );
        let counted = promxy.metrics("promxy_label_filter_filtered_count_total{type=\"Query\"}");
        let filtered = counted.first().is_some_and(|line| line.ends_with(" 1"));
        assert_eq!(filtered, !is_asked, "{counted:?}");
    };
    let included = "{static_labels_include: {job: [a, b]}}";
    f(included, r#"up{job="a"}"#, true);
    f(included, r#"up{job="c"}"#, false);
    f(included, r#"up{job=~"b|c"}"#, true);
    f(included, "up", true);
    // Series without the label may be there.
    f(included, r#"up{job=""}"#, true);
    f(included, r#"up{other="c"}"#, true);
    let excluded = "{static_labels_include: {job: [a, b]}, static_labels_exclude: {job: [b]}}";
    f(excluded, r#"up{job="a"}"#, true);
    f(excluded, r#"up{job="b"}"#, false);
}

#[test]
fn static_labels_of_a_label_filter_hold_for_lists_of_series_too() {
    let (promxy, stub) = start("label_filter: {static_labels_include: {job: [a]}}");
    for (selector, asked) in [("up%7Bjob%3D%22c%22%7D", 0), ("up%7Bjob%3D%22a%22%7D", 1)] {
        let answer = promxy.get(&format!("/api/v1/series?match[]={selector}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(stub.asked().len(), asked, "{selector}");
    }
}

#[test]
fn inject_matchers_are_part_of_every_selector() {
    let (promxy, stub) = start("inject_matchers: ['tenant=\"t\"', 'env!=\"dev\"']");
    promxy.query("sum(rate(up{i=\"1\"}[5m]))", NOW);
    promxy.get("/api/v1/series?match[]=up");
    let asked = stub.asked_for("query");
    assert_eq!(asked, [r#"sum(rate(up{env!="dev",i="1",tenant="t"}[5m]))"#]);
    let matched = stub.asked_for("match[]");
    assert_eq!(matched.len(), 1);
    for matcher in [r#"tenant="t""#, r#"env!="dev""#] {
        assert!(matched[0].contains(matcher), "{matched:?}");
    }
}

#[test]
fn metrics_relabel_configs_change_answers_forward_and_requests_backward() {
    let (promxy, stub) = start(
        "metrics_relabel_configs:\n- {action: replace, source_label: env, target_label: stage}\n- {action: labeldrop, source_label: env}",
    );
    let (result, answer) = promxy.query(r#"up{stage="e"}"#, NOW);
    assert_eq!(
        result[0]["metric"],
        json!({"i": "1", "stage": "e"}),
        "{answer}"
    );
    assert_eq!(stub.asked_for("query"), [r#"up{env="e"}"#]);
}

#[test]
fn relabel_configs_choose_targets_and_say_how_they_are_reached() {
    let (stub, dropped) = (Stub::start(one), Stub::start(one));
    let rules = format!(
        "relabel_configs:\n- {{source_labels: [__address__], regex: '.*:{}', action: drop}}\n- {{target_label: __path_prefix__, replacement: /behind/this}}\n- {{target_label: az, replacement: z1}}\npath_prefix: /not/this\nlabels: {{sg: a}}",
        dropped.port
    );
    let promxy = Promxy::start(&config(&[group(&[&stub, &dropped], &rules)]), &[]).ready();
    let (result, answer) = promxy.query("up", NOW);
    let expected = json!({"az": "z1", "env": "e", "i": "1", "sg": "a"});
    assert_eq!(result[0]["metric"], expected, "{answer}");
    assert_eq!(stub.asked()[0].path(), "/behind/this/api/v1/query");
    assert!(dropped.asked().is_empty());
    assert_eq!(
        promxy.metrics("server_group_targets"),
        [r#"server_group_targets{name="",ordinal="0"} 1"#]
    );
}

#[test]
fn absolute_time_range_cuts_ranges_and_keeps_other_times_out() {
    let range = |promxy: &Promxy, start: i64, end: i64| {
        let (_, answer) = promxy.query_range("up", start, end);
        assert_eq!(answer["status"], json!("success"), "{answer}");
    };
    // From 22:13:20 to 22:23:20, in whole minutes of the query's from 22:14:10 on.
    let window = "start: 2023-11-14T22:13:20Z, end: 2023-11-14T22:23:20Z";
    let (promxy, stub) = start(&format!(
        "absolute_time_range: {{{window}, truncate: true}}"
    ));
    promxy.query("up", NOW - 1);
    promxy.query("up", NOW + 601);
    assert!(stub.asked().is_empty());
    promxy.query("up", NOW);
    assert_eq!(stub.asked_for("time"), [NOW.to_string()]);
    range(&promxy, NOW - 70, NOW + 3600);
    assert_eq!(stub.asked_for("start"), [(NOW + 50).to_string()]);
    let end: f64 = stub.asked_for("end")[0].parse().unwrap();
    assert!(
        end > (NOW + 600 - 60) as f64 && end <= (NOW + 600) as f64,
        "{end}"
    );
    let (promxy, stub) = start(&format!("absolute_time_range: {{{window}}}"));
    range(&promxy, NOW - 70, NOW + 3590);
    assert_eq!(stub.asked_for("start"), [(NOW - 70).to_string()]);
    range(&promxy, NOW + 700, NOW + 760);
    assert_eq!(stub.asked().len(), 1);
}

#[test]
fn evaluation_interval_is_the_step_of_subqueries_that_have_none() {
    let stub = Stub::start(one);
    let config = format!(
        "global: {{evaluation_interval: 20s}}\n{}",
        config(&[group(&[&stub], "")])
    );
    let promxy = Promxy::start(&config, &[]).ready();
    promxy.query("stddev_over_time(sum(up)[2m:])", NOW);
    assert_eq!(stub.asked_for("step"), ["20"]);
}

#[test]
fn query_params_and_http_headers_go_with_every_request() {
    let (promxy, stub) = start(
        "query_params: {nocache: 1, tenant: t}\nhttp_headers: {X-Scope-OrgID: one}\nremote_read: true",
    );
    promxy.query("up", NOW);
    promxy.query("up[1m]", NOW);
    promxy.get("/api/v1/labels");
    let asked = stub.asked();
    assert_eq!(asked.len(), 3);
    for request in &asked {
        assert_eq!(request.header("x-scope-orgid"), Some("one"), "{request:?}");
        assert!(request.target.contains("nocache=1&tenant=t"), "{request:?}");
    }
}
