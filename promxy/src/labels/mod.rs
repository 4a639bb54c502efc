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

pub use promql::labels::{Labels, METRIC_NAME};

/// Returns a set with labels of another in place of its own.
#[must_use]
pub fn with(labels: &Labels, others: &Labels) -> Labels {
    if others.is_empty() {
        return labels.clone();
    }
    labels.iter().chain(others.iter()).collect()
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
        let pairs = self.pairs.iter();
        pairs.map(|(name, value)| (name, value)).collect()
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
    fn labels_of_the_other_set_win() {
        let labels: Labels = [("b", "2")].into_iter().collect();
        let added: Labels = [("b", "3"), ("c", "4")].into_iter().collect();
        assert_eq!(with(&labels, &added).to_string(), r#"{b="3", c="4"}"#);
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
