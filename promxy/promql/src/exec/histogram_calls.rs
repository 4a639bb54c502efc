//! Functions of histograms, native and classic.
//!
//! Follows `resetHistograms`, `funcHistogramQuantile` and their neighbours in the reference; pinned by `histograms.test` and
//! `native_histograms.test`. Which series are the buckets of one classic histogram is found once, not at every step.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::column::least_held;
use super::evaluator::drop_names_now;
use super::{Bitmap, Column, Evaluated, Evaluator, Grid, Series};
use crate::annotations::{Raised, Remark};
use crate::error::QueryError;
use crate::format;
use crate::histogram::classic::{self, CumulativeBucket, ForcedMonotonicity};
use crate::histogram::{Fact, FloatHistogram, fraction, quantile};
use crate::labels::{BUCKET_BOUND, Labels, LabelsBuilder, METRIC_NAME};
use crate::parser::Span;
use crate::plan::{PlanId, PlanNode};

impl Evaluator<'_, '_> {
    pub(super) fn histogram_call(
        &mut self,
        node: &PlanNode,
        name: &str,
        args: &[PlanId],
    ) -> Result<Evaluated, QueryError> {
        let grid = node.grid;
        match name {
            "histogram_count" => self.of_histograms(grid, args[0], |h| h.count),
            "histogram_sum" => self.of_histograms(grid, args[0], |h| h.sum),
            "histogram_avg" => self.of_histograms(grid, args[0], FloatHistogram::average),
            "histogram_stdvar" => self.of_histograms(grid, args[0], FloatHistogram::variance),
            "histogram_stddev" => {
                self.of_histograms(grid, args[0], FloatHistogram::standard_deviation)
            }
            "histogram_quantile" => {
                let q = self.quantile_arg(args[0])?;
                let vector = self.series(args[1]);
                let histograms =
                    self.histograms(grid, vector, self.plan_node(args[1]).argument_span)?;
                let vector = self.plan_node(args[1]).argument_span;
                let spans = Spans {
                    native: self.native_span(args[0], vector),
                    classic: vector,
                };
                let mut fixed = HashSet::new();
                let results = self.quantiles(grid, &histograms, &q, spans, &mut fixed)?;
                self.merged_steps(grid, results).map(Evaluated::Matrix)
            }
            "histogram_quantiles" => self.histogram_quantiles(grid, args),
            "histogram_fraction" => {
                let (lower, upper) = (self.scalar(args[0]), self.scalar(args[1]));
                let vector = self.series(args[2]);
                let histograms =
                    self.histograms(grid, vector, self.plan_node(args[2]).argument_span)?;
                let span = self.native_span(args[0], self.plan_node(args[2]).argument_span);
                let results = self.fractions(grid, &histograms, (&lower, &upper), span)?;
                self.merged_steps(grid, results).map(Evaluated::Matrix)
            }
            _ => Err(QueryError::execution(format!(
                "function {name} cannot be evaluated here"
            ))),
        }
    }

    /// Returns where annotations about native histograms point: 3.5 takes the first argument for the vector.
    fn native_span(&self, first: PlanId, vector: Span) -> Span {
        if self.context.is_3_5() {
            self.plan_node(first).argument_span
        } else {
            vector
        }
    }

    /// Applies a function to histograms; numbers go, and so does the name, but no other metadata.
    fn of_histograms(
        &mut self,
        grid: Grid,
        arg: PlanId,
        f: impl Fn(&FloatHistogram) -> f64,
    ) -> Result<Evaluated, QueryError> {
        let mut series = self.series(arg);
        for series in &mut series {
            let mut column = Column::empty(grid.count);
            for (step, histogram) in series.column.histograms.iter() {
                self.context.check()?;
                column.set_float(grid.count, step, f(&histogram));
            }
            series.column = column;
            series.drop_name = true;
            if !self.context.delays_name_removal() {
                series.labels = series.labels.without_names(&[METRIC_NAME]);
            }
        }
        self.merged_steps(grid, series).map(Evaluated::Matrix)
    }

