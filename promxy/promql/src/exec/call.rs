//! Functions of instant vectors and scalars.
//!
//! Follows `promql/functions.go`; pinned by `functions.test`, `trig_functions.test`, `type_and_unit.test`.

use super::cancel::STEPS_AT_A_TIME;
use super::evaluator::drop_names_now;
use super::info::clipped;
use super::selector::sample_times;
use super::{Bitmap, CancelToken, Column, Evaluated, Evaluator, Grid, Series, StepHistograms};
use crate::annotations::Remark;
use crate::error::{QueryError, Stage};
use crate::func::date::Date;
use crate::func::math;
use crate::func::order::{Least, Ranked, insertion_sort, sort_reversed};
use crate::gomath;
use crate::labels::{LabelMatcher, Labels, LabelsBuilder, METRIC_NAME, natural_cmp, natural_less};
use crate::parser::MatchOp;
use crate::plan::{CallPlan, PlanId, PlanKind, PlanNode, Selector};
use std::cmp::Ordering;
use std::collections::HashSet;

impl<'a> Evaluator<'a, '_> {
    pub(super) fn call(
        &mut self,
        node: &PlanNode,
        call: &'a CallPlan,
    ) -> Result<Evaluated, QueryError> {
        let (name, args, grid) = (call.function.name, call.args.as_slice(), node.grid);
        if let Some(f) = math::unary(name) {
            let series = self.series(args[0]);
            return self.map_floats(grid, series, |_, value| f(value));
        }
        if let Some(part) = math::date_part(name) {
            return self.date(grid, args, part);
        }
        match name {
            "time" => Ok(Evaluated::Scalar(
                grid.times().map(|time| time as f64 / 1000.0).collect(),
            )),
            "pi" => Ok(Evaluated::Scalar(vec![std::f64::consts::PI; grid.count])),
            "max_of" => Ok(self.of_two_scalars(args, gomath::max)),
            "min_of" => Ok(self.of_two_scalars(args, gomath::min)),
            "scalar" => {
                let series = self.series(args[0]);
                let cancel = self.context.cancel;
                only_floats(&series, grid.count, cancel).map(Evaluated::Scalar)
            }
            "vector" => Ok(Evaluated::Matrix(vec![Series {
                labels: Labels::empty(),
                drop_name: false,
                column: Column::dense(self.scalar(args[0])),
            }])),
            "absent" => {
                let series = self.series(args[0]);
                let mut found = Bitmap::none(grid.count);
                for series in &series {
                    self.context.check()?;
                    found.or_with(&series.column.steps());
                }
                let argument = &self.plan_node(args[0]).kind;
                let absent = absent_series(Some(argument), &found, grid.count, false);
                Ok(Evaluated::Matrix(absent))
            }
            "clamp" | "clamp_min" | "clamp_max" => self.clamp(grid, name, args),
            "round" => {
                let series = self.series(args[0]);
                let nearest = args.get(1).map(|arg| self.scalar(*arg));
                self.map_floats(grid, series, |step, value| {
                    let nearest = nearest.as_ref().map_or(1.0, |nearest| nearest[step]);
                    math::round(value, nearest)
                })
            }
            "timestamp" | "start_timestamp" => self.timestamp(node, name, args[0]),
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => {
                Ok(self.sort(node, name, args))
            }
            "label_replace" => self.label_replace(args),
            "label_join" => self.label_join(args),
            "info" => self.info(node, call),
            _ => self.histogram_call(node, name, args),
        }
    }

    /// Applies a function to all numbers; histograms go, and so do names.
    pub(super) fn map_floats(
        &mut self,
        grid: Grid,
        mut series: Vec<Series>,
        f: impl Fn(usize, f64) -> f64,
    ) -> Result<Evaluated, QueryError> {
        for series in &mut series {
            self.context.check()?;
            drop_names_now(self.context, series);
            series.column.histograms = StepHistograms::default();
            for (chunk, values) in series.column.values.chunks_mut(STEPS_AT_A_TIME).enumerate() {
                self.context.check()?;
                for (index, value) in values.iter_mut().enumerate() {
                    *value = f(chunk * STEPS_AT_A_TIME + index, *value);
                }
            }
        }
        self.merged_steps(grid, series).map(Evaluated::Matrix)
    }

    fn of_two_scalars(&mut self, args: &[PlanId], f: fn(f64, f64) -> f64) -> Evaluated {
        let (x, y) = (self.scalar(args[0]), self.scalar(args[1]));
        Evaluated::Scalar(x.iter().zip(&y).map(|(x, y)| f(*x, *y)).collect())
    }

    fn date(
        &mut self,
        grid: Grid,
        args: &[PlanId],
        part: fn(&Date) -> f64,
    ) -> Result<Evaluated, QueryError> {
        let Some(arg) = args.first() else {
            let mut values = Vec::with_capacity(grid.count);
            for (step, time) in grid.times().enumerate() {
                self.context.cancel.check_at(step)?;
                values.push(part(&Date::from_seconds(time / 1000)));
            }
            return Ok(Evaluated::Matrix(vec![Series {
                labels: Labels::empty(),
                drop_name: false,
                column: Column::dense(values),
            }]));
        };
        let series = self.series(*arg);
        self.map_floats(grid, series, |_, value| part(&Date::of(value)))
    }

    fn clamp(&mut self, grid: Grid, name: &str, args: &[PlanId]) -> Result<Evaluated, QueryError> {
        let mut series = self.series(args[0]);
        let limit = self.scalar(args[1]);
        let unlimited = |value: f64| vec![value; grid.count];
        let (min, max) = match name {
            "clamp_min" => (limit, unlimited(f64::INFINITY)),
            "clamp_max" => (unlimited(f64::NEG_INFINITY), limit),
            _ => (limit, self.scalar(args[2])),
        };
        let mut possible = Bitmap::none(grid.count);
        for (step, (min, max)) in min.iter().zip(&max).enumerate() {
            let is_impossible = max < min;
            if !is_impossible {
                possible.insert(step);
            }
        }
        for series in &mut series {
            series.column.retain_steps(&possible);
        }
        self.map_floats(grid, series, |step, value| {
            math::clamp(value, min[step], max[step])
        })
    }

    /// Of a selector the times of its samples, of anything else the times of the steps.
    fn timestamp(
        &mut self,
        node: &PlanNode,
        name: &str,
        arg: PlanId,
    ) -> Result<Evaluated, QueryError> {
        let grid = node.grid;
        if let PlanKind::Selector(selector) = &self.plan_node(arg).kind {
            return self.sample_timestamps(grid, name, selector);
        }
        let mut series = self.series(arg);
        if name == "start_timestamp" {
            return Ok(Evaluated::Matrix(Vec::new()));
        }
        for series in &mut series {
            let present = series.column.steps();
            series.column = Column {
                values: grid.times().map(|time| time as f64 / 1000.0).collect(),
                present,
                histograms: StepHistograms::default(),
            };
            drop_names_now(self.context, series);
        }
        self.merged_steps(grid, series).map(Evaluated::Matrix)
    }

    fn sample_timestamps(
        &mut self,
        grid: Grid,
        name: &str,
        selector: &Selector,
    ) -> Result<Evaluated, QueryError> {
        let starts = name == "start_timestamp";
        if starts && !self.context.options.start_timestamps {
            return Ok(Evaluated::Matrix(Vec::new()));
        }
        let lookback = self.context.lookback;
        let mut results = Vec::new();
        for data in &self.context.data[selector.select] {
            self.context.check()?;
            // A pinned selector looks at its time from every step, whatever its offset.
            let offset = |time: i64| {
                selector
                    .at
                    .map_or(selector.offset, |at| time.saturating_sub(at))
            };
            // But it sees nothing beyond what is selected for that time and its offset.
            let samples = match selector.at {
                Some(_) if selector.original_offset != 0 => {
                    let hints = &self.plan.selects[selector.select].hints;
                    &clipped(&data.samples, (hints.start, hints.end))
                }
                _ => &*data.samples,
            };
            let mut column = Column::empty(grid.count);
            let cancel = self.context.cancel;
            let times = sample_times(samples, grid, offset, lookback, cancel)?;
            for (step, taken, started) in times {
                let time = if starts { started } else { taken };
                column.set_float(grid.count, step, time as f64 / 1000.0);
            }
            let mut series = Series {
                labels: data.labels.clone(),
                drop_name: false,
                column,
            };
            drop_names_now(self.context, &mut series);
            results.push(series);
        }
        self.merged_steps(grid, results).map(Evaluated::Matrix)
    }

    fn sort(&mut self, node: &PlanNode, name: &str, args: &[PlanId]) -> Evaluated {
        let mut series = self.series(args[0]);
        let by_label = name.starts_with("sort_by_label");
        if !by_label {
            for series in &mut series {
                series.column.histograms = StepHistograms::default();
            }
            series.retain(|series| !series.column.is_empty());
        }
        if !node.grid.is_instant() {
            if !self.context.is_3_5() && node.grid.count > 0 {
                self.context
                    .annotate(Remark::sort_in_range_query(), node.span);
            }
            return Evaluated::Matrix(series);
        }
        if by_label {
            // Labels that no series has tell none apart.
            let present: HashSet<&str> = series
                .iter()
                .flat_map(|series| series.labels.iter().map(|(name, _)| name))
                .collect();
            let names = args[1..].iter().map(|arg| self.text(*arg));
            let mut listed = HashSet::new();
            let names: Vec<String> = names
                .filter(|name| present.contains(name.as_str()) && listed.insert(name.clone()))
                .collect();
            let descending = name == "sort_by_label_desc";
            let goes_before = |a: &Series, b: &Series| {
                let is_less = natural_less_by(&names, &a.labels, &b.labels);
                is_less != descending && a.labels != b.labels
            };
            if !insertion_sort(&mut series, goes_before) {
                series.sort_by(|a, b| {
                    let order = by_labels(&names, &a.labels, &b.labels);
                    if descending { order.reverse() } else { order }
                });
            }
            return Evaluated::Matrix(series);
        }
        let mut ranked: Vec<Ranked> = series
            .iter()
            .enumerate()
            .map(|(index, series)| Ranked {
                value: series.column.float(0).unwrap_or(f64::NAN),
                series: index,
            })
            .collect();
        let least = match name {
            "sort" => Least::Largest,
            _ => Least::Smallest,
        };
        sort_reversed(&mut ranked, least);
        let mut series: Vec<Option<Series>> = series.into_iter().map(Some).collect();
        let sorted = ranked
            .iter()
            .filter_map(|ranked| series[ranked.series].take());
        Evaluated::Matrix(sorted.collect())
    }

    /// Returns the text that an argument is.
    pub(super) fn text(&self, arg: PlanId) -> String {
        match &self.plan_node(arg).kind {
            PlanKind::String(text) => text.to_str_lossy().into_owned(),
            _ => String::new(),
        }
    }
}

