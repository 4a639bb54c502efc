//! `irate` and `idelta`: what the last two samples say.
//!
//! Follows `instantValue` in `promql/functions.go`.

use super::rate::without_hints;
use crate::histogram::facts::{Fact, Facts, Operation};
use crate::histogram::{CounterResetHint, FloatHistogram};
use crate::parser::Compat;

/// The function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstantChange {
    /// `irate`: per second, of a counter.
    Rate,
    /// `idelta`: of a gauge.
    Delta,
}

/// One of the two samples.
#[derive(Clone, Copy, Debug)]
pub struct InstantSample<'a> {
    /// When it was taken, in milliseconds.
    pub time: i64,
    /// The sample.
    pub histogram: &'a FloatHistogram,
}

/// Returns how the histogram changed between two samples, which were not taken at the same time.
///
/// `was_reset` says whether the counter was reset in between, by start times or by
/// [`detect_reset`](FloatHistogram::detect_reset).
pub fn instant_change(
    first: InstantSample<'_>,
    last: InstantSample<'_>,
    was_reset: bool,
    change: InstantChange,
    compat: Compat,
) -> (Option<FloatHistogram>, Facts) {
    let mut facts = Facts::NONE;
    let gauges = [first, last].map(|sample| sample.histogram.hint == CounterResetHint::Gauge);
    match change {
        InstantChange::Rate => facts.insert_if(gauges != [false; 2], Fact::NotACounter),
        InstantChange::Delta => facts.insert_if(gauges != [true; 2], Fact::NotAGauge),
    }
    let mut result = last.histogram.clone();
    if change == InstantChange::Delta || !was_reset {
        match result.subtract(first.histogram, compat) {
            Ok(adjusted) => facts |= without_hints(adjusted).facts(Operation::Subtraction, compat),
            Err(incompatible) => {
                facts.insert(incompatible.fact());
                return (None, facts);
            }
        }
    }
    result.hint = CounterResetHint::Gauge;
    result.compact();
    if change == InstantChange::Rate {
        result.divide((last.time - first.time) as f64 / 1000.0, compat);
    }
    (Some(result), facts)
}
