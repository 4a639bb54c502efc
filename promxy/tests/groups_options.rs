//! Options of server groups, each with targets on sockets: what they are asked, and what becomes of their answers.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod groups_support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use groups_support::{Reply, Running, Seen, Stub, one_group, start};
use promql::{
    histogram::FloatHistogram,
    parser::{Matcher, ParserOptions, parse_selector},
};
use promxy::{
    remote::{
        chunks::pack,
        encode,
        frames::write,
        messages::{
            Chunk, ChunkedReadResponse, ChunkedSeries, Label, QueryResult, ReadResponse, Sample,
            TimeSeries,
        },
    },
    series::{Native, Samples},
    servergroup::time_range::Grid,
    upstream::{Asker, Budget, FailureKind, Upstream as _},
};
use shared::testing::eventually;

const NOW: i64 = 1_700_000_000_000;

fn matchers(selector: &str) -> Vec<Matcher> {
    parse_selector(selector, &ParserOptions::v3_5()).unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
    let label = |(name, value): &(&str, &str)| Label {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    pairs.iter().map(label).collect()
}

/// An answer with samples in one message.
fn message(samples: &[(i64, f64)]) -> Reply {
    let sample = |(timestamp, value): &(i64, f64)| Sample {
        value: *value,
        timestamp: *timestamp,
    };
    let series = TimeSeries {
        labels: labels(&[("__name__", "x")]),
        samples: samples.iter().map(sample).collect(),
        histograms: Vec::new(),
    };
    let results = vec![QueryResult {
        timeseries: vec![series],
    }];
    Reply::Full {
        status: 200,
        headers: vec![
            (
                "Content-Type".to_owned(),
                "application/x-protobuf".to_owned(),
            ),
            ("Content-Encoding".to_owned(), "snappy".to_owned()),
        ],
        body: encode(&ReadResponse { results }),
    }
}

/// Labels.
type Pairs<'a> = &'a [(&'a str, &'a str)];

/// An answer in frames.
fn stream(frames: &[(Pairs<'_>, Vec<Chunk>)]) -> Reply {
    let frames = frames.iter().map(|(of, chunks)| {
        write(&ChunkedReadResponse {
            chunked_series: vec![ChunkedSeries {
                labels: labels(of),
                chunks: chunks.clone(),
            }],
            query_index: 0,
        })
    });
    let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    Reply::Full {
        status: 200,
        headers: vec![("Content-Type".to_owned(), kind.to_owned())],
        body: frames.collect::<Vec<_>>().concat(),
    }
}

/// Reads a minute of raw samples.
async fn raw(running: &Running) -> Vec<(String, Samples<Native>)> {
    let asked = matchers(r#"{__name__=~"x|y"}"#);
    let asker = Asker::default();
    let answer = running.groups.raw(&asked, NOW - 60_000, NOW, &asker);
    let parts = answer.await.unwrap().data.into_iter();
    let series = parts.flat_map(|part| part.series);
    series
        .map(|series| (series.labels.to_string(), series.data))
        .collect()
}

fn histogram(count: u32) -> Native {
    let text = format!("{{{{schema:1 count:{count} sum:2 buckets:[{count}]}}}}");
    Arc::new(FloatHistogram::from_text(&text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn remote_read_takes_streams_with_chunks_of_floats_and_of_histograms() {
    let samples = Samples {
        floats: vec![(NOW - 9_000, 1.0), (NOW - 8_000, 2.0)],
        histograms: vec![
            (NOW - 70_000, histogram(1)),
            (NOW - 7_000, histogram(3)),
            (NOW - 6_000, histogram(5)),
        ],
    };
    let chunks = pack(&samples);
    assert_eq!(chunks.len(), 3);
    let reply = stream(&[
        // A series may go on in the next frame.
        (&[("__name__", "x")], chunks[..1].to_vec()),
        (&[("__name__", "x")], chunks[1..].to_vec()),
        (&[("__name__", "y")], chunks[1..2].to_vec()),
    ]);
    let stub = Stub::new(move |_| reply.clone());
    let keys = "    remote_read: true\n    remote_read_path: /some/read\n    path_prefix: p\n    labels: {az: a}\n";
    let running = start(&one_group(&[&stub], keys));
    let found = raw(&running).await;
    // What a chunk has outside of the time that was asked for is left out.
    let expected = Samples {
        histograms: samples.histograms[1..].to_vec(),
        ..samples.clone()
    };
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].0, r#"{__name__="x", az="a"}"#);
    assert_eq!(found[0].1.floats, expected.floats);
    assert_eq!(found[0].1.histograms.len(), 2);
    for ((time, read), (at, histogram)) in found[0].1.histograms.iter().zip(&expected.histograms) {
        assert_eq!(time, at);
        assert!(read.equals(histogram));
    }
    assert_eq!(found[1].1.floats, expected.floats);
    let seen = stub.take();
    assert_eq!(seen.len(), 1, "nothing is asked for twice");
    assert_eq!(seen[0].path, "/p/some/read");
}

#[tokio::test(flavor = "multi_thread")]
async fn remote_read_asks_for_samples_where_chunks_are_of_kinds_of_tomorrow() {
    let unknown = Chunk {
        min_time_ms: NOW,
        max_time_ms: NOW,
        kind: 4,
        data: vec![0, 1, 2],
    };
    let asked = AtomicUsize::new(0);
    let stub = Stub::new(move |_| match asked.fetch_add(1, Relaxed) {
        0 => stream(&[(&[("__name__", "x")], vec![unknown.clone()])]),
        _ => message(&[(NOW - 1000, 7.0)]),
    });
    let running = start(&one_group(&[&stub], "    remote_read: true\n"));
    assert_eq!(raw(&running).await[0].1.floats, [(NOW - 1000, 7.0)]);
    assert_eq!(stub.take().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn remote_read_counts_histograms_by_their_size() {
    let histograms = (0..100).map(|at| (NOW - at, histogram(1))).collect();
    let samples = Samples {
        floats: Vec::new(),
        histograms,
    };
    let reply = stream(&[(&[("__name__", "x")], pack(&samples))]);
    let stub = Stub::new(move |_| reply.clone());
    let running = start(&one_group(&[&stub], "    remote_read: true\n"));
    let asker = Asker {
        budget: Arc::new(Budget::new(u64::MAX, 500)),
        ..Asker::default()
    };
    let asked = matchers("x");
    let answer = running.groups.raw(&asked, NOW - 60_000, NOW, &asker);
    let error = answer.await.unwrap_err();
    assert_eq!(error.kind, FailureKind::TooMuch, "{error}");
}

/// Answers a range query with the time of each step in seconds.
fn times(seen: &Seen) -> Reply {
    let number = |name: &str| seen.param(name).unwrap().parse::<f64>().unwrap() as i64;
    let (start, end, step) = (number("start"), number("end"), number("step"));
    let values = (0..=(end - start) / step).map(|at| start + at * step);
    let values: Vec<String> = values.map(|time| format!("[{time},\"{time}\"]")).collect();
    assert!(values.len() <= 11_000, "{} steps", values.len());
    let result = format!(
        r#"{{"metric":{{"i":"1"}},"values":[{}]}}"#,
        values.join(",")
    );
    Reply::json(
        200,
        format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{result}]}}}}"#),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_more_than_11000_steps_are_asked_in_parts_and_come_as_one() {
    let stub = Stub::new(times);
    let running = start(&one_group(&[&stub], ""));
    let grid = Grid {
        start: NOW,
        end: NOW + 29_999 * 15_000,
        step: 15_000,
    };
    let answer = running
        .groups
        .query("up", grid, &Asker::default())
        .await
        .unwrap();
    let [series] = answer.data[0].series.as_slice() else {
        panic!("{} series", answer.data[0].series.len());
    };
    assert!(series.data.is_full());
    assert_eq!(series.data.len(), 30_000);
    let mut wrong = series.data.iter().filter(|(place, value)| {
        let time = NOW / 1000 + *place as i64 * 15;
        *value != time as f64
    });
    assert_eq!(wrong.next(), None);
    let seen = stub.take();
    println!("30,000 steps: {} requests", seen.len());
    assert_eq!(seen.len(), 3);
}

/// A replica whose rate and number of samples are these.
fn replica(rate: &'static str, samples: &'static str) -> Stub {
    Stub::new(move |seen| {
        let query = seen.param("query").unwrap();
        let value = if query.contains("count_over_time") {
            samples
        } else {
            rate
        };
        Reply::vector(&format!(
            r#"{{"metric":{{"i":"1"}},"value":[1700000000,"{value}"]}}"#
        ))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn coverage_aware_takes_the_replica_with_more_samples() {
    let f = async |keys: &str, text: &str, expected: f64, requests: usize| {
        let (holed, whole) = (replica("1", "2"), replica("4", "20"));
        let running = start(&one_group(&[&holed, &whole], keys));
        let asker = Asker::default();
        let asked = running.groups.query(text, Grid::instant(NOW), &asker);
        let answer = asked.await.unwrap();
        assert_eq!(
            answer.data[0].series[0].data.get(0),
            Some(expected),
            "{keys}"
        );
        assert_eq!(holed.take().len() + whole.take().len(), requests);
    };
    f("", "rate(x[5m])", 1.0, 2).await;
    f("    coverage_aware: true\n", "rate(x[5m])", 4.0, 4).await;
    f("    coverage_aware: true\n", "sum(rate(x[5m]))", 4.0, 4).await;
    // Nothing stands behind a value but itself.
    f("    coverage_aware: true\n", "x", 1.0, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_refresh_knows_histograms_and_keeps_them_when_a_target_fails() {
    let (fails, is_other) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let (failing, other) = (Arc::clone(&fails), Arc::clone(&is_other));
    let stub = Stub::new(move |seen| {
        assert_eq!(seen.path, "/api/v1/metadata");
        let name = if other.load(Relaxed) { "new" } else { "old" };
        if failing.load(Relaxed) {
            return Reply::json(500, "no");
        }
        Reply::json(
            200,
            format!(
                r#"{{"status":"success","data":{{"{name}":[{{"type":"histogram","help":"","unit":""}}],"up":[{{"type":"gauge","help":"","unit":""}}]}}}}"#
            ),
        )
    });
    let keys = "    native_histogram: {metadata_refresh: 20ms}\n";
    let running = start(&one_group(&[&stub], keys));
    let knows = |name: &str| running.groups.is_histogram(name).then_some(());
    eventually("the first refresh", || knows("old"));
    assert_eq!(knows("up"), None);
    fails.store(true, Relaxed);
    stub.take();
    let mut failed = 0;
    eventually("refreshes that fail", || {
        failed += stub.take().len();
        (failed > 2).then_some(())
    });
    assert_eq!(knows("old"), Some(()));
    is_other.store(true, Relaxed);
    fails.store(false, Relaxed);
    eventually("another refresh", || knows("new"));
    assert_eq!(knows("old"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn anti_affinity_and_prefer_max_decide_which_samples_of_replicas_stay() {
    let at = |seconds: i64, value: f64| (NOW - seconds * 1000, value);
    let f = async |keys: &str, expected: &[(i64, f64)]| {
        let first = Stub::new(move |_| message(&[at(50, 1.0), at(40, 1.0), at(10, 1.0)]));
        let second = Stub::new(move |_| message(&[at(49, 5.0), at(25, 5.0)]));
        let keys = format!("    remote_read: true\n{keys}");
        let running = start(&one_group(&[&first, &second], &keys));
        assert_eq!(raw(&running).await[0].1.floats, expected, "{keys}");
    };
    // A sample between two of the other that are further apart than twice the buffer.
    let filled = [at(50, 1.0), at(40, 1.0), at(25, 5.0), at(10, 1.0)];
    f("    anti_affinity: 10s\n", &filled).await;
    f(
        "    anti_affinity: 20s\n",
        &[at(50, 1.0), at(40, 1.0), at(10, 1.0)],
    )
    .await;
    // What is near enough to be the same sample lends its value.
    let larger = [at(50, 5.0), at(40, 5.0), at(25, 5.0), at(10, 1.0)];
    f("    anti_affinity: 10s\n    prefer_max: true\n", &larger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn follow_redirects_is_on_unless_it_is_off() {
    let there = Stub::new(|_| Reply::vector(r#"{"metric":{"i":"1"},"value":[1700000000,"1"]}"#));
    let place = there.address;
    let away = Stub::new(move |seen| Reply::Full {
        status: 307,
        headers: vec![(
            "Location".to_owned(),
            format!("http://{place}{}", seen.target),
        )],
        body: Vec::new(),
    });
    let f = async |client: &str| {
        let keys = format!("    http_client: {client}\n");
        let running = start(&one_group(&[&away], &keys));
        let asker = Asker::default();
        let asked = running.groups.query("up", Grid::instant(NOW), &asker);
        let answer = asked.await.map(|answer| answer.data[0].series.len());
        (answer.map_err(|error| error.message), there.take().len())
    };
    assert_eq!(f("{}").await, (Ok(1), 1));
    assert_eq!(f("{follow_redirects: true}").await, (Ok(1), 1));
    let (answer, requests) = f("{follow_redirects: false}").await;
    assert!(
        answer.as_ref().is_err_and(|text| text.contains("307")),
        "{answer:?}"
    );
    assert_eq!(requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn relative_time_range_cuts_what_is_asked_or_keeps_the_group_out() {
    let stub = Stub::new(times);
    let f = async |keys: &str, hours: (i64, i64), requests: usize| {
        let running = start(&one_group(&[&stub], keys));
        let now = jiff::Timestamp::now().as_millisecond() / 60_000 * 60_000;
        let grid = Grid {
            start: now + hours.0 * 3_600_000,
            end: now + hours.1 * 3_600_000,
            step: 60_000,
        };
        let answer = running
            .groups
            .query("up", grid, &Asker::default())
            .await
            .unwrap();
        let seen = stub.take();
        assert_eq!(seen.len(), requests, "{keys}");
        let length = seen.first().map(|seen| {
            let number = |name: &str| seen.param(name).unwrap().parse::<f64>().unwrap();
            (number("end") - number("start")) / 60.0
        });
        (length, answer.data[0].series.len())
    };
    let keys = "    relative_time_range: {start: -3h, end: -1h, truncate: true}\n";
    let (minutes, series) = f(keys, (-4, 0), 1).await;
    assert!(
        minutes.is_some_and(|minutes| (118.0..=120.0).contains(&minutes)),
        "{minutes:?}"
    );
    assert_eq!(series, 1);
    assert_eq!(f(keys, (-9, -5), 0).await, (None, 0));
    let whole = "    relative_time_range: {start: -3h, end: -1h}\n";
    assert_eq!(f(whole, (-4, 0), 1).await, (Some(240.0), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_interval_reads_label_values_again() {
    let grown = Arc::new(AtomicBool::new(false));
    let is_grown = Arc::clone(&grown);
    let stub = Stub::new(move |seen| {
        if seen.path == "/api/v1/label/job/values" {
            let values = if is_grown.load(Relaxed) {
                r#""a","b""#
            } else {
                r#""a""#
            };
            return Reply::json(200, format!(r#"{{"status":"success","data":[{values}]}}"#));
        }
        Reply::vector(r#"{"metric":{"job":"b"},"value":[1700000000,"1"]}"#)
    });
    let keys = "    label_filter: {dynamic_labels: [job], sync_interval: 20ms}\n";
    let running = start(&one_group(&[&stub], keys));
    let found = || {
        let ask = async {
            let asker = Asker::default();
            let asked = running
                .groups
                .query(r#"up{job="b"}"#, Grid::instant(NOW), &asker);
            asked.await.unwrap().data[0].series.len()
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(ask))
    };
    eventually("the filter", || (found() == 0).then_some(()));
    grown.store(true, Relaxed);
    eventually("another reading", || (found() == 1).then_some(()));
}