fn by_labels(names: &[String], a: &Labels, b: &Labels) -> Ordering {
    for name in names {
        let (x, y) = (
            a.get(name).unwrap_or_default(),
            b.get(name).unwrap_or_default(),
        );
        if x != y {
            return natural_cmp(x, y);
        }
    }
    a.cmp(b)
}

/// Whether the reference calls a series less than another. Of a label that is empty in one of them neither is less, so that
/// this is no order.
fn natural_less_by(names: &[String], a: &Labels, b: &Labels) -> bool {
    let values = |name: &String| [a, b].map(|labels| labels.get(name).unwrap_or_default());
    match names.iter().map(values).find(|[x, y]| x != y) {
        Some([x, y]) => natural_less(x, y),
        None => a < b,
    }
}

/// Returns, for every step, the number of the only series that has one, else NaN.
fn only_floats(
    series: &[Series],
    steps: usize,
    cancel: &CancelToken,
) -> Result<Vec<f64>, QueryError> {
    let mut values = vec![f64::NAN; steps];
    let mut found = Bitmap::none(steps);
    for series in series {
        cancel.check(Stage::Evaluation)?;
        for (step, value) in series.column.floats() {
            values[step] = if found.has(step) { f64::NAN } else { value };
            found.insert(step);
        }
    }
    Ok(values)
}

