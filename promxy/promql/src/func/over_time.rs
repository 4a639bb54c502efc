//! Sums, means, extremes of the numbers in a window.
//!
//! Follows `promql/functions.go`; pinned by `functions.test`. Sums are carried from window to window where they are exact (see
//! `exact`). Where they are not, sharing work would change the last bits, so several windows are added up side by side (see
//! `fold` and `lock_step`).

#![expect(
    clippy::inline_always,
    reason = "only what is inlined is compiled for the instructions that were chosen"
)]

use std::collections::VecDeque;

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, f64x8};

use super::exact::{SlidingSum, Units, shared};
use super::fold::{Fold, fold_rest, fold_window, fold_windows};
use super::kahan::{Kahan, Mean};
use super::lock_step::{CHAINS, Chain, Turns, WINDOWS};
use super::{FloatKernel, Results};
use crate::error::QueryError;
use crate::exec::{Floats, Window};

#[derive(Clone, Copy)]
struct SumFold(Kahan);

impl Fold for SumFold {
    #[inline]
    fn begin(first: f64) -> Self {
        Self(Kahan::default().add(first))
    }

    #[inline]
    fn take(self, value: f64, _: f64) -> Self {
        Self(self.0.add(value))
    }

    fn value(self, _: f64) -> f64 {
        if self.0.sum.is_infinite() {
            self.0.sum
        } else {
            self.0.total()
        }
    }
}

/// `sum_over_time`
pub(crate) struct Sum<'a>(pub(crate) Floats<'a>);

impl FloatKernel for Sum<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        Some(fold_window::<SumFold>(
            &self.0.values[window.from..window.to],
        ))
    }

    fn windows(&mut self, windows: &[Window], results: &mut Results<'_>) -> Result<(), QueryError> {
        let values = self.0.values;
        let Some((units, _)) = compensating_units(values, windows) else {
            return fold_windows::<SumFold>(values, windows, results, &mut |results, step, sum| {
                results.set(step, sum);
            });
        };
        let mut sum = SlidingSum::default();
        for window in windows {
            results.check()?;
            let total = sum.over(window, |index| units.count(values[index]));
            results.set(window.step, units.value(total));
        }
        Ok(())
    }
}

/// Returns units in which compensated sums over windows are exact, if there are such and many numbers are in many windows;
/// and how many numbers the largest window holds.
pub(super) fn compensating_units(values: &[f64], windows: &[Window]) -> Option<(Units, usize)> {
    let (values, largest) = shared(values, windows)?;
    let units = Units::of(values)?;
    units.compensate(largest).then_some((units, largest))
}

/// A sum that is rounded at every addition.
#[derive(Clone, Copy)]
struct PlainFold(f64);

impl Fold for PlainFold {
    #[inline]
    fn begin(first: f64) -> Self {
        Self(first)
    }

    #[inline]
    fn take(self, value: f64, _: f64) -> Self {
        Self(self.0 + value)
    }

    fn value(self, _: f64) -> f64 {
        self.0
    }
}

/// Plain sums of eight windows.
#[derive(Clone, Copy)]
struct PlainSums<S: Simd>(f64x8<S>);

impl<S: Simd> Chain<S> for PlainSums<S> {
    #[inline(always)]
    fn take(&mut self, numbers: f64x8<S>, _: f64x8<S>) {
        self.0 += numbers;
    }
}

/// Returns the plain sum of every window.
fn plain_sums(
    values: &[f64],
    windows: &[Window],
    results: &mut Results<'_>,
) -> Result<Vec<f64>, QueryError> {
    let mut sums = Vec::with_capacity(windows.len());
    let level = Level::new();
    let (groups, rest) = windows.as_chunks::<WINDOWS>();
    for group in groups {
        let Some((numbers, turns)) = Turns::of(values, group) else {
            let mut keep = |_: &mut Results<'_>, _: usize, sum: f64| sums.push(sum);
            fold_windows::<PlainFold>(values, group, results, &mut keep)?;
            continue;
        };
        let shared = dispatch!(level, simd => sums_in_lock_step(simd, &numbers, turns, results))?;
        for (window, sum) in group.iter().zip(shared) {
            let values = &values[window.from..window.to];
            sums.push(fold_rest(PlainFold(sum), values, turns));
        }
    }
    let mut keep = |_: &mut Results<'_>, _: usize, sum: f64| sums.push(sum);
    fold_windows::<PlainFold>(values, rest, results, &mut keep)?;
    Ok(sums)
}

/// Returns the plain sums of the numbers of all turns.
#[inline(always)]
fn sums_in_lock_step<S: Simd>(
    simd: S,
    numbers: &Turns<'_>,
    turns: usize,
    results: &Results<'_>,
) -> Result<[f64; WINDOWS], QueryError> {
    // Negative zero changes nothing that is added to it.
    let sums = [PlainSums(f64x8::splat(simd, -0.0)); CHAINS];
    numbers.fold(simd, (0, turns), sums, results, |sums, lane| sums.0[lane])
}

/// A sum for a mean, which is good for nothing once it overflows.
#[derive(Clone, Copy)]
struct PlainMeanFold {
    sum: Kahan,
    overflowed: bool,
}

