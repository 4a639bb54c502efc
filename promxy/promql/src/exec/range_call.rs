//! Functions over ranges: each series is cut into windows, and a kernel goes over all of them.
//!
//! Follows the part of `eval` in `promql/engine.go` that calls functions with a matrix argument; pinned by `functions.test`,
//! `subquery.test` and `extended_vectors.test`.

use std::collections::HashSet;

use super::evaluator::{Sink, drop_names_now, is_range};
use super::parallel::in_order;
use super::range_function::RangeFunction;
use super::window::{RangeSamples, Window, Windowing};
use super::{CancelToken, Column, Context, Evaluated, Evaluator, Series};
use crate::annotations::Remark;
use crate::error::{QueryError, Stage};
use crate::func::counts::{Count, Occurrences, Present, TimeAt, ValueAt};
use crate::func::mixed::{MixedWindows, Notes};
use crate::func::over_time::{Average, ExtremeOf, Sum};
use crate::func::rate::{ExtendedRate, ExtrapolatedRate, InstantChange};
use crate::func::regression::{Prediction, Slope};
use crate::func::smoothing::Smoothing;
use crate::func::spread::{MedianDeviation, Quantile};
use crate::func::variance::Variance;
use crate::func::{FloatKernel, Results};
use crate::histogram::Fact;
use crate::labels::Labels;
use crate::parser::{Compat, ExtendedRange, Span, ValueType};
use crate::plan::{CallPlan, PlanKind, PlanNode};
use crate::storage::SeriesData;

/// A call, ready to be applied to series.
pub(crate) struct RangeCall<'s> {
    pub(crate) function: RangeFunction,
    pub(crate) windowing: Windowing,
    pub(crate) extended: Option<ExtendedRange>,
    /// The arguments that are numbers, for every step.
    pub(crate) scalars: &'s [Vec<f64>],
    pub(crate) compat: Compat,
    pub(crate) cancel: &'s CancelToken,
}

impl<'a> Evaluator<'a, '_> {
    /// Whether a call has a range among its arguments.
    pub(super) fn takes_range(&self, call: &CallPlan) -> bool {
        call.args
            .iter()
            .any(|arg| is_range(&self.plan_node(*arg).kind))
    }

    /// Hands over the series of a function over a range.
    pub(super) fn range_call(
        &mut self,
        node: &PlanNode,
        call: &CallPlan,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let name = call.function.name;
        let Some(function) = RangeFunction::of(name) else {
            return Err(QueryError::execution(format!(
                "{name} is not evaluated over ranges"
            )));
        };
        let mut scalars = Vec::new();
        for arg in &call.args {
            if self.plan_node(*arg).value_type == ValueType::Scalar {
                scalars.push(self.scalar(*arg));
            }
        }
        let range_arg = call
            .args
            .iter()
            .find(|arg| is_range(&self.plan_node(**arg).kind));
        let Some(range_node) = range_arg.map(|arg| self.plan_node(*arg)) else {
            return Ok(());
        };
        // What a subquery yields has no place in the query any more.
        let place = |node: &PlanNode| match node.kind {
            PlanKind::Subquery(_) => Span::default(),
            PlanKind::Range(_) => node.span,
            _ => node.argument_span,
        };
        let span = call
            .args
            .first()
            .map_or(node.span, |arg| place(self.plan_node(*arg)));
        let lookback = self.context.lookback;
        let compat = self.context.options.parser.compat;
        let with_starts = self.context.options.start_timestamps && function.uses_starts();
        match &range_node.kind {
            PlanKind::Range(range) => {
                let selector = &range.selector;
                if let Some(extended) = selector.extended {
                    function.check_extended(name, extended)?;
                }
                let (before, after) = match selector.extended {
                    None => (0, 0),
                    Some(ExtendedRange::Anchored) => (lookback, 0),
                    Some(ExtendedRange::Smoothed) => (lookback, lookback),
                };
                let call = RangeCall {
                    function,
                    windowing: Windowing {
                        grid: node.grid,
                        range: range.range,
                        offset: selector.offset,
                        before,
                        after,
                        pinned: selector.at.is_some(),
                    },
                    extended: selector.extended,
                    scalars: &scalars,
                    compat,
                    cancel: self.context.cancel,
                };
                let mut output = Output::new(name, span);
                let data: &'a [SeriesData] = &self.context.data[selector.select];
                let compute = |windows: &mut Vec<Window>, series: &&SeriesData| -> Computing {
                    call.cancel.check(Stage::Evaluation)?;
                    let samples =
                        RangeSamples::of_storage(&series.samples, call.windowing, with_starts);
                    call.compute(&samples, windows)
                };
                in_order(self.context.threads, data, compute, |series, computed| {
                    let named = (&series.labels, false);
                    output.series(self.context, &call, named, computed?, sink)
                })
            }
            PlanKind::Subquery(subquery) => {
                let inner_grid = self.plan_node(subquery.expr).outer_grid();
                let inner = self.series(subquery.expr);
                let call = RangeCall {
                    function,
                    windowing: Windowing {
                        grid: node.grid,
                        range: subquery.range,
                        offset: subquery.offset,
                        before: 0,
                        after: 0,
                        pinned: subquery.at.is_some(),
                    },
                    extended: None,
                    scalars: &scalars,
                    compat,
                    cancel: self.context.cancel,
                };
                let mut output = Output::new(name, span);
                let compute = |windows: &mut Vec<Window>, series: &Series| -> Computing {
                    call.cancel.check(Stage::Evaluation)?;
                    let samples = RangeSamples::of_subquery(series, inner_grid);
                    call.compute(&samples, windows)
                };
                in_order(self.context.threads, inner, compute, |series, computed| {
                    let named = (&series.labels, series.drop_name);
                    output.series(self.context, &call, named, computed?, sink)?;
                    self.context.budget.release(series.held());
                    Ok(())
                })
            }
            _ => Ok(()),
        }
    }

    /// Evaluates `absent_over_time`: one wherever no series has a sample.
    pub(super) fn absent_over_time(
        &mut self,
        node: &'a PlanNode,
        call: &CallPlan,
    ) -> Result<Evaluated, QueryError> {
        let mut found = super::Bitmap::none(node.grid.count);
        self.range_call(node, call, &mut |_, series| {
            found.or_with(&series.column.steps());
            Ok(())
        })?;
        let argument = call.args.first().map(|arg| &self.plan_node(*arg).kind);
        let drop_name = true;
        Ok(Evaluated::Matrix(super::call::absent_series(
            argument,
            &found,
            node.grid.count,
            drop_name,
        )))
    }
}

