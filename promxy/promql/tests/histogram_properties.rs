//! What holds for all histograms, tried with random ones, and that no histogram, however broken, makes anything panic.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and prints what it counted"
)]

use std::sync::Arc;

use fastrand::Rng;
use promql::histogram::window::{self, Change, Window};
use promql::histogram::{
    FloatHistogram, HistogramAverage, HistogramParts, HistogramSum, Schema, Span, as_stored,
    fraction, quantile,
};
use promql::parser::{Compat, CounterResetHint, ExtendedRange};

const ROUNDS: usize = 3_000;
const HINTS: [CounterResetHint; 4] = [
    CounterResetHint::Unknown,
    CounterResetHint::Reset,
    CounterResetHint::NotReset,
    CounterResetHint::Gauge,
];

/// Returns a histogram as an instrumented program may have it, with whole counts and no buckets inside of the zero bucket, which
/// ends where a bucket of every resolution ends.
fn sound(random: &mut Rng, custom: bool) -> FloatHistogram {
    let zero_threshold = match random.u8(0..3) {
        1 if !custom => 1.0 / 65536.0,
        2 if !custom => 1.0,
        _ => 0.0,
    };
    let first = match zero_threshold {
        0.0 => -9..9,
        _ => 1..9,
    };
    let mut side = |begins_at: std::ops::Range<i32>, runs: usize| {
        let mut spans = Vec::new();
        let mut counts = Vec::new();
        for i in 0..random.usize(0..=runs) {
            let offset = if i == 0 {
                random.i32(begins_at.clone())
            } else {
                random.i32(1..4)
            };
            let length = random.u32(1..5);
            spans.push(Span { offset, length });
            counts.extend((0..length).map(|_| f64::from(random.u8(0..20))));
        }
        (spans, counts)
    };
    let (positive_spans, positive_counts) = if custom {
        side(0..3, 3)
    } else {
        side(first.clone(), 4)
    };
    let (negative_spans, negative_counts) = if custom {
        side(0..1, 0)
    } else {
        side(first, 4)
    };
    let zero_count = if custom {
        0.0
    } else {
        f64::from(random.u8(0..9))
    };
    let in_buckets: f64 = positive_counts.iter().chain(&negative_counts).sum();
    let bounds: Vec<f64> = (0..30)
        .map(f64::from)
        .filter(|_| random.u8(0..9) > 0)
        .collect();
    FloatHistogram::new(HistogramParts {
        schema: if custom { -53 } else { random.i32(-2..=3) },
        zero_threshold,
        zero_count,
        count: zero_count + in_buckets,
        sum: f64::from(random.i16(..)),
        positive_spans,
        positive_counts,
        negative_spans,
        negative_counts,
        custom_values: if custom { bounds } else { Vec::new() },
        hint: CounterResetHint::Unknown,
    })
    .unwrap()
}

/// Returns anything that the types allow.
fn hostile(random: &mut Rng) -> HistogramParts {
    let strange = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        1e308,
        -1e308,
        5e-324,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    let offsets = [
        0,
        1,
        -1,
        7,
        i32::MAX,
        i32::MIN,
        i32::MAX - 3,
        i32::MIN + 1,
        1 << 20,
    ];
    let lengths = [0, 1, 1, 2, 2, 2, 3, 3, u32::MAX, 1 << 31];
    let mut number = || *random.choice(&strange).unwrap();
    let (zero_threshold, zero_count, count, sum) = (number(), number(), number(), number());
    let mut side = || {
        let spans: Vec<Span> = (0..random.usize(0..4))
            .map(|_| Span {
                offset: *random.choice(&offsets).unwrap(),
                length: *random.choice(&lengths).unwrap(),
            })
            .collect();
        let length: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
        let counts = (0..length.min(20))
            .map(|_| *random.choice(&strange).unwrap())
            .collect();
        (spans, counts)
    };
    let (positive_spans, positive_counts) = side();
    let (negative_spans, negative_counts) = side();
    let custom = random.bool();
    HistogramParts {
        schema: if custom {
            -53
        } else {
            *random
                .choice(&[0, 8, -4, 20, 52, 99, -9, i32::MIN, i32::MAX])
                .unwrap()
        },
        zero_threshold: if custom { 0.0 } else { zero_threshold },
        zero_count: if custom { 0.0 } else { zero_count },
        count,
        sum,
        positive_spans,
        positive_counts,
        negative_spans: if custom { Vec::new() } else { negative_spans },
        negative_counts: if custom { Vec::new() } else { negative_counts },
        custom_values: if custom {
            vec![-1.0, 0.0, 2.5]
        } else {
            Vec::new()
        },
        hint: *random.choice(&HINTS).unwrap(),
    }
}

