//! Aggregations that fold one series after another into the columns of their groups.
//!
//! Follows `rangeEvalAgg` and `aggregation` in `promql/engine.go`; pinned by `aggregators.test` and `native_histograms.test`. Series
//! are folded in their order, so sums are those of the reference for the same order.

use std::collections::HashMap;

use super::column::least_held;
use super::histogram_folds::HistogramFolds;
use super::{Bitmap, Column, Context, Evaluated, Evaluator, Series, StepHistograms};
use crate::annotations::Remark;
use crate::error::QueryError;
use crate::func::kahan::{Kahan, Mean};
use crate::func::spread::quantile;
use crate::gomath;
use crate::histogram::{HistogramAverage, HistogramSum};
use crate::labels::{GroupingKey, Labels};
use crate::parser::{AggregateOp, Compat, Span};
use crate::plan::{AggregatePlan, PlanNode};

/// Finds the group of each series.
pub(super) struct Groups {
    key: GroupingKey,
    indices: HashMap<Vec<u8>, usize>,
    buffer: Vec<u8>,
}

impl Groups {
    pub(super) fn new(key: GroupingKey) -> Self {
        Self {
            key,
            indices: HashMap::new(),
            buffer: Vec::new(),
        }
    }

    /// Returns the number of a series' group; `Err` with the next number if the group is new.
    pub(super) fn find(&mut self, labels: &Labels) -> Result<usize, usize> {
        labels.write_key(&self.key, &mut self.buffer);
        if let Some(index) = self.indices.get(&self.buffer) {
            return Ok(*index);
        }
        let index = self.indices.len();
        self.indices.insert(self.buffer.clone(), index);
        Err(index)
    }

    pub(super) fn labels(&self, labels: &Labels) -> Labels {
        labels.grouped(&self.key)
    }

    pub(super) fn len(&self) -> usize {
        self.indices.len()
    }
}

impl Evaluator<'_, '_> {
    pub(super) fn aggregate(
        &mut self,
        node: &PlanNode,
        aggregate: &AggregatePlan,
    ) -> Result<Evaluated, QueryError> {
        match aggregate.op {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk => {
                self.select_k(node, aggregate)
            }
            AggregateOp::LimitRatio => self.limit_ratio(node, aggregate),
            AggregateOp::CountValues => self.count_values(node, aggregate),
            AggregateOp::Quantile => self.quantile(node, aggregate),
            _ => self.fold(node, aggregate),
        }
    }

    fn fold(
        &mut self,
        node: &PlanNode,
        aggregate: &AggregatePlan,
    ) -> Result<Evaluated, QueryError> {
        let steps = node.grid.count;
        let compat = self.context.options.parser.compat;
        let mut groups = Groups::new(GroupingKey::new(aggregate.grouping.as_ref(), true));
        let mut results: Vec<(Labels, bool, Fold)> = Vec::new();
        let child_is_held = !self.is_deferred(aggregate.expr);
        self.each_series(aggregate.expr, &mut |context, series| {
            context.check()?;
            let index = match groups.find(&series.labels) {
                Ok(known) => known,
                Err(new) => {
                    context.make_room(steps)?;
                    let fold = Fold::new(aggregate.op, steps, compat);
                    results.push((groups.labels(&series.labels), false, fold));
                    new
                }
            };
            let (_, drop_name, fold) = &mut results[index];
            *drop_name |= series.drop_name;
            fold.add(&series, aggregate.expr_span, context);
            if child_is_held {
                context.budget.release(series.held());
            }
            Ok(())
        })?;
        let places = results.len() * least_held(steps);
        self.context.budget.release(places);
        let mut output = Vec::with_capacity(results.len());
        for (labels, drop_name, fold) in results {
            let column = fold.finish(aggregate.expr_span, self.context);
            if !column.is_empty() {
                output.push(Series {
                    labels,
                    drop_name,
                    column,
                });
            }
        }
        let samples = output.iter().map(|series| series.column.held()).sum();
        self.context.budget.take(samples)?;
        Ok(Evaluated::Matrix(output))
    }

    /// Evaluates `quantile`, for which all values of a group have to be there at once.
    fn quantile(
        &mut self,
        node: &PlanNode,
        aggregate: &AggregatePlan,
    ) -> Result<Evaluated, QueryError> {
        let steps = node.grid.count;
        let param = self.aggregate_param(aggregate);
        let bounds = ParamBounds::of(&param);
        let param_span = self.param_span(aggregate);
        let series = self.series(aggregate.expr);
        for q in bounds.outside(0.0, 1.0) {
            self.context
                .annotate(Remark::invalid_quantile(q), param_span);
        }
        let mut groups = Groups::new(GroupingKey::new(aggregate.grouping.as_ref(), true));
        let mut members: Vec<(Labels, Vec<usize>)> = Vec::new();
        for (index, series) in series.iter().enumerate() {
            self.context.check()?;
            let group = groups.find(&series.labels).unwrap_or_else(|new| {
                members.push((groups.labels(&series.labels), Vec::new()));
                new
            });
            members[group].1.push(index);
            if !series.column.histograms.is_empty() {
                let remark = Remark::ignored_in_aggregation("quantile");
                self.context.annotate(remark, aggregate.expr_span);
            }
        }
        let mut output = Vec::new();
        let mut values = Vec::new();
        for (labels, members) in members {
            self.context.make_room(steps)?;
            let mut column = Column::empty(steps);
            for (step, q) in param.iter().enumerate() {
                self.context.check()?;
                values.clear();
                let columns = members.iter().map(|index| &series[*index].column);
                values.extend(columns.filter_map(|column| column.float(step)));
                if !values.is_empty() {
                    column.set_float(steps, step, quantile(*q, &mut values));
                }
            }
            let drop_name = members.iter().any(|index| series[*index].drop_name);
            if !column.is_empty() {
                output.push(Series {
                    labels,
                    drop_name,
                    column,
                });
            }
        }
        Ok(Evaluated::Matrix(output))
    }

