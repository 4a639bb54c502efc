//! `info`: series enriched with the labels of info metrics of the same instance and job.
//!
//! Follows `promql/info.go`; pinned by `info.test`. The reference selects info series when it knows the values of `instance` and `job`;
//! here they are selected with all other series, and those of other instances and jobs left out afterwards.

mod by_rank;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use super::selector::sample_times;
use super::{Bitmap, Column, Context, Evaluated, Evaluator, Grid, Series};
use crate::error::QueryError;
use crate::labels::{LabelMatcher, Labels, LabelsBuilder, METRIC_NAME};
use crate::parser::Compat;
use crate::plan::{CallPlan, InfoPlan, PlanKind, PlanNode, effective_info_names};
use crate::storage::{Samples, SeriesData};

/// The labels that info series are found by.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

impl Evaluator<'_, '_> {
    pub(super) fn info(
        &mut self,
        node: &PlanNode,
        call: &CallPlan,
    ) -> Result<Evaluated, QueryError> {
        let base = self.series(call.args[0]);
        let matchers: &[LabelMatcher] = match call.args.get(1).map(|arg| &self.plan_node(*arg).kind)
        {
            Some(PlanKind::Selector(selector)) => &selector.matchers,
            _ => &[],
        };
        let compat = self.context.options.parser.compat;
        // 3.5 takes series for info series only by conditions that are given.
        let names = match compat {
            Compat::V3_5 if call.args.len() > 1 => named(matchers),
            _ => effective_info_names(matchers, compat),
        };
        let mut wanted: BTreeMap<&str, Vec<&LabelMatcher>> = BTreeMap::new();
        for matcher in matchers.iter().filter(|m| m.name() != METRIC_NAME) {
            wanted.entry(matcher.name()).or_default().push(matcher);
        }
        let is_info: Result<Vec<bool>, QueryError> = base
            .iter()
            .map(|series| {
                self.context.check()?;
                let name = series.labels.metric_name();
                let matches = |matcher: &LabelMatcher| matcher.matches(name);
                Ok(match compat {
                    Compat::V3_5 => names.iter().any(matches),
                    Compat::V3_14 => names.iter().all(matches),
                })
            })
            .collect();
        let is_info = is_info?;
        let identities = Identities::of(&base, &is_info);
        // 3.5 trips over a second condition on the name.
        let conditions = matchers.iter().filter(|m| m.name() == METRIC_NAME).count();
        if compat == Compat::V3_5 && conditions > 1 && !identities.is_empty() {
            return Err(QueryError::execution(
                "unexpected error: runtime error: invalid memory address or nil pointer dereference",
            ));
        }
        let infos = match &call.info {
            Some(info) if !identities.is_empty() => {
                let data = &self.context.data[info.select];
                let found = data
                    .iter()
                    .filter(|series| identities.admit(&series.labels));
                info_series(found, node.grid, info, self.context)?
            }
            _ => Vec::new(),
        };
        // Without anything to find info series by, 3.5 forgets that conditions on names are none on labels.
        if compat == Compat::V3_5 && identities.is_empty() {
            let given = matchers
                .iter()
                .filter(|matcher| matcher.name() == METRIC_NAME);
            wanted.entry(METRIC_NAME).or_default().extend(given);
        }
        let join = Join::new(&infos, &wanted, compat);
        let output = join.enrich(base, &is_info, node.grid, self.context)?;
        Ok(Evaluated::Matrix(output))
    }
}

/// Returns the conditions on metric names.
fn named(matchers: &[LabelMatcher]) -> Vec<LabelMatcher> {
    let on_names = matchers.iter().filter(|m| m.name() == METRIC_NAME);
    on_names.cloned().collect()
}

/// The values that identifying labels have in series that are to be enriched.
struct Identities<'b> {
    values: [BTreeSet<&'b str>; 2],
}

impl<'b> Identities<'b> {
    fn of(base: &'b [Series], is_info: &[bool]) -> Self {
        let mut values = [BTreeSet::new(), BTreeSet::new()];
        let to_enrich = base.iter().zip(is_info).filter(|(_, is_info)| !**is_info);
        for (series, _) in to_enrich {
            for (name, values) in IDENTIFYING.iter().zip(&mut values) {
                values.extend(series.labels.get(name));
            }
        }
        Self { values }
    }

    fn is_empty(&self) -> bool {
        self.values.iter().all(BTreeSet::is_empty)
    }

    /// Whether an info series could belong to any of the series.
    fn admit(&self, labels: &Labels) -> bool {
        IDENTIFYING.iter().zip(&self.values).all(|(name, values)| {
            values.is_empty() || values.contains(labels.get(name).unwrap_or_default())
        })
    }
}

