//! The answers of groups as one vector.
//!
//! What groups answer to a selector or a function are series: equal ones are one series, of which each group may have some times.
//! What they answer to an aggregation are parts of a whole, if groups hold different series. Whether they do is configured
//! ([`Groups`]): by default equal partial results are taken for copies, and the first group's counts.

use std::collections::{HashMap, HashSet};

use promql::parser::AggregateOp;

use super::places::Group;
use crate::{
    config::Groups,
    labels::{Labels, METRIC_NAME},
    merge::{self, Mergeable, Options},
    series::{Column, Native, Series},
    servergroup::time_range::Grid,
    upstream::Part,
};

/// Series on a grid.
pub(super) type Columns = Vec<Series<Column<Native>>>;

/// What groups have answered, and when they were asked.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) parts: Vec<Part<Column<Native>>>,
    pub(super) grid: Grid,
}

/// Whether equal partial results of several groups were taken for copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copies {
    /// They were, so a sum may be too small.
    Taken,
    /// There were none.
    None,
}

/// Returns the series of all groups, no two of which have the same labels.
pub(super) fn series<D: Mergeable>(parts: Vec<Part<D>>, context: &D::Context) -> Vec<Series<D>> {
    let series = merge::sets(members(parts), Options::GROUPS, context);
    if !has_equal_labels(&series) {
        return series;
    }
    // Within one group, rules on labels can make series equal.
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut unique: Vec<Series<D>> = Vec::with_capacity(series.len());
    for next in series {
        if let Some(place) = places.get(&next.labels) {
            let first = unique.swap_remove(*place);
            let data = first.data.merge(next.data, Options::GROUPS, context);
            let labels = first.labels;
            unique.push(Series { labels, data });
            let last = unique.len() - 1;
            unique.swap(*place, last);
        } else {
            places.insert(next.labels.clone(), unique.len());
            unique.push(next);
        }
    }
    unique
}

/// Returns partial results of an aggregation, for the engine to finish. Of sums and the like, several may have the same labels.
pub(super) fn partial(answered: Answered, op: AggregateOp, groups: Groups) -> (Columns, Copies) {
    let Answered { parts, grid } = answered;
    // These return series, which are no parts of anything.
    if matches!(op, AggregateOp::Topk | AggregateOp::Bottomk) {
        return (series(parts, &grid), Copies::None);
    }
    whole(parts, &grid, groups)
}

/// Returns the sums of partial results by a grouping.
pub(super) fn sum(answered: Answered, group: &Group, groups: Groups) -> (Columns, Copies) {
    let steps = answered.grid.len();
    let (partial, copies) = whole(answered.parts, &answered.grid, groups);
    let sums = Sums::of(&partial, group, steps);
    (sums.finish(), copies)
}

/// Returns sums divided by counts, both by a grouping.
pub(super) fn quotient(
    sums: Answered,
    counts: Answered,
    group: &Group,
    groups: Groups,
) -> (Columns, Copies) {
    let steps = sums.grid.len();
    let (sums, copies) = whole(sums.parts, &sums.grid, groups);
    let (counts, _) = whole(counts.parts, &counts.grid, groups);
    let counts = Sums::of(&counts, group, steps).finish();
    let counts: HashMap<Labels, Column<Native>> = counts
        .into_iter()
        .map(|series| (series.labels, series.data))
        .collect();
    let mut averages = Sums::of(&sums, group, steps).finish();
    for series in &mut averages {
        let mut average = Column::empty(steps);
        if let Some(count) = counts.get(&series.labels) {
            for (step, sum) in series.data.iter() {
                if let Some(count) = count.get(step) {
                    average.set(step, sum / count);
                }
            }
        }
        series.data = average;
    }
    (averages, copies)
}

/// Returns all partial results that count.
fn whole(parts: Vec<Part<Column<Native>>>, grid: &Grid, groups: Groups) -> (Columns, Copies) {
    match groups {
        Groups::Disjoint => {
            let all = members(parts).into_iter().flatten();
            (all.collect(), Copies::None)
        }
        Groups::Overlapping => {
            let copies = copies(&parts);
            let series = merge::sets(members(parts), Options::GROUPS, grid);
            (series, copies)
        }
    }
}

fn members<D>(parts: Vec<Part<D>>) -> Vec<Vec<Series<D>>> {
    let parts = parts.into_iter().map(|part| part.series);
    parts.filter(|series| !series.is_empty()).collect()
}

fn copies(parts: &[Part<Column<Native>>]) -> Copies {
    let mut seen: HashMap<&Labels, usize> = HashMap::new();
    let with_series = parts.iter().filter(|part| !part.series.is_empty());
    if with_series.count() < 2 {
        return Copies::None;
    }
    for part in parts {
        for series in &part.series {
            if *seen.entry(&series.labels).or_insert(part.group) != part.group {
                return Copies::Taken;
            }
        }
    }
    Copies::None
}

fn has_equal_labels<D>(series: &[Series<D>]) -> bool {
    let mut hashes: Vec<u64> = series.iter().map(|series| series.labels.hash64()).collect();
    hashes.sort_unstable();
    if hashes.windows(2).all(|pair| pair[0] < pair[1]) {
        return false;
    }
    let mut seen = HashSet::new();
    !series.iter().all(|series| seen.insert(&series.labels))
}

impl Group {
    /// Returns the labels of the group that a series belongs to.
    fn labels(&self, of: &Labels) -> Labels {
        let lists = |name: &str| self.names.iter().any(|listed| listed == name);
        let kept = of.iter().filter(|(name, _)| {
            if self.is_only {
                lists(name)
            } else {
                *name != METRIC_NAME && !lists(name)
            }
        });
        kept.collect()
    }
}

/// Sums by group and step, each with what rounding has lost, as the engine's own sums (Kahan and Neumaier).
struct Sums {
    groups: Vec<(Labels, Vec<f64>, Vec<f64>, Vec<bool>)>,
}

impl Sums {
    fn of(partial: &Columns, group: &Group, steps: usize) -> Self {
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut groups: Vec<(Labels, Vec<f64>, Vec<f64>, Vec<bool>)> = Vec::new();
        for series in partial {
            let labels = group.labels(&series.labels);
            let place = *places.entry(labels).or_insert_with_key(|labels| {
                let zeros = || vec![0.0; steps];
                groups.push((labels.clone(), zeros(), zeros(), vec![false; steps]));
                groups.len() - 1
            });
            let (_, sums, lost, present) = &mut groups[place];
            for (step, value) in series.data.iter() {
                present[step] = true;
                add(value, &mut sums[step], &mut lost[step]);
            }
        }
        Self { groups }
    }

    fn finish(self) -> Columns {
        let groups = self.groups.into_iter();
        let finished = groups.map(|(labels, sums, lost, present)| {
            let mut data = Column::empty(sums.len());
            let steps = sums.iter().zip(&lost).zip(&present).enumerate();
            for (step, ((sum, lost), _)) in steps.filter(|(_, (_, present))| **present) {
                let sum = if sum.is_finite() { sum + lost } else { *sum };
                data.set(step, sum);
            }
            Series { labels, data }
        });
        finished.collect()
    }
}

/// Adds a number to a sum and what was lost of it before.
fn add(value: f64, sum: &mut f64, lost: &mut f64) {
    let total = *sum + value;
    *lost = if total.is_infinite() {
        0.0
    } else if sum.abs() >= value.abs() {
        *lost + ((*sum - total) + value)
    } else {
        *lost + ((value - total) + *sum)
    };
    *sum = total;
}
