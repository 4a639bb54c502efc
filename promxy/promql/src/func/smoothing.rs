//! `double_exponential_smoothing`
//!
//! Follows `promql/functions.go`; pinned by `functions.test`. Windows are smoothed in lock step.

#![expect(
    clippy::inline_always,
    reason = "only what is inlined is compiled for the instructions that were chosen"
)]

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, f64x8};

use super::lock_step::{Chain, LANES, Turns, WINDOWS};
use super::{FloatKernel, Results};
use crate::error::QueryError;
use crate::exec::{Floats, Window};
use crate::format::with_decimals;

/// A mean in which older numbers weigh less, and so do older trends.
pub(crate) struct Smoothing<'a> {
    pub(crate) floats: Floats<'a>,
    /// The weight of the newest number, for every step.
    pub(crate) newest: &'a [f64],
    /// The weight of the newest trend, for every step.
    pub(crate) trend: &'a [f64],
    /// A factor that is out of bounds, once one was met.
    pub(crate) error: Option<QueryError>,
}

impl Smoothing<'_> {
    /// Checks the factors of a step.
    pub(crate) fn check(&self, step: usize) -> Result<(), QueryError> {
        let (smoothing, trend) = (self.newest[step], self.trend[step]);
        let out_of_bounds = |factor: f64| factor <= 0.0 || factor >= 1.0;
        let error = |name: &str, symbol: &str, factor: f64| {
            QueryError::execution(format!(
                "invalid {name} factor. Expected: 0 < {symbol} < 1, got: {}",
                with_decimals(factor, 6)
            ))
        };
        if out_of_bounds(smoothing) {
            return Err(error("smoothing", "sf", smoothing));
        }
        if out_of_bounds(trend) {
            return Err(error("trend", "tf", trend));
        }
        Ok(())
    }
}

/// How far smoothing has come in a window of at least two numbers.
#[derive(Clone, Copy, Default)]
struct Smoothed {
    /// The weights of the newest number and of what was expected.
    newest: f64,
    expected: f64,
    /// The weights of the newest trend and of the one before.
    newest_trend: f64,
    old_trend: f64,
    before: f64,
    level: f64,
    trend: f64,
}

impl Smoothed {
    /// Begins with the first two numbers.
    fn begin(newest: f64, newest_trend: f64, values: &[f64]) -> Self {
        let (first, second) = (values[0], values[1]);
        let mut smoothed = Self {
            newest,
            expected: 1.0 - newest,
            newest_trend,
            old_trend: 1.0 - newest_trend,
            before: 0.0,
            level: first,
            trend: second - first,
        };
        smoothed.rise_to(second);
        smoothed
    }

    /// Takes a further number.
    #[inline]
    fn take(&mut self, value: f64) {
        self.trend = self.newest_trend * (self.level - self.before) + self.old_trend * self.trend;
        self.rise_to(value);
    }

    #[inline]
    fn rise_to(&mut self, value: f64) {
        let scaled = self.newest * value;
        let expected = self.expected * (self.level + self.trend);
        (self.before, self.level) = (self.level, scaled + expected);
    }
}

impl Smoothing<'_> {
    fn begin(&self, window: &Window) -> Smoothed {
        let (newest, trend) = (self.newest[window.step], self.trend[window.step]);
        Smoothed::begin(newest, trend, &self.floats.values[window.from..window.to])
    }
}

impl FloatKernel for Smoothing<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        if self.error.is_none()
            && let Err(error) = self.check(window.step)
        {
            self.error = Some(error);
        }
        if window.to - window.from < 2 {
            return None;
        }
        let mut smoothed = self.begin(window);
        for value in &self.floats.values[window.from + 2..window.to] {
            smoothed.take(*value);
        }
        Some(smoothed.level)
    }

    fn windows(&mut self, windows: &[Window], results: &mut Results<'_>) -> Result<(), QueryError> {
        let level = Level::new();
        let (groups, rest) = windows.as_chunks::<WINDOWS>();
        for group in groups {
            let numbers = Turns::of(self.floats.values, group);
            let Some((numbers, turns)) = numbers.filter(|(_, turns)| *turns >= 2) else {
                self.one_by_one(group, results)?;
                continue;
            };
            let begun = group.each_ref().map(|window| self.begin(window));
            let smoothed = dispatch!(level, simd => smooth(simd, begun, &numbers, turns, results))?;
            for (window, mut smoothed) in group.iter().zip(smoothed) {
                for value in &self.floats.values[window.from + turns..window.to] {
                    smoothed.take(*value);
                }
                results.set(window.step, smoothed.level);
            }
        }
        self.one_by_one(rest, results)
    }
}

impl Smoothing<'_> {
    fn one_by_one(
        &mut self,
        windows: &[Window],
        results: &mut Results<'_>,
    ) -> Result<(), QueryError> {
        for window in windows {
            results.check()?;
            if let Some(value) = self.window(window) {
                results.set(window.step, value);
            }
        }
        Ok(())
    }
}

/// [`Smoothed`] of eight windows.
#[derive(Clone, Copy)]
struct Smooth<S: Simd> {
    newest: f64x8<S>,
    expected: f64x8<S>,
    newest_trend: f64x8<S>,
    old_trend: f64x8<S>,
    before: f64x8<S>,
    level: f64x8<S>,
    trend: f64x8<S>,
}

impl<S: Simd> Smooth<S> {
    fn of(simd: S, windows: &[Smoothed]) -> Self {
        let gathered = |field: fn(&Smoothed) -> f64| {
            let numbers: [f64; LANES] = std::array::from_fn(|lane| field(&windows[lane]));
            f64x8::from_slice(simd, &numbers)
        };
        Self {
            newest: gathered(|window| window.newest),
            expected: gathered(|window| window.expected),
            newest_trend: gathered(|window| window.newest_trend),
            old_trend: gathered(|window| window.old_trend),
            before: gathered(|window| window.before),
            level: gathered(|window| window.level),
            trend: gathered(|window| window.trend),
        }
    }

    fn window(&self, lane: usize) -> Smoothed {
        Smoothed {
            newest: self.newest[lane],
            expected: self.expected[lane],
            newest_trend: self.newest_trend[lane],
            old_trend: self.old_trend[lane],
            before: self.before[lane],
            level: self.level[lane],
            trend: self.trend[lane],
        }
    }
}

impl<S: Simd> Chain<S> for Smooth<S> {
    #[inline(always)]
    fn take(&mut self, numbers: f64x8<S>, _: f64x8<S>) {
        self.trend = self.newest_trend * (self.level - self.before) + self.old_trend * self.trend;
        let scaled = self.newest * numbers;
        let expected = self.expected * (self.level + self.trend);
        (self.before, self.level) = (self.level, scaled + expected);
    }
}

/// Lets windows that have begun take the numbers of all further turns.
#[inline(always)]
fn smooth<S: Simd>(
    simd: S,
    begun: [Smoothed; WINDOWS],
    numbers: &Turns<'_>,
    turns: usize,
    results: &Results<'_>,
) -> Result<[Smoothed; WINDOWS], QueryError> {
    let chains = std::array::from_fn(|chain| Smooth::of(simd, &begun[chain * LANES..]));
    numbers.fold(simd, (2, turns), chains, results, Smooth::window)
}
