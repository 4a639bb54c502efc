//! Native histograms that have counted for some time.

use promql::histogram::{FloatHistogram, HistogramParts, Span};
use promql::parser::CounterResetHint;

/// The schema of histograms with bounds of their own.
const CUSTOM: i32 = -53;

/// Returns one of 40 exponential buckets in two runs.
pub(crate) fn exponential(time: i64) -> FloatHistogram {
    let spans = [(1, 25), (2, 15)];
    let spans = spans.map(|(offset, length)| Span { offset, length });
    counted(time, 40, spans.to_vec(), Vec::new())
}

/// Returns one of 20 buckets with bounds of its own, and one beyond.
pub(crate) fn custom(time: i64) -> FloatHistogram {
    let bounds = (0..20).map(|bound| f64::from(bound) * 0.25).collect();
    let span = Span {
        offset: 0,
        length: 21,
    };
    counted(time, 21, vec![span], bounds)
}

fn counted(time: i64, buckets: i64, spans: Vec<Span>, bounds: Vec<f64>) -> FloatHistogram {
    let counts: Vec<f64> = (0..buckets)
        .map(|bucket| (time * (bucket % 7 + 1)) as f64)
        .collect();
    let is_custom = !bounds.is_empty();
    FloatHistogram::new(HistogramParts {
        schema: if is_custom { CUSTOM } else { 3 },
        zero_threshold: if is_custom { 0.0 } else { 1e-128 },
        zero_count: 0.0,
        count: counts.iter().sum(),
        sum: time as f64 * 3.5,
        positive_spans: spans,
        positive_counts: counts,
        negative_spans: Vec::new(),
        negative_counts: Vec::new(),
        custom_values: bounds,
        // As chunks of a storage say it of all but their first.
        hint: CounterResetHint::NotReset,
    })
    .expect("the bench makes histograms")
}