/// An info series: its labels, and when its sample of each step was taken.
struct Info {
    labels: Labels,
    /// The times in milliseconds as numbers.
    taken: Column,
}

fn info_series<'d>(
    series: impl Iterator<Item = &'d SeriesData>,
    grid: Grid,
    plan: &InfoPlan,
    context: &mut Context<'_>,
) -> Result<Vec<Info>, QueryError> {
    let mut infos = Vec::new();
    for series in series {
        let samples = clipped(&series.samples, (plan.start, plan.end));
        let offset = |time: i64| {
            let to_time = plan.at.map_or(0, |at| time.saturating_sub(at));
            plan.offset.saturating_add(to_time)
        };
        let times = sample_times(&samples, grid, offset, context.lookback, context.cancel)?;
        let mut taken = Column::empty(grid.count);
        for (step, time, _) in times {
            if samples.histogram_timestamps.binary_search(&time).is_ok() {
                return Err(QueryError::execution(format!(
                    "this should be an info metric, with float samples: {}",
                    series.labels
                )));
            }
            taken.set_float(grid.count, step, time as f64);
        }
        if !taken.is_empty() {
            context.make_room(grid.count)?;
            infos.push(Info {
                labels: series.labels.clone(),
                taken,
            });
        }
    }
    Ok(infos)
}

/// Returns the samples between two times, for where it shows that the reference's storage has no others to give.
pub(super) fn clipped(samples: &Samples, (start, end): (i64, i64)) -> Samples {
    let range = |times: &[i64]| {
        let from = times.partition_point(|time| *time < start);
        let to = times.partition_point(|time| *time <= end);
        from..to.max(from)
    };
    let floats = range(&samples.timestamps);
    let histograms = range(&samples.histogram_timestamps);
    Samples {
        timestamps: samples.timestamps[floats.clone()].to_vec(),
        values: samples.values[floats.clone()].to_vec(),
        histogram_timestamps: samples.histogram_timestamps[histograms.clone()].to_vec(),
        histograms: samples.histograms[histograms.clone()].to_vec(),
        start_timestamps: kept_starts(&samples.start_timestamps, floats),
        histogram_start_timestamps: kept_starts(&samples.histogram_start_timestamps, histograms),
    }
}

/// Start times are there for all samples or for none.
fn kept_starts(starts: &[i64], range: Range<usize>) -> Vec<i64> {
    starts.get(range).map_or_else(Vec::new, <[i64]>::to_vec)
}

/// Which info series go with which series.
struct Join<'i> {
    infos: &'i [Info],
    /// The labels that are asked for, with conditions; none means all.
    wanted: &'i BTreeMap<&'i str, Vec<&'i LabelMatcher>>,
    /// The names of info metrics.
    names: BTreeSet<&'i str>,
    /// The info series by metric name, instance and job.
    places: HashMap<(&'i str, [&'i str; 2]), Vec<usize>>,
    compat: Compat,
}

fn identity(labels: &Labels) -> [&str; 2] {
    IDENTIFYING.map(|name| labels.get(name).unwrap_or_default())
}

