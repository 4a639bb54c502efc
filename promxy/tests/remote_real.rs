//! Native histograms between real servers and the proxy, by remote read, in both directions: the proxy reads the chunks of a
//! Prometheus server, and another one reads those of the proxy.
//!
//! `PROMETHEUS3_BIN` says where Prometheus 3.5 is (`.ci/servers` brings it). Without it the test says that it skips;
//! `REQUIRE_REAL_SERVERS=1` turns that into a failure.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod groups_support;
mod receiver;
mod support;

use std::{collections::BTreeMap, sync::Arc};

use promql::{
    histogram::{CounterResetHint, FloatHistogram},
    parser::{ParserOptions, parse_selector},
    storage::{is_stale, stale_marker},
};
use promxy::{
    remote::messages::{Label, Sample, TimeSeries},
    upstream::{Asker, Upstream as _},
};
use receiver::{Counts, Receiver, message};
use serde_json::Value;
use support::{Promxy, bytes_of, client::request, required};

/// Evaluates a query, and returns the result.
fn query(server: &Receiver, query: &str, time: i64) -> Value {
    let path = format!("/api/v1/query?time={}&query={query}", time / 1000);
    let answer = request(server.port, &bytes_of("GET", &path, &[], b"")).unwrap();
    let mut answer: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    let mut result = answer["data"]["result"].take();
    if let Some(series) = result.as_array_mut() {
        series.sort_by_key(|series| series["metric"].to_string());
    }
    result
}

/// What is written: each a row of samples, a quarter of a minute apart. Integer histograms begin with `i`, as does their name.
const SERIES: [(&str, &[&str]); 7] = [
    (
        "i_counter",
        &[
            "{{schema:1 count:3 sum:4.5 z_bucket:1 z_bucket_w:0.001 buckets:[1 1]}}",
            "{{schema:1 count:6 sum:8.5 z_bucket:1 z_bucket_w:0.001 buckets:[3 2]}}",
            // More buckets, with gaps, and negative ones.
            "{{schema:1 count:17 sum:9 z_bucket:2 z_bucket_w:0.001 buckets:[4 3 0 0 5] n_buckets:[1 2] n_offset:3}}",
            "{{schema:1 count:22 sum:11 z_bucket:2 z_bucket_w:0.001 buckets:[4 8 0 0 5] n_buckets:[1 2] n_offset:3}}",
            // A reset.
            "{{schema:1 count:2 sum:1 z_bucket:0 z_bucket_w:0.001 buckets:[2]}}",
            "{{schema:1 count:5 sum:1.25 z_bucket:0 z_bucket_w:0.001 buckets:[5]}}",
            // Another resolution.
            "{{schema:0 count:6 sum:2 z_bucket_w:0.001 buckets:[6]}}",
        ],
    ),
    (
        "i_gauge",
        &[
            "{{schema:-2 count:9 sum:4 counter_reset_hint:gauge buckets:[4 5]}}",
            "{{schema:-2 count:3 sum:-4 counter_reset_hint:gauge buckets:[2 1]}}",
            "{{schema:-2 count:8 sum:1 counter_reset_hint:gauge buckets:[2 1 5]}}",
        ],
    ),
    (
        "i_custom",
        &[
            "{{schema:-53 count:6 sum:4 custom_values:[0.005 0.1 2.5 1e9 1e12] buckets:[1 2 3]}}",
            "{{schema:-53 count:9 sum:7 custom_values:[0.005 0.1 2.5 1e9 1e12] buckets:[2 3 3 0 0 1]}}",
            "{{schema:-53 count:9 sum:7 custom_values:[-1 0.0001 3] buckets:[2 3 3 1]}}",
        ],
    ),
    (
        "f_counter",
        &[
            "{{schema:3 count:2.5 sum:4.5 buckets:[1.25 1.25]}}",
            "{{schema:3 count:3.5 sum:5.5 buckets:[1.25 1.25 1]}}",
            "{{schema:3 count:13.5 sum:6.5 buckets:[1.25 1.25 11]}}",
        ],
    ),
    (
        "f_custom",
        &[
            "{{schema:-53 count:1.5 sum:4 custom_values:[1 2] buckets:[1 0.5]}}",
            "{{schema:-53 count:2.5 sum:5 custom_values:[1 2] buckets:[1 0.5 1]}}",
        ],
    ),
    // Numbers and histograms by turns.
    (
        "i_mixed",
        &[
            "1",
            "2.5",
            "{{schema:1 count:1 sum:2 buckets:[1]}}",
            "{{schema:1 count:2 sum:2 buckets:[2]}}",
            "NaN",
            "7",
        ],
    ),
    (
        "i_stale",
        &[
            "{{schema:1 count:1 sum:2 buckets:[1]}}",
            "stale",
            "{{schema:1 count:2 sum:2 buckets:[2]}}",
        ],
    ),
];

const STEP: i64 = 15_000;

/// A sample of a row, as it was written.
enum Written {
    Float(f64),
    Histogram(FloatHistogram),
}

