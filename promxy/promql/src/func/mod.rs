//! The functions, as formulas on numbers, windows and histograms.
//!
//! * `math`, `date`: of one number
//! * `rate`, `over_time`, `variance`, `spread`, `counts`, `regression`, `smoothing`: of the numbers in a window
//! * `kahan`, `exact`, `lanes`: sums
//! * `mixed`: of windows that hold histograms too

pub(crate) mod counts;
pub(crate) mod date;
mod exact;
pub(crate) mod kahan;
mod lanes;
pub(crate) mod math;
pub(crate) mod mixed;
pub(crate) mod order;
pub(crate) mod over_time;
pub(crate) mod rate;
pub(crate) mod regression;
pub(crate) mod smoothing;
pub(crate) mod spread;
pub(crate) mod variance;

use crate::exec::Window;

/// A function of the numbers in a window. Windows come in the order of time, so state can move along with them.
pub(crate) trait FloatKernel {
    /// Returns the value for a window that holds at least one number and no histogram.
    fn window(&mut self, window: &Window) -> Option<f64>;

    /// Computes many windows, each of which holds a number and no histogram.
    fn windows(&mut self, windows: &[Window], set: &mut dyn FnMut(usize, f64)) {
        for window in windows {
            if let Some(value) = self.window(window) {
                set(window.step, value);
            }
        }
    }
}
