//! How long the kernels of native histograms take: histograms of 160 buckets, as fine ones of latencies have them.

use std::hint::black_box;
use std::sync::Arc;

use divan::{AllocProfiler, Bencher};
use promql::histogram::window::{self, Change, Window};
use promql::histogram::{FloatHistogram, HistogramParts, HistogramSum, Span, fraction, quantile};
use promql::parser::{Compat, CounterResetHint};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const COMPAT: Compat = Compat::V3_14;

/// A counter after some time; the layout is the same for a while.
fn sample(time: u32) -> FloatHistogram {
    let lengths = [60, 40 + time / 100, 60];
    let counts: Vec<f64> = (0..lengths.iter().sum())
        .map(|bucket| f64::from(time * (bucket % 7 + 1)))
        .collect();
    FloatHistogram::new(HistogramParts {
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: 0.0,
        count: counts.iter().sum(),
        sum: f64::from(time) * 3.5,
        positive_spans: lengths.map(|length| Span { offset: 9, length }).to_vec(),
        positive_counts: counts,
        negative_spans: Vec::new(),
        negative_counts: Vec::new(),
        custom_values: Vec::new(),
        hint: CounterResetHint::Unknown,
    })
    .expect("the bench makes histograms")
}

fn main() {
    divan::main();
}

#[divan::bench(args = [0.1, 0.99])]
fn quantiles(bencher: Bencher<'_, '_>, q: f64) {
    let histogram = sample(9);
    bencher.bench_local(|| quantile(black_box(q), black_box(&histogram)));
}

#[divan::bench]
fn fractions(bencher: Bencher<'_, '_>) {
    let histogram = sample(9);
    bencher.bench_local(|| fraction(1.0, black_box(1e9), black_box(&histogram), COMPAT));
}

#[divan::bench(args = [9, 900])]
fn additions(bencher: Bencher<'_, '_>, time: u32) {
    let (a, b) = (sample(10), sample(time));
    bencher.bench_local(|| black_box(&a).plus(black_box(&b), COMPAT));
}

#[divan::bench]
fn sums_of_a_hundred(bencher: Bencher<'_, '_>) {
    let histograms: Vec<_> = (100..200).map(sample).collect();
    bencher.bench_local(|| {
        let mut sum = HistogramSum::new(&histograms[0], COMPAT);
        for histogram in &histograms[1..] {
            sum.add(histogram).expect("they go together");
        }
        sum.finish()
    });
}

#[divan::bench]
fn resets_of_a_hundred(bencher: Bencher<'_, '_>) {
    let histograms: Vec<_> = (100..200).map(|time| Arc::new(sample(time))).collect();
    bencher.bench_local(|| window::resets(black_box(&histograms), COMPAT));
}

#[divan::bench]
fn rates_of_twenty(bencher: Bencher<'_, '_>) {
    let histograms: Vec<_> = (120..140).map(|time| Arc::new(sample(time))).collect();
    let times: Vec<i64> = (1..=20).map(|i| i * 15_000).collect();
    let window = Window {
        times: &times,
        histograms: &histograms,
        resets: &window::resets(&histograms, COMPAT),
        uniform_counters: window::are_uniform_counters(&histograms),
        starts: &[],
        after: 0,
        until: 300_000,
    };
    let rate = Change::Rate { seconds: 300.0 };
    bencher.bench_local(|| window::extrapolated_change(black_box(&window), rate, COMPAT));
}
