//! Sums, means, extremes of the numbers in a window.
//!
//! Follows `promql/functions.go` in the order of every operation; pinned by `functions.test`. Sums of overlapping windows cannot
//! share work without changing the last bits, so eight windows are added up side by side: their chains of dependent additions
//! then run in parallel.

use std::collections::VecDeque;

use super::FloatKernel;
use super::kahan::{Kahan, Mean};
use crate::exec::{Floats, Window};

/// How many windows are computed side by side.
pub(super) const LANES: usize = 8;

/// A computation that goes over the numbers of a window once, in their order.
pub(super) trait Fold: Copy {
    /// Begins with the first number.
    fn begin(first: f64) -> Self;
    /// Takes a further number; `count` is how many there are with it.
    fn take(self, value: f64, count: f64) -> Self;
    fn value(self, count: f64) -> f64;
}

/// Computes windows side by side.
pub(super) fn fold_windows<F: Fold>(
    values: &[f64],
    windows: &[Window],
    set: &mut dyn FnMut(usize, f64),
) {
    let (groups, rest) = windows.as_chunks::<LANES>();
    for group in groups {
        let slices = group.map(|window| &values[window.from..window.to]);
        let shared = slices.iter().map(|slice| slice.len()).min().unwrap_or(0);
        let mut folds = slices.map(|slice| F::begin(slice[0]));
        let heads = slices.map(|slice| &slice[..shared]);
        for index in 1..shared {
            let count = (index + 1) as f64;
            for (fold, head) in folds.iter_mut().zip(&heads) {
                *fold = fold.take(head[index], count);
            }
        }
        for ((window, slice), fold) in group.iter().zip(slices).zip(folds) {
            set(window.step, finish(fold, slice, shared));
        }
    }
    for window in rest {
        set(
            window.step,
            fold_window::<F>(&values[window.from..window.to]),
        );
    }
}

pub(super) fn fold_window<F: Fold>(values: &[f64]) -> f64 {
    finish(F::begin(values[0]), values, 1)
}

/// Takes the numbers after the first `done`.
fn finish<F: Fold>(mut fold: F, values: &[f64], done: usize) -> f64 {
    for (index, value) in values.iter().enumerate().skip(done) {
        fold = fold.take(*value, (index + 1) as f64);
    }
    fold.value(values.len() as f64)
}

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

    fn windows(&mut self, windows: &[Window], set: &mut dyn FnMut(usize, f64)) {
        fold_windows::<SumFold>(self.0.values, windows, set);
    }
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

    fn windows(&mut self, windows: &[Window], set: &mut dyn FnMut(usize, f64)) {
        let mut overflowed = Vec::new();
        fold_windows::<PlainMeanFold>(self.0.values, windows, &mut |step, mean| {
            set(step, mean);
            if mean.is_infinite() {
                overflowed.push(step);
            }
        });
        for window in windows {
            if overflowed.contains(&window.step)
                && let Some(mean) = self.window(window)
            {
                set(window.step, mean);
            }
        }
    }
}

/// Population variance by Welford's method with compensated sums.
#[derive(Clone, Copy)]
struct VarianceFold {
    mean: Kahan,
    squares: Kahan,
}

impl Fold for VarianceFold {
    #[inline]
    fn begin(first: f64) -> Self {
        let nothing = Self {
            mean: Kahan::default(),
            squares: Kahan::default(),
        };
        nothing.take(first, 1.0)
    }

    #[inline]
    fn take(self, value: f64, count: f64) -> Self {
        let delta = value - (self.mean.sum + self.mean.lost);
        let mean = self.mean.add(delta / count);
        let squares = self.squares.add(delta * (value - (mean.sum + mean.lost)));
        Self { mean, squares }
    }

    fn value(self, count: f64) -> f64 {
        self.squares.total() / count
    }
}

/// `stdvar_over_time`, or with `root` `stddev_over_time`.
pub(crate) struct Variance<'a> {
    pub(crate) floats: Floats<'a>,
    pub(crate) root: bool,
}

impl Variance<'_> {
    fn result(root: bool, variance: f64) -> f64 {
        if root { variance.sqrt() } else { variance }
    }
}

impl FloatKernel for Variance<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        let variance = fold_window::<VarianceFold>(&self.floats.values[window.from..window.to]);
        Some(Self::result(self.root, variance))
    }

    fn windows(&mut self, windows: &[Window], set: &mut dyn FnMut(usize, f64)) {
        let root = self.root;
        fold_windows::<VarianceFold>(self.floats.values, windows, &mut |step, variance| {
            set(step, Self::result(root, variance));
        });
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
