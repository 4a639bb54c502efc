//! The series that queries are compared on: a sample every ten seconds.

use std::sync::Arc;

use promql::labels::Labels;
use promql::storage::{Samples, SeriesData};

/// The distance of samples and steps, in seconds.
pub(crate) const STEP: i64 = 10;

/// Enough samples for a window of a day before the first of a thousand steps.
pub(crate) const SAMPLES: i64 = 8_640 + 1_100;

/// Enough samples for a thousand steps and short windows.
const FEW: i64 = 1_160;

const BOUNDS: [&str; 11] = [
    "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1", "+Inf",
];

fn series(labels: Labels, samples: i64, mut value: impl FnMut(i64) -> f64) -> SeriesData {
    let times = SAMPLES - samples..SAMPLES;
    let samples = Samples {
        timestamps: times
            .clone()
            .map(|i| (super::BEGIN + i * STEP) * 1000)
            .collect(),
        values: times.map(&mut value).collect(),
        ..Samples::default()
    };
    SeriesData {
        labels,
        samples: Arc::new(samples),
    }
}

fn labels(name: &str, more: &[(&str, &str)]) -> Labels {
    let name = [("__name__", name)];
    name.into_iter().chain(more.iter().copied()).collect()
}

/// Returns all series: `a` and `b` are 100 series of whole numbers, `a1`, `a10` and `a1000` as many as they say, the last with the
/// samples of a few hours only; `g` wanders about; `h` are 100 classic histograms of 11 buckets; `one` goes with ten of `a` each.
pub(crate) fn all() -> Vec<SeriesData> {
    let mut all = Vec::new();
    for (name, count, samples, offset) in [
        ("a", 100, SAMPLES, 0.0),
        ("a1", 1, SAMPLES, 0.0),
        ("a10", 10, SAMPLES, 0.0),
        ("a1000", 1_000, FEW, 0.0),
        ("b", 100, SAMPLES, 1.0),
        ("b1", 1, FEW, 1.0),
        ("b10", 10, FEW, 1.0),
        ("b1000", 1_000, FEW, 1.0),
    ] {
        for i in 0..count {
            let (l, group) = (i.to_string(), (i % 10).to_string());
            let labels = labels(name, &[("l", &l), ("group", &group)]);
            all.push(series(labels, samples, |t| {
                (t % 1000) as f64 + i as f64 + offset
            }));
        }
    }
    for i in 0..100 {
        let mut rng = fastrand::Rng::with_seed(i);
        let mut level = 50.0 + i as f64;
        let labels = labels("g", &[("l", &i.to_string())]);
        all.push(series(labels, SAMPLES, |_| {
            level += rng.f64() - 0.5;
            level
        }));
    }
    for i in 0..100 {
        for bound in BOUNDS {
            let weight: f64 = bound.parse().unwrap_or(2.0);
            let weight = if weight.is_finite() { weight } else { 2.0 };
            let labels = labels("h", &[("l", &i.to_string()), ("le", bound)]);
            all.push(series(labels, FEW, |t| (t as f64 * weight).floor()));
        }
    }
    for i in 0..10 {
        let labels = labels("one", &[("group", &i.to_string()), ("zone", "z")]);
        all.push(series(labels, FEW, |_| 1.0));
    }
    all
}
