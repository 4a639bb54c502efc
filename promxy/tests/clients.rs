//! Programs that talk to Prometheus talk to promxy: a Prometheus that federates, one that reads remotely, promtool, the Python
//! package `prometheus-api-client`. What they get is what one Prometheus gives that holds everything.
//!
//! Needs real servers (`tests/real_servers`), and for the package `PROMETHEUS_API_CLIENT_PYTHON`, a Python that has it (or `none`
//! where it cannot be had).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod dataset;
mod real_servers;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use dataset::Times;
use real_servers::{
    Prometheus, Stand, binaries, data, eventually_long, everything, required, send,
};
use serde_json::Value;

const NO_SCRAPES: &str = "global: {}\n";

/// Samples before and after now, so that there is always a latest one.
fn times() -> Times {
    Times::around_now(1200, 900, 5)
}

/// Samples by series and time, the numbers as they are written.
type Samples = BTreeMap<(String, String), String>;

/// Reads a matrix. `dropped` is a label that one of both has more.
fn samples(matrix: &Value, dropped: &str) -> Samples {
    let mut samples = Samples::new();
    for series in matrix["result"].as_array().unwrap() {
        let mut labels = series["metric"].as_object().unwrap().clone();
        labels.remove(dropped);
        let labels = Value::from(labels).to_string();
        for point in series["values"].as_array().unwrap() {
            samples.insert(
                (labels.clone(), point[0].to_string()),
                point[1].as_str().unwrap().to_owned(),
            );
        }
    }
    samples
}

fn series_of(samples: &Samples) -> BTreeSet<&str> {
    samples.keys().map(|(series, _)| series.as_str()).collect()
}

#[test]
fn a_prometheus_that_federates_gets_every_series_with_its_values_and_times() {
    let Some(binaries) = binaries() else { return };
    let external = "global: {external_labels: {source: promxy}}\n";
    let stand = Stand::start(&binaries, times(), NO_SCRAPES, external);
    let whole = &stand.whole;
    let protobuf = "scrape_protocols: [PrometheusProto], ";
    for (version, binary, more) in [
        ("2.42", &binaries.v2, ""),
        ("3.5", &binaries.v3, ""),
        ("3.5, by protobuf,", &binaries.v3, protobuf),
    ] {
        let config = format!(
            "global: {{{more}scrape_interval: 2s, scrape_timeout: 2s}}\n\
             scrape_configs:\n- job_name: federate\n  honor_labels: true\n  metrics_path: /federate\n  \
             params: {{'match[]': ['{{job=\"api\"}}', '{{__name__=~\"temperature.*\"}}']}}\n  \
             static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
            stand.promxy.port
        );
        let federating = Prometheus::start(binary, &config);
        let query = "{source=\"promxy\",job=~\"api|room\"}[10m]";
        let scraped = eventually_long("samples of two times", || {
            let matrix = data(federating.port, "/api/v1/query", &[("query", query)]);
            let samples = samples(&matrix, "source");
            let times: BTreeSet<&str> = samples.keys().map(|(_, time)| time.as_str()).collect();
            (times.len() >= 2).then_some(samples)
        });
        let query = [("query", "{job=~\"api|room\"}[30m]")];
        let expected = samples(&data(whole.port, "/api/v1/query", &query), "");
        assert_eq!(series_of(&scraped), series_of(&expected));
        for (place, value) in &scraped {
            assert_eq!(expected.get(place), Some(value), "{place:?}");
        }
        println!(
            "Prometheus {version} federates: {} series, {} samples, all with the values and times of one Prometheus",
            series_of(&scraped).len(),
            scraped.len()
        );
    }
}

/// Queries of all kinds: raw samples, rates, groupings, both sides of an operation, subqueries, names by a pattern.
const QUERIES: [&str; 10] = [
    "temperature_celsius",
    "http_requests_total{code=\"500\"}[2m]",
    "sum by (dc) (rate(http_requests_total[5m]))",
    "count({__name__=~\".+\"})",
    "topk(3, temperature_celsius offset 1m)",
    "histogram_quantile(0.9, sum by (le, dc) (rate(request_seconds_bucket[2m])))",
    "rate(http_requests_total{code=\"500\"}[5m]) / ignoring(code) rate(http_requests_total{code=\"200\"}[5m])",
    "max_over_time(avg(temperature_celsius)[5m:30s])",
    "temperature_celsius{dc=\"west\",instance!=\"west1:80\"} > 0",
    "absent(nothing_of_the_kind)",
];

/// Answers to all queries, at one time and over a range. The series of what a server has no order for are sorted.
fn answers(port: u16, times: Times) -> Vec<(String, Value)> {
    let (at, start) = ((times.last - 600).to_string(), times.first + 300);
    let start = start.to_string();
    let ask = |query: &&str| {
        let mut params = vec![("query", *query), ("time", &at)];
        let mut answers = vec![(
            format!("{query} at one time"),
            sorted(data(port, "/api/v1/query", &params)),
        )];
        if !query.ends_with(']') {
            params.truncate(1);
            params.extend([("start", start.as_str()), ("end", &at), ("step", "30")]);
            answers.push((
                format!("{query} over a range"),
                sorted(data(port, "/api/v1/query_range", &params)),
            ));
        }
        answers
    };
    QUERIES.iter().flat_map(ask).collect()
}

fn sorted(mut data: Value) -> Value {
    if let Some(series) = data["result"].as_array_mut() {
        series.sort_by_key(|series| series["metric"].to_string());
    }
    data
}