/// What a call makes of a series that has samples in any window.
struct Computed {
    column: Result<Column, QueryError>,
    notes: Notes,
    /// How many samples all windows hold together, and the one with the most.
    looked_at: usize,
    largest: usize,
}

/// Nothing of a series without samples in any window; an error if the query was ended.
type Computing = Result<Option<Computed>, QueryError>;

/// What is kept from series to series of a call.
struct Output<'s> {
    name: &'s str,
    span: Span,
    /// The label sets there are, to find those that coincide without their names.
    seen: HashSet<Labels>,
}

impl<'s> Output<'s> {
    fn new(name: &'s str, span: Span) -> Self {
        Self {
            name,
            span,
            seen: HashSet::new(),
        }
    }

    /// Takes what was computed of a series, whose labels may be bound to lose their names.
    fn series(
        &mut self,
        context: &mut Context<'_>,
        call: &RangeCall<'_>,
        (labels, drop_name): (&Labels, bool),
        computed: Option<Computed>,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let Some(computed) = computed else {
            return Ok(());
        };
        context.budget.looked_at(computed.looked_at);
        context.budget.take(computed.largest)?;
        let column = computed.column?;
        context.budget.release(computed.largest);
        computed.notes.annotate(context, labels, self.span)?;
        if column.is_empty() {
            return Ok(());
        }
        if matches!(self.name, "rate" | "increase") && !column.present.is_empty() {
            self.doubt_counter(context, labels);
        }
        let mut series = Series {
            labels: labels.clone(),
            // 3.5 forgets what the inside of a subquery was to lose.
            drop_name: drop_name && !context.is_3_5(),
            column,
        };
        if !call.function.keeps_name() {
            drop_names_now(context, &mut series);
        }
        let may_coincide = context.delays_name_removal() || self.name == "absent_over_time";
        if !may_coincide && !self.seen.insert(series.labels.clone()) {
            return Err(QueryError::duplicate_labels());
        }
        sink(context, series)
    }

    /// Remarks on the rate of something that does not look like a counter.
    fn doubt_counter(&self, context: &mut Context<'_>, labels: &Labels) {
        let name = labels.metric_name();
        if name.is_empty() {
            return;
        }
        if context.options.type_and_unit_labels {
            let kind = labels.get("__type__").unwrap_or_default();
            let is_3_5 = context.is_3_5();
            if kind != "counter" && (is_3_5 || kind != "histogram") {
                let expected = if is_3_5 {
                    "\"counter\""
                } else {
                    "\"counter\" or \"histogram\""
                };
                let remark = Remark::possible_non_counter_type(name, kind, expected);
                context.annotate(remark, self.span);
            }
            return;
        }
        let endings = ["_total", "_sum", "_count", "_bucket"];
        if !endings.iter().any(|ending| name.ends_with(ending)) {
            context.annotate(Remark::possible_non_counter(name), self.span);
        }
    }
}