impl<'i> Join<'i> {
    fn new(
        infos: &'i [Info],
        wanted: &'i BTreeMap<&'i str, Vec<&'i LabelMatcher>>,
        compat: Compat,
    ) -> Self {
        let mut names = BTreeSet::new();
        let mut places: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, info) in infos.iter().enumerate() {
            let name = info.labels.metric_name();
            names.insert(name);
            places
                .entry((name, identity(&info.labels)))
                .or_default()
                .push(index);
        }
        Self {
            infos,
            wanted,
            names,
            places,
            compat,
        }
    }

    fn enrich(
        &self,
        base: Vec<Series>,
        is_info: &[bool],
        grid: Grid,
        context: &mut Context<'_>,
    ) -> Result<Vec<Series>, QueryError> {
        let mut any_base = Bitmap::none(grid.count);
        for series in &base {
            any_base.or_with(&series.column.steps());
        }
        for rows in self.places.values().filter(|rows| rows.len() > 1) {
            context.check()?;
            for step in any_base.iter() {
                context.check()?;
                self.newest(rows, step)?;
            }
        }
        let by_rank = if self.compat == Compat::V3_5 && self.has_gaps(&base, &any_base) {
            Some(self.enriched_by_rank(&base, is_info, grid, context)?)
        } else {
            None
        };
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut output: Vec<Series> = Vec::new();
        // 3.5 forgets that a name was to be dropped at the end of the query.
        let mut add = |labels: Labels, drop_name: bool, column: Column| {
            let drop_name = drop_name && self.compat != Compat::V3_5;
            let next = output.len();
            let place = *places.entry(labels.clone()).or_insert(next);
            if place == next {
                output.push(Series {
                    labels,
                    drop_name,
                    column,
                });
                return Ok(());
            }
            let taken = output[place].column.absorb(column);
            taken.map_err(|_| QueryError::duplicate_labels())
        };
        if let Some(by_rank) = by_rank {
            for (labels, column) in by_rank.into_iter().flatten() {
                add(labels, false, column)?;
            }
            return Ok(output);
        }
        for (series, is_info) in base.into_iter().zip(is_info) {
            context.check()?;
            if *is_info {
                add(series.labels, series.drop_name, series.column)?;
                continue;
            }
            for (labels, column) in self.enriched(&series, grid, context)? {
                add(labels, series.drop_name, column)?;
            }
        }
        Ok(output)
    }

    /// Returns a series under the labels that it has from step to step.
    fn enriched(
        &self,
        series: &Series,
        grid: Grid,
        context: &mut Context<'_>,
    ) -> Result<Vec<(Labels, Column)>, QueryError> {
        let identity = identity(&series.labels);
        let rows: Vec<&Vec<usize>> = self
            .names
            .iter()
            .filter_map(|name| self.places.get(&(*name, identity)))
            .collect();
        let mut parts: Vec<(Vec<usize>, Option<Labels>, Column)> = Vec::new();
        for step in series.column.steps().iter() {
            context.check()?;
            let mut chosen = Vec::with_capacity(rows.len());
            for rows in &rows {
                chosen.extend(self.newest(rows, step)?);
            }
            let known = parts.iter().position(|(known, _, _)| *known == chosen);
            let place = if let Some(place) = known {
                place
            } else {
                let labels = self.labels(&series.labels, &chosen)?;
                context.make_room(grid.count)?;
                context
                    .budget
                    .take(labels.as_ref().map_or(0, Labels::held))?;
                parts.push((chosen, labels, Column::empty(grid.count)));
                parts.len() - 1
            };
            if let Some(sample) = series.column.sample(step) {
                parts[place].2.push(grid.count, step, sample);
            }
        }
        let named = parts.into_iter();
        Ok(named
            .filter_map(|(_, labels, column)| Some((labels?, column)))
            .collect())
    }

    /// Returns the info series with the newest sample at a step, of which there must not be two.
    fn newest(&self, rows: &[usize], step: usize) -> Result<Option<usize>, QueryError> {
        let mut newest: Option<(usize, f64)> = None;
        for row in rows {
            let Some(taken) = self.infos[*row].taken.float(step) else {
                continue;
            };
            match newest {
                Some((_, known)) if known > taken => {}
                Some((other, known)) if known == taken => {
                    if self.compat == Compat::V3_5 {
                        let name = self.infos[other].labels.metric_name();
                        return Err(QueryError::execution(format!(
                            "found duplicate series for info metric {name}"
                        )));
                    }
                    return Err(QueryError::execution(format!(
                        "found duplicate series for info metric: existing {} @ {known}, new {} @ {taken}",
                        self.infos[other].labels, self.infos[*row].labels
                    )));
                }
                _ => newest = Some((*row, taken)),
            }
        }
        Ok(newest.map(|(row, _)| row))
    }

    /// Returns the labels of a series together with those of info series; nothing if labels that are asked for cannot be had.
    fn labels(&self, base: &Labels, infos: &[usize]) -> Result<Option<Labels>, QueryError> {
        let all_optional = || {
            let mut matchers = self.wanted.values().flatten();
            matchers.all(|matcher| matcher.matches(""))
        };
        if infos.is_empty() {
            return Ok(all_optional().then(|| base.clone()));
        }
        let mut added = LabelsBuilder::new(&Labels::empty());
        for info in infos {
            for (name, value) in self.infos[*info].labels.iter() {
                if name == METRIC_NAME || !self.wanted.is_empty() && !self.wanted.contains_key(name)
                {
                    continue;
                }
                if added.get(name).is_some_and(|known| known != value) {
                    return Err(QueryError::execution(format!("conflicting label: {name}")));
                }
                if base.get(name).is_none() {
                    added.set(name, value);
                }
            }
        }
        let added = added.build();
        if added.is_empty() && self.compat == Compat::V3_5 && !all_optional() {
            return Ok(None);
        }
        let mut enriched = LabelsBuilder::new(base);
        for (name, value) in added.iter() {
            enriched.set(name, value);
        }
        Ok(Some(enriched.build()))
    }
}
