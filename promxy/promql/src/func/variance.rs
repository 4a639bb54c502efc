//! `stddev_over_time` and `stdvar_over_time`: population variance by Welford's method with compensated sums.
//!
//! Follows `varianceOverTime` in `promql/functions.go`; pinned by `functions.test`. Divisions at every step leave nothing that windows
//! could share. They are computed in lock step.

#![expect(
    clippy::inline_always,
    reason = "only what is inlined is compiled for the instructions that were chosen"
)]

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, f64x8};

use super::exact::{Units, shared};
use super::fold::{Fold, fold_rest, fold_window, fold_windows};
use super::kahan::Kahan;
use super::lock_step::{CHAINS, Chain, Turns, WINDOWS};
use super::{FloatKernel, Results};
use crate::error::QueryError;
use crate::exec::{Floats, Window};

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

    fn windows(&mut self, windows: &[Window], results: &mut Results<'_>) -> Result<(), QueryError> {
        let (root, values) = (self.root, self.floats.values);
        let mut set = |results: &mut Results<'_>, step: usize, variance: f64| {
            results.set(step, Self::result(root, variance));
        };
        let is_tame = shared(values, windows).is_some_and(|(all, _)| Units::of(all).is_some());
        if !is_tame {
            return fold_windows::<VarianceFold>(values, windows, results, &mut set);
        }
        let level = Level::new();
        let (groups, rest) = windows.as_chunks::<WINDOWS>();
        for group in groups {
            let Some((numbers, turns)) = Turns::of(values, group) else {
                fold_windows::<VarianceFold>(values, group, results, &mut set)?;
                continue;
            };
            let folds = dispatch!(level, simd => variances(simd, &numbers, turns, results))?;
            for (window, fold) in group.iter().zip(folds) {
                let variance = fold_rest(fold, &values[window.from..window.to], turns);
                set(results, window.step, variance);
            }
        }
        fold_windows::<VarianceFold>(values, rest, results, &mut set)
    }
}

/// Compensated sums of eight windows, none of which may overflow.
#[derive(Clone, Copy)]
struct Sums<S: Simd> {
    sum: f64x8<S>,
    lost: f64x8<S>,
}

impl<S: Simd> Sums<S> {
    #[inline(always)]
    fn nothing(simd: S) -> Self {
        let zero = f64x8::splat(simd, 0.0);
        Self {
            sum: zero,
            lost: zero,
        }
    }

    /// Adds a number to each.
    ///
    /// What rounding takes is found without comparing. It is exact in this form as in that of [`Kahan`], so it is the same
    /// number.
    #[inline(always)]
    fn add(&mut self, values: f64x8<S>) {
        let old = self.sum;
        self.sum = old + values;
        let taken = self.sum - old;
        self.lost += (old - (self.sum - taken)) + (values - taken);
    }

    #[inline(always)]
    fn total(&self) -> f64x8<S> {
        self.sum + self.lost
    }

    fn of(&self, lane: usize) -> Kahan {
        Kahan {
            sum: self.sum[lane],
            lost: self.lost[lane],
        }
    }
}

/// [`VarianceFold`] of eight windows.
#[derive(Clone, Copy)]
struct Variances<S: Simd> {
    mean: Sums<S>,
    squares: Sums<S>,
    /// The means before the next number.
    before: f64x8<S>,
}

impl<S: Simd> Chain<S> for Variances<S> {
    #[inline(always)]
    fn take(&mut self, numbers: f64x8<S>, count: f64x8<S>) {
        let delta = numbers - self.before;
        self.mean.add(delta / count);
        let after = self.mean.total();
        self.squares.add(delta * (numbers - after));
        self.before = after;
    }
}

/// Folds the numbers of all turns.
#[inline(always)]
fn variances<S: Simd>(
    simd: S,
    numbers: &Turns<'_>,
    turns: usize,
    results: &Results<'_>,
) -> Result<[VarianceFold; WINDOWS], QueryError> {
    let chain = Variances {
        mean: Sums::nothing(simd),
        squares: Sums::nothing(simd),
        before: f64x8::splat(simd, 0.0),
    };
    numbers.fold(simd, (0, turns), [chain; CHAINS], results, |chain, lane| {
        VarianceFold {
            mean: chain.mean.of(lane),
            squares: chain.squares.of(lane),
        }
    })
}
