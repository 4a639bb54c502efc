//! The answers of replicas and groups as one.
//!
//! In reading order:
//!
//! * [`Options`]: how near samples may be, and which of two near ones is taken
//! * [`Mergeable`]: what two series of the same labels become: [`samples`] at their own times, [`columns`] on a grid
//! * [`sets`]: series by series, over any number of members, in the order of members
//! * [`words`]: label names and values; [`label_sets`]: lists of series
//!
//! A member is a replica, or the merged answer of a group. The first member's series is the base of a merge unless a later one has
//! more samples.

pub mod columns;
pub mod samples;

use std::collections::{HashMap, HashSet};

use crate::{labels::Labels, series::Series};

/// How two series of the same labels become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How near samples of two members may be before one of them is left out. Milliseconds.
    pub buffer_ms: i64,
    /// Whether that is guessed from the samples themselves where there are enough of them.
    pub dynamic: bool,
    /// Whether of two near samples the larger is taken.
    pub prefer_max: bool,
}

impl Options {
    /// How groups are merged: every time of any group, of equal times the first group's.
    pub const GROUPS: Self = Self {
        buffer_ms: 0,
        dynamic: false,
        prefer_max: false,
    };
}

/// What series hold, if two of them can become one.
pub trait Mergeable: Sized {
    /// What a merge has to know beside the two: the times of columns.
    type Context: ?Sized;

    /// Merges a later member's series into this one.
    #[must_use]
    fn merge(self, later: Self, options: Options, context: &Self::Context) -> Self;
}

/// Merges the series of members.
///
/// One member's series pass as they are. The series of several are sorted by labels; equal ones are merged from the first member to
/// the last. Equal series within one member stay apart: the second of one goes with the second of the others.
pub fn sets<D: Mergeable>(
    mut members: Vec<Vec<Series<D>>>,
    options: Options,
    context: &D::Context,
) -> Vec<Series<D>> {
    if members.len() < 2 {
        return members.pop().unwrap_or_default();
    }
    let mut all: Vec<(usize, Series<D>)> = Vec::with_capacity(members.iter().map(Vec::len).sum());
    for (member, series) in members.into_iter().enumerate() {
        all.extend(series.into_iter().map(|series| (member, series)));
    }
    // Members are mostly sorted, which this sort makes use of, and it keeps their order among equals.
    all.sort_by(|a, b| a.1.labels.cmp(&b.1.labels));
    let mut merged: Vec<Series<D>> = Vec::with_capacity(all.len());
    // Where the series with the present labels begin, and how many of them the present member has had.
    let (mut first, mut member_before, mut nth) = (0, usize::MAX, 0);
    for (member, series) in all {
        let is_new = merged
            .get(first)
            .is_none_or(|same| same.labels != series.labels);
        if is_new {
            first = merged.len();
        }
        nth = if !is_new && member == member_before {
            nth + 1
        } else {
            0
        };
        member_before = member;
        if first + nth < merged.len() {
            let Series { labels, data } = merged.swap_remove(first + nth);
            let data = data.merge(series.data, options, context);
            merged.push(Series { labels, data });
            let last = merged.len() - 1;
            merged.swap(first + nth, last);
        } else {
            merged.push(series);
        }
    }
    merged
}

/// Merges series of one member that have the same labels, as series of groups are merged. The others stay where they are.
pub fn unique<D: Mergeable>(series: Vec<Series<D>>, context: &D::Context) -> Vec<Series<D>> {
    let mut seen = HashSet::with_capacity(series.len());
    if series.iter().all(|series| seen.insert(&series.labels)) {
        return series;
    }
    drop(seen);
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(series.len());
    let mut merged: Vec<Option<Series<D>>> = Vec::with_capacity(series.len());
    for Series { labels, data } in series {
        let place = *places.entry(labels.clone()).or_insert(merged.len());
        match merged.get_mut(place).map(Option::take) {
            Some(Some(first)) => {
                let data = first.data.merge(data, Options::GROUPS, context);
                merged[place] = Some(Series { labels, data });
            }
            _ => merged.push(Some(Series { labels, data })),
        }
    }
    merged.into_iter().flatten().collect()
}

/// Merges sorted or unsorted lists of words: label names, label values. The result is sorted, each word once.
pub fn words(members: Vec<Vec<String>>) -> Vec<String> {
    let mut words: Vec<String> = members.into_iter().flatten().collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Merges lists of label sets: each set once, in the order in which they come first.
pub fn label_sets(members: Vec<Vec<Labels>>) -> Vec<Labels> {
    let mut seen = HashSet::new();
    let all = members.into_iter().flatten();
    all.filter(|labels| seen.insert(labels.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers what was merged.
    #[derive(Debug, PartialEq)]
    struct Trace(String);

    impl Mergeable for Trace {
        type Context = ();

        fn merge(self, later: Self, _: Options, (): &()) -> Self {
            Self(self.0 + &later.0)
        }
    }

    #[test]
    fn equal_series_are_merged_in_the_order_of_members() {
        let member = |series: &[(&str, &str)]| {
            let series = series.iter();
            let make = |(name, data): &(&str, &str)| Series {
                labels: [("a", *name)].into_iter().collect(),
                data: Trace((*data).to_owned()),
            };
            series.map(make).collect::<Vec<_>>()
        };
        let members = vec![
            member(&[("c", "1"), ("a", "2"), ("d", "3")]),
            member(&[("a", "4"), ("a", "5"), ("b", "6")]),
            member(&[("a", "7"), ("a", "8"), ("d", "9")]),
        ];
        let merged = sets(members, Options::GROUPS, &());
        let traces: Vec<&str> = merged.iter().map(|series| series.data.0.as_str()).collect();
        assert_eq!(traces, ["247", "58", "6", "1", "39"]);
        let twice = member(&[("c", "1"), ("a", "2"), ("c", "3")]);
        let unique = unique(twice, &());
        let traces: Vec<&str> = unique.iter().map(|series| series.data.0.as_str()).collect();
        assert_eq!(traces, ["13", "2"]);
        let alone = sets(
            vec![member(&[("c", "1"), ("a", "2")])],
            Options::GROUPS,
            &(),
        );
        assert_eq!(alone[0].data.0, "1");
    }

    #[test]
    fn words_and_label_sets_come_once() {
        let list = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            words(vec![list(&["b", "a"]), list(&["c", "b"])]),
            ["a", "b", "c"]
        );
        let set = |value: &str| -> Labels { [("x", value)].into_iter().collect() };
        let merged = label_sets(vec![vec![set("2"), set("1")], vec![set("1"), set("3")]]);
        assert_eq!(merged, [set("2"), set("1"), set("3")]);
    }
}
