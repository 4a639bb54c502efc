//! How long evaluation takes and what it allocates, on the shapes of data that Prometheus' own engine is measured with: 1 to 1,000
//! series with a sample every 10 seconds, queries of 1 to 1,000 steps, short and one-day windows.
//!
//! Selecting is part of what is measured; the storage hands out its columns without copying. `peak` of divan's `max alloc` row is
//! the peak in bytes.

use std::hint::black_box;
use std::sync::Arc;

use divan::{AllocProfiler, Bencher};
use promql::labels::Labels;
use promql::parser::ParserOptions;
use promql::storage::{Samples, SeriesData};
use promql::testing::{EngineSubject, Evaluation, MemoryStorage, Subject};
use promql::{Engine, EngineOptions};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// The distance of samples and steps, in milliseconds.
const STEP: i64 = 10_000;

/// Enough samples for a window of a day before the first of a thousand steps.
const SAMPLES: i64 = 8_640 + 1_100;

fn main() {
    divan::main();
}

fn series(labels: Labels, value: impl Fn(i64) -> f64) -> SeriesData {
    let samples = Samples {
        timestamps: (0..SAMPLES).map(|i| i * STEP).collect(),
        values: (0..SAMPLES).map(value).collect(),
        ..Samples::default()
    };
    SeriesData {
        labels,
        samples: Arc::new(samples),
    }
}

/// Returns storage with `a_N` and `b_N` of N series each, and the classic histogram `h_N` of N times 11 buckets.
fn subject(count: usize, histograms: bool) -> EngineSubject {
    let mut all = Vec::new();
    for i in 0..count {
        let number = i.to_string();
        for (metric, offset) in [("a", 0.0), ("b", 1.0)] {
            let labels: Labels = [("__name__", metric), ("l", &number)].into_iter().collect();
            all.push(series(labels, |t| (t % 1000) as f64 + i as f64 + offset));
        }
        if histograms {
            for bound in [
                "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1", "+Inf",
            ] {
                let labels: Labels = [("__name__", "h"), ("l", &number), ("le", bound)]
                    .into_iter()
                    .collect();
                let weight: f64 = bound.parse().unwrap_or(2.0);
                all.push(series(labels, move |t| (t as f64 * weight).floor()));
            }
        }
    }
    let options = EngineOptions::new(ParserOptions::v3_14().with_all_features());
    let mut subject = EngineSubject::new(Engine::new(options));
    subject.storage = MemoryStorage::of_series(all);
    subject
}

fn run(bencher: Bencher<'_, '_>, count: usize, steps: i64, query: &str) {
    let mut subject = subject(count, query.contains("(h"));
    let end = (SAMPLES - 1) * STEP;
    let start = end - (steps - 1) * STEP;
    let evaluation = match steps {
        1 => Evaluation::Instant { time: end },
        _ => Evaluation::Range {
            start,
            end,
            step: STEP,
        },
    };
    bencher.bench_local(|| {
        let outcome = subject.evaluate(black_box(query), evaluation);
        assert!(outcome.value.is_ok(), "{query}: {:?}", outcome.value.err());
        outcome
    });
}

/// The cases whose time in Prometheus' engine is known: 100 series, 1,000 steps.
const QUERIES: [&str; 22] = [
    "a",
    "rate(a[1m])",
    "rate(a[1d])",
    "changes(a[1d])",
    "sum_over_time(a[1d])",
    "avg_over_time(a[1d])",
    "max_over_time(a[1d])",
    "stddev_over_time(a[1d])",
    "quantile_over_time(0.9, a[1d])",
    "deriv(a[1d])",
    "a - b",
    "a and b",
    "abs(a)",
    "sum(a)",
    "sum by (l) (a)",
    "topk(5, a)",
    "quantile(0.9, a)",
    "sum(rate(a[1m]))",
    "a * on (l) group_left b",
    "label_replace(a, 'x', '$1', 'l', '(.*)')",
    "sum by (le) (h)",
    "histogram_quantile(0.9, rate(h[5m]))",
];

#[divan::bench(args = QUERIES, sample_count = 5, sample_size = 1)]
fn hundred_series_thousand_steps(bencher: Bencher<'_, '_>, query: &str) {
    run(bencher, 100, 1_000, query);
}

#[divan::bench(args = [1, 10, 100, 1_000], sample_count = 10)]
fn instant_sum_of_rates(bencher: Bencher<'_, '_>, count: usize) {
    run(bencher, count, 1, "sum(rate(a[1m]))");
}

#[divan::bench(args = [1, 100, 1_000], sample_count = 10)]
fn steps_of_a_rate(bencher: Bencher<'_, '_>, steps: i64) {
    run(bencher, 10, steps, "rate(a[1m])");
}

#[divan::bench(args = ["a - b", "sum(a)", "rate(a[1m])"], sample_count = 3, sample_size = 1)]
fn thousand_series(bencher: Bencher<'_, '_>, query: &str) {
    run(bencher, 1_000, 100, query);
}
