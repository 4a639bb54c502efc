//! `double_exponential_smoothing`
//!
//! Follows `promql/functions.go`; pinned by `functions.test`. Windows are smoothed side by side.

use super::FloatKernel;
use super::lanes::{LANES, together};
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

    fn windows(&mut self, windows: &[Window], set: &mut dyn FnMut(usize, f64)) {
        let (groups, rest) = windows.as_chunks::<LANES>();
        for group in groups {
            if group.iter().any(|window| window.to - window.from < 2) {
                for window in group {
                    if let Some(value) = self.window(window) {
                        set(window.step, value);
                    }
                }
                continue;
            }
            let slices = group
                .each_ref()
                .map(|window| &self.floats.values[window.from..window.to]);
            let (heads, shared) = together(slices);
            let mut smoothed = group.each_ref().map(|window| self.begin(window));
            for index in 2..shared {
                for (smoothed, head) in smoothed.iter_mut().zip(&heads) {
                    smoothed.take(head[index]);
                }
            }
            for ((window, slice), mut smoothed) in group.iter().zip(slices).zip(smoothed) {
                for value in &slice[shared..] {
                    smoothed.take(*value);
                }
                set(window.step, smoothed.level);
            }
        }
        for window in rest {
            if let Some(value) = self.window(window) {
                set(window.step, value);
            }
        }
    }
}
