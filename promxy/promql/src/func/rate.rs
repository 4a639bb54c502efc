//! `rate`, `increase`, `delta`, `irate`, `idelta` of numbers.
//!
//! Follows `extrapolatedRate`, `extendedRate` and `instantValue` in `promql/functions.go`; pinned by `functions.test`,
//! `extended_vectors.test` and `start_timestamps.test`.

use super::FloatKernel;
use crate::exec::{Floats, Window};
use crate::histogram::window::{begins_anew, overlaps};
use crate::parser::ExtendedRange;

/// Which change of a series is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Of a counter, per second.
    Rate,
    /// Of a counter.
    Increase,
    /// Of a gauge.
    Delta,
}

impl Change {
    pub(crate) fn is_counter(self) -> bool {
        self != Self::Delta
    }
}

/// The indices of samples before which a counter was reset.
fn resets(floats: Floats<'_>) -> Vec<usize> {
    let mut resets: Vec<usize> = Vec::new();
    for (index, pair) in floats.values.windows(2).enumerate() {
        if pair[1] < pair[0] || start_reset_at(floats, index + 1) {
            resets.push(index + 1);
        }
    }
    resets
}

fn start_reset_at(floats: Floats<'_>, index: usize) -> bool {
    match floats.starts.get(index) {
        Some(start) => begins_anew(
            floats.starts[index - 1],
            floats.times[index - 1],
            *start,
            floats.times[index],
        ),
        None => false,
    }
}

/// The change over a window, extended to its edges if there are samples close to them.
pub(crate) struct ExtrapolatedRate<'a> {
    floats: Floats<'a>,
    change: Change,
    /// In seconds.
    range: f64,
    resets: Vec<usize>,
    /// The first of `resets` that can matter to this window or a later one.
    next_reset: usize,
    /// Whether start times overlapped in any window.
    pub(crate) overlap: bool,
}

impl<'a> ExtrapolatedRate<'a> {
    pub(crate) fn new(floats: Floats<'a>, change: Change, range: i64) -> Self {
        Self {
            floats,
            change,
            range: range as f64 / 1000.0,
            resets: if change.is_counter() {
                resets(floats)
            } else {
                Vec::new()
            },
            next_reset: 0,
            overlap: false,
        }
    }

    /// Returns last minus first plus the value before every reset in between, added in the order of time.
    fn risen(&mut self, window: &Window) -> f64 {
        let values = self.floats.values;
        let mut risen = values[window.to - 1] - values[window.from];
        while (self.resets.get(self.next_reset)).is_some_and(|reset| *reset <= window.from) {
            self.next_reset += 1;
        }
        for reset in &self.resets[self.next_reset..] {
            if *reset >= window.to {
                break;
            }
            risen += values[reset - 1];
        }
        risen
    }

    /// Returns where the counter began if that is in the window, before the first sample.
    fn start_in_window(&mut self, window: &Window) -> Option<i64> {
        if !self.change.is_counter() || self.floats.starts.is_empty() {
            return None;
        }
        for index in window.from + 1..window.to {
            let Floats { times, starts, .. } = self.floats;
            self.overlap |= overlaps(starts[index - 1], times[index - 1], starts[index]);
        }
        let start = self.floats.starts[window.from];
        let first = self.floats.times[window.from];
        (start != 0 && start > window.range_start && start < first).then_some(start)
    }
}

impl FloatKernel for ExtrapolatedRate<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        let start = self.start_in_window(window);
        let count = window.to - window.from;
        if count < 2 && start.is_none() {
            return None;
        }
        let first = self.floats.values[window.from];
        let mut risen = self.risen(window);
        if start.is_some() {
            risen += first;
        }
        let edges = Edges {
            range_start: window.range_start,
            range_end: window.range_end,
            first: self.floats.times[window.from],
            last: self.floats.times[window.to - 1],
            gaps: count - 1,
            start,
        };
        let zero = (self.change.is_counter() && risen > 0.0 && first >= 0.0).then_some(first);
        let per = (self.change == Change::Rate).then_some(self.range);
        Some(risen * edges.factor(zero.map(|first| first / risen), per))
    }
}

/// Where the samples of a window lie, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edges {
    pub(crate) range_start: i64,
    pub(crate) range_end: i64,
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// One less than there are samples.
    pub(crate) gaps: usize,
    /// Where the counter began, if that is in the window.
    pub(crate) start: Option<i64>,
}

