//! The series that queries are compared on: a sample every ten seconds.

mod native;

use std::ops::Range;
use std::sync::Arc;

use promql::histogram::FloatHistogram;
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
        timestamps: stamps(times.clone()),
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

/// The metrics that are numbers.
pub(crate) const NUMBERS: [&str; 11] = [
    "a", "a1", "a10", "a1000", "b", "b1", "b10", "b1000", "g", "h", "one",
];

/// The metrics that are native histograms.
pub(crate) const NATIVE: [&str; 4] = ["n", "n10", "m", "m10"];

pub(crate) fn numbers() -> Vec<SeriesData> {
    NUMBERS.iter().flat_map(|metric| of(metric)).collect()
}

pub(crate) fn native() -> Vec<SeriesData> {
    NATIVE.iter().flat_map(|metric| of(metric)).collect()
}

/// Returns the series of a metric: `a` and `b` are 100 series of whole numbers, `a1`, `a10` and `a1000` as many as they say, the
/// last with the samples of a few hours only; `g` wanders about; `h` are 100 classic histograms of 11 buckets; `one` goes with
/// ten of `a` each. `n` are 100 native histograms of 40 exponential buckets, `m` such of 20 custom ones; `n10` and `m10` are
/// ten of each, the former with the samples of a day.
pub(crate) fn of(metric: &str) -> Vec<SeriesData> {
    match metric {
        "a" => whole(metric, 100, SAMPLES, 0.0),
        "a1" => whole(metric, 1, SAMPLES, 0.0),
        "a10" => whole(metric, 10, SAMPLES, 0.0),
        "a1000" => whole(metric, 1_000, FEW, 0.0),
        "b" => whole(metric, 100, SAMPLES, 1.0),
        "b1" => whole(metric, 1, FEW, 1.0),
        "b10" => whole(metric, 10, FEW, 1.0),
        "b1000" => whole(metric, 1_000, FEW, 1.0),
        "g" => wandering(),
        "h" => classic(),
        "n" => histograms(metric, 100, FEW, native::exponential),
        "n10" => histograms(metric, 10, SAMPLES, native::exponential),
        "m" => histograms(metric, 100, FEW, native::custom),
        "m10" => histograms(metric, 10, FEW, native::custom),
        _ => (0..10)
            .map(|i| {
                let labels = labels(metric, &[("group", &i.to_string()), ("zone", "z")]);
                series(labels, FEW, |_| 1.0)
            })
            .collect(),
    }
}

fn whole(metric: &str, count: usize, samples: i64, offset: f64) -> Vec<SeriesData> {
    let all = (0..count).map(|i| {
        series(numbered(metric, i), samples, |t| {
            (t % 1000) as f64 + i as f64 + offset
        })
    });
    all.collect()
}

fn numbered(metric: &str, i: usize) -> Labels {
    let (l, group) = (i.to_string(), (i % 10).to_string());
    labels(metric, &[("l", &l), ("group", &group)])
}

fn wandering() -> Vec<SeriesData> {
    let all = (0..100).map(|i| {
        let mut rng = fastrand::Rng::with_seed(i);
        let mut level = 50.0 + i as f64;
        let labels = labels("g", &[("l", &i.to_string())]);
        series(labels, SAMPLES, |_| {
            level += rng.f64() - 0.5;
            level
        })
    });
    all.collect()
}

fn classic() -> Vec<SeriesData> {
    let mut all = Vec::new();
    for i in 0..100 {
        for bound in BOUNDS {
            let weight: f64 = bound.parse().unwrap_or(2.0);
            let weight = if weight.is_finite() { weight } else { 2.0 };
            let labels = labels("h", &[("l", &i.to_string()), ("le", bound)]);
            all.push(series(labels, FEW, |t| (t as f64 * weight).floor()));
        }
    }
    all
}

fn histograms(
    metric: &str,
    count: usize,
    samples: i64,
    at: impl Fn(i64) -> FloatHistogram,
) -> Vec<SeriesData> {
    let times = SAMPLES - samples..SAMPLES;
    let all = (0..count).map(|i| {
        let mut samples = Samples {
            histogram_timestamps: stamps(times.clone()),
            ..Samples::default()
        };
        for time in times.clone() {
            let mut histogram = at(time + i as i64);
            if let Some(before) = samples.histograms.last() {
                histogram.share_bounds(before);
            }
            samples.histograms.push(histogram.into());
        }
        SeriesData {
            labels: numbered(metric, i),
            samples: Arc::new(samples),
        }
    });
    all.collect()
}

fn stamps(times: Range<i64>) -> Vec<i64> {
    times.map(|i| (super::BEGIN + i * STEP) * 1000).collect()
}
