//! The plain observer: exact sums.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use super::{Event, Loss, Observer, WasQueued};

/// An observer that adds up. Cloning gives another handle on the same sums.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    sums: Arc<Mutex<Sums>>,
}

/// What [`Totals`] has added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    /// By ring member, also those that have left.
    pub destinations: BTreeMap<String, DestinationSums>,
    /// Lost without ever being queued, by reason.
    pub never_queued: BTreeMap<Loss, u64>,
    /// Metrics in all batches.
    pub received: u64,
}

/// The sums of one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DestinationSums {
    /// Queued for it.
    pub accepted: u64,
    /// Arrived there.
    pub delivered: u64,
    /// Queued and given up, by reason.
    pub lost: BTreeMap<Loss, u64>,
    /// Queued and then placed elsewhere.
    pub moved: u64,
}

impl DestinationSums {
    /// Returns what is neither delivered nor lost nor moved: it is queued or on its way.
    pub fn queued(&self) -> u64 {
        let lost: u64 = self.lost.values().sum();
        self.accepted
            .wrapping_sub(self.delivered)
            .wrapping_sub(lost)
            .wrapping_sub(self.moved)
    }
}

impl Sums {
    /// Returns what was delivered to all destinations.
    pub fn delivered(&self) -> u64 {
        let destinations = self.destinations.values();
        destinations.map(|sums| sums.delivered).sum()
    }

    /// Returns what was lost anywhere, by reason.
    pub fn lost(&self) -> BTreeMap<Loss, u64> {
        let mut lost = self.never_queued.clone();
        for (reason, count) in self.destinations.values().flat_map(|sums| &sums.lost) {
            *lost.entry(*reason).or_default() += count;
        }
        lost
    }

    /// Returns what is queued or on its way anywhere.
    pub fn queued(&self) -> u64 {
        self.destinations
            .values()
            .map(DestinationSums::queued)
            .sum()
    }
}

impl Totals {
    /// Returns the sums as they stand.
    pub fn sums(&self) -> Sums {
        self.sums.lock().clone()
    }

    fn of(&self, destination: &str, change: impl FnOnce(&mut DestinationSums)) {
        let mut sums = self.sums.lock();
        if let Some(known) = sums.destinations.get_mut(destination) {
            change(known);
        } else {
            change(sums.destinations.entry(destination.to_owned()).or_default());
        }
    }
}

impl Observer for Totals {
    fn event(&self, event: &Event<'_>) {
        match *event {
            Event::Batch { metrics, .. } => self.sums.lock().received += metrics as u64,
            Event::Queued {
                destination,
                metrics,
                ..
            } => self.of(destination, |sums| sums.accepted += metrics as u64),
            Event::Delivered {
                destination,
                metrics,
                ..
            } => self.of(destination, |sums| sums.delivered += metrics as u64),
            Event::Moved {
                destination,
                metrics,
            } => self.of(destination, |sums| sums.moved += metrics as u64),
            Event::Lost {
                destination: Some(destination),
                metrics,
                reason,
                queued: WasQueued::Yes,
                ..
            } => self.of(destination, |sums| {
                *sums.lost.entry(reason).or_default() += metrics as u64;
            }),
            Event::Lost {
                metrics, reason, ..
            } => *self.sums.lock().never_queued.entry(reason).or_default() += metrics as u64,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::forward::{Inbound, Protocol};

    #[test]
    fn sums_add_up_per_destination() {
        let totals = Totals::default();
        let lost = |destination, queued| Event::Lost {
            destination,
            protocol: None,
            inbound: None,
            metrics: 2,
            reason: Loss::Timeout,
            failure: None,
            queued,
        };
        totals.event(&Event::Queued {
            destination: "a",
            protocol: Protocol::Http,
            inbound: Inbound::Http,
            metrics: 10,
        });
        totals.event(&Event::Delivered {
            destination: "a",
            protocol: Protocol::Http,
            metrics: 5,
            took: Duration::ZERO,
            queued: Duration::ZERO,
        });
        totals.event(&lost(Some("a"), WasQueued::Yes));
        totals.event(&lost(Some("a"), WasQueued::No));
        totals.event(&lost(None, WasQueued::No));
        totals.event(&Event::Moved {
            destination: "a",
            metrics: 1,
        });
        let sums = totals.sums();
        assert_eq!(sums.destinations["a"].queued(), 2);
        assert_eq!(sums.queued(), 2);
        assert_eq!(sums.delivered(), 5);
        assert_eq!(sums.lost(), BTreeMap::from([(Loss::Timeout, 6)]));
    }
}