    /// Takes the quantiles that an argument gives for every step, and warns of those that are none.
    fn quantile_arg(&mut self, arg: PlanId) -> Result<Vec<f64>, QueryError> {
        let q = self.scalar(arg);
        let span = self.plan_node(arg).argument_span;
        let mut warned = HashSet::new();
        for (step, q) in q.iter().enumerate() {
            self.context.cancel.check_at(step)?;
            if !(0.0..=1.0).contains(q) && warned.insert(q.to_bits()) {
                self.context.annotate(Remark::invalid_quantile(*q), span);
            }
        }
        Ok(q)
    }

    fn histogram_quantiles(
        &mut self,
        grid: Grid,
        args: &[PlanId],
    ) -> Result<Evaluated, QueryError> {
        let label = self.text(args[1]);
        let vector = self.series(args[0]);
        let span = self.plan_node(args[0]).argument_span;
        let wanted: Result<Vec<Vec<f64>>, QueryError> = args[2..]
            .iter()
            .map(|arg| self.quantile_arg(*arg))
            .collect();
        let histograms = self.histograms(grid, vector, span)?;
        let spans = Spans {
            native: span,
            classic: span,
        };
        let mut results: Vec<Series> = Vec::new();
        let mut held = 0;
        let mut fixed = HashSet::new();
        for q in wanted? {
            for series in self.quantiles(grid, &histograms, &q, spans, &mut fixed)? {
                // The label is the quantile, which may be another one at every step.
                let mut places: HashMap<u64, usize> = HashMap::new();
                for (step, value) in series.column.floats() {
                    self.context.cancel.check_at(step)?;
                    let place = match places.entry(q[step].to_bits()) {
                        Entry::Occupied(known) => *known.get(),
                        Entry::Vacant(new) => {
                            let mut builder = LabelsBuilder::new(&series.labels);
                            builder.set(&label, &open_metrics(q[step]));
                            let labels = builder.build();
                            self.context.make_room(grid.count)?;
                            self.context.budget.take(labels.held())?;
                            held += least_held(grid.count) + labels.held();
                            results.push(Series {
                                labels,
                                drop_name: series.drop_name,
                                column: Column::empty(grid.count),
                            });
                            *new.insert(results.len() - 1)
                        }
                    };
                    let column: &mut Column = &mut results[place].column;
                    column.set_float(grid.count, step, value);
                }
            }
        }
        self.context.budget.release(held);
        self.merged_steps(grid, results).map(Evaluated::Matrix)
    }

    /// Computes a quantile of each histogram. `fixed` remembers of which classic ones, at which steps, counts were raised.
    fn quantiles(
        &mut self,
        grid: Grid,
        histograms: &Histograms,
        q: &[f64],
        spans: Spans,
        fixed: &mut HashSet<(usize, usize)>,
    ) -> Result<Vec<Series>, QueryError> {
        let is_3_5 = self.context.is_3_5();
        let delays = self.context.delays_name_removal();
        let native = self.natives(grid, histograms, spans.native, |step, histogram| {
            quantile(q[step], histogram)
        })?;
        let mut results = native;
        let mut buckets = Vec::new();
        let mut forced_at: BTreeMap<usize, Vec<(Option<String>, ForcedMonotonicity)>> =
            BTreeMap::new();
        for (index, group) in histograms.classic.iter().enumerate() {
            let mut column = Column::empty(grid.count);
            let mut name = self.context.late_name(&group.labels);
            name = name.filter(|name| !name.is_empty() || is_3_5);
            for (step, q) in q.iter().enumerate() {
                self.context.check()?;
                group.buckets_at(step, &mut buckets);
                if buckets.is_empty() {
                    continue;
                }
                let (value, forced) = classic::quantile(*q, &mut buckets);
                column.set_float(grid.count, step, value);
                // Counts that were raised for one quantile stay raised for the next.
                if let Some(forced) = forced
                    && fixed.insert((index, step))
                {
                    let name = name.map(str::to_owned);
                    forced_at.entry(step).or_default().push((name, forced));
                }
                // 3.5 forgets the name of a histogram once it was computed with.
                if is_3_5 && !delays {
                    name = Some("");
                }
            }
            results.push(self.classic_series(group, column));
        }
        self.remark_forced(grid, &forced_at, spans.classic)?;
        Ok(results)
    }