#[test]
fn a_prometheus_that_reads_remotely_answers_as_with_data_of_its_own() {
    let Some(binaries) = binaries() else { return };
    // A Prometheus asks for series with its external labels, and leaves those out.
    let external = "global: {external_labels: {source: promxy}}\n";
    let stand = Stand::start(&binaries, times(), NO_SCRAPES, external);
    let config = format!(
        "{external}remote_read: [{{url: '{}/api/v1/read', read_recent: true}}]\n",
        stand.promxy_url()
    );
    // The older asks for samples, the newer for chunks.
    let counted = "prometheus_remote_storage_read_queries_total{";
    let chunked = "prometheus_remote_read_client_queries_total{";
    for (version, binary, counted) in [
        ("2.42", &binaries.v2, counted),
        ("3.5", &binaries.v3, chunked),
    ] {
        // Versions differ in what belongs to a range, so each is compared with its own kind.
        let series = everything(stand.times);
        let whole = Prometheus::holding(binary, NO_SCRAPES, &binaries.promtool, &series);
        let expected = answers(whole.port, stand.times);
        let reading = Prometheus::start(binary, &config);
        let got = answers(reading.port, stand.times);
        for (expected, got) in expected.iter().zip(&got) {
            assert_eq!(got, expected, "Prometheus {version}");
        }
        let page = send(reading.port, "GET", "/metrics", &[], "").text();
        let mut lines = page.lines();
        let read = lines.find(|line| line.starts_with(counted)).unwrap();
        assert!(read.contains("code=\"200\""), "{page}");
        println!(
            "Prometheus {version} reads remotely: {} answers equal to those of one Prometheus; {read}",
            got.len()
        );
    }
}

/// Runs promtool and returns what it prints.
#[track_caller]
fn promtool(promtool: &Path, url: &str, words: &[&str]) -> String {
    let (command, rest) = words.split_first().unwrap();
    let (flags, args): (Vec<&str>, Vec<&str>) =
        rest.iter().partition(|word| word.starts_with("--"));
    let ran = Command::new(promtool)
        .args(["query", command])
        .args(flags)
        .arg(url)
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    let errors = String::from_utf8(ran.stderr).unwrap();
    format!("{}\n{text}{errors}", ran.status)
}

#[test]
fn promtool_prints_the_same_as_with_one_prometheus() {
    let Some(binaries) = binaries() else { return };
    let stand = Stand::start(&binaries, times(), NO_SCRAPES, "");
    let Times { first, last, .. } = stand.times;
    let time = format!("--time={}", last - 600);
    let (start, end) = (format!("--start={first}"), format!("--end={last}"));
    let mut calls: Vec<Vec<&str>> = Vec::new();
    for query in QUERIES {
        calls.push(vec!["instant", &time, query]);
        if !query.ends_with(']') {
            calls.push(vec!["range", &start, &end, "--step=60s", query]);
        }
    }
    calls.push(vec![
        "instant",
        "--format=json",
        &time,
        "temperature_celsius",
    ]);
    calls.push(vec!["series", "--match={job=\"api\"}", &start, &end]);
    calls.push(vec![
        "series",
        "--match=up",
        "--match={__name__=~\"temp.*\"}",
        &start,
        &end,
    ]);
    calls.push(vec!["labels", "dc"]);
    calls.push(vec!["labels", "__name__"]);
    calls.push(vec!["labels", &start, &end, "instance"]);
    calls.push(vec!["instant", "sum("]);
    for words in &calls {
        let lines = |url: &str| {
            let text = promtool(&binaries.promtool, url, words);
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            // Series that were sorted by nobody come in any order.
            if matches!(words[0], "instant" | "series") && !words.contains(&"--format=json") {
                lines.sort();
            }
            lines
        };
        let (got, expected) = (lines(&stand.promxy_url()), lines(&stand.whole.url()));
        assert_eq!(got, expected, "promtool query {words:?}");
    }
    println!(
        "promtool query: {} calls print the same as with one Prometheus",
        calls.len()
    );
}

#[test]
fn the_python_package_gets_the_same_as_from_one_prometheus() {
    let Some(binaries) = binaries() else { return };
    let Some(python) = required("PROMETHEUS_API_CLIENT_PYTHON") else {
        return;
    };
    if python == Path::new("none") {
        println!("SKIPPED: no index of Python packages");
        return;
    }
    let stand = Stand::start(&binaries, times(), NO_SCRAPES, "");
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/api_client.py");
    let (first, last) = (
        stand.times.first.to_string(),
        (stand.times.last - 600).to_string(),
    );
    let run = |url: &str| -> Value {
        let ran = Command::new(&python)
            .arg(&program)
            .args([url, &first, &last])
            .output()
            .unwrap();
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        serde_json::from_slice(&ran.stdout).unwrap()
    };
    let (got, expected) = (run(&stand.promxy_url()), run(&stand.whole.url()));
    let mut calls = 0;
    for (method, answers) in expected.as_object().unwrap() {
        for (call, expected) in answers.as_object().unwrap() {
            let got = &got[method][call];
            calls += 1;
            if call == "check_prometheus_connection" {
                // It looks at the user interface, which this Prometheus was built without.
                assert_eq!(got, &Value::Bool(true));
                continue;
            }
            assert_eq!(got, expected, "{call} with {method}");
            let is_empty = expected.as_array().is_some_and(Vec::is_empty);
            assert!(!is_empty, "{call} has nothing to compare");
        }
    }
    println!("prometheus-api-client: {calls} answers equal to those of one Prometheus");
}