/// Whether both are the same but for rounding, and for empty buckets.
fn alike(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + a.abs() + b.abs());
    let [a, b] = [a, b].map(|histogram| {
        let mut histogram = histogram.clone();
        histogram.compact();
        histogram.to_parts()
    });
    a.schema == b.schema
        && a.zero_threshold == b.zero_threshold
        && a.custom_values == b.custom_values
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && near(a.count, b.count)
        && near(a.sum, b.sum)
        && near(a.zero_count, b.zero_count)
        && (a.positive_counts.iter().zip(&b.positive_counts)).all(|(a, b)| near(*a, *b))
        && (a.negative_counts.iter().zip(&b.negative_counts)).all(|(a, b)| near(*a, *b))
}

fn plus(a: &FloatHistogram, b: &FloatHistogram) -> FloatHistogram {
    a.plus(b, Compat::V3_14).unwrap().0
}

#[test]
fn a_histogram_survives_its_notation_and_its_parts() {
    let mut random = Rng::with_seed(1);
    for round in 0..ROUNDS {
        let mut histogram = sound(&mut random, round % 3 == 0);
        let again = FloatHistogram::new(histogram.to_parts()).unwrap();
        assert!(histogram.equals(&again), "{histogram:?}");
        let notation = histogram.to_test_notation();
        let mut read = FloatHistogram::from_text(&notation).unwrap();
        histogram.compact();
        read.compact();
        assert!(
            histogram.equals(&read),
            "{notation}\n{histogram:?}\n{read:?}"
        );
    }
}

#[test]
fn what_is_added_and_subtracted_again_is_gone() {
    let mut random = Rng::with_seed(2);
    for round in 0..ROUNDS {
        let (a, b) = (
            sound(&mut random, round % 3 == 0),
            sound(&mut random, round % 3 == 0),
        );
        // The layout may have become coarser, which stays.
        let sum = plus(&a, &b);
        let (back, _) = sum.minus(&b, Compat::V3_14).unwrap();
        let nothing = b.times(0.0, Compat::V3_14);
        let coarse = plus(&a, &nothing);
        if back.zero_threshold() == coarse.zero_threshold() {
            assert!(alike(&back, &coarse), "{a}\n{b}\n{back}\n{coarse}");
        }
    }
}

#[test]
fn the_order_of_addition_does_not_matter() {
    let mut random = Rng::with_seed(3);
    for round in 0..ROUNDS {
        let custom = round % 3 == 0;
        let [a, b, c] = std::array::from_fn(|_| sound(&mut random, custom));
        let (left, right) = (plus(&plus(&a, &b), &c), plus(&a, &plus(&b, &c)));
        assert!(alike(&plus(&a, &b), &plus(&b, &a)), "{a}\n{b}");
        assert!(alike(&left, &right), "{a}\n{b}\n{c}\n{left}\n{right}");
        let mut sum = HistogramSum::new(&a, Compat::V3_14);
        sum.add(&b).unwrap();
        sum.add(&c).unwrap();
        assert!(alike(&sum.finish(), &left), "{a}\n{b}\n{c}\n{left}");
    }
}

#[test]
fn an_average_is_a_part_of_the_sum() {
    let mut random = Rng::with_seed(4);
    for _ in 0..ROUNDS {
        let histograms: Vec<_> = (0..4).map(|_| sound(&mut random, false)).collect();
        let mut averages = [Compat::V3_14, Compat::V3_5].map(|compat| {
            let mut average = HistogramAverage::new(&histograms[0], compat);
            for histogram in &histograms[1..] {
                average.add(histogram).unwrap();
            }
            average.finish()
        });
        let sum = histograms[1..]
            .iter()
            .fold(histograms[0].clone(), |sum, next| plus(&sum, next));
        let expected = sum.divided_by(4.0, Compat::V3_14);
        assert!(
            alike(&averages[0], &expected),
            "{}\n{expected}",
            averages[0]
        );
        averages[1].compact();
        assert!((averages[1].count - expected.count).abs() < 1e-6);
    }
}

#[test]
fn a_lower_resolution_holds_as_much() {
    let mut random = Rng::with_seed(5);
    let total =
        |histogram: &FloatHistogram| histogram.buckets().map(|bucket| bucket.count).sum::<f64>();
    for _ in 0..ROUNDS {
        let fine = sound(&mut random, false);
        let mut coarse = fine.clone();
        coarse.reduce_resolution(Schema::new(random.i64(-4..=3)).unwrap());
        assert_eq!(total(&fine), total(&coarse));
        assert!(coarse.schema() <= fine.schema());
    }
}

