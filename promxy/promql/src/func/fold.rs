//! Computations that go over the numbers of a window once, for eight windows side by side: their chains of dependent operations
//! then run in parallel. The numbers may be any, infinite ones and NaN among them.

use super::Results;
use super::lanes::{LANES, together};
use crate::error::QueryError;
use crate::exec::Window;

/// After so many numbers of each of eight windows it is asked whether to go on.
const AT_A_TIME: usize = 1 << 16;

/// A computation that goes over the numbers of a window once, in their order.
pub(super) trait Fold: Copy {
    /// Begins with the first number.
    fn begin(first: f64) -> Self;
    /// Takes a further number; `count` is how many there are with it.
    fn take(self, value: f64, count: f64) -> Self;
    fn value(self, count: f64) -> f64;
}

/// Computes windows side by side. `set` gets steps and their values.
pub(super) fn fold_windows<F: Fold>(
    values: &[f64],
    windows: &[Window],
    results: &mut Results<'_>,
    set: &mut impl FnMut(&mut Results<'_>, usize, f64),
) -> Result<(), QueryError> {
    let (groups, rest) = windows.as_chunks::<LANES>();
    for group in groups {
        let slices = group.map(|window| &values[window.from..window.to]);
        let (heads, shared) = together(slices);
        let mut folds = slices.map(|slice| F::begin(slice[0]));
        for begin in (1..shared).step_by(AT_A_TIME) {
            results.check()?;
            folds = fold_turns(folds, heads, (begin, shared.min(begin + AT_A_TIME)));
        }
        for ((window, slice), fold) in group.iter().zip(slices).zip(folds) {
            set(results, window.step, fold_rest(fold, slice, shared));
        }
    }
    for window in rest {
        results.check()?;
        let value = fold_window::<F>(&values[window.from..window.to]);
        set(results, window.step, value);
    }
    Ok(())
}

/// Lets each fold take some numbers of its window.
fn fold_turns<F: Fold>(
    mut folds: [F; LANES],
    windows: [&[f64]; LANES],
    (from, to): (usize, usize),
) -> [F; LANES] {
    let (windows, _) = together(windows.map(|numbers| &numbers[..to]));
    for index in from..to {
        let count = (index + 1) as f64;
        for (fold, numbers) in folds.iter_mut().zip(&windows) {
            *fold = fold.take(numbers[index], count);
        }
    }
    folds
}

pub(super) fn fold_window<F: Fold>(values: &[f64]) -> f64 {
    fold_rest(F::begin(values[0]), values, 1)
}

/// Takes the numbers after the first `done`.
pub(super) fn fold_rest<F: Fold>(mut fold: F, values: &[f64], done: usize) -> f64 {
    for (index, value) in values.iter().enumerate().skip(done) {
        fold = fold.take(*value, (index + 1) as f64);
    }
    fold.value(values.len() as f64)
}