impl Edges {
    /// Returns what a change between samples is multiplied with to be one of the whole range, or one per second.
    ///
    /// `to_zero` says how many times its rise a counter had before its first sample; it was zero no longer ago than that.
    pub(crate) fn factor(self, to_zero: Option<f64>, per_seconds: Option<f64>) -> f64 {
        let seconds = |millis: i64| millis as f64 / 1000.0;
        let mut to_start = seconds(self.first.saturating_sub(self.range_start));
        let mut to_end = seconds(self.range_end.saturating_sub(self.last));
        let mut sampled = seconds(self.last - self.first);
        let spacing = if self.gaps > 0 {
            sampled / self.gaps as f64
        } else {
            0.0
        };
        let threshold = spacing * 1.1;
        if let Some(start) = self.start {
            to_start = 0.0;
            sampled = seconds(self.last - start);
        } else {
            if to_start >= threshold {
                to_start = spacing / 2.0;
            }
            if let Some(share) = to_zero {
                let to_zero = sampled * share;
                if to_zero < to_start {
                    to_start = to_zero;
                }
            }
        }
        if to_end >= threshold {
            to_end = spacing / 2.0;
        }
        let factor = if sampled == 0.0 {
            1.0
        } else {
            (sampled + to_start + to_end) / sampled
        };
        per_seconds.map_or(factor, |seconds| factor / seconds)
    }
}

/// The change between the edges of a window, whose values are those of the samples before them, or interpolated.
pub(crate) struct ExtendedRate<'a> {
    pub(crate) floats: Floats<'a>,
    pub(crate) change: Change,
    pub(crate) extended: ExtendedRange,
    /// In seconds.
    pub(crate) range: f64,
}

impl FloatKernel for ExtendedRate<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        let floats = self.floats.slice(window.from, window.to);
        let is_counter = self.change.is_counter();
        let edges = FloatEdges::find(floats, self.extended, window, is_counter)?;
        let mut changed = edges.right - edges.left;
        if is_counter {
            changed += edges.lost_by_resets();
        }
        Some(match self.change {
            Change::Rate => changed / self.range,
            Change::Increase | Change::Delta => changed,
        })
    }
}

/// A window with values at its edges.
pub(crate) struct FloatEdges<'a> {
    pub(crate) left: f64,
    pub(crate) right: f64,
    /// The samples between the edges.
    pub(crate) inside: Floats<'a>,
}

impl<'a> FloatEdges<'a> {
    /// Finds the values at the edges of the range; `floats` reaches beyond them.
    pub(crate) fn find(
        floats: Floats<'a>,
        extended: ExtendedRange,
        window: &Window,
        is_counter: bool,
    ) -> Option<Self> {
        let smoothed = extended == ExtendedRange::Smoothed;
        let (times, values) = (floats.times, floats.values);
        let (start, end) = (window.range_start, window.range_end);
        let mut last = times.len() - 1;
        let mut first = times[..last]
            .partition_point(|time| *time <= start)
            .saturating_sub(1);
        if smoothed {
            last = times[..last].partition_point(|time| *time < end);
        }
        if times[last] <= start || smoothed && times[first] > end {
            return None;
        }
        let left = if smoothed && times[first] < start {
            interpolate(floats, first, start, is_counter)
        } else {
            values[first]
        };
        let right = if smoothed && last > 0 && times[last] > end {
            interpolate(floats, last - 1, end, is_counter)
        } else {
            values[last]
        };
        let mut after = last + 1;
        if times[first] <= start {
            first += 1;
        }
        if times[last] >= end {
            after -= 1;
        }
        let inside = floats.slice(first, after.max(first));
        Some(Self {
            left,
            right,
            inside,
        })
    }

    /// Returns what the counter had before each reset, added up.
    fn lost_by_resets(&self) -> f64 {
        let mut lost = 0.0;
        let mut previous = self.left;
        for value in self.inside.values.iter().chain([&self.right]) {
            if *value < previous {
                lost += previous;
            }
            previous = *value;
        }
        lost
    }
}

/// Returns the value at `time` on the line from a sample to the next. A counter that was reset in between rose from zero.
pub(crate) fn interpolate(floats: Floats<'_>, index: usize, time: i64, is_counter: bool) -> f64 {
    let (t1, t2) = (floats.times[index], floats.times[index + 1]);
    let (mut y1, y2) = (floats.values[index], floats.values[index + 1]);
    if is_counter && y2 < y1 {
        y1 = 0.0;
    }
    y1 + (y2 - y1) * (time - t1) as f64 / (t2 - t1) as f64
}

/// The change between the last two samples: per second of a counter, or as it is.
pub(crate) struct InstantChange<'a> {
    pub(crate) floats: Floats<'a>,
    pub(crate) per_second: bool,
}

impl FloatKernel for InstantChange<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        if window.to - window.from < 2 {
            return None;
        }
        let last = window.to - 1;
        let (times, values) = (self.floats.times, self.floats.values);
        let elapsed = times[last] - times[last - 1];
        if elapsed == 0 {
            return None;
        }
        if !self.per_second {
            return Some(values[last] - values[last - 1]);
        }
        let was_reset = values[last] < values[last - 1] || start_reset_at(self.floats, last);
        let risen = if was_reset {
            values[last]
        } else {
            values[last] - values[last - 1]
        };
        Some(risen / (elapsed as f64 / 1000.0))
    }
}
