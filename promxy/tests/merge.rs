//! Merging replicas against what the original made of them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

use std::collections::BTreeMap;

use promxy::{
    merge::{Mergeable, Options},
    series::{Column, Histogram, Samples},
    servergroup::time_range::Grid,
};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use shared::testing::golden;

#[derive(Deserialize)]
struct Case {
    #[serde(rename = "case")]
    name: String,
    replicas: Vec<Option<Stream>>,
    merged: BTreeMap<String, Option<Stream>>,
}

#[derive(Deserialize, Default)]
struct Stream {
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    histograms: Vec<(f64, Value)>,
}

impl Stream {
    /// Histograms are told apart by count and sum: D3 has the original show other buckets than it was given.
    fn samples(&self) -> Samples<String> {
        let millis = |seconds: f64| (seconds * 1000.0).round() as i64;
        let histograms = self.histograms.iter();
        let floats = self.values.iter();
        Samples {
            floats: floats
                .map(|(time, value)| (millis(*time), value.parse().unwrap()))
                .collect(),
            histograms: histograms
                .map(|(time, h)| (millis(*time), format!("{} {}", h["count"], h["sum"])))
                .collect(),
        }
    }
}

fn options(name: &str) -> Options {
    let seconds = match name {
        _ if name.starts_with("aa15s") => 15,
        _ if name.starts_with("aa60s") => 60,
        // D14: the original cuts the buffer to whole seconds.
        _ if name.starts_with("aa0s")
            || name.starts_with("aa500ms")
            || name.starts_with("across") =>
        {
            0
        }
        _ => 10,
    };
    Options {
        buffer_ms: seconds * 1000,
        dynamic: name.contains("dynamic"),
        prefer_max: name.contains("prefer_max"),
    }
}

fn merged(mut replicas: Vec<Samples<String>>, options: Options) -> Samples<String> {
    let first = replicas.remove(0);
    replicas
        .into_iter()
        .fold(first, |merged, replica| merged.merge(replica, options, &()))
}

fn text(samples: &Samples<String>) -> String {
    format!("{:?} {:?}", samples.floats, samples.histograms)
}

#[test]
fn replicas_are_merged_as_by_the_original() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/query/merge.json");
    let cases: Vec<Case> = golden::json(path);
    let (mut same, mut reordered, mut first_sample, mut half_second) = (0, 0, Vec::new(), 0);
    for case in &cases {
        for (settings, expected) in &case.merged {
            let mut options = options(settings);
            let expected = expected.as_ref().map(Stream::samples).unwrap_or_default();
            let mut replicas: Vec<_> = case
                .replicas
                .iter()
                .map(|stream| stream.as_ref().map(Stream::samples).unwrap_or_default())
                .collect();
            if replicas.len() == 3 {
                // D44: the original starts three equal members with the first, the third, the second.
                replicas.swap(1, 2);
                reordered += 1;
            }
            let mut found = merged(replicas.clone(), options);
            if text(&found) != text(&expected) && options.prefer_max {
                // D12: the original takes the first sample as it is.
                let plain = merged(
                    replicas.clone(),
                    Options {
                        prefer_max: false,
                        ..options
                    },
                );
                found.floats[0] = plain.floats[0];
                first_sample.push(format!("{} {settings}", case.name));
            }
            assert_eq!(text(&found), text(&expected), "{} {settings}", case.name);
            same += 1;
            if settings == "aa500ms" {
                options.buffer_ms = 500;
                half_second += usize::from(text(&merged(replicas, options)) == text(&expected));
            }
        }
    }
    println!(
        "merge.json: {same} of 517 the same ({reordered} of them with the members in the original's order, D44; \
         {} but for the first sample, D12); {half_second} of 47 stay so with a buffer of half a second, D14",
        first_sample.len()
    );
    println!("D12: {first_sample:?}");
    assert_eq!(same, 517);
}

#[test]
fn prefer_max_holds_for_the_first_sample_too() {
    let options = Options {
        buffer_ms: 10_000,
        dynamic: false,
        prefer_max: true,
    };
    let stream = |value: f64| Samples::<Histogram> {
        floats: vec![(1000, value)],
        histograms: Vec::new(),
    };
    assert_eq!(
        stream(1.0).merge(stream(2.0), options, &()).floats,
        [(1000, 2.0)]
    );
    assert_eq!(
        stream(2.0).merge(stream(1.0), options, &()).floats,
        [(1000, 2.0)]
    );
    assert!(
        stream(f64::NAN).merge(stream(1.0), options, &()).floats[0]
            .1
            .is_nan()
    );
}

fn column(places: &[Option<u8>]) -> Column<String> {
    let mut column = Column::empty(places.len());
    for (place, value) in places.iter().enumerate() {
        match value {
            Some(value @ 0..200) => column.set(place, f64::from(*value)),
            Some(value) => column.set_histogram(place, value.to_string()),
            None => {}
        }
    }
    column
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn columns_are_merged_as_their_samples(
        places in prop::collection::vec((prop::option::weighted(0.7, 0u8..204), prop::option::weighted(0.7, 0u8..204)), 1..200),
        floats_only in any::<bool>(),
        step in 1i64..40,
        buffer in 0i64..3,
        dynamic in any::<bool>(),
        prefer_max in any::<bool>(),
    ) {
        let limit = |value: Option<u8>| value.map(|value| if floats_only { value % 200 } else { value });
        let (a, b): (Vec<_>, Vec<_>) = places.iter().map(|(a, b)| (limit(*a), limit(*b))).unzip();
        let (a, b) = (column(&a), column(&b));
        let step = step * 1000;
        let grid = Grid { start: 5000, end: 5000 + step * (a.len() as i64 - 1), step };
        let samples = |column: &Column<String>| Samples {
            floats: column.iter().map(|(place, value)| (grid.time(place), value)).collect(),
            histograms: column.histograms().iter().map(|(place, h)| (grid.time(*place as usize), h.clone())).collect(),
        };
        let options = Options { buffer_ms: buffer * 10_000, dynamic, prefer_max };
        let mut expected = samples(&a).merge(samples(&b), options, &());
        // A place holds one thing; a number hides a histogram.
        expected.histograms.retain(|(time, _)| !expected.floats.iter().any(|(other, _)| other == time));
        let found = samples(&a.merge(b, options, &grid));
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn nothing_of_the_longer_stream_is_lost(
        a in prop::collection::btree_map(0i64..1000, 0u8..9, 0..50),
        b in prop::collection::btree_map(0i64..1000, 0u8..9, 0..50),
        buffer in 0i64..30,
    ) {
        let stream = |map: &BTreeMap<i64, u8>| Samples::<String> {
            floats: map.iter().map(|(time, value)| (*time, f64::from(*value))).collect(),
            histograms: Vec::new(),
        };
        let options = Options { buffer_ms: buffer, dynamic: false, prefer_max: false };
        let merged = stream(&a).merge(stream(&b), options, &());
        let longer = if b.len() > a.len() { stream(&b) } else { stream(&a) };
        prop_assert!(longer.floats.iter().all(|sample| merged.floats.contains(sample)));
        prop_assert!(merged.floats.is_sorted_by(|a, b| a.0 < b.0));
    }
}
