//! Instant selectors: for every step the newest sample that is not too old.
//!
//! Follows `vectorSelectorSingle` in `promql/engine.go`; pinned by `staleness.test` and `selectors.test`.

use super::evaluator::Sink;
use super::parallel::in_order;
use super::{CancelToken, Column, Evaluator, Grid, Series};
use crate::error::{QueryError, Stage};
use crate::parser::ExtendedRange;
use crate::plan::{PlanNode, Selector};
use crate::storage::{Samples, SeriesData, is_stale};

impl<'a> Evaluator<'a, '_> {
    /// Hands over the series of a selector that have a value at any step.
    pub(super) fn selector(
        &mut self,
        node: &PlanNode,
        selector: &Selector,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let data: &'a [SeriesData] = &self.context.data[selector.select];
        if selector.extended == Some(ExtendedRange::Smoothed) {
            return self.smoothed_selector(node, selector, data, sink);
        }
        let (cancel, lookback) = (self.context.cancel, self.context.lookback);
        let compute = |(): &mut (), series: &&SeriesData| -> Result<Column, QueryError> {
            cancel.check(Stage::Evaluation)?;
            latest(
                &series.samples,
                node.grid,
                selector.offset,
                lookback,
                cancel,
            )
        };
        in_order(self.context.threads, data, compute, |series, column| {
            let column = column?;
            if column.is_empty() {
                return Ok(());
            }
            let samples = column.samples();
            self.context.budget.looked_at(samples);
            self.context.budget.take(samples)?;
            self.context.budget.release(samples);
            let series = Series {
                labels: series.labels.clone(),
                drop_name: false,
                column,
            };
            sink(self.context, series)
        })
    }
}

/// Returns the newest sample of the lookback window before every step.
pub(super) fn latest(
    samples: &Samples,
    grid: Grid,
    offset: i64,
    lookback: i64,
    cancel: &CancelToken,
) -> Result<Column, QueryError> {
    if samples.histograms.is_empty() {
        return latest_numbers(samples, grid, offset, lookback, cancel);
    }
    let mut column = Column::empty(grid.count);
    for (step, newest) in newest(samples, grid, offset, lookback) {
        cancel.check(Stage::Evaluation)?;
        match newest {
            Newest::Float(at) if !is_stale(samples.values[at]) => {
                column.set_float(grid.count, step, samples.values[at]);
            }
            Newest::Histogram(at) if !is_stale(samples.histograms[at].sum) => {
                column.push_histogram(step, samples.histograms[at].clone());
            }
            _ => {}
        }
    }
    Ok(column)
}

/// The same for a series without histograms.
fn latest_numbers(
    samples: &Samples,
    grid: Grid,
    offset: i64,
    lookback: i64,
    cancel: &CancelToken,
) -> Result<Column, QueryError> {
    let mut column = Column::empty(grid.count);
    let mut next = 0;
    for (index, word) in column.present.words_mut().enumerate() {
        cancel.check(Stage::Evaluation)?;
        let first = index * 64;
        for step in first..grid.count.min(first + 64) {
            let now = grid.time(step).saturating_sub(offset);
            next = first_after(&samples.timestamps, next, now);
            let Some(newest) = next.checked_sub(1) else {
                continue;
            };
            let value = samples.values[newest];
            if samples.timestamps[newest] <= now.saturating_sub(lookback) || is_stale(value) {
                continue;
            }
            if column.values.is_empty() {
                column.values = vec![0.0; grid.count];
            }
            column.values[step] = value;
            *word |= 1 << (step - first);
        }
    }
    Ok(column)
}

/// Which sample is the newest.
#[derive(Clone, Copy)]
enum Newest {
    Float(usize),
    Histogram(usize),
}

