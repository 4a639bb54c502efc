//! `deriv` and `predict_linear`: least squares.
//!
//! Follows `linearRegression` in `promql/functions.go`; pinned by `functions.test`. While samples lie whole seconds from the time
//! that counts as zero, most sums are exact and carried from window to window (see `exact`); else windows are computed side by
//! side.

use super::exact::{Halves, SlidingSum, Units};
use super::kahan::Kahan;
use super::lanes::{LANES, Lanes, Sums, together};
use super::over_time::compensating_units;
use super::{FloatKernel, Results};
use crate::error::QueryError;
use crate::exec::{Floats, Window};

/// A line: where it is at the time of the intercept, and how it rises per second.
#[derive(Clone, Copy)]
struct Line {
    slope: f64,
    intercept: f64,
}

impl Line {
    /// Returns the line of samples that all have the same value.
    fn level(value: f64) -> Self {
        if value.is_infinite() {
            Self {
                slope: f64::NAN,
                intercept: f64::NAN,
            }
        } else {
            Self {
                slope: 0.0,
                intercept: value,
            }
        }
    }
}

/// The sums that a line is computed from. `x` is the time in seconds, `y` the value.
#[derive(Clone, Copy)]
struct Moments {
    x: f64,
    y: f64,
    xy: f64,
    xx: f64,
}

impl Moments {
    /// Returns the line closest to so many samples.
    fn line(self, count: usize) -> Line {
        let n = count as f64;
        let covariance = self.xy - self.x * self.y / n;
        let variance = self.xx - self.x * self.x / n;
        let slope = covariance / variance;
        let intercept = self.y / n - slope * self.x / n;
        Line { slope, intercept }
    }
}

fn seconds(millis: i64) -> f64 {
    millis as f64 / 1e3
}

/// Returns the line closest to the samples. Times count from `origin`.
fn fit(floats: Floats<'_>, origin: i64) -> Line {
    let first = floats.values[0];
    if floats.values[1..].iter().all(|value| *value == first) {
        return Line::level(first);
    }
    let nothing = Kahan::default();
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [nothing; 4];
    for (time, y) in floats.times.iter().zip(floats.values) {
        let x = seconds(time - origin);
        x_sum = x_sum.add(x);
        y_sum = y_sum.add(*y);
        xy_sum = xy_sum.add(x * y);
        xx_sum = xx_sum.add(x * x);
    }
    let moments = Moments {
        x: x_sum.total(),
        y: y_sum.total(),
        xy: xy_sum.total(),
        xx: xx_sum.total(),
    };
    moments.line(floats.values.len())
}

/// Takes the line of a window.
type Each<'e> = dyn FnMut(&mut Results<'_>, &Window, Line) + 'e;

/// Computes the lines of windows with at least two samples, whose times count from what `origin` says.
fn lines(
    floats: Floats<'_>,
    windows: &[Window],
    origin: impl Fn(&Window) -> i64,
    results: &mut Results<'_>,
    each: &mut Each<'_>,
) -> Result<(), QueryError> {
    let Some((units, largest)) = compensating_units(floats.values, windows) else {
        for window in windows.iter().filter(|window| window.to - window.from > 1) {
            let floats = floats.slice(window.from, window.to);
            results.check()?;
            each(results, window, fit(floats, origin(window)));
        }
        return Ok(());
    };
    let mut levels = Levels::default();
    let mut steep: Vec<(Window, i64)> = Vec::with_capacity(windows.len());
    for window in windows.iter().filter(|window| window.to - window.from > 1) {
        results.check()?;
        if levels.is_level(floats.values, window) {
            each(results, window, Line::level(floats.values[window.from]));
        } else {
            steep.push((*window, origin(window)));
        }
    }
    match SharedSums::of(floats, &steep, (units, largest)) {
        Some(sums) => sums.lines(results, each),
        None => side_by_side(floats, &steep, results, each),
    }
}

/// Finds windows in which all values are the same.
#[derive(Default)]
struct Levels {
    /// The last known sample that differs from the one before it.
    changed: usize,
    seen: usize,
}

impl Levels {
    fn is_level(&mut self, values: &[f64], window: &Window) -> bool {
        for index in self.seen.max(window.from + 1)..window.to {
            if values[index] != values[index - 1] {
                self.changed = index;
            }
        }
        self.seen = window.to;
        self.changed <= window.from
    }
}