impl RangeCall<'_> {
    /// Cuts a series into windows and computes their values. Nothing if there are none.
    fn compute(&self, samples: &RangeSamples<'_>, windows: &mut Vec<Window>) -> Computing {
        samples.cut(self.windowing, windows, self.cancel)?;
        if windows.is_empty() {
            return Ok(None);
        }
        let sizes = samples.sizes_of_histograms();
        let size = |window: &Window| {
            let up_to = |index: usize| sizes.get(index).copied().unwrap_or(0);
            let histograms = up_to(window.histograms_to) - up_to(window.histograms_from);
            window.to - window.from + histograms
        };
        let looked_at = windows.iter().map(size).sum();
        let largest = windows.iter().map(size).max().unwrap_or(0);
        let mut notes = Notes::default();
        let column = self.column(samples, windows, &mut notes);
        Ok(Some(Computed {
            column,
            notes,
            looked_at,
            largest,
        }))
    }

    /// Computes the values of all windows.
    fn column(
        &self,
        samples: &RangeSamples<'_>,
        windows: &[Window],
        notes: &mut Notes,
    ) -> Result<Column, QueryError> {
        let floats = samples.floats();
        let range = self.windowing.range;
        let anchored = self.extended == Some(ExtendedRange::Anchored);
        let mut output = ColumnOutput {
            call: self,
            samples,
            windows,
            notes,
        };
        match self.function {
            RangeFunction::Change(change) => match self.extended {
                None => {
                    let mut kernel = ExtrapolatedRate::new(floats, change, range);
                    let column = output.of(&mut kernel)?;
                    if kernel.overlap {
                        output.notes.facts.insert(Fact::StartTimesOverlap);
                    }
                    Ok(column)
                }
                Some(extended) => output.of(&mut ExtendedRate {
                    floats,
                    change,
                    extended,
                    range: range as f64 / 1000.0,
                }),
            },
            RangeFunction::InstantRate => output.of(&mut InstantChange {
                floats,
                per_second: true,
            }),
            RangeFunction::InstantDelta => output.of(&mut InstantChange {
                floats,
                per_second: false,
            }),
            RangeFunction::Sum => output.of(&mut Sum(floats)),
            RangeFunction::Average => output.of(&mut Average(floats)),
            RangeFunction::Extreme(extreme) => output.of(&mut ExtremeOf::value(floats, extreme)),
            RangeFunction::TimeOfExtreme(extreme) => {
                output.of(&mut ExtremeOf::time(floats, extreme))
            }
            RangeFunction::Deviation => output.of(&mut Variance { floats, root: true }),
            RangeFunction::Variance => output.of(&mut Variance {
                floats,
                root: false,
            }),
            RangeFunction::Quantile => output.of(&mut Quantile::new(floats, &self.scalars[0])),
            RangeFunction::MedianDeviation => output.of(&mut MedianDeviation::new(
                floats,
                self.compat == Compat::V3_14,
            )),
            RangeFunction::Count => output.of(&mut Count),
            RangeFunction::Present => output.of(&mut Present),
            RangeFunction::Value(end) => output.of(&mut ValueAt(floats, end)),
            RangeFunction::Time(end) => output.of(&mut TimeAt(floats, end)),
            RangeFunction::Changes => output.of(&mut Occurrences::changes(floats, anchored)),
            RangeFunction::Resets => output.of(&mut Occurrences::resets(floats, anchored)),
            RangeFunction::Slope => output.of(&mut Slope(floats)),
            RangeFunction::Prediction => output.of(&mut Prediction {
                floats,
                ahead: &self.scalars[0],
            }),
            RangeFunction::Smoothing => {
                let mut kernel = Smoothing {
                    floats,
                    newest: &self.scalars[0],
                    trend: &self.scalars[1],
                    error: None,
                };
                for (index, window) in windows.iter().enumerate() {
                    self.cancel.check_at(index)?;
                    kernel.check(window.step)?;
                }
                output.of(&mut kernel)
            }
        }
    }
}

/// How many windows histograms are added up in at a time.
const WINDOWS_AT_ONCE: usize = 8;

/// Runs kernels over the windows of a series.
struct ColumnOutput<'s, 'n> {
    call: &'s RangeCall<'s>,
    samples: &'s RangeSamples<'s>,
    windows: &'s [Window],
    notes: &'n mut Notes,
}

impl ColumnOutput<'_, '_> {
    fn of(&mut self, kernel: &mut impl FloatKernel) -> Result<Column, QueryError> {
        let steps = self.call.windowing.grid.count;
        let mut column = Column::empty(steps);
        if !self.samples.has_histograms() {
            self.notes.invalid_quantile(self.call, self.windows)?;
            column.values = vec![0.0; steps];
            let mut results = Results {
                values: &mut column.values,
                present: &mut column.present,
                cancel: self.call.cancel,
            };
            kernel.windows(self.windows, &mut results)?;
            return Ok(column);
        }
        let mixed = MixedWindows::new(self.call, self.samples)?;
        if mixed.fold_histograms() {
            for group in self.windows.chunks(WINDOWS_AT_ONCE) {
                let samples = mixed.folded(group, self.notes)?;
                for (window, sample) in group.iter().zip(samples) {
                    if let Some(sample) = sample {
                        column.push(steps, window.step, sample);
                    }
                }
            }
            return Ok(column);
        }
        for window in self.windows {
            self.call.cancel.check(Stage::Evaluation)?;
            if let Some(sample) = mixed.window(kernel, window, self.notes)? {
                column.push(steps, window.step, sample);
            }
        }
        Ok(column)
    }
}