    /// Annotates where counts of buckets had to be raised.
    fn remark_forced(
        &mut self,
        grid: Grid,
        forced_at: &BTreeMap<usize, Vec<(Option<String>, ForcedMonotonicity)>>,
        span: Span,
    ) -> Result<(), QueryError> {
        let is_3_5 = self.context.is_3_5();
        let mut raised: BTreeMap<Option<String>, Raised> = BTreeMap::new();
        let first = forced_at.keys().next().copied().unwrap_or(grid.count);
        for step in first..grid.count {
            self.context.check()?;
            let known: Vec<Option<String>> = raised.keys().cloned().collect();
            for (name, forced) in forced_at.get(&step).into_iter().flatten() {
                if let Some(raised) = raised.get_mut(name) {
                    raised.add(grid.time(step), *forced);
                } else {
                    let new = Raised::new(grid.time(step), *forced);
                    raised.insert(name.clone(), new);
                }
            }
            for name in known {
                if let Some(raised) = raised.get_mut(&name) {
                    raised.next_step();
                }
            }
        }
        for (name, raised) in &raised {
            let detail = (!is_3_5).then_some(raised);
            let remark = Remark::forced_monotonicity(name.as_deref(), detail);
            self.context.annotate(remark, span);
        }
        Ok(())
    }

    fn fractions(
        &mut self,
        grid: Grid,
        histograms: &Histograms,
        (lower, upper): (&[f64], &[f64]),
        span: Span,
    ) -> Result<Vec<Series>, QueryError> {
        let compat = self.context.options.parser.compat;
        let native = self.natives(grid, histograms, span, |step, histogram| {
            fraction(lower[step], upper[step], histogram, compat)
        })?;
        let mut results = native;
        let mut buckets = Vec::new();
        for group in &histograms.classic {
            let mut column = Column::empty(grid.count);
            for step in 0..grid.count {
                self.context.check()?;
                group.buckets_at(step, &mut buckets);
                if !buckets.is_empty() {
                    let value = classic::fraction(lower[step], upper[step], &mut buckets, compat);
                    column.set_float(grid.count, step, value);
                }
            }
            results.push(self.classic_series(group, column));
        }
        Ok(results)
    }

    fn classic_series(&self, group: &Classic, column: Column) -> Series {
        let mut series = Series {
            labels: group.labels.clone(),
            drop_name: true,
            column,
        };
        drop_names_now(self.context, &mut series);
        series
    }

    /// Applies a function to the native histograms.
    fn natives(
        &mut self,
        grid: Grid,
        histograms: &Histograms,
        span: Span,
        f: impl Fn(usize, &FloatHistogram) -> (f64, crate::histogram::Facts),
    ) -> Result<Vec<Series>, QueryError> {
        let mut results = Vec::new();
        for native in &histograms.native {
            let mut column = Column::empty(grid.count);
            let mut facts = crate::histogram::Facts::NONE;
            for (step, histogram) in native.column.histograms.iter() {
                self.context.check()?;
                let (value, found) = f(step, &histogram);
                facts |= found;
                column.set_float(grid.count, step, value);
            }
            let mut series = Series {
                labels: native.labels.clone(),
                drop_name: true,
                column,
            };
            drop_names_now(self.context, &mut series);
            let name = self.context.late_name(&series.labels);
            let name = name.filter(|name| !name.is_empty() || self.context.is_3_5());
            let remarks: Vec<Remark> = facts
                .iter()
                .map(|fact| match fact {
                    Fact::QuantileIsNan => Remark::quantile_nan_result(name),
                    Fact::QuantileSkewedByNan => Remark::quantile_nan_skew(name),
                    Fact::NansInNoFraction => Remark::fraction_nan(name),
                    other => Remark::of_fact(other, name.unwrap_or_default()),
                })
                .collect();
            for remark in remarks {
                self.context.annotate(remark, span);
            }
            results.push(series);
        }
        Ok(results)
    }

