//! Quantiles and the median deviation of numbers.
//!
//! Follows `quantile` in `promql/quantile.go` and `promql/functions.go`; pinned by `functions.test` and `aggregators.test`.

use super::FloatKernel;
use crate::exec::{Floats, Window};
use std::cmp::Ordering;

/// Orders numbers with NaN first.
pub(crate) fn nan_first(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (a, b) => b.cmp(&a),
    }
}

/// Returns the quantile of numbers in the order of [`nan_first`], interpolated between neighbours.
pub(crate) fn quantile_of_sorted(q: f64, sorted: &[f64]) -> f64 {
    if sorted.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let count = sorted.len() as f64;
    let rank = q * (count - 1.0);
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(count - 1.0);
    let weight = rank - rank.floor();
    sorted[lower as usize] * (1.0 - weight) + sorted[upper as usize] * weight
}

/// Returns the quantile of numbers, which are sorted.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    values.sort_by(|a, b| nan_first(*a, *b));
    quantile_of_sorted(q, values)
}

/// The numbers of a window in their order, kept from window to window.
#[derive(Default)]
struct SortedWindow {
    sorted: Vec<f64>,
    from: usize,
    to: usize,
}

impl SortedWindow {
    /// Moves to another window, by what has changed if that is little.
    fn advance(&mut self, values: &[f64], window: &Window) {
        let changed = (window.from - self.from) + (window.to - self.to);
        let overlaps = window.from < self.to;
        if overlaps && changed < self.sorted.len() / 4 {
            for value in &values[self.from..window.from] {
                let at = self.sorted.partition_point(|old| is_before(*old, *value));
                self.sorted.remove(at);
            }
            for value in &values[self.to..window.to] {
                let at = self.sorted.partition_point(|old| is_before(*old, *value));
                self.sorted.insert(at, *value);
            }
        } else {
            self.sorted.clear();
            self.sorted
                .extend_from_slice(&values[window.from..window.to]);
            self.sorted.sort_by(|a, b| nan_first(*a, *b));
        }
        (self.from, self.to) = (window.from, window.to);
    }
}

fn is_before(a: f64, b: f64) -> bool {
    nan_first(a, b) == Ordering::Less
}

/// `quantile_over_time`
pub(crate) struct Quantile<'a> {
    floats: Floats<'a>,
    /// For every step.
    q: &'a [f64],
    window: SortedWindow,
}

impl<'a> Quantile<'a> {
    pub(crate) fn new(floats: Floats<'a>, q: &'a [f64]) -> Self {
        Self {
            floats,
            q,
            window: SortedWindow::default(),
        }
    }
}

impl FloatKernel for Quantile<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        self.window.advance(self.floats.values, window);
        Some(quantile_of_sorted(self.q[window.step], &self.window.sorted))
    }
}

/// `mad_over_time`
pub(crate) struct MedianDeviation<'a> {
    floats: Floats<'a>,
    /// 3.5 leaves NaN in, at the bottom of the order.
    nan_spoils: bool,
    window: SortedWindow,
    deviations: Vec<f64>,
}

impl<'a> MedianDeviation<'a> {
    pub(crate) fn new(floats: Floats<'a>, nan_spoils: bool) -> Self {
        Self {
            floats,
            nan_spoils,
            window: SortedWindow::default(),
            deviations: Vec::new(),
        }
    }
}

impl FloatKernel for MedianDeviation<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        self.window.advance(self.floats.values, window);
        let sorted = &self.window.sorted;
        if self.nan_spoils && sorted[0].is_nan() {
            return Some(f64::NAN);
        }
        let median = quantile_of_sorted(0.5, sorted);
        self.deviations.clear();
        self.deviations
            .extend(sorted.iter().map(|value| (value - median).abs()));
        Some(quantile(0.5, &mut self.deviations))
    }
}