/// Returns the newest sample of either kind for every step that has one, stale markers among them.
fn newest(
    samples: &Samples,
    grid: Grid,
    offset: i64,
    lookback: i64,
) -> impl Iterator<Item = (usize, Newest)> {
    let (mut float, mut histogram) = (0, 0);
    grid.times().enumerate().filter_map(move |(step, time)| {
        let now = time.saturating_sub(offset);
        float = first_after(&samples.timestamps, float, now);
        histogram = first_after(&samples.histogram_timestamps, histogram, now);
        let float = float.checked_sub(1);
        let histogram = histogram.checked_sub(1);
        let float_time = float.map(|at| samples.timestamps[at]);
        let histogram_time = histogram.map(|at| samples.histogram_timestamps[at]);
        let newest = if histogram_time > float_time {
            Newest::Histogram(histogram?)
        } else {
            Newest::Float(float?)
        };
        (float_time.max(histogram_time)? > now.saturating_sub(lookback)).then_some((step, newest))
    })
}

/// Returns, for every step at which the series has a value, when its sample was taken and when its counter began.
pub(super) fn sample_times(
    samples: &Samples,
    grid: Grid,
    offset: impl Fn(i64) -> i64,
    lookback: i64,
    cancel: &CancelToken,
) -> Result<Vec<(usize, i64, i64)>, QueryError> {
    let mut times = Vec::new();
    for (step, time) in grid.times().enumerate() {
        cancel.check_at(step)?;
        let single = Grid {
            start: time,
            end: time,
            count: 1,
            ..grid
        };
        let found = newest(samples, single, offset(time), lookback).next();
        let start_of = |starts: &[i64], at: usize| starts.get(at).copied().unwrap_or(0);
        match found {
            Some((_, Newest::Float(at))) if !is_stale(samples.values[at]) => times.push((
                step,
                samples.timestamps[at],
                start_of(&samples.start_timestamps, at),
            )),
            Some((_, Newest::Histogram(at))) if !is_stale(samples.histograms[at].sum) => times
                .push((
                    step,
                    samples.histogram_timestamps[at],
                    start_of(&samples.histogram_start_timestamps, at),
                )),
            _ => {}
        }
    }
    Ok(times)
}

/// Returns the index of the first time after `limit`, at or after the index `from`, before which none is.
#[inline]
pub(super) fn first_after(times: &[i64], from: usize, limit: i64) -> usize {
    // From step to step it is mostly not far.
    for ahead in from..from + 3 {
        match times.get(ahead) {
            Some(time) if *time <= limit => {}
            _ => return ahead,
        }
    }
    first_after_leaping(times, from + 3, limit)
}

/// Looks ahead in growing leaps, so a short way is short and a long one not much longer.
fn first_after_leaping(times: &[i64], from: usize, limit: i64) -> usize {
    // Most instant queries ask for the newest.
    if times.last().is_some_and(|last| *last <= limit) {
        return times.len();
    }
    let rest = times.get(from..).unwrap_or_default();
    let mut leap = 1;
    let mut passed = 0;
    while let Some(time) = rest.get(passed + leap - 1) {
        if *time > limit {
            break;
        }
        passed += leap;
        leap *= 2;
    }
    let ahead = &rest[passed..rest.len().min(passed + leap)];
    from + passed + ahead.partition_point(|time| *time <= limit)
}

/// Returns the index of the first time after `limit`, which is at or before the index `to` and mostly not far from it.
pub(super) fn first_after_backwards(times: &[i64], to: usize, limit: i64) -> usize {
    let times = &times[..to];
    let mut leap = 1;
    let mut known = to;
    while let Some(at) = known.checked_sub(leap) {
        if times[at] <= limit {
            return at + times[at..known].partition_point(|time| *time <= limit);
        }
        known = at;
        leap *= 2;
    }
    times[..known].partition_point(|time| *time <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_after_a_limit_is_found_from_anywhere_before_or_after_it() {
        let times: Vec<i64> = (0..100).map(|i| i * 10).collect();
        for limit in -5..1_005 {
            let expected = times.partition_point(|time| *time <= limit);
            for from in 0..=expected {
                assert_eq!(first_after(&times, from, limit), expected, "{from} {limit}");
            }
            for to in expected..=times.len() {
                let found = first_after_backwards(&times, to, limit);
                assert_eq!(found, expected, "{to} {limit}");
            }
        }
    }
}
