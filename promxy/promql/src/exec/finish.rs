//! The end of an operation, and of the query: series that coincide, names that go, the order of results.
//!
//! Follows `rangeEval`, `mergeSeriesWithSameLabelset` and `cleanupMetricLabels` in `promql/engine.go`; pinned by
//! `name_label_dropping.test`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::window::{Floats, RangeSamples, Window, Windowing};
use super::{Context, Evaluated, Evaluator, Grid, Series, histogram_samples};
use crate::error::QueryError;
use crate::func::rate::FloatEdges;
use crate::histogram::FloatHistogram;
use crate::labels::Labels;
use crate::parser::{ExtendedRange, ValueType};
use crate::plan::{Plan, PlanKind, RangeSelector};
use crate::value::{MatrixSeries, Points, SampleValue, Value, VectorSample};

impl Evaluator<'_, '_> {
    /// Drops series without values and joins those with equal labels, which must not have values at the same step. At a single
    /// step nothing is joined: equal labels are an error there, unless names are still to be dropped.
    pub(super) fn merged_steps(
        &mut self,
        grid: Grid,
        series: Vec<Series>,
    ) -> Result<Vec<Series>, QueryError> {
        let mut series = series;
        series.retain(|series| !series.column.is_empty());
        let samples: usize = series.iter().map(Series::held).sum();
        self.context.budget.take(samples)?;
        self.context.budget.release(samples);
        if !has_duplicates(&series) {
            return Ok(series);
        }
        if grid.is_instant() {
            return if self.context.delays_name_removal() {
                Ok(series)
            } else {
                Err(QueryError::duplicate_labels())
            };
        }
        joined(series, self.context)
    }

    /// Joins series with equal labels after an operation that changes nothing but labels. 3.5 refuses them.
    pub(super) fn merged(&mut self, series: Vec<Series>) -> Result<Vec<Series>, QueryError> {
        if self.context.is_3_5() && has_duplicates(&series) {
            return Err(QueryError::duplicate_labels());
        }
        joined(series, self.context)
    }
}

fn has_duplicates(series: &[Series]) -> bool {
    let mut hashes: Vec<u64> = series.iter().map(|series| series.labels.hash64()).collect();
    hashes.sort_unstable();
    if hashes.windows(2).all(|pair| pair[0] < pair[1]) {
        return false;
    }
    let mut seen = HashSet::new();
    !series.iter().all(|series| seen.insert(&series.labels))
}

fn joined(series: Vec<Series>, context: &Context<'_>) -> Result<Vec<Series>, QueryError> {
    if !has_duplicates(&series) {
        return Ok(series);
    }
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut joined: Vec<Series> = Vec::with_capacity(series.len());
    for series in series {
        context.check()?;
        if let Some(place) = places.get(&series.labels) {
            let taken = joined[*place].column.absorb(series.column);
            taken.map_err(|_| QueryError::duplicate_labels())?;
        } else {
            places.insert(series.labels.clone(), joined.len());
            joined.push(series);
        }
    }
    Ok(joined)
}

/// Removes the metadata labels that were marked to go.
pub(crate) fn drop_names(
    series: Vec<Series>,
    context: &Context<'_>,
) -> Result<Vec<Series>, QueryError> {
    if !context.delays_name_removal() {
        return Ok(series);
    }
    let mut series = series;
    for series in series.iter_mut().filter(|series| series.drop_name) {
        series.labels = series.labels.without_metadata();
    }
    if context.is_3_5() && has_duplicates(&series) {
        return Err(QueryError::duplicate_labels());
    }
    joined(series, context)
}

