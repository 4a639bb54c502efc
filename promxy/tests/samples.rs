//! Samples for other Prometheus servers: `/federate` and `/api/v1/read`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod support;

use jiff::Timestamp;
use promxy::remote::{
    chunks::{self, Content},
    decode, encode,
    frames::Frames,
    messages::{
        BucketSpan, Histogram, Label, LabelMatcher, Query, QueryResult, ReadRequest, ReadResponse,
        SAMPLES, STREAMED_XOR_CHUNKS, Sample, TimeSeries,
    },
    xor,
};

use support::{
    Promxy, golden, groups,
    recorded::{Case, Exchange, Replay},
    stub::{Asked, Reply, Stub},
};

/// Cases of federation that do not need samples, or only say what form they get.
#[test]
fn federations_have_the_recorded_statuses_and_forms() {
    let cases: Vec<Case> = golden("federate.jsonl.gz");
    let replay = Replay::start(&[]);
    let mut failures = Vec::new();
    let (mut same, mut cut) = (0, 0);
    for case in &cases {
        // The capture keeps the beginnings of long bodies only.
        let is_cut = |exchange: &Exchange| {
            let got = exchange.response.as_ref();
            got.is_some_and(|got| {
                got.status == Some(200)
                    && serde_json::from_slice::<serde_json::Value>(&got.body.bytes()).is_err()
            })
        };
        if case.fault.is_empty() && case.downstream.iter().any(is_cut) {
            cut += 1;
            continue;
        }
        let (response, unmatched) = replay.run(case);
        let header = |name: &str| {
            let mut named = case
                .response
                .headers
                .iter()
                .filter(|(other, _)| other == name);
            named.next().map(|(_, value)| value.clone())
        };
        let is_same = case.response.status == Some(response.status)
            && header("Content-Type").as_deref() == response.header("content-type")
            && header("Location").as_deref() == response.header("location")
            && header("Allow").as_deref() == response.header("allow")
            && (case.response.status == Some(200)
                || case.request.method == "HEAD"
                || case.response.body.bytes() == response.body);
        if is_same && unmatched.is_empty() {
            same += 1;
        } else {
            failures.push(format!(
                "{} {}: expected {:?}, got {} {:?}\n{}\nunmatched: {unmatched:#?}",
                case.id,
                case.request.target,
                case.response,
                response.status,
                response.headers,
                response.text()
            ));
        }
    }
    println!(
        "federate.jsonl: {same} of {} the same in status and form, {cut} not run because servers' answers are cut in the capture; the recorded samples are too old to be told, and stand in another test",
        cases.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(same >= 24, "{same}");
}

/// A server with a gauge and a series that has ended, whose last sample is a second old; and what it was asked.
fn server(value: &'static str) -> Stub {
    Stub::start(move |asked: &Asked| {
        let now = Timestamp::now().as_millisecond();
        let at = |ago: i64| {
            let time = now - ago;
            format!("{}.{:03}", time / 1000, time % 1000)
        };
        let series = format!(
            r#"{{"metric":{{"__name__":"temp","room":"x \"q\" \\ b"}},"values":[[{},"0"],[{},"{value}"]]}},{{"metric":{{"__name__":"old"}},"values":[[{},"1"]]}}"#,
            at(16_000),
            at(1_000),
            at(600_000),
        );
        assert_eq!(asked.path(), "/api/v1/query", "{asked:?}");
        Reply::json(format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}"#
        ))
    })
}

#[test]
fn a_federation_has_the_latest_samples_with_external_labels() {
    let (a, b) = (server("21.5"), server("NaN"));
    let promxy = Promxy::start(&groups(&[&[a.port], &[b.port]]), &[]).ready();
    let answer = promxy.get("/federate?match[]=temp&match[]=%7B__name__%3D~%22temp%7Cold%22%7D");
    let lines: Vec<String> = answer.text().lines().map(str::to_owned).collect();
    let expected = [
        "# TYPE temp untyped",
        r#"temp{room="x \"q\" \\ b",sg="a",source="promxy-2"} 21.5 "#,
        r#"temp{room="x \"q\" \\ b",sg="b",source="promxy-2"} NaN "#,
    ];
    assert_eq!(lines.len(), expected.len(), "{}", answer.text());
    for (line, expected) in lines.iter().zip(expected) {
        assert!(
            line.starts_with(expected),
            "expected {expected}, got {line}"
        );
    }
    // S25: text is packed too.
    let packed = promxy.send(
        "GET",
        "/federate?match[]=temp",
        &[("Accept-Encoding", "gzip")],
        b"",
    );
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let delimited = promxy.send(
        "GET",
        "/federate?match[]=temp",
        &[(
            "Accept",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
        )],
        b"",
    );
    assert!(
        delimited
            .body
            .windows(8)
            .any(|bytes| bytes == 21.5f64.to_le_bytes())
    );
}

fn read_request(accepted: Vec<i32>, matchers: &[(&str, &str)]) -> Vec<u8> {
    let now = Timestamp::now().as_millisecond();
    let matchers = matchers.iter().map(|(name, value)| LabelMatcher {
        kind: 0,
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    });
    encode(&ReadRequest {
        queries: vec![Query {
            start_timestamp_ms: now - 60_000,
            end_timestamp_ms: now,
            matchers: matchers.collect(),
            hints: None,
        }],
        accepted_response_types: accepted,
    })
}

