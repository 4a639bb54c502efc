//! Windows in lock step: at each turn every one of 32 windows takes its next number.
//!
//! What a window computes is a chain of operations that wait for one another. 32 chains at a time keep the processor busy, with
//! the widest instructions that it has: AVX-512, AVX2, or what every processor of its kind has. Each lane does what it would do
//! alone and operations are never fused, so the bits are the same everywhere.

#![expect(
    clippy::inline_always,
    reason = "only what is inlined is compiled for the instructions that were chosen"
)]

use std::borrow::Cow;

use fearless_simd::prelude::*;
use fearless_simd::{Simd, f64x8};

use super::Results;
use crate::error::QueryError;
use crate::exec::Window;

/// How many windows go in lock step.
pub(super) const WINDOWS: usize = 32;

/// How many of them a chain is for.
pub(super) const LANES: usize = 8;

/// How many chains that makes.
pub(super) const CHAINS: usize = WINDOWS / LANES;

/// After so many turns it is asked whether to go on.
const TURNS_AT_A_TIME: usize = 1 << 14;

/// What is computed of eight windows, number by number.
pub(super) trait Chain<S: Simd>: Copy {
    /// Takes the next number of each window; `count` is how many that makes.
    fn take(&mut self, numbers: f64x8<S>, count: f64x8<S>);
}

/// The numbers of windows that begin evenly spaced, laid out so that those of one turn are neighbours.
///
/// Window `w` takes number `w * stride + turn`. So what lies a stride apart has to become adjacent: the number `n` goes to the
/// row `n % stride`, and into the column `n / stride`.
pub(super) struct Turns<'v> {
    rows: Cow<'v, [f64]>,
    row: usize,
    stride: usize,
}

impl<'v> Turns<'v> {
    /// Lays out the numbers of windows, and says how many turns there are for all of them. Nothing if they are not evenly
    /// spaced, or begin together.
    pub(super) fn of(values: &'v [f64], windows: &[Window; WINDOWS]) -> Option<(Self, usize)> {
        let (first, last) = (windows.first()?, windows.last()?);
        let stride = windows[1].from - first.from;
        let is_even = windows
            .windows(2)
            .all(|pair| pair[1].from - pair[0].from == stride);
        if stride == 0 || !is_even {
            return None;
        }
        let values = values.get(first.from..last.to)?;
        let turns = windows.iter().map(|window| window.to - window.from).min()?;
        let row = values.len().div_ceil(stride);
        let rows = if stride == 1 {
            Cow::Borrowed(values)
        } else {
            let mut rows = vec![0.0; row * stride];
            for (column, numbers) in values.chunks(stride).enumerate() {
                for (index, number) in numbers.iter().enumerate() {
                    rows[index * row + column] = *number;
                }
            }
            Cow::Owned(rows)
        };
        Some((Self { rows, row, stride }, turns))
    }

    /// Returns the numbers of all windows, turn by turn from `turn` on.
    #[inline(always)]
    fn from(&self, turn: usize) -> impl Iterator<Item = &[f64; WINDOWS]> {
        let (mut row, mut column) = (turn % self.stride, turn / self.stride);
        std::iter::from_fn(
            #[inline(always)]
            move || {
                let numbers = self.rows.get(row * self.row + column..)?.first_chunk();
                row += 1;
                if row == self.stride {
                    (row, column) = (0, column + 1);
                }
                numbers
            },
        )
    }

    /// Lets chains take the numbers of some turns, and returns what `of` reads from a lane of them for every window.
    #[inline(always)]
    pub(super) fn fold<S: Simd, C: Chain<S>, R>(
        &self,
        simd: S,
        turns: (usize, usize),
        chains: [C; CHAINS],
        results: &Results<'_>,
        of: impl Fn(&C, usize) -> R,
    ) -> Result<[R; WINDOWS], QueryError> {
        let chains = simd.vectorize(
            #[inline(always)]
            || self.run(simd, turns, chains, results),
        )?;
        Ok(std::array::from_fn(|window| {
            of(&chains[window / LANES], window % LANES)
        }))
    }

    /// Lets the chains of all windows take the numbers of some turns.
    #[inline(always)]
    fn run<S: Simd, C: Chain<S>>(
        &self,
        simd: S,
        (from, to): (usize, usize),
        mut chains: [C; CHAINS],
        results: &Results<'_>,
    ) -> Result<[C; CHAINS], QueryError> {
        let mut numbers = self.from(from);
        for begin in (from..to).step_by(TURNS_AT_A_TIME) {
            results.check()?;
            let end = to.min(begin + TURNS_AT_A_TIME);
            for (turn, numbers) in (begin..end).zip(&mut numbers) {
                let count = f64x8::splat(simd, (turn + 1) as f64);
                let (lanes, _) = numbers.as_chunks::<LANES>();
                for (chain, lanes) in chains.iter_mut().zip(lanes) {
                    chain.take(f64x8::from_slice(simd, lanes), count);
                }
            }
        }
        Ok(chains)
    }
}

#[cfg(test)]
mod tests {
    use super::super::FloatKernel;
    use super::super::smoothing::Smoothing;
    use super::super::variance::Variance;
    use super::*;
    use crate::exec::{Bitmap, CancelToken, Floats};

    /// Returns what a kernel makes of many windows, and of each alone.
    fn both(kernel: &mut impl FloatKernel, windows: &[Window]) -> [Vec<Option<u64>>; 2] {
        let mut values = vec![0.0; windows.len()];
        let mut present = Bitmap::none(windows.len());
        let cancel = CancelToken::default();
        let mut results = Results {
            values: &mut values,
            present: &mut present,
            cancel: &cancel,
        };
        assert_eq!(kernel.windows(windows, &mut results), Ok(()));
        let together = (0..windows.len()).map(|step| present.has(step).then(|| values[step]));
        let together: Vec<Option<f64>> = together.collect();
        let alone: Vec<Option<f64>> = windows.iter().map(|window| kernel.window(window)).collect();
        [together, alone].map(|values| values.iter().map(|v| v.map(f64::to_bits)).collect())
    }

    #[test]
    fn windows_in_lock_step_give_what_each_gives_alone() {
        let mut rng = fastrand::Rng::with_seed(8);
        for round in 0..60 {
            let scale = 10f64.powi(rng.i32(-9..9));
            let offset = [0.0, 1e6, -3.5][round % 3];
            let values: Vec<f64> = (0..900)
                .map(|_| (rng.f64() - 0.5) * scale + offset)
                .collect();
            let stride = rng.usize(0..6);
            let length = 1 + rng.usize(0..120);
            let windows: Vec<Window> = (0..100)
                .map(|step| {
                    let from = step * stride + usize::from(round % 5 == 0 && step > 70);
                    let to = from + length + rng.usize(0..3);
                    Window {
                        step,
                        ..Window::of_floats(from, to)
                    }
                })
                .collect();
            let floats = Floats {
                times: &[],
                values: &values,
                starts: &[],
            };
            let [got, expected] = both(&mut Variance { floats, root: true }, &windows);
            assert_eq!(got, expected, "variance {round}");
            let factors: Vec<f64> = (0..100).map(|_| 0.1 + rng.f64() * 0.8).collect();
            let mut smoothing = Smoothing {
                floats,
                newest: &factors,
                trend: &factors,
                error: None,
            };
            let [got, expected] = both(&mut smoothing, &windows);
            assert_eq!(got, expected, "smoothing {round}");
        }
    }
}
