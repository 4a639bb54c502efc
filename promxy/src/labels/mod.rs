//! Label sets, and everything that a proxy does to them.
//!
//! In reading order:
//!
//! * [`Labels`], [`LabelsBuilder`]: a set of labels, and a set being changed
//! * [`condition`]: a matcher that can be asked
//! * [`relabel`]: Prometheus' relabelling rules, for targets
//! * [`metric_relabel`]: the reversible rules for series: forward on answers, backward on requests
//! * [`added`]: the labels that a group adds to its series, and what they do to requests
//! * [`inject`]: matchers that every request gets
//! * [`filter`]: which selectors a target can answer at all
//!
//! All of it is functions over values.

pub mod added;
pub mod condition;
pub mod filter;
pub mod inject;
pub mod metric_relabel;
pub mod relabel;

use std::{cmp::Ordering, fmt};

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// A set of labels, sorted by name, without empty values.
///
/// Names and values stand behind one another in one text, so that a set costs two blocks of memory however many labels it has.
///
/// ```
/// use promxy::labels::Labels;
///
/// let labels: Labels = [("job", "api"), ("__name__", "up"), ("env", "")].into_iter().collect();
/// assert_eq!(labels.to_string(), r#"{__name__="up", job="api"}"#);
/// assert_eq!(labels.get("job"), Some("api"));
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels {
    text: Box<str>,
    /// Where each name and each value ends, in turn.
    ends: Box<[u32]>,
}

impl Labels {
    /// Makes a set of pairs that are sorted by name, each name once and no value empty. Anything else is put right first.
    ///
    /// Of equal names the last counts.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> Self {
        let is_sorted = pairs.is_sorted_by(|a, b| a.0.as_ref() < b.0.as_ref());
        if is_sorted && pairs.iter().all(|(_, value)| !value.as_ref().is_empty()) {
            return Self::from_sorted(pairs);
        }
        let mut sorted: Vec<(&str, &str)> = Vec::with_capacity(pairs.len());
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        order.sort_by(|a, b| pairs[*a].0.as_ref().cmp(pairs[*b].0.as_ref()));
        for at in order {
            let (name, value) = (pairs[at].0.as_ref(), pairs[at].1.as_ref());
            if sorted.last().is_some_and(|last| last.0 == name) {
                sorted.pop();
            }
            sorted.push((name, value));
        }
        sorted.retain(|(_, value)| !value.is_empty());
        Self::from_sorted(&sorted)
    }

    fn from_sorted<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> Self {
        let length = |(name, value): &(N, V)| name.as_ref().len() + value.as_ref().len();
        let mut text = String::with_capacity(pairs.iter().map(length).sum());
        let mut ends = Vec::with_capacity(pairs.len() * 2);
        for (name, value) in pairs {
            for part in [name.as_ref(), value.as_ref()] {
                text.push_str(part);
                ends.push(text.len() as u32);
            }
        }
        let (text, ends) = (text.into_boxed_str(), ends.into_boxed_slice());
        Self { text, ends }
    }

    /// Returns names and values in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut from = 0;
        self.ends.chunks_exact(2).map(move |pair| {
            let (name_end, value_end) = (pair[0] as usize, pair[1] as usize);
            let name = self.text.get(from..name_end).unwrap_or_default();
            let value = self.text.get(name_end..value_end).unwrap_or_default();
            from = value_end;
            (name, value)
        })
    }

    /// Returns the value of a label, if it is in the set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|label| label.0 == name)
            .map(|label| label.1)
    }

    /// Returns how many labels there are.
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the set with labels of another in place of its own.
    #[must_use]
    pub fn with(&self, others: &Self) -> Self {
        if others.is_empty() {
            return self.clone();
        }
        let pairs: Vec<(&str, &str)> = self.iter().chain(others.iter()).collect();
        Self::from_pairs(&pairs)
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    /// Compares label by label, name before value, as Prometheus does; a set comes before another that goes on.
    fn cmp(&self, other: &Self) -> Ordering {
        if self.ends == other.ends {
            let is_same = self.text == other.text;
            if is_same {
                return Ordering::Equal;
            }
        }
        self.iter().cmp(other.iter())
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (position, (name, value)) in self.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            let value = promql::format::quote(value.as_bytes());
            write!(f, "{comma}{name}={value}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let pairs: Vec<(N, V)> = pairs.into_iter().collect();
        Self::from_pairs(&pairs)
    }
}

/// A set of labels that is being changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelsBuilder {
    /// Sorted by name, without empty values.
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Starts with a set.
    pub fn new(labels: &Labels) -> Self {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let pairs = labels.iter().map(own).collect();
        Self { pairs }
    }

    /// Returns the value of a label, empty if it is not in the set.
    pub fn get(&self, name: &str) -> &str {
        self.place(name).map_or("", |place| &self.pairs[place].1)
    }

    /// Gives a label a value; an empty one removes it.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.place(name) {
            Ok(place) if value.is_empty() => {
                self.pairs.remove(place);
            }
            Ok(place) => self.pairs[place].1 = value,
            Err(_) if value.is_empty() => {}
            Err(place) => self.pairs.insert(place, (name.to_owned(), value)),
        }
    }

    /// Removes the labels whose names a test does not keep.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.pairs.retain(|(name, _)| keep(name));
    }

    /// Returns names and values in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Returns the set as it is now.
    pub fn build(&self) -> Labels {
        Labels::from_sorted(&self.pairs)
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.pairs
            .binary_search_by(|(known, _)| known.as_str().cmp(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_compared_label_by_label() {
        let f = |smaller: &[(&str, &str)], larger: &[(&str, &str)]| {
            let (a, b) = (Labels::from_pairs(smaller), Labels::from_pairs(larger));
            assert_eq!(
                (a.cmp(&b), b.cmp(&a)),
                (Ordering::Less, Ordering::Greater),
                "{a} {b}"
            );
        };
        f(&[], &[("a", "b")]);
        f(&[("a", "b")], &[("a", "b"), ("c", "d")]);
        f(&[("a", "b")], &[("a", "c")]);
        f(&[("a", "zz")], &[("b", "a")]);
        // The same text, cut differently.
        f(&[("a", "bc")], &[("ab", "c")]);
    }

    #[test]
    fn of_equal_names_the_last_counts_and_empty_values_do_not() {
        let labels: Labels = [("b", "1"), ("a", "x"), ("b", "2"), ("a", "")]
            .into_iter()
            .collect();
        assert_eq!(labels.to_string(), r#"{b="2"}"#);
        let added: Labels = [("b", "3"), ("c", "4")].into_iter().collect();
        assert_eq!(labels.with(&added).to_string(), r#"{b="3", c="4"}"#);
    }

    #[test]
    fn a_builder_keeps_order_and_drops_what_is_empty() {
        let mut builder = LabelsBuilder::default();
        builder.set("b", "1");
        builder.set("a", "2");
        builder.set("c", "");
        builder.set("b", "");
        assert_eq!(builder.build().to_string(), r#"{a="2"}"#);
    }
}
