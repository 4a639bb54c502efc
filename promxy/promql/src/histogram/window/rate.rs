//! `rate`, `increase` and `delta`, extrapolated to the edges of the window.
//!
//! Follows `extrapolatedRate` and `histogramRate` in `promql/functions.go`.

use super::{Change, Window};
use crate::histogram::FloatHistogram;
use crate::histogram::facts::Facts;
use crate::parser::Compat;

/// Returns how the histogram changed in the window; `None` with too few samples, or if they do not go together.
pub fn extrapolated_change(
    window: &Window<'_>,
    change: Change,
    compat: Compat,
) -> (Option<FloatHistogram>, Facts) {
    todo!()
}

/// Returns by how much a change between the first and the last sample has to be multiplied to be that of the whole window.
///
/// Times are in milliseconds; `intervals` is one less than the number of samples, at least one. `to_zero` is, for a counter, its first value
/// divided by its increase, if the one is not negative and the other positive: counters are not extrapolated to below zero.
pub fn extrapolation_factor(
    window: (i64, i64),
    samples: (i64, i64),
    intervals: usize,
    to_zero: Option<f64>,
) -> f64 {
    todo!()
}