#[test]
fn a_counter_that_grew_was_not_reset_and_one_that_shrank_was() {
    let mut random = Rng::with_seed(6);
    for round in 0..ROUNDS {
        let (before, mut step) = (
            sound(&mut random, round % 3 == 0),
            sound(&mut random, round % 3 == 0),
        );
        let after = plus(&before, &step);
        assert!(
            !after.detect_reset(&before, Compat::V3_14),
            "{before}\n{after}"
        );
        step.compact();
        if step.count > 0.0 {
            assert!(
                before.detect_reset(&after, Compat::V3_14),
                "{before}\n{after}"
            );
        }
        for (hint, expected) in [
            (CounterResetHint::Reset, true),
            (CounterResetHint::NotReset, false),
        ] {
            let mut said = after.clone();
            said.hint = hint;
            assert_eq!(said.detect_reset(&before, Compat::V3_14), expected);
        }
    }
}

#[test]
fn the_fraction_below_a_quantile_is_the_quantile() {
    let mut random = Rng::with_seed(7);
    for _ in 0..ROUNDS {
        let histogram = sound(&mut random, false);
        let q = random.f64();
        let (value, _) = quantile(q, &histogram);
        if histogram.count == 0.0 {
            assert!(value.is_nan());
            continue;
        }
        let (below, _) = fraction(f64::NEG_INFINITY, value, &histogram, Compat::V3_14);
        // A zero bucket without a width has no inside.
        if histogram.zero_threshold() == 0.0 && histogram.zero_count() > 0.0 {
            continue;
        }
        assert!((below - q).abs() < 1e-9, "{q} {value} {below} {histogram}");
    }
}

#[test]
fn what_is_kept_below_and_above_is_all_there_is() {
    let mut random = Rng::with_seed(8);
    for round in 0..ROUNDS {
        let histogram = sound(&mut random, round % 3 == 0);
        let limit = f64::from(random.i16(-40..40)) / 4.0;
        let (below, above) = (histogram.keep_below(limit), histogram.keep_above(limit));
        // The last custom bucket has no end, so a cut goes one way in both.
        let last = histogram
            .custom_bounds()
            .last()
            .copied()
            .unwrap_or(f64::INFINITY);
        if limit <= last && (limit > 0.0 || !histogram.has_custom_buckets()) {
            let both = below.count + above.count;
            assert!(
                (both - histogram.count).abs() < 1e-9,
                "{limit} {histogram}\n{below}\n{above}"
            );
        }
    }
}

#[test]
fn no_histogram_makes_anything_panic() {
    let mut random = Rng::with_seed(9);
    let mut valid: Vec<Arc<FloatHistogram>> = Vec::new();
    for _ in 0..40 * ROUNDS {
        if let Ok(histogram) = FloatHistogram::new(hostile(&mut random)) {
            valid.push(Arc::new(histogram));
        }
    }
    println!(
        "{} of {} hostile histograms are possible",
        valid.len(),
        40 * ROUNDS
    );
    assert!(valid.len() > ROUNDS);
    for (i, histogram) in valid.iter().enumerate() {
        let other = &valid[random.usize(..valid.len())];
        let compat = if i % 2 == 0 {
            Compat::V3_5
        } else {
            Compat::V3_14
        };
        let limit = *random
            .choice(&[0.0, 1.5, -1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY])
            .unwrap();
        let mut compacted = FloatHistogram::clone(histogram);
        compacted.compact_with_gaps(3);
        assert!(!histogram.to_string().is_empty());
        assert!(!histogram.to_test_notation().is_empty());
        for _ in [
            histogram.plus(other, compat),
            histogram.minus(other, compat),
        ] {}
        for result in [
            histogram.times(limit, compat),
            histogram.divided_by(limit, compat),
            histogram.keep_below(limit),
            histogram.keep_above(limit),
            histogram.negated(compat),
        ] {
            assert!(result.sample_equivalents() > 0);
        }
        quantile(limit, histogram);
        quantile(0.3, histogram);
        quantile(0.7, histogram);
        fraction(-1.0, limit, histogram, compat);
        histogram.variance();
        histogram.detect_reset(other, compat);
        let samples = [
            Arc::clone(histogram),
            Arc::clone(other),
            Arc::clone(histogram),
        ];
        let resets = window::resets(&samples, compat);
        let window = Window {
            times: &[1_000, 2_000, 3_000],
            histograms: &samples,
            resets: &resets,
            uniform_counters: window::are_uniform_counters(&samples),
            starts: &[],
            after: 500,
            until: 3_500,
        };
        for change in [Change::Rate { seconds: 3.0 }, Change::Delta] {
            window::extrapolated_change(&window, change, compat);
            window::extended_change(&window, ExtendedRange::Smoothed, change);
            window::extended_change(&window, ExtendedRange::Anchored, change);
        }
        window::sum(&samples, compat);
        window::average(&samples, compat);
        let mut stored: Vec<_> = samples
            .iter()
            .map(|sample| (0, Some(FloatHistogram::clone(sample))))
            .collect();
        as_stored(&mut stored);
    }
}