    pub(super) fn aggregate_param(&mut self, aggregate: &AggregatePlan) -> Vec<f64> {
        aggregate
            .param
            .map(|param| self.scalar(param))
            .unwrap_or_default()
    }

    pub(super) fn param_span(&self, aggregate: &AggregatePlan) -> Span {
        aggregate
            .param
            .map(|param| self.plan_node(param).span)
            .unwrap_or_default()
    }
}

/// The extremes of a parameter over all steps, as Go has them: of numbers and NaN they are NaN, so that nothing is out of bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct ParamBounds {
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) any_nan: bool,
}

impl ParamBounds {
    pub(super) fn of(param: &[f64]) -> Self {
        Self {
            min: param.iter().copied().fold(f64::MAX, gomath::min),
            max: param.iter().copied().fold(f64::MIN, gomath::max),
            any_nan: param.iter().any(|value| value.is_nan()),
        }
    }

    /// Returns NaN and the extremes where they are out of bounds.
    fn outside(self, min: f64, max: f64) -> impl Iterator<Item = f64> {
        [
            self.any_nan.then_some(f64::NAN),
            (self.max > max).then_some(self.max),
            (self.min < min).then_some(self.min),
        ]
        .into_iter()
        .flatten()
    }
}

/// What has been folded of a group.
enum Fold {
    Sum(SumFold),
    Average(AverageFold),
    Extreme(ExtremeFold),
    Count(CountFold),
    Variance(VarianceFold),
}

impl Fold {
    fn new(op: AggregateOp, steps: usize, compat: Compat) -> Self {
        match op {
            AggregateOp::Sum => Self::Sum(SumFold {
                sums: vec![-0.0; steps],
                lost: vec![0.0; steps],
                present: Bitmap::none(steps),
                histograms: HistogramFolds::new(compat),
            }),
            AggregateOp::Avg => Self::Average(AverageFold {
                means: vec![None; steps],
                histograms: HistogramFolds::new(compat),
            }),
            AggregateOp::Min | AggregateOp::Max => Self::Extreme(ExtremeFold {
                op,
                values: vec![f64::NAN; steps],
                present: Bitmap::none(steps),
            }),
            AggregateOp::Count | AggregateOp::Group => Self::Count(CountFold {
                op,
                counts: vec![0.0; steps],
                present: Bitmap::none(steps),
            }),
            _ => Self::Variance(VarianceFold {
                op,
                states: vec![Welford::default(); steps],
            }),
        }
    }

    fn add(&mut self, series: &Series, span: Span, context: &mut Context<'_>) {
        let ignored = match self {
            Self::Sum(fold) => {
                fold.add(series, span, context);
                return;
            }
            Self::Average(fold) => {
                fold.add(series, span, context);
                return;
            }
            Self::Count(fold) => {
                fold.add(&series.column);
                return;
            }
            Self::Extreme(fold) => fold.add(&series.column),
            Self::Variance(fold) => fold.add(&series.column),
        };
        if !series.column.histograms.is_empty() {
            context.annotate(Remark::ignored_in_aggregation(ignored.as_str()), span);
        }
    }

    fn finish(self, span: Span, context: &mut Context<'_>) -> Column {
        match self {
            Self::Sum(fold) => fold.finish(span, context),
            Self::Average(fold) => fold.finish(span, context),
            Self::Extreme(fold) => float_column(fold.values, fold.present),
            Self::Count(fold) => float_column(fold.counts, fold.present),
            Self::Variance(fold) => fold.finish(),
        }
    }
}

fn float_column(values: Vec<f64>, present: Bitmap) -> Column {
    Column {
        values,
        present,
        histograms: StepHistograms::default(),
    }
}

/// `sum`
struct SumFold {
    /// They begin with negative zero, which changes nothing that is added to it.
    sums: Vec<f64>,
    /// What rounding took from each.
    lost: Vec<f64>,
    present: Bitmap,
    histograms: HistogramFolds<HistogramSum>,
}

