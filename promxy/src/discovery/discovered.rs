//! What the sources of a group know.

use std::sync::Arc;

use shared::discovery::targets::{Group, State};

use crate::{config::TargetGroup, labels::Labels, servergroup::targets::ADDRESS};

/// What all sources of a group know, in the order of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// Each source.
    pub sources: Vec<Found>,
}

/// What one source knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Whether it has ever answered. Before that, nothing is known, which is not the same as no targets.
    pub has_answered: bool,
    /// Why it could not be asked the last time, if so. What it said before still stands.
    pub failure: Option<Arc<str>>,
    /// Its target groups, in its order.
    pub entries: Arc<[Entry]>,
}

/// Targets that share labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The labels that all share, unless a target has its own of that name.
    pub labels: Labels,
    /// The labels of each, its address among them.
    pub targets: Vec<Labels>,
}

impl Discovered {
    /// Returns whether every source has answered.
    pub fn is_complete(&self) -> bool {
        self.sources.iter().all(|source| source.has_answered)
    }

    /// Returns the first failure that stands, if there is one.
    pub fn failure(&self) -> Option<&str> {
        let mut failures = self
            .sources
            .iter()
            .filter_map(|source| source.failure.as_deref());
        failures.next()
    }

    /// Returns each target's labels with those of its entry, as
    /// [`assemble_all`](crate::servergroup::targets::assemble_all) takes them.
    pub fn targets(&self) -> impl Iterator<Item = (&Labels, &Labels)> {
        let entries = self.sources.iter().flat_map(|source| source.entries.iter());
        entries.flat_map(|entry| entry.targets.iter().map(|target| (target, &entry.labels)))
    }

    pub(super) fn take(&mut self, index: usize, state: &State) {
        if let Some(source) = self.sources.get_mut(index) {
            *source = Found::of(state);
        }
    }
}

impl Found {
    /// What a static source knows.
    pub(super) fn listed(groups: &[TargetGroup]) -> Self {
        let entries = groups.iter().map(|group| {
            let targets = group.targets.iter();
            Entry {
                labels: group.labels.clone(),
                targets: targets
                    .map(|target| [(ADDRESS, target)].into_iter().collect())
                    .collect(),
            }
        });
        Self {
            has_answered: true,
            failure: None,
            entries: entries.collect(),
        }
    }

    /// Makes what a source knows that will never answer.
    pub(super) fn failed(reason: &str) -> Self {
        Self {
            has_answered: false,
            failure: Some(reason.into()),
            entries: Arc::default(),
        }
    }

    fn of(state: &State) -> Self {
        let groups = state.groups.as_deref().unwrap_or_default();
        Self {
            has_answered: state.groups.is_some(),
            failure: state.failure.clone(),
            entries: groups.iter().map(|group| Entry::of(group)).collect(),
        }
    }
}

impl Entry {
    fn of(group: &Group) -> Self {
        Self {
            labels: group.labels.iter().collect(),
            targets: group
                .targets
                .iter()
                .map(|target| target.iter().collect())
                .collect(),
        }
    }
}
