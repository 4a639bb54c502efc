//! `changes`, `resets`, `count_over_time`, `present_over_time`, first and last of the numbers in a window.
//!
//! Follows `promql/functions.go`; pinned by `functions.test` and `extended_vectors.test`.

use super::FloatKernel;
use crate::exec::{Floats, Window};
use crate::histogram::window::begins_anew;

/// How often something happened between samples that stand next to one another; counted once for the whole series.
pub(crate) struct Occurrences {
    /// How often up to each sample.
    until: Vec<u32>,
    /// The time of each sample, if windows begin with the last sample before the range.
    anchored: Option<Vec<i64>>,
}

impl Occurrences {
    /// Counts changes of value. From NaN to NaN is none.
    pub(crate) fn changes(floats: Floats<'_>, anchored: bool) -> Self {
        let values = floats.values;
        Self::count(floats, anchored, |index| {
            let (before, value) = (values[index - 1], values[index]);
            value != before && !(value.is_nan() && before.is_nan())
        })
    }

    /// Counts resets of a counter.
    pub(crate) fn resets(floats: Floats<'_>, anchored: bool) -> Self {
        let (times, values, starts) = (floats.times, floats.values, floats.starts);
        Self::count(floats, anchored, |index| {
            values[index] < values[index - 1]
                || starts.get(index).is_some_and(|start| {
                    begins_anew(starts[index - 1], times[index - 1], *start, times[index])
                })
        })
    }

    fn count(floats: Floats<'_>, anchored: bool, happened: impl Fn(usize) -> bool) -> Self {
        let mut so_far = 0;
        let until = (0..floats.values.len())
            .map(|index| {
                so_far += u32::from(index > 0 && happened(index));
                so_far
            })
            .collect();
        let anchored = anchored.then(|| floats.times.to_vec());
        Self { until, anchored }
    }
}

impl FloatKernel for Occurrences {
    fn window(&mut self, window: &Window) -> Option<f64> {
        let mut from = window.from;
        if let Some(times) = &self.anchored {
            let times = &times[window.from..window.to];
            let inside = times.partition_point(|time| *time <= window.range_start);
            if inside == times.len() {
                return None;
            }
            from += inside.saturating_sub(1);
        }
        Some(f64::from(self.until[window.to - 1] - self.until[from]))
    }
}

/// How many numbers there are.
pub(crate) struct Count;

impl FloatKernel for Count {
    fn window(&mut self, window: &Window) -> Option<f64> {
        Some((window.to - window.from) as f64)
    }
}

/// One, wherever there is a number.
pub(crate) struct Present;

impl FloatKernel for Present {
    fn window(&mut self, _: &Window) -> Option<f64> {
        Some(1.0)
    }
}

/// Which number of a window is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    First,
    Last,
}

impl End {
    fn index(self, window: &Window) -> usize {
        match self {
            Self::First => window.from,
            Self::Last => window.to - 1,
        }
    }
}

/// The first or the last number.
pub(crate) struct ValueAt<'a>(pub(crate) Floats<'a>, pub(crate) End);

impl FloatKernel for ValueAt<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        Some(self.0.values[self.1.index(window)])
    }
}

/// When the first or the last number was taken, in seconds.
pub(crate) struct TimeAt<'a>(pub(crate) Floats<'a>, pub(crate) End);

impl FloatKernel for TimeAt<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        Some(self.0.times[self.1.index(window)] as f64 / 1000.0)
    }
}