/// Computes lines of several windows at a time. No sum may overflow.
fn side_by_side(
    floats: Floats<'_>,
    windows: &[(Window, i64)],
    results: &mut Results<'_>,
    each: &mut Each<'_>,
) -> Result<(), QueryError> {
    let (groups, rest) = windows.as_chunks::<LANES>();
    for group in groups {
        results.check()?;
        let times = group.map(|(window, _)| &floats.times[window.from..window.to]);
        let values = group.map(|(window, _)| &floats.values[window.from..window.to]);
        let ((time_heads, shared), (heads, _)) = (together(times), together(values));
        let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [Sums::NOTHING; 4];
        for index in 0..shared {
            let x: Lanes =
                std::array::from_fn(|lane| seconds(time_heads[lane][index] - group[lane].1));
            let y: Lanes = std::array::from_fn(|lane| heads[lane][index]);
            x_sum.add(x);
            y_sum.add(y);
            xy_sum.add(std::array::from_fn(|lane| x[lane] * y[lane]));
            xx_sum.add(x.map(|x| x * x));
        }
        for (lane, (window, origin)) in group.iter().enumerate() {
            let mut sums = [x_sum, y_sum, xy_sum, xx_sum].map(|sums| sums.of(lane));
            for (time, y) in times[lane].iter().zip(values[lane]).skip(shared) {
                let x = seconds(time - origin);
                for (sum, value) in sums.iter_mut().zip([x, *y, x * y, x * x]) {
                    *sum = sum.add(value);
                }
            }
            let [x, y, xy, xx] = sums.map(Kahan::total);
            let line = Moments { x, y, xy, xx }.line(values[lane].len());
            each(results, window, line);
        }
    }
    for (window, origin) in rest {
        results.check()?;
        let line = fit(floats.slice(window.from, window.to), *origin);
        each(results, window, line);
    }
    Ok(())
}

/// Sums that windows share. Times lie whole seconds apart, from each other and from those that windows count from, so `x` is whole.
struct SharedSums<'w> {
    values: &'w [f64],
    windows: &'w [(Window, i64)],
    /// Seconds after the first sample of the first window, for every sample from there on.
    seconds: Vec<i64>,
    /// The index of that sample.
    first: usize,
    /// When windows begin to count, in the same seconds.
    origins: Vec<i64>,
    /// The units of values and of times.
    units: (Units, Units),
    /// How products of the two are added up exactly, if they have to be rounded first.
    halves: Option<Halves>,
}

impl<'w> SharedSums<'w> {
    /// Finds out whether sums can be shared. `units` are those of the values, in which compensated sums over `largest` are exact.
    fn of(
        floats: Floats<'w>,
        windows: &'w [(Window, i64)],
        (units, largest): (Units, usize),
    ) -> Option<Self> {
        let ((first, _), (last, _)) = (windows.first()?, windows.last()?);
        let base = floats.times[first.from];
        let whole = |time: i64| {
            let millis = time.checked_sub(base)?;
            (millis % 1000 == 0).then_some(millis / 1000)
        };
        let times = floats.times[first.from..last.to].iter();
        let seconds: Vec<i64> = times.map(|time| whole(*time)).collect::<Option<_>>()?;
        let origins = windows.iter().map(|(_, origin)| whole(*origin));
        let origins: Vec<i64> = origins.collect::<Option<_>>()?;
        let farthest = windows.iter().zip(&origins).map(|((window, _), origin)| {
            let distance = |index: usize| seconds[index - first.from].abs_diff(*origin);
            distance(window.from).max(distance(window.to - 1))
        });
        let times = Units::of_whole(farthest.max()?);
        let (squares, products) = (times.times(times), times.times(units));
        let exact =
            squares.is_exact() && squares.compensate(largest) && products.compensate(largest);
        if !exact {
            return None;
        }
        let halves = if products.is_exact() {
            None
        } else {
            Some(Halves::of(products, largest)?)
        };
        Some(Self {
            values: floats.values,
            windows,
            seconds,
            first: first.from,
            origins,
            units: (units, times),
            halves,
        })
    }

