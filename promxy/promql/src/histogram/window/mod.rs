//! What range functions make of the histograms in a window.
//!
//! All functions are pure; a window borrows slices of the series. The engine has checked that no floats are among the samples.

mod extended;
mod instant;
mod over_time;
mod rate;
mod start_time;

use std::sync::Arc;

pub use extended::{extended_change, interpolate};
pub use instant::{InstantChange, InstantSample, instant_change};
pub use over_time::{average, sum};
pub use rate::extrapolated_change;
pub use start_time::{begins_anew, overlaps};

use super::{CounterResetHint, FloatHistogram, Schema};
use crate::parser::Compat;

/// The samples of a window, in slices of equal length, and its edges. Times are in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// When each sample was taken, ascending.
    pub times: &'a [i64],
    /// The samples.
    pub histograms: &'a [Arc<FloatHistogram>],
    /// Whether there was a reset between the sample before and each sample, from [`resets`] of the whole series. What it says
    /// of the first sample does not matter.
    pub resets: &'a [bool],
    /// Whether the samples are known to be [uniform counters](are_uniform_counters), which saves looking at each.
    pub uniform_counters: bool,
    /// When each sample's counter started, zero where it is not known; empty if no start is known.
    pub starts: &'a [i64],
    /// The window begins after this time.
    pub after: i64,
    /// The window ends at this time.
    pub until: i64,
}

/// The range functions that tell how something changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// `rate`: the increase of a counter per second, for a range of so many seconds.
    Rate {
        /// The range of the selector.
        seconds: f64,
    },
    /// `increase`: that of a counter.
    Increase,
    /// `delta`: that of a gauge.
    Delta,
}

/// Finds the counter resets in a series. The first sample is no reset.
pub fn resets(histograms: &[Arc<FloatHistogram>], compat: Compat) -> Vec<bool> {
    let mut previous: Option<&FloatHistogram> = None;
    histograms
        .iter()
        .map(|histogram| {
            let before = previous.replace(histogram);
            before.is_some_and(|before| histogram.detect_reset(before, compat))
        })
        .collect()
}

/// Whether all samples have the same schema and none is a gauge.
pub fn are_uniform_counters(histograms: &[Arc<FloatHistogram>]) -> bool {
    let Some((first, rest)) = histograms.split_first() else {
        return true;
    };
    let schema = first.schema();
    first.hint != CounterResetHint::Gauge
        && rest.iter().all(|histogram| {
            histogram.schema() == schema && histogram.hint != CounterResetHint::Gauge
        })
}

/// Reduces the samples of a series to count and sum, for queries that need no more. Resets are found with the help of the
/// buckets first and become hints. Stale samples stay as they are.
///
/// `histograms` are the samples that a selector looks at, instant selectors included: the first one has no predecessor then.
///
/// Follows `promql/histogram_stats_iterator.go`. Custom bounds are dropped as well, so bounds that differ go unnoticed; in 3.5
/// the schema is, too, so that nothing is seen of custom among exponential buckets.
pub fn counts_and_sums_only(
    histograms: &[Arc<FloatHistogram>],
    is_stale: impl Fn(&FloatHistogram) -> bool,
    compat: Compat,
) -> Vec<Arc<FloatHistogram>> {
    let schema = Schema::new(0).filter(|_| compat == Compat::V3_5);
    let mut previous: Option<&FloatHistogram> = None;
    histograms
        .iter()
        .map(|histogram| {
            if is_stale(histogram) {
                return Arc::clone(histogram);
            }
            let mut bare = histogram.without_buckets(schema);
            if let Some(previous) = previous.replace(histogram)
                && bare.hint == CounterResetHint::Unknown
            {
                bare.hint = if histogram.detect_reset(previous, compat) {
                    CounterResetHint::Reset
                } else {
                    CounterResetHint::NotReset
                };
            }
            Arc::new(bare)
        })
        .collect()
}
