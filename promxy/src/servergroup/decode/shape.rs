//! What a target's labels become while they are read.

use std::{borrow::Cow, sync::Arc};

use crate::labels::{
    Labels, LabelsBuilder,
    metric_relabel::{MetricRule, forward},
};

/// What is done to the labels of series: labels are added, then rules run.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    added: Labels,
    rules: Arc<[MetricRule]>,
}

impl Shape {
    /// Adds labels in place of equal ones, then applies rules.
    pub fn new(added: Labels, rules: Arc<[MetricRule]>) -> Self {
        Self { added, rules }
    }

    /// Makes the label set of a series.
    pub fn labels<'a>(&'a self, own: Vec<(Cow<'a, str>, Cow<'a, str>)>) -> Labels {
        let mut all = own;
        // Of equal names the last counts.
        let added = self.added.iter();
        all.extend(added.map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value))));
        self.changed(all.into_iter().collect())
    }

    /// Changes a label set as it would have been changed while it was read.
    pub fn of(&self, labels: &Labels) -> Labels {
        self.changed(crate::labels::with(labels, &self.added))
    }

    fn changed(&self, labels: Labels) -> Labels {
        if self.rules.is_empty() {
            return labels;
        }
        let mut builder = LabelsBuilder::new(&labels);
        forward(&self.rules, &mut builder);
        builder.build()
    }

    /// Whether two series of one answer can get the same labels.
    pub fn can_merge_series(&self) -> bool {
        !self.added.is_empty() || !self.rules.is_empty()
    }
}