    fn lines(&self, results: &mut Results<'_>, each: &mut Each<'_>) -> Result<(), QueryError> {
        let (units, times) = self.units;
        let (squares, products) = (times.times(times), times.times(units));
        let rounded = self
            .halves
            .map(|halves| self.sums_of_rounded(halves, results))
            .transpose()?;
        let [mut y_sum, mut t_sum, mut tt_sum, mut ty_sum] = [SlidingSum::default(); 4];
        let y_of = |index: usize| units.count(self.values[index]);
        let t_of = |index: usize| i128::from(self.seconds[index - self.first]);
        for (place, (window, _)) in self.windows.iter().enumerate() {
            results.check()?;
            let count = window.to - window.from;
            let (n, origin) = (count as i128, i128::from(self.origins[place]));
            let y = y_sum.over(window, y_of);
            let t = t_sum.over(window, t_of);
            let tt = tt_sum.over(window, |index| t_of(index) * t_of(index));
            let xy = if let Some(sums) = &rounded {
                sums[place]
            } else {
                let ty = ty_sum.over(window, |index| t_of(index) * y_of(index));
                products.value(ty - origin * y)
            };
            let moments = Moments {
                x: times.value(t - n * origin),
                y: units.value(y),
                xy,
                xx: squares.value(tt - 2 * origin * t + n * origin * origin),
            };
            each(results, window, moments.line(count));
        }
        Ok(())
    }

    /// Adds up the rounded products of times and values, which windows cannot share.
    fn sums_of_rounded(
        &self,
        halves: Halves,
        results: &Results<'_>,
    ) -> Result<Vec<f64>, QueryError> {
        let seconds: Vec<f64> = self.seconds.iter().map(|second| *second as f64).collect();
        let origins: Vec<f64> = self.origins.iter().map(|origin| *origin as f64).collect();
        let mut sums = Vec::with_capacity(self.windows.len());
        let slice = |window: &Window| {
            let times = &seconds[window.from - self.first..window.to - self.first];
            (times, &self.values[window.from..window.to])
        };
        let (groups, rest) = self.windows.as_chunks::<LANES>();
        let (grouped, single) = origins.as_chunks::<LANES>();
        for (group, origins) in groups.iter().zip(grouped) {
            results.check()?;
            let slices = group.each_ref().map(|(window, _)| slice(window));
            let (times, shared) = together(slices.map(|(times, _)| times));
            let (values, _) = together(slices.map(|(_, values)| values));
            let (mut high, mut low) = ([0.0; LANES], [0.0; LANES]);
            for index in 0..shared {
                for lane in 0..LANES {
                    let x = times[lane][index] - origins[lane];
                    let (upper, lower) = halves.split(x * values[lane][index]);
                    high[lane] += upper;
                    low[lane] += lower;
                }
            }
            for lane in 0..LANES {
                let (times, values) = slices[lane];
                let rest = halves.sum(&times[shared..], &values[shared..], origins[lane]);
                sums.push((high[lane] + rest.0) + (low[lane] + rest.1));
            }
        }
        for ((window, _), origin) in rest.iter().zip(single) {
            let (times, values) = slice(window);
            let (high, low) = halves.sum(times, values, *origin);
            sums.push(high + low);
        }
        Ok(sums)
    }
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

    fn windows(&mut self, windows: &[Window], results: &mut Results<'_>) -> Result<(), QueryError> {
        let first = |window: &Window| self.0.times[window.from];
        lines(
            self.0,
            windows,
            first,
            results,
            &mut |results, window, line| {
                results.set(window.step, line.slope);
            },
        )
    }
}

/// `predict_linear`
pub(crate) struct Prediction<'a> {
    pub(crate) floats: Floats<'a>,
    /// How far ahead, in seconds, for every step.
    pub(crate) ahead: &'a [f64],
}

impl Prediction<'_> {
    fn value(&self, window: &Window, line: Line) -> f64 {
        line.slope * self.ahead[window.step] + line.intercept
    }
}

impl FloatKernel for Prediction<'_> {
    fn window(&mut self, window: &Window) -> Option<f64> {
        if window.to - window.from < 2 {
            return None;
        }
        let line = fit(self.floats.slice(window.from, window.to), window.time);
        Some(self.value(window, line))
    }

    fn windows(&mut self, windows: &[Window], results: &mut Results<'_>) -> Result<(), QueryError> {
        let now = |window: &Window| window.time;
        lines(
            self.floats,
            windows,
            now,
            results,
            &mut |results, window, line| {
                results.set(window.step, self.value(window, line));
            },
        )
    }
}