impl Fold for PlainMeanFold {
    #[inline]
    fn begin(first: f64) -> Self {
        Self {
            sum: Kahan {
                sum: first,
                lost: 0.0,
            },
            overflowed: false,
        }
    }

    #[inline]
    fn take(self, value: f64, _: f64) -> Self {
        let sum = self.sum.add(value);
        Self {
            sum,
            overflowed: self.overflowed | sum.sum.is_infinite(),
        }
    }

    fn value(self, count: f64) -> f64 {
        if self.overflowed {
            f64::INFINITY
        } else {
            self.sum.sum / count + self.sum.lost / count
        }
    }
}

/// `avg_over_time`
pub(crate) struct Average<'a>(pub(crate) Floats<'a>);

impl FloatKernel for Average<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        let values = &self.0.values[window.from..window.to];
        let mut mean = Mean::of(values[0]);
        for value in &values[1..] {
            mean.add(*value);
        }
        Some(mean.value())
    }

    fn windows(&mut self, windows: &[Window], results: &mut Results<'_>) -> Result<(), QueryError> {
        if let Some((units, largest)) = compensating_units(self.0.values, windows) {
            return self.exact(units, largest, windows, results);
        }
        let mut overflowed = Vec::new();
        let mut set = |results: &mut Results<'_>, step: usize, mean: f64| {
            results.set(step, mean);
            if mean.is_infinite() {
                overflowed.push(step);
            }
        };
        fold_windows::<PlainMeanFold>(self.0.values, windows, results, &mut set)?;
        // Both are in the order of steps.
        let mut overflowed = overflowed.into_iter().peekable();
        for window in windows {
            if overflowed.next_if_eq(&window.step).is_some() {
                results.check()?;
                if let Some(mean) = self.window(window) {
                    results.set(window.step, mean);
                }
            }
        }
        Ok(())
    }
}

impl Average<'_> {
    /// Computes means of which only the plain sum has to be added up anew, and not even that if it is never rounded. What
    /// rounding took from it is the rest of the exact sum.
    fn exact(
        &self,
        units: Units,
        largest: usize,
        windows: &[Window],
        results: &mut Results<'_>,
    ) -> Result<(), QueryError> {
        let values = self.0.values;
        let mut sum = SlidingSum::default();
        let units_of = |index: usize| units.count(values[index]);
        if units.add_exactly(largest) {
            for window in windows {
                results.check()?;
                let total = units.value(sum.over(window, units_of));
                results.set(window.step, total / (window.to - window.from) as f64);
            }
            return Ok(());
        }
        let plain = plain_sums(values, windows, results)?;
        for (window, plain) in windows.iter().zip(plain) {
            results.check()?;
            let count = (window.to - window.from) as f64;
            let lost = units.value(sum.over(window, units_of) - units.count(plain));
            results.set(window.step, plain / count + lost / count);
        }
        Ok(())
    }
}

/// Which extreme is asked for, and whether of equal ones the first or the last counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extreme {
    Max,
    Min,
}

/// The largest or smallest number of a window, or when it was. NaN counts only if there is nothing else.
///
/// Numbers that a later one has outdone can never win again, so the candidates form a queue whose front is the winner.
pub(crate) struct ExtremeOf<'a> {
    floats: Floats<'a>,
    extreme: Extreme,
    /// Whether the time of the last of equal numbers is asked for, not the first of them.
    time: bool,
    candidates: VecDeque<usize>,
    /// How many samples have been looked at.
    seen: usize,
}

impl<'a> ExtremeOf<'a> {
    pub(crate) fn value(floats: Floats<'a>, extreme: Extreme) -> Self {
        Self {
            floats,
            extreme,
            time: false,
            candidates: VecDeque::new(),
            seen: 0,
        }
    }

    pub(crate) fn time(floats: Floats<'a>, extreme: Extreme) -> Self {
        Self {
            time: true,
            ..Self::value(floats, extreme)
        }
    }

    /// Whether a number makes an earlier one irrelevant.
    fn outdoes(&self, new: f64, old: f64) -> bool {
        let (new, old) = match self.extreme {
            Extreme::Max => (new, old),
            Extreme::Min => (-new, -old),
        };
        new > old || self.time && new == old
    }
}

impl FloatKernel for ExtremeOf<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        let values = self.floats.values;
        self.seen = self.seen.max(window.from);
        while self
            .candidates
            .front()
            .is_some_and(|first| *first < window.from)
        {
            self.candidates.pop_front();
        }
        while self.seen < window.to {
            let value = values[self.seen];
            if !value.is_nan() {
                while let Some(last) = self.candidates.back()
                    && self.outdoes(value, values[*last])
                {
                    self.candidates.pop_back();
                }
                self.candidates.push_back(self.seen);
            }
            self.seen += 1;
        }
        // Of nothing but NaN the first one is the value, the last one the time.
        let winner = self.candidates.front().copied();
        let only_nan = if self.time {
            window.to - 1
        } else {
            window.from
        };
        let winner = winner.unwrap_or(only_nan);
        Some(if self.time {
            self.floats.times[winner] as f64 / 1000.0
        } else {
            values[winner]
        })
    }
}
