//! `topk`, `bottomk`, `limitk`, `limit_ratio`: aggregations that let whole series through.
//!
//! Follows `aggregationK` in `promql/engine.go`; pinned by `aggregators.test` and `limit.test`.

use super::aggregate::{Groups, ParamBounds};
use super::column::least_held;
use super::{Bitmap, Column, Evaluated, Evaluator, Series};
use crate::annotations::Remark;
use crate::error::QueryError;
use crate::format;
use crate::func::order::{Heap, Least, Ranked};
use crate::labels::GroupingKey;
use crate::parser::AggregateOp;
use crate::plan::{AggregatePlan, PlanNode};

/// 2^63, beyond which a count is no integer.
const TOO_MANY: f64 = 9_223_372_036_854_775_808.0;

impl Evaluator<'_, '_> {
    pub(super) fn select_k(
        &mut self,
        node: &PlanNode,
        aggregate: &AggregatePlan,
    ) -> Result<Evaluated, QueryError> {
        let param = self.aggregate_param(aggregate);
        let series = self.series(aggregate.expr);
        if !self.check_count(&param, &series)? {
            return Ok(Evaluated::Matrix(Vec::new()));
        }
        let most = series.len();
        let count = |step: usize| (param[step] as i64).clamp(0, most as i64) as usize;
        let op = aggregate.op;
        let takes_histograms = op == AggregateOp::Limitk;
        if !takes_histograms && series.iter().any(|s| !s.column.histograms.is_empty()) {
            let mut ignored = false;
            for series in &series {
                self.context.check()?;
                let mut steps = series.column.histograms.steps();
                ignored = ignored || steps.any(|step| count(step) > 0);
            }
            if ignored {
                let remark = Remark::ignored_in_aggregation(op.as_str());
                self.context.annotate(remark, node.span);
            }
        }
        let least = match op {
            AggregateOp::Bottomk => Least::Largest,
            _ => Least::Smallest,
        };
        let offer = |heap: &mut Heap, k: usize, element: Ranked| {
            if heap.len() < k {
                heap.push(element);
            } else if op != AggregateOp::Limitk {
                heap.offer(element);
            }
        };
        let order = |heap: Heap| match op {
            AggregateOp::Limitk => heap.elements().to_vec(),
            _ => heap.into_sorted(),
        };
        self.select(node, aggregate, series, takes_histograms, |step| {
            Selection {
                heap: Heap::new(least),
                k: count(step),
                offer: &offer,
                order: &order,
            }
        })
    }

    /// Whether there is anything to select; fails if the count of any step is not one.
    fn check_count(&self, param: &[f64], series: &[Series]) -> Result<bool, QueryError> {
        let bounds = ParamBounds::of(param);
        let error = |text: String| Err(QueryError::execution(text));
        if bounds.max < 1.0 {
            return Ok(false);
        }
        if self.context.is_3_5() {
            let used = self.steps_of_any(param.len(), series)?;
            // Only counts that something would be selected by are looked at.
            for (step, k) in param.iter().enumerate() {
                let in_range = (-TOO_MANY..TOO_MANY).contains(k);
                if !in_range && used.has(step) {
                    return error(format!(
                        "Scalar value {} overflows int64",
                        format::general(*k)
                    ));
                }
            }
            return Ok(true);
        }
        if bounds.any_nan {
            return error("Parameter value is NaN".to_owned());
        }
        if bounds.min <= -TOO_MANY {
            return error(format!(
                "Scalar value {} underflows int64",
                format::general(bounds.min)
            ));
        }
        if bounds.max >= TOO_MANY {
            return error(format!(
                "Scalar value {} overflows int64",
                format::general(bounds.max)
            ));
        }
        Ok(true)
    }

