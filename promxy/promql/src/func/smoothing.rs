//! `double_exponential_smoothing`
//!
//! Follows `promql/functions.go`; pinned by `functions.test`.

use super::FloatKernel;
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

impl FloatKernel for Smoothing<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        if self.error.is_none()
            && let Err(error) = self.check(window.step)
        {
            self.error = Some(error);
        }
        let values = &self.floats.values[window.from..window.to];
        if values.len() < 2 {
            return None;
        }
        let (sf, tf) = (self.newest[window.step], self.trend[window.step]);
        let mut before = 0.0;
        let mut smoothed = values[0];
        let mut trend = values[1] - values[0];
        for (index, value) in values.iter().enumerate().skip(1) {
            let scaled = sf * value;
            if index > 1 {
                trend = tf * (smoothed - before) + (1.0 - tf) * trend;
            }
            let expected = (1.0 - sf) * (smoothed + trend);
            (before, smoothed) = (smoothed, scaled + expected);
        }
        Some(smoothed)
    }
}
