//! `rate`, `increase` and `delta` of `anchored` and `smoothed` selectors: no extrapolation.
//!
//! Follows `extendedHistogramRate` in `promql/functions.go`.

use super::{Change, Window};
use crate::histogram::FloatHistogram;
use crate::histogram::arithmetic::Incompatible;
use crate::histogram::facts::Facts;
use crate::parser::ExtendedRange;

/// Returns how the histogram changed between the edges of the window. The samples include those beyond the edges.
///
/// Exists in 3.14 only.
pub fn extended_change(
    window: &Window<'_>,
    kind: ExtendedRange,
    change: Change,
) -> (Option<FloatHistogram>, Facts) {
    todo!()
}

/// Returns the histogram at a time between two samples, at `first_time` and `last_time`.
///
/// If there was a reset in between, it is taken to have grown from nothing. Exists in 3.14 only.
pub fn interpolate(
    (first_time, first): (i64, &FloatHistogram),
    (last_time, last): (i64, &FloatHistogram),
    was_reset: bool,
    time: i64,
) -> Result<(FloatHistogram, Facts), Incompatible> {
    todo!()
}
