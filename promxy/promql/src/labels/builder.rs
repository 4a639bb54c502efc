//! Label sets made from others.

use crate::labels::Labels;

/// A label set with some labels replaced, added or removed.
///
/// ```
/// use promql::labels::{Labels, LabelsBuilder};
///
/// let labels: Labels = [("job", "api")].into_iter().collect();
/// let mut builder = LabelsBuilder::new(&labels);
/// builder.set("le", "0.5");
/// builder.remove("job");
/// assert_eq!(builder.build().to_string(), r#"{le="0.5"}"#);
/// ```
#[derive(Clone, Debug)]
pub struct LabelsBuilder {
    /// Of pairs with the same name the last counts; one without a value is none.
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Starts with the labels of a set.
    pub fn new(base: &Labels) -> Self {
        let pairs = base
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { pairs }
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) {
        self.pairs.push((name.to_owned(), value.to_owned()));
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &str) {
        self.set(name, "");
    }

    /// Returns the value of a label as it is by now.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut latest = self.pairs.iter().rev();
        let found = latest.find(|(present, _)| present == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Returns the set.
    pub fn build(self) -> Labels {
        self.pairs.into_iter().collect()
    }
}
