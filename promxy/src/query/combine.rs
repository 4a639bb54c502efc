//! The answers of groups as one vector.
//!
//! What groups answer to a selector or a function are series: equal ones are one series, of which each group may have some times.
//! What they answer to an aggregation are parts of a whole, if groups hold different series. Whether they do is configured
//! ([`Groups`]): by default equal partial results are taken for copies, and the first group's counts.

use std::collections::HashMap;

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
    // Within one group, rules on labels can make series equal.
    merge::unique(series, context)
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
    (sums(&partial, group, steps), copies)
}

/// Returns sums divided by counts, both by a grouping.
pub(super) fn quotient(
    summed: Answered,
    counted: Answered,
    group: &Group,
    groups: Groups,
) -> (Columns, Copies) {
    let steps = summed.grid.len();
    let (summed, copies) = whole(summed.parts, &summed.grid, groups);
    let (counted, _) = whole(counted.parts, &counted.grid, groups);
    let counts: HashMap<Labels, Column<Native>> = sums(&counted, group, steps)
        .into_iter()
        .map(|series| (series.labels, series.data))
        .collect();
    let mut averages = sums(&summed, group, steps);
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

/// The sums of a group at every step, with what rounding has lost of them, as the engine's own sums (Kahan and Neumaier).
struct Sum {
    labels: Labels,
    column: Column<Native>,
    lost: Vec<f64>,
}

/// Sums partial results by a grouping.
fn sums(partial: &Columns, group: &Group, steps: usize) -> Columns {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut sums: Vec<Sum> = Vec::new();
    for series in partial {
        let labels = group.labels(&series.labels);
        let place = *places.entry(labels).or_insert_with_key(|labels| {
            sums.push(Sum {
                labels: labels.clone(),
                column: Column::empty(steps),
                lost: vec![0.0; steps],
            });
            sums.len() - 1
        });
        let Sum { column, lost, .. } = &mut sums[place];
        for (step, value) in series.data.iter() {
            let mut sum = column.get(step).unwrap_or(0.0);
            add(value, &mut sum, &mut lost[step]);
            column.set(step, sum);
        }
    }
    let finished = sums.into_iter().map(|sum| {
        let Sum {
            labels,
            column: mut data,
            lost,
        } = sum;
        for (step, lost) in lost.iter().enumerate().filter(|(_, lost)| **lost != 0.0) {
            if let Some(sum) = data.get(step).filter(|sum| sum.is_finite()) {
                data.set(step, sum + lost);
            }
        }
        Series { labels, data }
    });
    finished.collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn one(labels: &[(&str, &str)], value: f64) -> Series<Column<Native>> {
        let labels = labels.iter().copied().collect();
        let mut data = Column::empty(1);
        data.set(0, value);
        Series { labels, data }
    }

    #[test]
    fn sums_keep_what_rounding_loses_and_infinity() {
        let by = Group {
            names: vec!["g".to_owned()],
            is_only: true,
        };
        let f = |values: &[f64], expected: f64| {
            let partial = values
                .iter()
                .map(|value| one(&[("g", "x"), ("h", "y")], *value));
            let summed = sums(&partial.collect(), &by, 1);
            assert_eq!(summed.len(), 1);
            assert_eq!(summed[0].labels.to_string(), r#"{g="x"}"#);
            assert_eq!(
                summed[0].data.get(0).map(f64::to_bits),
                Some(expected.to_bits())
            );
        };
        f(&[1e100, 1.0, -1e100], 1.0);
        f(&[1.0, f64::INFINITY, 2.0], f64::INFINITY);
        f(&[0.1; 10], 1.0);
    }

    #[test]
    fn groups_without_labels_keep_all_but_the_name() {
        let without = Group {
            names: vec!["g".to_owned()],
            is_only: false,
        };
        let labels = [("__name__", "m"), ("g", "x"), ("h", "y")]
            .into_iter()
            .collect();
        assert_eq!(without.labels(&labels).to_string(), r#"{h="y"}"#);
    }
}
