//! Aggregations of histograms: a sum or an average for every step that has any, which is no result where numbers are too.
//!
//! Follows the histogram branches of `aggregation` in `promql/engine.go`; pinned by `native_histograms.test`.

use super::{Column, Context, Packing, Series};
use crate::annotations::Remark;
use crate::histogram::{
    Batch, Facts, FloatHistogram, HistogramAverage, HistogramSum, Incompatible,
};
use crate::parser::{Compat, Span};

/// A fold of histograms.
pub(crate) trait HistogramFold: Sized {
    fn begin(first: &FloatHistogram, compat: Compat) -> Self;
    fn take(&mut self, histogram: &FloatHistogram) -> Result<(), Incompatible>;
    fn take_batch(&mut self, batch: &Batch<'_>) -> Result<(), Incompatible> {
        let mut histograms = batch.histograms().iter();
        histograms.try_for_each(|histogram| self.take(histogram))
    }
    fn facts(&self) -> Facts;
    fn finish(self) -> FloatHistogram;
}

impl HistogramFold for HistogramSum {
    fn begin(first: &FloatHistogram, compat: Compat) -> Self {
        Self::new(first, compat)
    }

    fn take(&mut self, histogram: &FloatHistogram) -> Result<(), Incompatible> {
        self.add(histogram)
    }

    fn take_batch(&mut self, batch: &Batch<'_>) -> Result<(), Incompatible> {
        self.add_batch(batch)
    }

    fn facts(&self) -> Facts {
        self.facts()
    }

    fn finish(self) -> FloatHistogram {
        self.finish()
    }
}

impl HistogramFold for HistogramAverage {
    fn begin(first: &FloatHistogram, compat: Compat) -> Self {
        Self::new(first, compat)
    }

    fn take(&mut self, histogram: &FloatHistogram) -> Result<(), Incompatible> {
        self.add(histogram)
    }

    fn facts(&self) -> Facts {
        self.facts()
    }

    fn finish(self) -> FloatHistogram {
        self.finish()
    }
}

/// The histograms of a group, at the steps that have any.
pub(super) struct HistogramFolds<F> {
    compat: Compat,
    /// By step, up to the last that has any.
    steps: Vec<State<F>>,
}

enum State<F> {
    Nothing,
    Folding(Box<F>),
    /// Histograms did not go together: there is no result at this step.
    Incompatible,
    /// Numbers were there before, so there is no result either.
    AfterFloats,
}

impl<F: HistogramFold> HistogramFolds<F> {
    pub(super) fn new(compat: Compat) -> Self {
        Self {
            compat,
            steps: Vec::new(),
        }
    }

    /// Adds the histograms of a series; `has_float` says at which steps the group has numbers.
    pub(super) fn add(
        &mut self,
        series: &Series,
        has_float: impl Fn(usize) -> bool,
        span: Span,
        context: &mut Context<'_>,
    ) {
        for (step, histogram) in series.column.histograms.iter() {
            if self.steps.len() <= step {
                self.steps.resize_with(step + 1, || State::Nothing);
            }
            let state = &mut self.steps[step];
            match state {
                State::Folding(fold) => {
                    if let Err(incompatible) = fold.take(&histogram) {
                        let name = series.labels.metric_name();
                        context.annotate(Remark::of_fact(incompatible.fact(), name), span);
                        *state = State::Incompatible;
                    }
                }
                State::Incompatible | State::AfterFloats => {}
                State::Nothing if has_float(step) => *state = State::AfterFloats,
                State::Nothing => {
                    *state = State::Folding(Box::new(F::begin(&histogram, self.compat)));
                }
            }
        }
    }

    /// Adds the results to a column of numbers. Steps with both have neither.
    pub(super) fn finish(
        self,
        mut column: Column,
        span: Span,
        context: &mut Context<'_>,
    ) -> Column {
        let mut histograms = Packing::new(self.steps.len());
        for (step, state) in self.steps.into_iter().enumerate() {
            match state {
                State::Nothing => {}
                State::Incompatible => column.present.remove(step),
                _ if column.present.has(step) => {
                    column.present.remove(step);
                    let remark = Remark::mixed_floats_histograms_aggregation();
                    context.annotate(remark, span);
                }
                State::AfterFloats => {}
                State::Folding(fold) => {
                    for fact in fold.facts().iter() {
                        context.annotate(Remark::of_fact(fact, ""), span);
                    }
                    let mut result = fold.finish();
                    result.compact();
                    histograms.push(step, result.into());
                }
            }
        }
        column.histograms = histograms.finish();
        column
    }
}
