//! `deriv` and `predict_linear`: least squares.
//!
//! Follows `linearRegression` in `promql/functions.go`; pinned by `functions.test`.

use super::FloatKernel;
use super::kahan::Kahan;
use crate::exec::{Floats, Window};

/// A line: where it is at the time of the intercept, and how it rises per second.
#[derive(Clone, Copy)]
struct Line {
    slope: f64,
    intercept: f64,
}

/// Returns the line closest to the samples. Times count from `origin`.
fn fit(floats: Floats<'_>, origin: i64) -> Line {
    let first = floats.values[0];
    if floats.values[1..].iter().all(|value| *value == first) {
        return if first.is_infinite() {
            Line {
                slope: f64::NAN,
                intercept: f64::NAN,
            }
        } else {
            Line {
                slope: 0.0,
                intercept: first,
            }
        };
    }
    let nothing = Kahan::default();
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [nothing; 4];
    for (time, y) in floats.times.iter().zip(floats.values) {
        let x = (time - origin) as f64 / 1e3;
        x_sum = x_sum.add(x);
        y_sum = y_sum.add(*y);
        xy_sum = xy_sum.add(x * y);
        xx_sum = xx_sum.add(x * x);
    }
    let n = floats.values.len() as f64;
    let [x_sum, y_sum, xy_sum, xx_sum] = [x_sum, y_sum, xy_sum, xx_sum].map(Kahan::total);
    let covariance = xy_sum - x_sum * y_sum / n;
    let variance = xx_sum - x_sum * x_sum / n;
    let slope = covariance / variance;
    let intercept = y_sum / n - slope * x_sum / n;
    Line { slope, intercept }
}

/// `deriv`
pub(crate) struct Slope<'a>(pub(crate) Floats<'a>);

impl FloatKernel for Slope<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        if window.to - window.from < 2 {
            return None;
        }
        let floats = self.0.slice(window.from, window.to);
        Some(fit(floats, floats.times[0]).slope)
    }
}

/// `predict_linear`
pub(crate) struct Prediction<'a> {
    pub(crate) floats: Floats<'a>,
    /// How far ahead, in seconds, for every step.
    pub(crate) ahead: &'a [f64],
}

impl FloatKernel for Prediction<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        if window.to - window.from < 2 {
            return None;
        }
        let line = fit(self.floats.slice(window.from, window.to), window.time);
        Some(line.slope * self.ahead[window.step] + line.intercept)
    }
}
