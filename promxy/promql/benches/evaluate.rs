//! How long evaluation takes and what it allocates, on the shapes of data that Prometheus' own engine is measured with: 1 to 1,000
//! series with a sample every 10 seconds, queries of 1 to 1,000 steps, short and one-day windows.
//!
//! Selecting is part of what is measured; the storage hands out its columns without copying. The row `max alloc` is the peak:
//! blocks, then bytes.

use std::fmt;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;

use divan::{AllocProfiler, Bencher};
use promql::histogram::{FloatHistogram, HistogramParts, Span};
use promql::labels::Labels;
use promql::parser::{CounterResetHint, ParserOptions};
use promql::storage::{Samples, SeriesData};
use promql::testing::{MemoryStorage, block_on};
use promql::{CancelToken, Engine, EngineOptions, Outcome};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// The distance of samples and steps, in milliseconds.
const STEP: i64 = 10_000;

/// Enough samples for a window of a day before the first of a thousand steps.
const SAMPLES: i64 = 8_640 + 1_100;

fn main() {
    divan::main();
}

fn labels(name: &str, number: usize, more: &[(&str, &str)]) -> Labels {
    let number = number.to_string();
    let own = [("__name__", name), ("l", &number)];
    own.into_iter().chain(more.iter().copied()).collect()
}

fn series(labels: Labels, value: impl FnMut(i64) -> f64) -> SeriesData {
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

const BOUNDS: [&str; 11] = [
    "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1", "+Inf",
];

/// A native histogram of 40 buckets that has counted for some time.
fn native(time: i64) -> FloatHistogram {
    let counts: Vec<f64> = (0..40)
        .map(|bucket| (time * (bucket % 7 + 1)) as f64)
        .collect();
    FloatHistogram::new(HistogramParts {
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: 0.0,
        count: counts.iter().sum(),
        sum: time as f64 * 3.5,
        positive_spans: vec![
            Span {
                offset: 1,
                length: 25,
            },
            Span {
                offset: 2,
                length: 15,
            },
        ],
        positive_counts: counts,
        negative_spans: Vec::new(),
        negative_counts: Vec::new(),
        custom_values: Vec::new(),
        hint: CounterResetHint::Unknown,
    })
    .expect("the bench makes histograms")
}

/// Returns what a query needs of so many series: `a` and `b` are whole numbers, `g` wanders about, `h` are classic histograms of
/// 11 buckets, `n` native ones with samples for the last 1,160 steps, `target_info` has a label to be joined.
fn storage(count: usize, query: &str) -> MemoryStorage {
    let uses = |metric: &str| {
        query
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|w| w == metric)
    };
    let mut all = Vec::new();
    for i in 0..count {
        for (metric, offset) in [("a", 0.0), ("b", 1.0)] {
            if uses(metric) {
                let value = |t| (t % 1000) as f64 + i as f64 + offset;
                all.push(series(
                    labels(metric, i, &[("instance", &i.to_string())]),
                    value,
                ));
            }
        }
        if uses("g") {
            let mut rng = fastrand::Rng::with_seed(i as u64);
            let mut level = 50.0 + i as f64;
            all.push(series(labels("g", i, &[]), |_| {
                level += rng.f64() - 0.5;
                level
            }));
        }
        for bound in BOUNDS.iter().filter(|_| uses("h")) {
            let weight: f64 = bound.parse().unwrap_or(2.0);
            let weight = if weight.is_finite() { weight } else { 2.0 };
            let value = |t| (t as f64 * weight).floor();
            all.push(series(labels("h", i, &[("le", bound)]), value));
        }
        if uses("n") {
            let times = SAMPLES - 1_160..SAMPLES;
            let samples = Samples {
                histogram_timestamps: times.clone().map(|t| t * STEP).collect(),
                histograms: times.map(|t| native(t).into()).collect(),
                ..Samples::default()
            };
            all.push(SeriesData {
                labels: labels("n", i, &[]),
                samples: Arc::new(samples),
            });
        }
        if uses("info") {
            let version = format!("v{}", i % 5);
            let more = [("instance", &*i.to_string()), ("version", &version)];
            all.push(series(labels("target_info", i, &more), |_| 1.0));
        }
    }
    MemoryStorage::of_series(all)
}

fn evaluate(
    engine: &Engine,
    storage: &MemoryStorage,
    steps: i64,
    query: &str,
    threads: usize,
) -> Outcome {
    let end = (SAMPLES - 1) * STEP;
    let query = match steps {
        1 => engine.instant_query(query, end),
        _ => engine.range_query(query, end - (steps - 1) * STEP, end, STEP),
    };
    let cancel = CancelToken::default();
    let query = query.expect("the bench's queries are valid");
    let prepared = block_on(query.prepare(storage, None, &cancel)).expect("there is storage");
    prepared.evaluate_on(
        NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN),
        &cancel,
    )
}