/// Turns the value of the root into the result of the query.
pub(crate) fn result(
    plan: &Plan,
    evaluated: Evaluated,
    context: &mut Context<'_>,
    instant: bool,
) -> Result<Value, QueryError> {
    let root = &plan.nodes[plan.root.index()];
    let grid = root.outer_grid();
    let timestamp = grid.start;
    let series = match evaluated {
        Evaluated::String(value) => return Ok(Value::String { timestamp, value }),
        Evaluated::Scalar(values) if instant => {
            let value = values.first().copied().unwrap_or(f64::NAN);
            return Ok(Value::Scalar { timestamp, value });
        }
        Evaluated::Scalar(values) => vec![Series {
            labels: Labels::empty(),
            drop_name: false,
            column: super::Column::dense(values),
        }],
        Evaluated::Sparse(series) => {
            let results = series.into_iter().map(|series| series.into_result(grid));
            return Ok(Value::Matrix(sorted(results.collect())));
        }
        Evaluated::Matrix(series) => series,
    };
    if let PlanKind::Range(range) = &root.kind {
        return raw_matrix(range, root.grid, context).map(Value::Matrix);
    }
    let series = drop_names(series, context)?;
    if instant && root.value_type == ValueType::Vector {
        let samples = series.into_iter().filter_map(|series| {
            let value = match series.column.sample(0)? {
                super::Sample::Float(value) => SampleValue::Float(value),
                super::Sample::Histogram(value) => SampleValue::Histogram(value),
            };
            Some(VectorSample {
                labels: series.labels,
                timestamp,
                value,
            })
        });
        return Ok(Value::Vector(samples.collect()));
    }
    let grid = match &root.kind {
        PlanKind::Subquery(subquery) => plan.nodes[subquery.expr.index()].outer_grid(),
        _ => grid,
    };
    let matrix = series
        .into_iter()
        .filter(|series| !series.column.is_empty());
    let matrix = matrix.map(|series| MatrixSeries {
        labels: series.labels,
        points: Points::Steps(grid, series.column),
    });
    Ok(Value::Matrix(sorted(matrix.collect())))
}

fn sorted(mut matrix: Vec<MatrixSeries>) -> Vec<MatrixSeries> {
    matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
    matrix
}

/// Returns the samples of a range selector that is the whole query.
fn raw_matrix(
    range: &RangeSelector,
    grid: Grid,
    context: &mut Context<'_>,
) -> Result<Vec<MatrixSeries>, QueryError> {
    let selector = &range.selector;
    let (before, after) = match selector.extended {
        None => (0, 0),
        Some(ExtendedRange::Anchored) => (context.lookback, 0),
        Some(ExtendedRange::Smoothed) => (context.lookback, context.lookback),
    };
    let windowing = Windowing {
        grid,
        range: range.range,
        offset: selector.offset,
        before,
        after,
        pinned: false,
    };
    let mut windows = Vec::new();
    let mut matrix = Vec::new();
    for series in &context.data[selector.select] {
        context.check()?;
        let samples = RangeSamples::of_storage(&series.samples, windowing, false);
        samples.cut(windowing, &mut windows, context.cancel)?;
        let Some(window) = windows.first() else {
            continue;
        };
        let inside = samples.floats().slice(window.from, window.to);
        let histograms: Vec<(i64, Arc<FloatHistogram>)> = (window.histograms_from
            ..window.histograms_to)
            .map(|index| {
                (
                    samples.histogram_times[index],
                    Arc::clone(&samples.histograms[index]),
                )
            })
            .collect();
        let floats = match selector.extended {
            None => pairs(inside),
            Some(extended) => {
                if !histograms.is_empty() {
                    return Err(QueryError::execution(format!(
                        "{} modifier is not supported with histograms",
                        extended.as_str()
                    )));
                }
                with_edges(inside, extended, window)
            }
        };
        let sizes = histograms
            .iter()
            .map(|(_, histogram)| histogram_samples(histogram));
        let held = floats.len() + sizes.sum::<usize>();
        context.budget.looked_at(held);
        context.budget.take(held)?;
        if held > 0 {
            matrix.push(MatrixSeries {
                labels: series.labels.clone(),
                points: Points::Raw { floats, histograms },
            });
        }
    }
    Ok(sorted(matrix))
}

fn pairs(floats: Floats<'_>) -> Vec<(i64, f64)> {
    let times = floats.times.iter().copied();
    times.zip(floats.values.iter().copied()).collect()
}

/// Returns the numbers in a range with one at each of its edges.
fn with_edges(floats: Floats<'_>, extended: ExtendedRange, window: &Window) -> Vec<(i64, f64)> {
    let Some(edges) = FloatEdges::find(floats, extended, window, false) else {
        return Vec::new();
    };
    let mut all = vec![(window.range_start, edges.left)];
    all.extend(pairs(edges.inside));
    all.push((window.range_end, edges.right));
    all
}
