//! Quantiles and the median deviation of numbers.
//!
//! Follows `quantile` in `promql/quantile.go` and `promql/functions.go`; pinned by `functions.test` and `aggregators.test`.

use super::FloatKernel;
use crate::exec::{Floats, Window};
use std::cmp::Ordering;

/// Below this, differences of numbers are finite.
const LARGE: f64 = 1e300;

/// So many numbers are taken out and put in one by one.
const FEW: usize = 16;

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
    /// Where the next window is put together.
    merged: Vec<f64>,
}

impl SortedWindow {
    /// Moves to another window, by what has changed if that is little.
    fn advance(&mut self, values: &[f64], window: &Window) {
        let changed = (window.from - self.from) + (window.to - self.to);
        let overlaps = window.from < self.to;
        if overlaps && changed <= FEW {
            for value in &values[self.from..window.from] {
                let at = self.sorted.partition_point(|old| is_before(*old, *value));
                self.sorted.remove(at);
            }
            for value in &values[self.to..window.to] {
                let at = self.sorted.partition_point(|old| is_before(*old, *value));
                self.sorted.insert(at, *value);
            }
        } else if overlaps && changed < self.sorted.len() / 4 {
            self.merge(&values[self.from..window.from], &values[self.to..window.to]);
        } else {
            self.sorted.clear();
            self.sorted
                .extend_from_slice(&values[window.from..window.to]);
            self.sorted.sort_by(|a, b| nan_first(*a, *b));
        }
        (self.from, self.to) = (window.from, window.to);
    }

    /// Takes some numbers out and puts others in, going over all of them once.
    fn merge(&mut self, leaving: &[f64], entering: &[f64]) {
        let in_order = |values: &[f64]| {
            let mut values = values.to_vec();
            values.sort_by(|a, b| nan_first(*a, *b));
            values.into_iter().peekable()
        };
        let (mut leaving, mut entering) = (in_order(leaving), in_order(entering));
        self.merged.clear();
        for value in &self.sorted {
            if leaving
                .next_if(|old| nan_first(*old, *value) == Ordering::Equal)
                .is_some()
            {
                continue;
            }
            while let Some(new) = entering.next_if(|new| is_before(*new, *value)) {
                self.merged.push(new);
            }
            self.merged.push(*value);
        }
        self.merged.extend(entering);
        std::mem::swap(&mut self.sorted, &mut self.merged);
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

/// Returns the median distance of sorted numbers to a number.
///
/// Distances rise from that number to either side, so those on one side are sorted, and so are those on the other; how many of
/// the smallest stand on which side is found by bisection.
fn median_deviation(sorted: &[f64], median: f64) -> f64 {
    let above = sorted.partition_point(|value| *value < median);
    let (left, right) = sorted.split_at(above);
    let left_at = |index: usize| left.get(left.len().wrapping_sub(index + 1));
    let left_distance = |index: usize| left_at(index).map_or(f64::INFINITY, |v| (v - median).abs());
    let right_distance = |index: usize| {
        right
            .get(index)
            .map_or(f64::INFINITY, |v| (v - median).abs())
    };
    let smallest = |rank: usize| {
        // Of the `rank` smallest distances, so many are on the left.
        let (mut from, mut to) = (rank.saturating_sub(right.len()), rank.min(left.len()));
        while from < to {
            let middle = usize::midpoint(from, to);
            if left_distance(middle) < right_distance(rank - middle - 1) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        left_distance(from).min(right_distance(rank - from))
    };
    let last = sorted.len() - 1;
    let lower = last / 2;
    let distances = [smallest(lower), smallest((lower + 1).min(last))];
    // Of two numbers the quantile takes the mean, of an odd number the one in the middle.
    if last.is_multiple_of(2) {
        quantile_of_sorted(0.5, &distances[..1])
    } else {
        quantile_of_sorted(0.5, &distances)
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
        if sorted.iter().all(|value| value.abs() < LARGE) {
            return Some(median_deviation(sorted, median));
        }
        self.deviations.clear();
        self.deviations
            .extend(sorted.iter().map(|value| (value - median).abs()));
        Some(quantile(0.5, &mut self.deviations))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_move_stay_sorted() {
        let mut rng = fastrand::Rng::with_seed(4);
        let values: Vec<f64> = (0..3_000)
            .map(|_| match rng.u32(0..20) {
                0 => f64::NAN,
                1 => f64::INFINITY,
                _ => f64::from(rng.i32(-50..50)),
            })
            .collect();
        for stride in [1, 3, 9, 40, 90, 300] {
            let mut moving = SortedWindow::default();
            for from in (0..2_600).step_by(stride) {
                let window = Window::of_floats(from, from + 300 + from / 50);
                moving.advance(&values, &window);
                let mut expected = values[window.from..window.to].to_vec();
                expected.sort_by(|a, b| nan_first(*a, *b));
                let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&moving.sorted), bits(&expected), "{stride} {from}");
            }
        }
    }

    #[test]
    fn the_median_deviation_is_that_of_sorted_deviations() {
        let mut rng = fastrand::Rng::with_seed(3);
        for round in 0..2_000 {
            let count = 1 + round % 23;
            let mut values: Vec<f64> = (0..count)
                .map(|_| match round % 3 {
                    0 => rng.f64() * 10.0,
                    1 => f64::from(rng.i32(-3..3)),
                    _ => f64::from(rng.i32(0..2)) * 1e9 + rng.f64(),
                })
                .collect();
            values.sort_by(f64::total_cmp);
            let median = quantile_of_sorted(0.5, &values);
            let mut deviations: Vec<f64> = values.iter().map(|v| (v - median).abs()).collect();
            let expected = quantile(0.5, &mut deviations);
            let got = median_deviation(&values, median);
            assert_eq!(got.to_bits(), expected.to_bits(), "{values:?}");
        }
    }
}