    /// Sorts a vector into native histograms and groups of classic buckets.
    fn histograms(
        &mut self,
        grid: Grid,
        vector: Vec<Series>,
        span: Span,
    ) -> Result<Histograms, QueryError> {
        let is_3_5 = self.context.is_3_5();
        let mut groups: HashMap<Labels, usize> = HashMap::new();
        let mut classic: Vec<Classic> = Vec::new();
        let mut native = Vec::new();
        for mut series in vector {
            self.context.check()?;
            if !series.column.histograms.is_empty() {
                let histograms = std::mem::take(&mut series.column.histograms);
                let mut column = Column::empty(grid.count);
                column.histograms = histograms;
                native.push(Series {
                    labels: series.labels.clone(),
                    drop_name: series.drop_name,
                    column,
                });
            }
            if series.column.present.is_empty() {
                continue;
            }
            let bound = series.labels.get(BUCKET_BOUND).unwrap_or_default();
            let Some(upper) = parse_bound(bound) else {
                let name = self.context.late_name(&series.labels);
                let name = name.filter(|name| !name.is_empty() || is_3_5);
                let remark = Remark::bad_bucket_label(name, bound);
                self.context.annotate(remark, span);
                continue;
            };
            let labels = series.labels.without_names(&[BUCKET_BOUND]);
            let group = *groups.entry(labels.clone()).or_insert_with(|| {
                classic.push(Classic {
                    labels,
                    buckets: Vec::new(),
                    excluded: Bitmap::none(grid.count),
                });
                classic.len() - 1
            });
            classic[group].buckets.push((upper, series.column));
        }
        for native in &mut native {
            let Some(group) = groups.get(&native.labels) else {
                continue;
            };
            let group = &mut classic[*group];
            self.context.check()?;
            let mut conflicts = Bitmap::none(grid.count);
            for step in native.column.histograms.steps() {
                if group
                    .buckets
                    .iter()
                    .any(|(_, column)| column.present.has(step))
                {
                    conflicts.insert(step);
                }
            }
            if conflicts.is_empty() {
                continue;
            }
            let name = self.context.late_name(&native.labels);
            let name = name.filter(|name| !name.is_empty() || is_3_5);
            let remark = Remark::mixed_classic_native(name);
            self.context.annotate(remark, span);
            native.column.histograms.retain(|step| !conflicts.has(step));
            group.excluded.or_with(&conflicts);
        }
        Ok(Histograms { native, classic })
    }
}

/// Where annotations about the two kinds of histograms point.
#[derive(Clone, Copy)]
struct Spans {
    native: Span,
    classic: Span,
}

/// A vector, sorted into histograms.
struct Histograms {
    native: Vec<Series>,
    classic: Vec<Classic>,
}

impl Classic {
    /// Gathers the buckets that there are at a step.
    fn buckets_at(&self, step: usize, buckets: &mut Vec<CumulativeBucket>) {
        buckets.clear();
        if self.excluded.has(step) {
            return;
        }
        for (upper, column) in &self.buckets {
            if let Some(count) = column.float(step) {
                let upper = *upper;
                buckets.push(CumulativeBucket { upper, count });
            }
        }
    }
}

/// A classic histogram.
struct Classic {
    /// Its labels without that of the bound.
    labels: Labels,
    /// The columns of its buckets with their upper bounds.
    buckets: Vec<(f64, Column)>,
    /// The steps at which there is a native histogram of the same labels.
    excluded: Bitmap,
}

/// Reads a bound as Go reads numbers.
fn parse_bound(text: &str) -> Option<f64> {
    let digits = text.trim_start_matches(['+', '-']);
    if text.len() - digits.len() > 1 {
        return None;
    }
    let lower = digits.to_ascii_lowercase();
    match lower.as_str() {
        "inf" | "infinity" if text.starts_with('-') => Some(f64::NEG_INFINITY),
        "inf" | "infinity" => Some(f64::INFINITY),
        "nan" if digits.len() == text.len() => Some(f64::NAN),
        _ if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => None,
        _ => text.parse().ok(),
    }
}

/// Returns a number as `OpenMetrics` writes label values: with a point or an exponent.
fn open_metrics(value: f64) -> String {
    let text = format::general(value);
    if text.contains(['e', '.', 'n', 'N', 'I']) {
        text
    } else {
        format!("{text}.0")
    }
}