fn written(text: &str) -> Written {
    let is_float = !text.starts_with('{') && text != "stale";
    if is_float {
        return Written::Float(text.parse().unwrap());
    }
    let made = FloatHistogram::from_text(if text == "stale" { "{{}}" } else { text });
    let mut made = made.unwrap();
    if text == "stale" {
        made.sum = stale_marker();
    }
    Written::Histogram(made)
}

fn fill(server: &Receiver, begin: i64) {
    for (name, row) in SERIES {
        for (text, at) in row.iter().zip(0..) {
            let timestamp = begin + at * STEP;
            let label = |name: &str, value: &str| Label {
                name: name.to_owned(),
                value: value.to_owned(),
            };
            let mut series = TimeSeries {
                labels: vec![label("__name__", name), label("job", "j")],
                ..TimeSeries::default()
            };
            match written(text) {
                Written::Float(value) => series.samples.push(Sample { value, timestamp }),
                Written::Histogram(histogram) => {
                    let counts = if name.starts_with('i') {
                        Counts::Integers
                    } else {
                        Counts::Floats
                    };
                    series
                        .histograms
                        .push(message(&histogram, timestamp, counts));
                }
            }
            server.write(vec![series]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_go_through_remote_read_in_both_directions() {
    let Some(binary) = required("PROMETHEUS3_BIN") else {
        return;
    };
    let behind = Receiver::start(&binary, "global: {}\n");
    let now = jiff::Timestamp::now().as_millisecond() / 1000 * 1000;
    let begin = now - 120_000;
    fill(&behind, begin);

    // From a server to the proxy: all that was written.
    let config = format!(
        "promxy:\n  server_groups:\n  - static_configs: [{{targets: ['127.0.0.1:{}']}}]\n    remote_read: true\n",
        behind.port
    );
    let running = groups_support::start(&config);
    let selector = parse_selector(r#"{job="j"}"#, &ParserOptions::v3_5()).unwrap();
    let asker = Asker::default();
    let asked = running.groups.raw(&selector, begin, now, &asker);
    let found = asked.await.unwrap();
    let found: BTreeMap<String, _> = found.data[0]
        .series
        .iter()
        .map(|series| {
            (
                series.labels.get("__name__").unwrap().to_owned(),
                &series.data,
            )
        })
        .collect();
    let (mut floats, mut histograms) = (0, 0);
    for (name, row) in SERIES {
        let read = found[name];
        for (text, at) in row.iter().zip(0..) {
            let time = begin + at * STEP;
            match written(text) {
                Written::Float(value) => {
                    let at_time = read.floats.iter().find(|(at, _)| *at == time).unwrap();
                    assert_eq!(at_time.1.to_bits(), value.to_bits(), "{name} {at}");
                    floats += 1;
                }
                Written::Histogram(expected) => {
                    let at_time = read.histograms.iter().find(|(at, _)| *at == time);
                    let mut read = FloatHistogram::clone(&at_time.unwrap().1);
                    // Buckets that a chunk has had come back in all its samples, if only empty.
                    read.compact();
                    let mut expected = expected;
                    expected.compact();
                    assert!(read.equals(&expected), "{name} {at}: {read} {expected}");
                    let is_gauge = expected.hint == CounterResetHint::Gauge;
                    assert_eq!(
                        read.hint == CounterResetHint::Gauge,
                        is_gauge,
                        "{name} {at}"
                    );
                    assert!(!is_stale(read.sum) || *text == "stale");
                    histograms += 1;
                }
            }
        }
        let all = read.floats.len() + read.histograms.len();
        assert_eq!(all, row.len(), "{name}");
    }

    // From the proxy to a server that reads what it has not remotely, in chunks.
    let promxy = Arc::new(Promxy::start(&config, &[]).ready());
    let reading = Receiver::start(
        &binary,
        &format!(
            "remote_read:\n- url: http://127.0.0.1:{}/api/v1/read\n  read_recent: true\n  chunked_read_limit: 1000000\n",
            promxy.port
        ),
    );
    let queries = [
        "{job=\"j\"}[5m]",
        "rate(i_counter[3m])",
        "rate(f_counter[3m])",
        "histogram_quantile(0.9,i_custom)",
        "histogram_count(increase(i_counter[3m]))",
        "sum by (job)({__name__=~\"i_counter|f_counter\"})",
        "i_gauge",
        "resets(i_counter[5m])",
        "last_over_time({__name__=~\".*_custom\"}[5m])",
        "count_over_time(i_mixed[5m])",
    ];
    for text in queries {
        let escaped: Vec<String> = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let escaped = escaped.concat();
        let (expected, read) = (
            query(&behind, &escaped, now),
            query(&reading, &escaped, now),
        );
        assert_eq!(read, expected, "{text}");
        let length = expected.as_array().unwrap().len();
        assert!(length > 0, "{text}");
    }
    println!(
        "read from a server: {histograms} histograms and {floats} floats of {} series; {} queries of a server that reads from the proxy",
        SERIES.len(),
        queries.len()
    );
}
