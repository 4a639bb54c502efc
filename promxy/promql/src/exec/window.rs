//! Range selectors: for every step the samples of a window, found by two cursors that only move forward.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::ops::Range;
use std::sync::Arc;

use super::selector::{first_after, first_after_backwards};
use super::{CancelToken, Grid, Series, histogram_samples};
use crate::error::QueryError;
use crate::histogram::FloatHistogram;
use crate::histogram::window::{are_uniform_counters, resets};
use crate::parser::{Compat, CounterResetHint};
use crate::storage::{Samples, is_stale};

/// The numbers of a series without stale markers, with when their counters began if that counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floats<'a> {
    pub(crate) times: &'a [i64],
    pub(crate) values: &'a [f64],
    /// Empty if not known or not asked for.
    pub(crate) starts: &'a [i64],
}

impl Floats<'_> {
    pub(crate) fn slice(self, from: usize, to: usize) -> Self {
        Self {
            times: &self.times[from..to],
            values: &self.values[from..to],
            starts: self.starts.get(from..to).unwrap_or_default(),
        }
    }
}

/// What a function sees at a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// The numbers are those with these indices.
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// The histograms are those with these indices.
    pub(crate) histograms_from: usize,
    pub(crate) histograms_to: usize,
    pub(crate) step: usize,
    /// The time of the step.
    pub(crate) time: i64,
    /// The edges of the range; the first is not in it.
    pub(crate) range_start: i64,
    pub(crate) range_end: i64,
}

#[cfg(test)]
impl Window {
    /// Returns a window of numbers whose times do not matter.
    pub(crate) fn of_floats(from: usize, to: usize) -> Self {
        Self {
            from,
            to,
            histograms_from: 0,
            histograms_to: 0,
            step: 0,
            time: 0,
            range_start: 0,
            range_end: 0,
        }
    }
}

/// How windows lie to the steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windowing {
    pub(crate) grid: Grid,
    /// All in milliseconds.
    pub(crate) range: i64,
    pub(crate) offset: i64,
    /// How much more than the range is looked at, for `anchored` and `smoothed`.
    pub(crate) before: i64,
    pub(crate) after: i64,
    /// The first window serves all steps.
    pub(crate) pinned: bool,
}

impl Windowing {
    /// Returns the edges of the window of a time; the first is not in it.
    fn edges(self, time: i64) -> (i64, i64) {
        let end = time.saturating_sub(self.offset);
        let start = end.saturating_sub(self.range);
        (
            start.saturating_sub(self.before),
            end.saturating_add(self.after),
        )
    }

    /// Returns the indices of the times that are in any window.
    fn reach(self, times: &[i64]) -> Range<usize> {
        let (after, _) = self.edges(self.grid.time(0));
        let last = if self.pinned {
            0
        } else {
            self.grid.count.saturating_sub(1)
        };
        let (_, until) = self.edges(self.grid.time(last));
        let to = first_after(times, 0, until);
        first_after_backwards(times, to, after.min(until))..to
    }
}

/// The samples of a series that windows are cut from.
#[derive(Debug)]
pub(crate) struct RangeSamples<'a> {
    times: Cow<'a, [i64]>,
    values: Cow<'a, [f64]>,
    starts: Cow<'a, [i64]>,
    pub(crate) histogram_times: Cow<'a, [i64]>,
    pub(crate) histograms: Cow<'a, [Arc<FloatHistogram>]>,
    pub(crate) histogram_starts: Cow<'a, [i64]>,
    /// Before which histograms there was a reset, once anybody asked.
    resets: OnceCell<Vec<bool>>,
    /// Whether the histograms are alike, once anybody asked.
    uniform: OnceCell<bool>,
}

impl<'a> RangeSamples<'a> {
    /// Borrows the samples of storage that any window can hold, or copies them without the stale markers if there are any.
    pub(crate) fn of_storage(
        samples: &'a Samples,
        windowing: Windowing,
        with_starts: bool,
    ) -> Self {
        let starts = |starts: &'a [i64]| if with_starts { starts } else { &[] };
        let numbers = windowing.reach(&samples.timestamps);
        let values = &samples.values[numbers.clone()];
        let has_stale = values.iter().any(|value| is_stale(*value));
        let started = starts(&samples.start_timestamps);
        let native = windowing.reach(&samples.histogram_timestamps);
        let histograms = &samples.histograms[native.clone()];
        let natives_started = starts(&samples.histogram_start_timestamps);
        let mut range = Self {
            times: Cow::Borrowed(&samples.timestamps[numbers.clone()]),
            values: Cow::Borrowed(values),
            starts: Cow::Borrowed(started.get(numbers).unwrap_or_default()),
            histogram_times: Cow::Borrowed(&samples.histogram_timestamps[native.clone()]),
            histograms: Cow::Borrowed(histograms),
            histogram_starts: Cow::Borrowed(natives_started.get(native).unwrap_or_default()),
            resets: OnceCell::new(),
            uniform: OnceCell::new(),
        };
        if has_stale {
            let keep = |index: usize| !is_stale(values[index]);
            range.times = kept(&range.times, keep);
            range.starts = kept(&range.starts, keep);
            range.values = kept(&range.values, keep);
        }
        if histograms.iter().any(|h| is_stale(h.sum)) {
            let keep = |index: usize| !is_stale(histograms[index].sum);
            range.histogram_times = kept(&range.histogram_times, keep);
            range.histogram_starts = kept(&range.histogram_starts, keep);
            range.histograms = kept(&range.histograms, keep);
        }
        range
    }