    pub(super) fn limit_ratio(
        &mut self,
        node: &PlanNode,
        aggregate: &AggregatePlan,
    ) -> Result<Evaluated, QueryError> {
        let param = self.aggregate_param(aggregate);
        let param_span = self.param_span(aggregate);
        let series = self.series(aggregate.expr);
        let bounds = ParamBounds::of(&param);
        if bounds.min == 0.0 && bounds.max == 0.0 {
            return Ok(Evaluated::Matrix(Vec::new()));
        }
        if bounds.any_nan && !self.context.is_3_5() {
            return Err(QueryError::execution("Ratio value is NaN"));
        }
        // 3.5 looks at ratios only where there is something to select.
        let used = self.steps_of_any(param.len(), &series)?;
        if (0..param.len()).any(|step| param[step].is_nan() && used.has(step)) {
            return Err(QueryError::execution("Ratio value NaN is NaN"));
        }
        let too_high = (bounds.max > 1.0).then_some((bounds.max, 1.0));
        let too_low = (bounds.min < -1.0).then_some((bounds.min, -1.0));
        for (ratio, cap) in too_high.into_iter().chain(too_low) {
            let remark = Remark::invalid_ratio(ratio, cap);
            self.context.annotate(remark, param_span);
        }
        let offsets: Vec<f64> = series
            .iter()
            .map(|series| series.labels.hash64() as f64 / u64::MAX as f64)
            .collect();
        let offer = |heap: &mut Heap, step: usize, element: Ranked| {
            let ratio = param[step].clamp(-1.0, 1.0);
            let offset = offsets[element.series];
            if ratio >= 0.0 && offset < ratio || ratio < 0.0 && offset >= 1.0 + ratio {
                heap.push(element);
            }
        };
        let order = |heap: Heap| heap.elements().to_vec();
        self.select(node, aggregate, series, true, |step| Selection {
            heap: Heap::new(Least::Smallest),
            k: step,
            offer: &offer,
            order: &order,
        })
    }

    /// Lets through what each step's selection picks of each group.
    fn select<'s>(
        &mut self,
        node: &PlanNode,
        aggregate: &AggregatePlan,
        series: Vec<Series>,
        takes_histograms: bool,
        selection: impl Fn(usize) -> Selection<'s>,
    ) -> Result<Evaluated, QueryError> {
        let steps = node.grid.count;
        let mut groups = Groups::new(GroupingKey::new(aggregate.grouping.as_ref(), true));
        let mut group_of = Vec::with_capacity(series.len());
        for series in &series {
            self.context.check()?;
            group_of.push(groups.find(&series.labels).unwrap_or_else(|new| new));
        }
        let mut picked: Vec<Column> = series.iter().map(|_| Column::empty(steps)).collect();
        let mut places = 0;
        // At a single step the order of selection is the order of the result.
        let mut order: Vec<usize> = Vec::new();
        for step in 0..steps {
            self.context.check()?;
            let mut heaps: Vec<Option<Selection<'_>>> = (0..groups.len()).map(|_| None).collect();
            for (index, series) in series.iter().enumerate() {
                let value = match series.column.float(step) {
                    Some(value) => value,
                    None if takes_histograms && series.column.histograms.has(step) => 0.0,
                    None => continue,
                };
                let heap = heaps[group_of[index]].get_or_insert_with(|| selection(step));
                let element = Ranked {
                    value,
                    series: index,
                };
                (heap.offer)(&mut heap.heap, heap.k, element);
            }
            for heap in heaps.into_iter().flatten() {
                for element in (heap.order)(heap.heap) {
                    let index = element.series;
                    if let Some(sample) = series[index].column.sample(step) {
                        let is_first = picked[index].values.is_empty();
                        if is_first && picked[index].histograms.is_empty() {
                            self.context.make_room(steps)?;
                            places += least_held(steps);
                        }
                        picked[index].push(steps, step, sample);
                    }
                    if steps == 1 {
                        order.push(index);
                    }
                }
            }
        }
        let mut picked: Vec<Option<Series>> = series
            .into_iter()
            .zip(picked)
            .map(|(series, column)| Some(Series { column, ..series }))
            .collect();
        if steps != 1 {
            order = (0..picked.len()).collect();
        }
        self.context.budget.release(places);
        let output = order.iter().filter_map(|index| picked[*index].take());
        let output: Vec<Series> = output.filter(|series| !series.column.is_empty()).collect();
        let samples = output.iter().map(Series::held).sum();
        self.context.budget.take(samples)?;
        self.context.budget.release(samples);
        Ok(Evaluated::Matrix(output))
    }

    /// Returns the steps at which any of the series has a value.
    fn steps_of_any(&self, steps: usize, series: &[Series]) -> Result<Bitmap, QueryError> {
        let mut any = Bitmap::none(steps);
        for series in series {
            self.context.check()?;
            any.or_with(&series.column.steps());
        }
        Ok(any)
    }
}

/// How the elements of a group are selected at a step.
struct Selection<'s> {
    heap: Heap,
    /// How many, or the step itself where that depends on it in another way.
    k: usize,
    offer: &'s dyn Fn(&mut Heap, usize, Ranked),
    order: &'s dyn Fn(Heap) -> Vec<Ranked>,
}
