//! Where a group's targets come from: what discovery knows, as a group takes it.

use tokio::sync::watch;

use shared::lifecycle::Tasks;

use super::targets::ADDRESS;
use crate::{
    config::{Discovery, ServerGroup, TargetGroup},
    labels::Labels,
};

/// What discovery knows: targets in order, each with its own labels and those of its list; nothing before the first answer.
pub(crate) type Known = Option<Vec<(Labels, Labels)>>;

/// The discovery of a group, which outlives the group if a reload does not change it.
#[derive(Debug)]
pub(crate) struct Source {
    discovery: Vec<Discovery>,
    known: watch::Sender<Known>,
}

impl Source {
    /// Makes the discovery of a group. What stands in the file is known at once.
    pub(crate) fn new(group: &ServerGroup) -> Result<Self, String> {
        let mut targets = Vec::new();
        for discovery in &group.discovery {
            match discovery {
                Discovery::Static(groups) => targets.extend(groups.iter().flat_map(fixed)),
                other => return Err(format!("{other:?} is not built in")),
            }
        }
        Ok(Self {
            discovery: group.discovery.clone(),
            known: watch::Sender::new(Some(targets)),
        })
    }

    /// Whether this is the discovery of a configuration.
    pub(crate) fn is_of(&self, discovery: &[Discovery]) -> bool {
        self.discovery == discovery
    }

    /// Returns what is known, and every change of it.
    pub(crate) fn known(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    /// Starts to look for targets, unless that has begun.
    #[expect(clippy::unused_self, reason = "what stands in the file needs no task")]
    pub(crate) fn start(&self, _tasks: &Tasks) {}

    /// Ends looking for targets.
    #[expect(clippy::unused_self, reason = "what stands in the file needs no task")]
    pub(crate) fn stop(&self) {}
}

fn fixed(group: &TargetGroup) -> impl Iterator<Item = (Labels, Labels)> {
    let targets = group.targets.iter();
    targets.map(|address| {
        let own = [(ADDRESS, address.as_str())].into_iter().collect();
        (own, group.labels.clone())
    })
}
