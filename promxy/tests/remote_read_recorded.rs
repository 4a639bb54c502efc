//! `remote_read*.jsonl`, line by line: `/api/v1/read` against what the original answered.
//!
//! The original has samples only for those who send hints and take no chunks (S26). What it gave them is what everybody gets here.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod support;

use promxy::remote::{decode, frames::Frames, messages::ReadResponse, xor};

use support::{
    client::Response,
    golden,
    recorded::{Case, Replay},
};

const LARGEST: usize = 1 << 20;

/// How a line differs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Not at all.
    Same,
    /// There are samples, the same that those get who send hints.
    HasSamples,
    /// As before, in chunks.
    HasChunks,
    /// There are no series.
    Empty,
    /// It is the client's mistake.
    Refused,
    /// Servers' answers to what is asked here were not recorded.
    NotRecorded,
}

const WITH_HINTS: &str = "samples_with_hints";

/// What becomes of each line, by its name; the reason where it differs.
const LINES: &[(&str, Kind, &str)] = &[
    (WITH_HINTS, Kind::Same, ""),
    (
        "samples_no_hints",
        Kind::HasSamples,
        "S26: hints need not be there",
    ),
    (
        "chunked_with_hints",
        Kind::HasChunks,
        "S26: chunks are sent",
    ),
    (
        "prometheus_like_accepts_both",
        Kind::HasChunks,
        "S26: chunks are sent",
    ),
    ("empty", Kind::Same, ""),
    ("not_snappy", Kind::Same, ""),
    ("bad_proto", Kind::Same, ""),
    ("no_body", Kind::Same, ""),
    (
        "no_matchers",
        Kind::Empty,
        "S26: no series, as in Prometheus",
    ),
    ("bad_regex", Kind::Refused, "S26: 400, as in Prometheus"),
    ("samples", Kind::NotRecorded, "S26: hints need not be there"),
    (
        "samples_explicit",
        Kind::NotRecorded,
        "S26: hints need not be there",
    ),
    (
        "two_queries",
        Kind::NotRecorded,
        "S26: hints need not be there",
    ),
    (
        "neg_regex",
        Kind::NotRecorded,
        "S26: hints need not be there",
    ),
    (
        "external_label",
        Kind::NotRecorded,
        "S26: hints need not be there",
    ),
    ("chunked", Kind::NotRecorded, "S26: chunks are sent"),
    (
        "chunked_or_samples",
        Kind::NotRecorded,
        "S26: chunks are sent",
    ),
];

/// A series as it is compared: names and values of labels, times and values of samples.
type Flat = (Vec<(String, String)>, Vec<(i64, f64)>);

fn samples(packed: &[u8]) -> Vec<Flat> {
    let message: ReadResponse = decode(packed, LARGEST).unwrap();
    let series = message
        .results
        .into_iter()
        .flat_map(|result| result.timeseries);
    let flat = series.map(|series| {
        let labels = series
            .labels
            .into_iter()
            .map(|label| (label.name, label.value));
        let samples = series
            .samples
            .iter()
            .map(|sample| (sample.timestamp, sample.value));
        (labels.collect(), samples.collect())
    });
    flat.collect()
}

fn chunks(body: &[u8]) -> Vec<Flat> {
    let mut frames = Frames::new(LARGEST);
    frames.push(body);
    let mut all = Vec::new();
    while let Some(frame) = frames.take().unwrap() {
        for series in frame.chunked_series {
            let labels = series
                .labels
                .into_iter()
                .map(|label| (label.name, label.value));
            let samples = series
                .chunks
                .iter()
                .flat_map(|chunk| xor::read(&chunk.data).unwrap());
            all.push((labels.collect(), samples.collect()));
        }
    }
    assert!(frames.is_at_end());
    all
}

/// Says how an answer differs from what its kind has.
fn difference(kind: Kind, case: &Case, first: Option<&Case>, got: &Response) -> Option<String> {
    let recorded = &case.response;
    let header = |name: &str| {
        let mut named = recorded.headers.iter().filter(|(other, _)| other == name);
        named.next().map(|(_, value)| value.as_str())
    };
    let wanted = first.map(|first| samples(&first.response.body.bytes()));
    let is_right = match kind {
        Kind::Same if case.id == WITH_HINTS => {
            got.header("content-type") == header("Content-Type")
                && got.header("content-encoding") == header("Content-Encoding")
                && Some(samples(&got.body)) == wanted
        }
        Kind::Same => Some(got.status) == recorded.status && got.body == recorded.body.bytes(),
        Kind::HasSamples => got.status == 200 && Some(samples(&got.body)) == wanted,
        Kind::HasChunks => {
            let form = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
            got.header("content-type") == Some(form) && Some(chunks(&got.body)) == wanted
        }
        Kind::Empty => got.status == 200 && samples(&got.body).is_empty(),
        Kind::Refused => got.status == 400 && got.body == recorded.body.bytes(),
        Kind::NotRecorded => true,
    };
    (!is_right).then(|| format!("{kind:?} {}: {} {}", case.id, got.status, got.text()))
}

#[test]
fn remote_reads_are_answered_as_recorded_or_better() {
    let (mut same, mut better, mut not_recorded) = (0, 0, 0);
    let mut failures = Vec::new();
    for (file, args) in [
        ("remote_read.jsonl", &[][..]),
        ("remote_read_hints.jsonl", &[]),
        (
            "remote_read_no_access_log.jsonl",
            &["--access-log-destination=none"],
        ),
    ] {
        let cases: Vec<Case> = golden(file);
        let replay = Replay::start(args);
        let first = cases.iter().find(|case| case.id == WITH_HINTS);
        for case in &cases {
            let row = LINES.iter().find(|(id, _, _)| *id == case.id);
            let (_, kind, _) = *row.unwrap_or_else(|| panic!("{file} {}", case.id));
            let mut sent = case.clone();
            if let (Kind::HasSamples | Kind::HasChunks, Some(first)) = (kind, first) {
                sent.downstream.clone_from(&first.downstream);
            }
            if kind == Kind::NotRecorded {
                not_recorded += 1;
                continue;
            }
            let (got, unmatched) = replay.run(&sent);
            match difference(kind, case, first, &got) {
                Some(difference) => {
                    failures.push(format!("{file} {difference}\nunmatched {unmatched:?}"));
                }
                None if kind == Kind::Same => same += 1,
                None => better += 1,
            }
        }
    }
    println!(
        "remote_read*.jsonl: {same} of 21 the same, {better} better by S26, {not_recorded} not run because servers' answers were not recorded"
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(same + better + not_recorded, 21);
}