#[test]
fn remote_reads_get_samples_or_chunks_without_hints() {
    let stub = server("2.5");
    let promxy = Promxy::start(&groups(&[&[stub.port]]), &[]).ready();
    let read = |accepted, matchers: &[(&str, &str)]| {
        promxy.send(
            "POST",
            "/api/v1/read",
            &[],
            &read_request(accepted, matchers),
        )
    };
    let temp = [("__name__", "temp"), ("source", "promxy-2")];
    let answer = read(vec![], &temp);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-encoding"), Some("snappy"));
    let message: ReadResponse = decode(&answer.body, 1 << 20).unwrap();
    let series = message.results[0]
        .timeseries
        .iter()
        .find(|series| series.labels.iter().any(|label| label.value == "temp"))
        .unwrap();
    let labels: Vec<(&str, &str)> = series
        .labels
        .iter()
        .map(|label| (label.name.as_str(), label.value.as_str()))
        .collect();
    assert_eq!(
        labels,
        [
            ("__name__", "temp"),
            ("room", "x \"q\" \\ b"),
            ("sg", "a"),
            ("source", "promxy-2")
        ]
    );
    let values: Vec<f64> = series.samples.iter().map(|sample| sample.value).collect();
    assert_eq!(values, [0.0, 2.5]);

    // What every Prometheus sends: chunks are liked best.
    let answer = read(vec![STREAMED_XOR_CHUNKS, SAMPLES], &temp);
    assert_eq!(
        answer.header("content-type"),
        Some("application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse")
    );
    let mut frames = Frames::new(1 << 20);
    frames.push(&answer.body);
    let mut streamed = Vec::new();
    while let Some(frame) = frames.take().unwrap() {
        for series in frame.chunked_series {
            for chunk in series.chunks {
                let samples = xor::read(&chunk.data).unwrap();
                streamed.extend(samples.into_iter().map(|(_, value)| value));
            }
        }
    }
    assert!(frames.is_at_end());
    assert!(streamed.ends_with(&[0.0, 2.5]), "{streamed:?}");

    assert_eq!(read(vec![7], &temp).status, 400);
    let nothing: ReadResponse = decode(&read(vec![], &[]).body, 1000).unwrap();
    assert!(nothing.results[0].timeseries.is_empty());
}

#[test]
fn remote_reads_in_chunks_have_native_histograms_and_floats_by_turns() {
    let now = Timestamp::now().as_millisecond();
    let histogram = |ago: i64, count: u64| Histogram {
        count_int: Some(count),
        zero_count_int: Some(0),
        sum: 1.5,
        schema: 2,
        positive_spans: vec![BucketSpan {
            offset: -1,
            length: 2,
        }],
        positive_deltas: vec![1, count as i64 - 2],
        timestamp: now - ago,
        ..Histogram::default()
    };
    let behind = ReadResponse {
        results: vec![QueryResult {
            timeseries: vec![TimeSeries {
                labels: vec![Label {
                    name: "__name__".to_owned(),
                    value: "h".to_owned(),
                }],
                samples: vec![Sample {
                    value: 7.0,
                    timestamp: now - 1_000,
                }],
                histograms: vec![histogram(9_000, 4), histogram(5_000, 6), histogram(500, 3)],
            }],
        }],
    };
    let body = encode(&behind);
    let stub = Stub::start(move |_| Reply::Answer {
        status: 200,
        content_type: "application/x-protobuf".to_owned(),
        body: body.clone(),
    });
    let config =
        groups(&[&[stub.port]]).replace("anti_affinity", "remote_read: true\n    anti_affinity");
    let promxy = Promxy::start(&config, &[]).ready();
    let read = |accepted| {
        let body = read_request(accepted, &[("__name__", "h")]);
        promxy.send("POST", "/api/v1/read", &[], &body)
    };
    let answer = read(vec![STREAMED_XOR_CHUNKS]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut frames = Frames::new(1 << 20);
    frames.push(&answer.body);
    let mut found = Vec::new();
    while let Some(frame) = frames.take().unwrap() {
        for chunk in frame
            .chunked_series
            .iter()
            .flat_map(|series| &series.chunks)
        {
            let times = (now - chunk.min_time_ms, now - chunk.max_time_ms);
            match chunks::open(chunk).unwrap() {
                Content::Floats(floats) => found.push((times, format!("{floats:?}"))),
                Content::Histograms(histograms) => {
                    let histograms = histograms.map(|sample| sample.unwrap().1.to_test_notation());
                    found.push((times, histograms.collect::<Vec<_>>().join(" ")));
                }
            }
        }
    }
    assert!(frames.is_at_end());
    let expected = [
        (
            (9_000, 5_000),
            "{{schema:2 count:4 sum:1.5 offset:-1 buckets:[1 3]}} {{schema:2 count:6 sum:1.5 counter_reset_hint:not_reset offset:-1 buckets:[1 5]}}".to_owned(),
        ),
        ((1_000, 1_000), format!("[({}, 7.0)]", now - 1_000)),
        // What is lower than before: nobody has said so, and who reads it sees it himself.
        (
            (500, 500),
            "{{schema:2 count:3 sum:1.5 offset:-1 buckets:[1 2]}}".to_owned(),
        ),
    ];
    assert_eq!(found, expected);
    let message: ReadResponse = decode(&read(vec![SAMPLES]).body, 1 << 20).unwrap();
    assert_eq!(message.results[0].timeseries[0].histograms.len(), 3);
}
