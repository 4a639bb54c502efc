//! `stddev_over_time` and `stdvar_over_time`: population variance by Welford's method with compensated sums.
//!
//! Follows `varianceOverTime` in `promql/functions.go`; pinned by `functions.test`. Divisions at every step leave nothing that windows
//! could share. They are computed side by side.

use super::FloatKernel;
use super::exact::{Units, shared};
use super::kahan::Kahan;
use super::lanes::{LANES, Lanes, Sums, together};
use super::over_time::{Fold, fold_window, fold_windows};
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

    fn windows(&mut self, windows: &[Window], set: &mut dyn FnMut(usize, f64)) {
        let (root, values) = (self.root, self.floats.values);
        let mut set = |step: usize, variance: f64| set(step, Self::result(root, variance));
        let is_tame = shared(values, windows).is_some_and(|(all, _)| Units::of(all).is_some());
        if !is_tame {
            return fold_windows::<VarianceFold>(values, windows, &mut set);
        }
        let (groups, rest) = windows.as_chunks::<LANES>();
        for group in groups {
            let slices = group.map(|window| &values[window.from..window.to]);
            for (window, variance) in group.iter().zip(variances(slices)) {
                set(window.step, variance);
            }
        }
        fold_windows::<VarianceFold>(values, rest, &mut set);
    }
}

/// Returns the variance of each slice, none of which is empty.
#[expect(
    clippy::needless_range_loop,
    reason = "the index goes through all windows at once"
)]
fn variances(slices: [&[f64]; LANES]) -> Lanes {
    let (heads, shared) = together(slices);
    let mut mean = Sums::NOTHING;
    let mut squares = Sums::NOTHING;
    let mut count = 0.0;
    let mut before = mean.total();
    for index in 0..shared {
        count += 1.0;
        let values: Lanes = std::array::from_fn(|lane| heads[lane][index]);
        let delta: Lanes = std::array::from_fn(|lane| values[lane] - before[lane]);
        mean.add(delta.map(|delta| delta / count));
        let after = mean.total();
        squares.add(std::array::from_fn(|lane| {
            delta[lane] * (values[lane] - after[lane])
        }));
        before = after;
    }
    std::array::from_fn(|lane| {
        let mut fold = VarianceFold {
            mean: mean.of(lane),
            squares: squares.of(lane),
        };
        let slice = slices[lane];
        for (index, value) in slice.iter().enumerate().skip(shared) {
            fold = fold.take(*value, (index + 1) as f64);
        }
        fold.value(slice.len() as f64)
    })
}