fn run(bencher: Bencher<'_, '_>, count: usize, steps: i64, query: &str, threads: usize) {
    let storage = storage(count, query);
    let options = EngineOptions::new(ParserOptions::v3_14().with_all_features());
    let engine = Engine::new(options);
    bencher.bench_local(|| {
        let outcome = evaluate(&engine, &storage, steps, black_box(query), threads);
        assert!(outcome.value.is_ok(), "{query}: {:?}", outcome.value.err());
        outcome
    });
}

/// 100 series, 1,000 steps.
const QUERIES: [&str; 46] = [
    "a",
    "rate(a[1m])",
    "sum(rate(a[1m]))",
    "sum_over_time(a[5m])",
    "avg_over_time(g[5m])",
    "stddev_over_time(g[5m])",
    "quantile_over_time(0.9, g[5m])",
    "deriv(g[5m])",
    "max_over_time(rate(a[1m])[5m:1m])",
    "absent_over_time(a[5m])",
    "a - b",
    "a ^ 2",
    "a > 500",
    "a and b",
    "a or b",
    "a unless b",
    "a + on (l) b",
    "a * on (l) group_left b",
    "info(a)",
    "abs(a)",
    "clamp(a, 10, 500)",
    "round(g)",
    "ceil(g)",
    "exp(g)",
    "hour(a)",
    "timestamp(a)",
    "absent(a)",
    "label_replace(a, 'x', '$1', 'l', '(.*)')",
    "label_join(a, 'x', '-', 'l', 'l')",
    "sort(a)",
    "sum(a)",
    "avg(a)",
    "stddev(a)",
    "sum by (l) (a)",
    "quantile(0.9, a)",
    "topk(5, a)",
    "limitk(5, a)",
    "count_values('v', a)",
    "sum by (le) (h)",
    "histogram_quantile(0.9, rate(h[5m]))",
    "histogram_quantile(0.9, sum by (le) (rate(h[5m])))",
    "n",
    "rate(n[5m])",
    "sum(n)",
    "histogram_quantile(0.9, n)",
    "histogram_quantile(0.9, sum(rate(n[5m])))",
];

#[divan::bench(args = QUERIES, sample_count = 5, sample_size = 1)]
fn short(bencher: Bencher<'_, '_>, query: &str) {
    run(bencher, 100, 1_000, query, 1);
}

/// 100 series, 1,000 steps, windows of 8,640 samples.
const DAYS: [&str; 17] = [
    "rate(a[1d])",
    "irate(a[1d])",
    "changes(a[1d])",
    "resets(a[1d])",
    "count_over_time(a[1d])",
    "last_over_time(a[1d])",
    "max_over_time(a[1d])",
    "min_over_time(g[1d])",
    "sum_over_time(a[1d])",
    "sum_over_time(g[1d])",
    "avg_over_time(a[1d])",
    "avg_over_time(g[1d])",
    "deriv(a[1d])",
    "deriv(g[1d])",
    "predict_linear(g[1d], 3600)",
    "quantile_over_time(0.9, g[1d])",
    "mad_over_time(g[1d])",
];

#[divan::bench(args = DAYS, sample_count = 3, sample_size = 1)]
fn one_day(bencher: Bencher<'_, '_>, query: &str) {
    run(bencher, 100, 1_000, query, 1);
}

/// The two that have to go over every sample of every window.
const LONG_DAYS: [&str; 2] = [
    "stddev_over_time(g[1d])",
    "double_exponential_smoothing(g[1d], 0.5, 0.5)",
];

#[divan::bench(args = LONG_DAYS, sample_count = 1, sample_size = 1)]
fn long_one_day(bencher: Bencher<'_, '_>, query: &str) {
    run(bencher, 100, 1_000, query, 1);
}

/// How many series and steps.
#[derive(Clone, Copy, Debug)]
struct Shape(usize, i64, &'static str);

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} series, {} steps", self.2, self.0, self.1)
    }
}

fn shapes() -> Vec<Shape> {
    let queries = [
        "a",
        "rate(a[1m])",
        "sum(rate(a[1m]))",
        "a - b",
        "sum(a)",
        "topk(5, a)",
    ];
    let mut shapes = Vec::new();
    for query in queries {
        for count in [1, 10, 100, 1_000] {
            for steps in [1, 100, 1_000] {
                shapes.push(Shape(count, steps, query));
            }
        }
    }
    shapes
}

#[divan::bench(args = shapes(), sample_count = 3, sample_size = 1)]
fn shape(bencher: Bencher<'_, '_>, Shape(count, steps, query): Shape) {
    run(bencher, count, steps, query, 1);
}

#[divan::bench(args = ["stddev_over_time(g[1d])", "rate(a[5m])"], sample_count = 1, sample_size = 1)]
fn two_threads(bencher: Bencher<'_, '_>, query: &str) {
    run(bencher, 100, 1_000, query, 2);
}
