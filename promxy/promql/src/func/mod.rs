//! The functions, as formulas on numbers, windows and histograms.
//!
//! * `math`, `date`: of one number
//! * `rate`, `over_time`, `variance`, `spread`, `counts`, `regression`, `smoothing`: of the numbers in a window
//! * `kahan`, `exact`, `fold`, `lanes`, `lock_step`: sums, and other chains of operations
//! * `mixed`: of windows that hold histograms too

pub(crate) mod counts;
pub(crate) mod date;
mod exact;
mod fold;
pub(crate) mod kahan;
mod lanes;
mod lock_step;
pub(crate) mod math;
pub(crate) mod mixed;
pub(crate) mod order;
pub(crate) mod over_time;
pub(crate) mod rate;
pub(crate) mod regression;
pub(crate) mod smoothing;
pub(crate) mod spread;
pub(crate) mod variance;

use crate::error::{QueryError, Stage};
use crate::exec::{Bitmap, CancelToken, Window};

/// A function of the numbers in a window. Windows come in the order of time, so state can move along with them.
pub(crate) trait FloatKernel {
    /// Returns the value for a window that holds at least one number and no histogram.
    fn window(&mut self, window: &Window) -> Option<f64>;

    /// Computes many windows, each of which holds a number and no histogram.
    fn windows(&mut self, windows: &[Window], results: &mut Results<'_>) -> Result<(), QueryError> {
        for window in windows {
            results.check()?;
            if let Some(value) = self.window(window) {
                results.set(window.step, value);
            }
        }
        Ok(())
    }
}

/// Takes the values of windows, and knows whether anybody still wants them.
pub(crate) struct Results<'r> {
    pub(crate) values: &'r mut [f64],
    pub(crate) present: &'r mut Bitmap,
    pub(crate) cancel: &'r CancelToken,
}

impl Results<'_> {
    /// Takes the value of a step.
    #[inline]
    pub(crate) fn set(&mut self, step: usize, value: f64) {
        self.values[step] = value;
        self.present.insert(step);
    }

    /// Fails if the query was ended from outside.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        self.cancel.check(Stage::Evaluation)
    }
}