impl SumFold {
    fn add(&mut self, series: &Series, span: Span, context: &mut Context<'_>) {
        let column = &series.column;
        let sums = self.sums.chunks_mut(64).zip(self.lost.chunks_mut(64));
        let values = column.values.chunks(64).zip(column.present.words());
        for ((sums, lost), (values, mut word)) in sums.zip(values) {
            if word == u64::MAX {
                for ((sum, lost), value) in sums.iter_mut().zip(lost).zip(values) {
                    add(sum, lost, *value);
                }
                continue;
            }
            while word != 0 {
                let step = word.trailing_zeros() as usize;
                add(&mut sums[step], &mut lost[step], values[step]);
                word &= word - 1;
            }
        }
        let before = &self.present;
        self.histograms
            .add(series, |step| before.has(step), span, context);
        self.present.or_with(&column.present);
    }

    fn finish(self, span: Span, context: &mut Context<'_>) -> Column {
        let sums = self.sums.into_iter().zip(self.lost);
        let totals = sums
            .map(|(sum, lost)| Kahan { sum, lost }.total())
            .collect();
        self.histograms
            .finish(float_column(totals, self.present), span, context)
    }
}

/// Adds a number to a compensated sum.
#[inline]
fn add(sum: &mut f64, lost: &mut f64, value: f64) {
    let next = Kahan {
        sum: *sum,
        lost: *lost,
    };
    Kahan {
        sum: *sum,
        lost: *lost,
    } = next.add(value);
}

/// `avg`
struct AverageFold {
    means: Vec<Option<Mean>>,
    histograms: HistogramFolds<HistogramAverage>,
}

impl AverageFold {
    fn add(&mut self, series: &Series, span: Span, context: &mut Context<'_>) {
        let before = &self.means;
        self.histograms
            .add(series, |step| before[step].is_some(), span, context);
        for_each_float(&series.column, |step, value| match &mut self.means[step] {
            Some(mean) => mean.add(value),
            first => *first = Some(Mean::of(value)),
        });
    }

    fn finish(self, span: Span, context: &mut Context<'_>) -> Column {
        let mut column = Column::empty(self.means.len());
        for (step, mean) in self.means.iter().enumerate() {
            if let Some(mean) = mean {
                column.set_float(self.means.len(), step, mean.value());
            }
        }
        self.histograms.finish(column, span, context)
    }
}

/// `min` and `max`. A number takes the place of NaN.
struct ExtremeFold {
    op: AggregateOp,
    values: Vec<f64>,
    present: Bitmap,
}

impl ExtremeFold {
    fn add(&mut self, column: &Column) -> AggregateOp {
        let values = &mut self.values;
        match self.op {
            AggregateOp::Max => for_each_float(column, |step, value| {
                if values[step] < value || values[step].is_nan() {
                    values[step] = value;
                }
            }),
            _ => for_each_float(column, |step, value| {
                if values[step] > value || values[step].is_nan() {
                    values[step] = value;
                }
            }),
        }
        self.present.or_with(&column.present);
        self.op
    }
}

/// `count` and `group`, which take histograms too.
struct CountFold {
    op: AggregateOp,
    counts: Vec<f64>,
    present: Bitmap,
}

impl CountFold {
    fn add(&mut self, column: &Column) {
        let counts = &mut self.counts;
        let counts_up = self.op == AggregateOp::Count;
        let mut count = |step: usize| {
            counts[step] = if counts_up { counts[step] + 1.0 } else { 1.0 };
        };
        for_each_float(column, |step, _| count(step));
        for step in column.histograms.steps() {
            count(step);
            self.present.insert(step);
        }
        self.present.or_with(&column.present);
    }
}

/// `stddev` and `stdvar`: Welford's method, without compensation.
struct VarianceFold {
    op: AggregateOp,
    states: Vec<Welford>,
}

#[derive(Clone, Copy, Default)]
struct Welford {
    count: f64,
    mean: f64,
    squares: f64,
}

impl VarianceFold {
    fn add(&mut self, column: &Column) -> AggregateOp {
        for_each_float(column, |step, value| {
            let state = &mut self.states[step];
            state.count += 1.0;
            if state.count == 1.0 {
                state.mean = value;
                state.squares = if value.is_finite() { 0.0 } else { f64::NAN };
                return;
            }
            let delta = value - state.mean;
            state.mean += delta / state.count;
            state.squares += delta * (value - state.mean);
        });
        self.op
    }

    fn finish(self) -> Column {
        let mut column = Column::empty(self.states.len());
        for (step, state) in self.states.iter().enumerate() {
            if state.count > 0.0 {
                let variance = state.squares / state.count;
                let value = match self.op {
                    AggregateOp::Stddev => variance.sqrt(),
                    _ => variance,
                };
                column.set_float(self.states.len(), step, value);
            }
        }
        column
    }
}

/// Calls `f` for every number. Where a whole word of steps is present, the loop does not ask.
fn for_each_float(column: &Column, mut f: impl FnMut(usize, f64)) {
    for (index, mut word) in column.present.words().enumerate() {
        let first = index * 64;
        if word == u64::MAX {
            for (bit, value) in column.values[first..first + 64].iter().enumerate() {
                f(first + bit, *value);
            }
            continue;
        }
        while word != 0 {
            let step = first + word.trailing_zeros() as usize;
            f(step, column.values[step]);
            word &= word - 1;
        }
    }
}
