//! Counter resets: whether something was lost between two samples of a histogram.
//!
//! Follows `DetectReset` in `model/histogram/float_histogram.go`.

use super::buckets::Buckets;
use super::custom::{same_bounds, shared_bounds};
use super::distribution::Distribution;
use super::{CounterResetHint, FloatHistogram};
use crate::parser::Compat;

impl FloatHistogram {
    /// Whether a counter was reset between `previous` and this sample of it.
    ///
    /// A hint decides; else any count that is lower now, a populated bucket that is missing now, a higher resolution or a
    /// narrower zero bucket. Gauges are treated as counters without a hint.
    pub fn detect_reset(&self, previous: &Self, compat: Compat) -> bool {
        match self.hint {
            CounterResetHint::Reset => true,
            CounterResetHint::NotReset => false,
            CounterResetHint::Unknown | CounterResetHint::Gauge => {
                self.count < previous.count
                    || (self.distribution).lost_since(&previous.distribution, compat)
            }
        }
    }
}

impl Distribution<f64> {
    /// Whether the layout is the same but for which buckets were touched.
    pub(super) fn same_scale(&self, other: &Self) -> bool {
        self.schema == other.schema
            && self.zero_threshold == other.zero_threshold
            && same_bounds(&self.bounds, &other.bounds)
    }

    /// Whether any bucket, the zero bucket included, holds less than in `previous`, which has the same scale.
    pub(super) fn any_lower_than(&self, previous: &Self) -> bool {
        let everything = |_| false;
        self.zero_count < previous.zero_count
            || any_lower(
                &self.positive,
                &previous.positive,
                everything,
                Compat::V3_14,
            )
            || any_lower(
                &self.negative,
                &previous.negative,
                everything,
                Compat::V3_14,
            )
    }

    /// Whether something that `previous` has is missing.
    fn lost_since(&self, previous: &Self, compat: Compat) -> bool {
        if self.schema.is_custom() && previous.schema.is_custom() {
            return if same_bounds(&self.bounds, &previous.bounds) {
                any_lower(&self.positive, &previous.positive, |_| false, compat)
            } else {
                compat == Compat::V3_5 || self.lost_at_shared_bounds(previous)
            };
        }
        // Custom buckets are below all resolutions, so this also holds if either has them.
        if self.schema.is_custom()
            || self.schema > previous.schema
            || self.zero_threshold < previous.zero_threshold
        {
            return true;
        }
        let zero = previous.widened_zero(self.zero_threshold);
        if zero.threshold != self.zero_threshold || self.zero_count < zero.count {
            return true;
        }
        let inside = |index: i32| self.schema.bound(index) <= self.zero_threshold;
        let lower = |previous: &Self| {
            any_lower(&self.positive, &previous.positive, inside, compat)
                || any_lower(&self.negative, &previous.negative, inside, compat)
        };
        if self.schema == previous.schema {
            return lower(previous);
        }
        let mut reduced = previous.clone();
        reduced.reduce_to(self.schema);
        lower(&reduced)
    }

    fn lost_at_shared_bounds(&self, previous: &Self) -> bool {
        let bounds = shared_bounds(&self.bounds, &previous.bounds);
        let now = self.at_bounds(&bounds);
        let before = previous.at_bounds(&bounds);
        now.iter().zip(&before).any(|(now, before)| now < before)
    }
}

/// Whether a bucket holds less now than before, or a populated one is gone. Leaves out those inside of the zero bucket.
///
/// Of the buckets beyond the last one that there is now 3.5 looks at the first only, populated or not.
fn any_lower(
    now: &Buckets<f64>,
    before: &Buckets<f64>,
    inside: impl Fn(i32) -> bool,
    compat: Compat,
) -> bool {
    if now.same_layout(before) && before.first_index().is_none_or(|first| !inside(first)) {
        return (now.counts().iter().zip(before.counts())).any(|(now, before)| now < before);
    }
    let mut now = now.iter().peekable();
    for (index, before) in before.iter().filter(|(index, _)| !inside(*index)) {
        while now.next_if(|(now, _)| *now < index).is_some() {}
        let is_lower = match now.peek() {
            Some((at, now)) if *at == index => *now < before,
            None if compat == Compat::V3_5 => return before != 0.0,
            _ => before != 0.0,
        };
        if is_lower {
            return true;
        }
    }
    false
}
