//! The requests that Grafana's data source for Prometheus makes: promxy answers each with the status, the content type and the
//! shape of Prometheus 3.5, and with its data, where both hold the same.
//!
//! Needs real servers (`tests/real_servers`).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod dataset;
mod real_servers;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use dataset::Times;
use real_servers::{Stand, binaries, data, eventually_long, form, send};
use serde_json::Value;
use support::{
    stub::{Reply, Stub},
    unpacked,
};

/// What the servers scrape: metadata and exemplars are of scraped metrics only.
const SCRAPED: &str = "# HELP jobs_done Jobs that were done.\n# TYPE jobs_done counter\n\
     jobs_done_total{kind=\"small\"} 17.0 # {trace_id=\"0af7651916cd43dd\"} 1.0\n# EOF\n";

#[derive(Clone, Copy, PartialEq)]
enum Compared {
    /// The data is the same, in any order of series.
    Data,
    /// The data is of the same kind: each server has its own.
    Shape,
}
use Compared::{Data, Shape};

struct Call {
    method: &'static str,
    path: &'static str,
    /// In the URL for GET, as a form for POST.
    params: Vec<(&'static str, String)>,
    compared: Compared,
}

fn calls(times: Times) -> Vec<Call> {
    let (start, end) = ((times.first + 300).to_string(), times.last.to_string());
    // What is scraped comes after what is there.
    let later = (times.last + 3600).to_string();
    // Grafana writes times and steps as seconds, with a fraction where there is one.
    let range = |query: &str, step: &str| {
        vec![
            ("query", query.to_owned()),
            ("start", format!("{start}.25")),
            ("end", format!("{end}.25")),
            ("step", step.to_owned()),
        ]
    };
    let instant = |query: &str| vec![("query", query.to_owned()), ("time", end.clone())];
    let span = |more: &[(&'static str, &str)]| {
        let mut params = vec![("start", start.clone()), ("end", later.clone())];
        params.extend(
            more.iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        params
    };
    let only = |params: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        params
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect()
    };
    let rate = "sum by (dc, code) (rate(http_requests_total{job=~\"api|web\"}[1m0s]))";
    let api = "{job=\"api\"}";
    let mut calls = Vec::new();
    let mut add = |method, path, params, compared| {
        calls.push(Call {
            method,
            path,
            params,
            compared,
        });
    };
    // The test of a data source, and what it finds out about it.
    add("POST", "/api/v1/query", instant("1+1"), Data);
    add("GET", "/api/v1/status/buildinfo", vec![], Shape);
    add("GET", "/api/v1/rules", vec![], Data);
    add("GET", "/api/v1/rules", only(&[("type", "alert")]), Data);
    add("GET", "/api/v1/alerts", vec![], Data);
    // Panels.
    add(
        "POST",
        "/api/v1/query_range?timeout=60s",
        range(rate, "15"),
        Data,
    );
    add(
        "POST",
        "/api/v1/query_range",
        range("temperature_celsius", "0.5"),
        Data,
    );
    add(
        "GET",
        "/api/v1/query_range",
        range("vector(time())", "60"),
        Data,
    );
    add(
        "POST",
        "/api/v1/query_range",
        range("nothing_of_the_kind", "15"),
        Data,
    );
    add("POST", "/api/v1/query", instant(rate), Data);
    add(
        "GET",
        "/api/v1/query",
        instant("temperature_celsius[30s]"),
        Data,
    );
    add("POST", "/api/v1/query", instant("\"text\""), Data);
    let exemplars = || span(&[("query", "jobs_done_total")]);
    add("POST", "/api/v1/query_exemplars", exemplars(), Shape);
    add("GET", "/api/v1/query_exemplars", exemplars(), Shape);
    let none = span(&[("query", rate)]);
    add("POST", "/api/v1/query_exemplars", none, Data);
    // The query editor.
    add("GET", "/api/v1/labels", span(&[]), Data);
    add(
        "GET",
        "/api/v1/labels",
        span(&[("match[]", api), ("limit", "40000")]),
        Data,
    );
    add("POST", "/api/v1/labels", span(&[("match[]", api)]), Data);
    add(
        "POST",
        "/api/v1/labels",
        span(&[("match[]", "nothing_of_the_kind")]),
        Data,
    );
    let names = "/api/v1/label/__name__/values";
    add("GET", names, span(&[]), Data);
    add(
        "GET",
        names,
        span(&[
            ("match[]", "{dc=\"east\",job=~\"api|room\"}"),
            ("limit", "40000"),
        ]),
        Data,
    );
    add(
        "GET",
        "/api/v1/label/dc/values",
        span(&[("match[]", api)]),
        Data,
    );
    add("GET", "/api/v1/label/nothing/values", span(&[]), Data);
    add("GET", "/api/v1/series", span(&[("match[]", api)]), Data);
    let two = || {
        span(&[
            ("match[]", "temperature_celsius"),
            ("match[]", "{code=\"500\"}"),
        ])
    };
    add("POST", "/api/v1/series", two(), Data);
    add("GET", "/api/v1/series", two(), Data);
    add(
        "GET",
        "/api/v1/metadata",
        only(&[("metric", "jobs_done"), ("limit", "10")]),
        Data,
    );
    add(
        "GET",
        "/api/v1/metadata",
        only(&[("limit", "1"), ("limit_per_metric", "1")]),
        Shape,
    );
    add(
        "GET",
        "/api/v1/metadata",
        only(&[("metric", "nothing_of_the_kind")]),
        Data,
    );
    // What is wrong.
    add(
        "POST",
        "/api/v1/query",
        instant("sum(rate(http_requests_total[5m])"),
        Data,
    );
    add("POST", "/api/v1/query_range", range("up", "0"), Data);
    add("POST", "/api/v1/query_range", range("up", "0.01"), Data);
    add(
        "POST",
        "/api/v1/query_range",
        only(&[("query", "up")]),
        Data,
    );
    add("GET", "/api/v1/series", span(&[]), Data);
    add("GET", "/api/v1/labels", span(&[("match[]", "{")]), Data);
    add("POST", "/api/v1/query", only(&[("query", "")]), Data);
    calls
}

/// An answer: status, content type, body.
type Answer = (u16, String, Value);

#[track_caller]
fn answer(port: u16, call: &Call) -> Answer {
    let params: Vec<(&str, &str)> = call
        .params
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let form = form(&params);
    let packed = ("Accept-Encoding", "gzip");
    let response = if call.method == "POST" {
        let kind = ("Content-Type", "application/x-www-form-urlencoded");
        send(port, "POST", call.path, &[kind, packed], &form)
    } else {
        send(port, "GET", &format!("{}?{form}", call.path), &[packed], "")
    };
    let text = unpacked(&response);
    let body = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{} {}: {error}: {text}", call.method, call.path));
    let kind = response.header("content-type").unwrap_or_default();
    (response.status, kind.to_owned(), ordered(body))
}

/// Sorts series, which have no order, and leaves everything else.
fn ordered(mut body: Value) -> Value {
    let data = &mut body["data"];
    let list = if data.is_array() {
        Some(data)
    } else {
        data.get_mut("result")
    };
    if let Some(series) = list.and_then(Value::as_array_mut)
        && series.iter().all(Value::is_object)
    {
        series.sort_by_key(|one| one.get("metric").unwrap_or(one).to_string());
    }
    body
}

/// Describes of what kind a value is; `path` says where it stands. The names of labels and metrics are data.
fn shape(value: &Value, path: &str) -> String {
    let list = |shapes: BTreeSet<String>| shapes.into_iter().collect::<Vec<_>>().join("|");
    match value {
        Value::Object(fields) => {
            let has_names_of_data = ["metric", "seriesLabels", "labels"]
                .iter()
                .any(|end| path.ends_with(end))
                || path == "/metadata.data";
            if has_names_of_data {
                return format!(
                    "{{*: {}}}",
                    list(fields.values().map(|field| shape(field, "")).collect())
                );
            }
            let fields: BTreeMap<&String, String> = fields
                .iter()
                .map(|(name, field)| (name, shape(field, &format!("{path}.{name}"))))
                .collect();
            format!("{fields:?}")
        }
        Value::Array(items) => {
            format!(
                "[{}]",
                list(items.iter().map(|item| shape(item, path)).collect())
            )
        }
        Value::String(_) => "text".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Null => "null".to_owned(),
    }
}

#[test]
fn the_requests_of_grafana_are_answered_as_by_prometheus() {
    let Some(binaries) = binaries() else { return };
    let scraped = Stub::start(|_| Reply::Answer {
        status: 200,
        content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8".to_owned(),
        body: SCRAPED.into(),
    });
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs: [{{job_name: jobs, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]\n",
        scraped.port
    );
    // Samples that are scraped come after those that are there.
    let times = Times::around_now(1800, -60, 15);
    let stand = Stand::start(&binaries, times, &config, "");
    let (promxy, whole) = (stand.promxy.port, stand.whole.port);
    eventually_long("exemplars of all servers", || {
        let span = [
            ("query", "jobs_done_total"),
            ("start", "0"),
            ("end", "4000000000"),
        ];
        let found = |port| {
            data(port, "/api/v1/query_exemplars", &span)
                .as_array()
                .map(Vec::len)
        };
        (found(promxy) == Some(2) && found(whole) == Some(1)).then_some(())
    });
    let calls = calls(times);
    let mut wrong = Vec::new();
    for call in &calls {
        let (got, expected) = (answer(promxy, call), answer(whole, call));
        let is_same = match call.compared {
            Data => got == expected,
            Shape => {
                let path = call.path.trim_start_matches("/api/v1");
                let shapes = [&got.2, &expected.2].map(|body| shape(body, path));
                assert!(
                    !shapes[1].contains("[]") && !shapes[1].contains("{*: }"),
                    "{}: nothing to compare: {}",
                    call.path,
                    shapes[1]
                );
                (got.0, &got.1, &shapes[0]) == (expected.0, &expected.1, &shapes[1])
            }
        };
        if !is_same {
            let Call {
                method,
                path,
                params,
                ..
            } = call;
            wrong.push(format!(
                "{method} {path} {params:?}\nexpected {expected:?}\ngot      {got:?}"
            ));
        }
    }
    println!(
        "Grafana: {} requests, {} answered otherwise than by Prometheus 3.5",
        calls.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