    /// Turns the result of a subquery into samples.
    ///
    /// What histograms say of resets is forgotten: a subquery may miss samples, or see them twice.
    pub(crate) fn of_subquery(series: &Series, grid: Grid) -> RangeSamples<'static> {
        let (times, values) = series
            .column
            .floats()
            .map(|(step, value)| (grid.time(step), value))
            .unzip();
        let (histogram_times, histograms): (Vec<i64>, Vec<Arc<FloatHistogram>>) = series
            .column
            .histograms
            .iter()
            .map(|(step, histogram)| {
                let known = matches!(
                    histogram.hint,
                    CounterResetHint::Reset | CounterResetHint::NotReset
                );
                let mut histogram = histogram.into_owned();
                if known {
                    Arc::make_mut(&mut histogram).hint = CounterResetHint::Unknown;
                }
                (grid.time(step), histogram)
            })
            .unzip();
        RangeSamples {
            times: Cow::Owned(times),
            values: Cow::Owned(values),
            starts: Cow::Borrowed(&[]),
            histogram_times: Cow::Owned(histogram_times),
            histograms: Cow::Owned(histograms),
            histogram_starts: Cow::Borrowed(&[]),
            resets: OnceCell::new(),
            uniform: OnceCell::new(),
        }
    }

    pub(crate) fn floats(&self) -> Floats<'_> {
        Floats {
            times: &self.times,
            values: &self.values,
            starts: &self.starts,
        }
    }

    /// Returns before which histograms there was a reset of the counter.
    pub(crate) fn resets(&self, compat: Compat) -> &[bool] {
        self.resets.get_or_init(|| resets(&self.histograms, compat))
    }

    /// Whether all histograms have the same schema and none is a gauge.
    pub(crate) fn are_uniform_counters(&self) -> bool {
        *self
            .uniform
            .get_or_init(|| are_uniform_counters(&self.histograms))
    }

    pub(crate) fn has_histograms(&self) -> bool {
        !self.histograms.is_empty()
    }

    /// Returns how many samples the histograms up to each count as; nothing if there are none.
    pub(crate) fn sizes_of_histograms(&self) -> Vec<usize> {
        if self.histograms.is_empty() {
            return Vec::new();
        }
        let mut so_far = 0;
        let sizes = self.histograms.iter().map(|histogram| {
            so_far += histogram_samples(histogram);
            so_far
        });
        std::iter::once(0).chain(sizes).collect()
    }

    /// Writes the windows that hold any sample into `windows`.
    pub(crate) fn cut(
        &self,
        windowing: Windowing,
        windows: &mut Vec<Window>,
        cancel: &CancelToken,
    ) -> Result<(), QueryError> {
        windows.clear();
        let mut floats = Cursors::default();
        let mut histograms = Cursors::default();
        let has_histograms = self.has_histograms();
        for (step, time) in windowing.grid.times().enumerate() {
            cancel.check_at(step)?;
            if step == 0 || !windowing.pinned {
                let (mint, maxt) = windowing.edges(time);
                floats.advance(&self.times, mint, maxt);
                if has_histograms {
                    histograms.advance(&self.histogram_times, mint, maxt);
                }
            }
            if floats.from < floats.to || histograms.from < histograms.to {
                let range_end = time.saturating_sub(windowing.offset);
                windows.push(Window {
                    from: floats.from,
                    to: floats.to,
                    histograms_from: histograms.from,
                    histograms_to: histograms.to,
                    step,
                    time,
                    range_start: range_end.saturating_sub(windowing.range),
                    range_end,
                });
            }
        }
        Ok(())
    }
}

/// The first sample of a window and the first after it.
#[derive(Clone, Copy, Default)]
struct Cursors {
    from: usize,
    to: usize,
}

impl Cursors {
    /// Moves to the samples after `mint` up to `maxt`.
    #[inline]
    fn advance(&mut self, times: &[i64], mint: i64, maxt: i64) {
        self.from = first_after(times, self.from, mint);
        self.to = first_after(times, self.to.max(self.from), maxt);
    }
}

fn kept<'b, T: Clone>(column: &[T], keep: impl Fn(usize) -> bool) -> Cow<'b, [T]> {
    let indexed = column.iter().enumerate();
    indexed
        .filter(|(index, _)| keep(*index))
        .map(|(_, value)| value.clone())
        .collect()
}