/// Returns a one for every step that is not in `found`, with the labels that a selector names.
pub(super) fn absent_series(
    argument: Option<&PlanKind>,
    found: &Bitmap,
    steps: usize,
    drop_name: bool,
) -> Vec<Series> {
    let present = Bitmap::all(steps).and_not(found);
    if present.is_empty() {
        return Vec::new();
    }
    let matchers: &[LabelMatcher] = match argument {
        Some(PlanKind::Selector(selector)) => &selector.matchers,
        Some(PlanKind::Range(range)) => &range.selector.matchers,
        _ => &[],
    };
    vec![Series {
        labels: matched_labels(matchers),
        drop_name,
        column: Column {
            values: vec![1.0; steps],
            present,
            histograms: StepHistograms::default(),
        },
    }]
}

/// Returns the labels that matchers fix. A label with several conditions is not fixed.
fn matched_labels(matchers: &[LabelMatcher]) -> Labels {
    let mut builder = LabelsBuilder::new(&Labels::empty());
    let mut fixed: HashSet<&str> = HashSet::new();
    for matcher in matchers {
        let name = matcher.name();
        if name == METRIC_NAME {
            continue;
        }
        let parsed = matcher.matcher();
        if parsed.op == MatchOp::Equal && fixed.insert(name) {
            builder.set(name, &parsed.value.to_str_lossy());
        } else {
            builder.remove(name);
        }
    }
    builder.build()
}
