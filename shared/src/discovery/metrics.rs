//! What the sources count, as families with one sample per source.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::UNIX_EPOCH,
};

use parking_lot::Mutex;

use super::Snapshot;
use crate::metrics::{Family, MetricFamily, Source};

/// The counters of all sources of a process. Cloning gives another handle on the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    prefix: String,
    sources: Arc<Mutex<Vec<Registered>>>,
}

/// A source by name; its counters live as long as its task.
type Registered = (String, Weak<Counters>);

/// The counters of one source.
#[derive(Debug, Default)]
pub(super) struct Counters {
    refreshes: AtomicU64,
    failures: AtomicU64,
    members: AtomicU64,
    skipped: AtomicU64,
    /// Seconds since 1970 as the bits of a float; 0 is never.
    last_success: AtomicU64,
}

impl Metrics {
    /// Makes counters whose families are named `<prefix>_discovery_...`.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            sources: Arc::default(),
        }
    }

    /// Adds a source, which stays for as long as its counters are held. Names need not be distinct: the younger wins.
    pub(super) fn register(&self, name: &str) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        let mut sources = self.sources.lock();
        sources.retain(|(known, counters)| known != name && counters.strong_count() > 0);
        sources.push((name.to_owned(), Arc::downgrade(&counters)));
        counters
    }
}

impl Source for Metrics {
    fn families(&self) -> Vec<MetricFamily> {
        let name = |rest: &str| format!("{}_discovery_{rest}", self.prefix);
        let mut refreshes = Family::counter(
            &name("refreshes_total"),
            "Look-ups of members that have finished.",
        );
        let mut failures = Family::counter(
            &name("failures_total"),
            "Look-ups of members that failed; the last members were kept.",
        );
        let mut members = Family::gauge(&name("members"), "Members as last found.");
        let mut skipped = Family::gauge(
            &name("skipped"),
            "Entries of the last answer that make no member.",
        );
        let mut last_success = Family::gauge(
            &name("last_success_timestamp_seconds"),
            "When the last look-up succeeded; 0 is never.",
        );
        for (source, counters) in self.sources.lock().iter() {
            let Some(counters) = counters.upgrade() else {
                continue;
            };
            let labels = [("source", source.as_str())];
            let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
            refreshes = refreshes.sample(&labels, read(&counters.refreshes) as f64);
            failures = failures.sample(&labels, read(&counters.failures) as f64);
            members = members.sample(&labels, read(&counters.members) as f64);
            skipped = skipped.sample(&labels, read(&counters.skipped) as f64);
            let seconds = f64::from_bits(read(&counters.last_success));
            last_success = last_success.sample(&labels, seconds);
        }
        [refreshes, failures, members, skipped, last_success]
            .map(Family::build)
            .into()
    }
}

impl Counters {
    /// Counts a finished look-up. A failure leaves the members, and what was skipped, as they were.
    pub(super) fn count(&self, result: Result<&Snapshot, ()>, skipped: usize) {
        self.refreshes.fetch_add(1, Ordering::Relaxed);
        let Ok(found) = result else {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let seconds = found
            .answered()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0.0, |since| since.as_secs_f64());
        self.members
            .store(found.members().len() as u64, Ordering::Relaxed);
        self.skipped.store(skipped as u64, Ordering::Relaxed);
        self.last_success
            .store(seconds.to_bits(), Ordering::Relaxed);
    }
}
