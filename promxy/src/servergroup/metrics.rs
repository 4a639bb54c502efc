//! What is counted of requests to targets and of label filters.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use prometheus::proto::{LabelPair, Metric, MetricType, Summary};
use shared::metrics::{Family, MetricFamily};

use super::request::Call;

/// Counters that outlive targets and reloads.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    hosts: Mutex<BTreeMap<String, Arc<HostCounters>>>,
    syncs: [Timed; 2],
    filtered: [AtomicU64; 6],
    hedged: [AtomicU64; 2],
}

/// A number of things and how long they took together.
#[derive(Debug, Default)]
struct Timed {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Timed {
    fn add(&self, took: Duration) {
        self.count.fetch_add(1, Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    fn seconds(&self) -> f64 {
        self.nanos.load(Relaxed) as f64 / 1e9
    }
}

/// The requests to one host.
#[derive(Debug, Default)]
pub(crate) struct HostCounters {
    calls: [[Timed; 2]; Call::ALL.len()],
}

impl HostCounters {
    /// Counts a request.
    pub(crate) fn count(&self, call: Call, outcome: Outcome, took: Duration) {
        self.calls[call as usize][outcome as usize].add(took);
    }
}

/// How something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Error,
}

impl Outcome {
    /// Tells success from failure.
    pub(crate) fn of<T, E>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Success,
            Err(_) => Self::Error,
        }
    }

    const NAMES: [&'static str; 2] = ["success", "error"];
}

/// Why another replica was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hedge {
    /// Those that were asked have not answered in time.
    Slow,
    /// One that was asked has failed.
    Failed,
}

impl Hedge {
    const NAMES: [&'static str; 2] = ["slow", "failed"];
}

/// What a label filter saved, as its metric names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filtered {
    Query,
    QueryRange,
    Series,
    Raw,
    Metadata,
    Exemplars,
}

impl Filtered {
    const NAMES: [&'static str; 6] = [
        "Query",
        "QueryRange",
        "Series",
        "GetValue",
        "Metadata",
        "QueryExemplars",
    ];
}

impl Counters {
    /// Returns the counters of a host, which begin with the first target there.
    pub(crate) fn host(&self, host: &str) -> Arc<HostCounters> {
        let mut hosts = self.hosts.lock();
        if let Some(known) = hosts.get(host) {
            return Arc::clone(known);
        }
        let new = Arc::<HostCounters>::default();
        hosts.insert(host.to_owned(), Arc::clone(&new));
        new
    }

    /// Counts a repeated reading of a target's label values.
    pub(crate) fn synced(&self, outcome: Outcome, took: Duration) {
        self.syncs[outcome as usize].add(took);
    }

    /// Counts a request that a label filter made needless.
    pub(crate) fn filtered(&self, what: Filtered) {
        self.filtered[what as usize].fetch_add(1, Relaxed);
    }

    /// Counts a request to a replica that would not have been asked.
    pub(crate) fn hedged(&self, why: Hedge) {
        self.hedged[why as usize].fetch_add(1, Relaxed);
    }

    /// Returns the families as they stand now. Hosts that are in no group any more are still there, as counters must be.
    pub(crate) fn families(&self) -> Vec<MetricFamily> {
        let mut requests = Vec::new();
        let hosts: Vec<_> = {
            let hosts = self.hosts.lock();
            let own = |(host, counters): (&String, &Arc<HostCounters>)| {
                (host.clone(), Arc::clone(counters))
            };
            hosts.iter().map(own).collect()
        };
        for (host, counters) in &hosts {
            for (call, statuses) in Call::ALL.iter().zip(&counters.calls) {
                for (status, timed) in Outcome::NAMES.iter().zip(statuses) {
                    if timed.count.load(Relaxed) > 0 {
                        let labels = [
                            ("call", call.name()),
                            ("host", host.as_str()),
                            ("status", status),
                        ];
                        requests.push(summary(&labels, timed));
                    }
                }
            }
        }
        let mut duration = MetricFamily::default();
        duration.set_name("server_group_request_duration_seconds".to_owned());
        duration.set_help("Summary of calls to servergroup instances".to_owned());
        duration.set_field_type(MetricType::SUMMARY);
        duration.set_metric(requests);
        let mut sync_durations = MetricFamily::default();
        sync_durations.set_name("promxy_label_filter_sync_duration_seconds".to_owned());
        sync_durations.set_help("How long reading label values for filters takes.".to_owned());
        sync_durations.set_field_type(MetricType::SUMMARY);
        let mut syncs = Family::counter(
            "promxy_label_filter_sync_count_total",
            "How many times label values were read for filters.",
        );
        let mut durations = Vec::new();
        for (status, timed) in Outcome::NAMES.iter().zip(&self.syncs) {
            let count = timed.count.load(Relaxed);
            if count > 0 {
                syncs = syncs.sample(&[("status", status)], count as f64);
                durations.push(summary(&[("status", status)], timed));
            }
        }
        sync_durations.set_metric(durations);
        let mut filtered = Family::counter(
            "promxy_label_filter_filtered_count_total",
            "How many requests filters made needless.",
        );
        for (what, count) in Filtered::NAMES.iter().zip(&self.filtered) {
            let count = count.load(Relaxed);
            if count > 0 {
                filtered = filtered.sample(&[("type", what)], count as f64);
            }
        }
        let mut hedged = Family::counter(
            "promxy_hedged_requests_total",
            "How many requests were made to a replica because another one was slow or failed.",
        );
        for (why, count) in Hedge::NAMES.iter().zip(&self.hedged) {
            let count = count.load(Relaxed);
            if count > 0 {
                hedged = hedged.sample(&[("reason", why)], count as f64);
            }
        }
        vec![
            duration,
            sync_durations,
            syncs.build(),
            filtered.build(),
            hedged.build(),
        ]
    }
}

/// Labels are in the order of their names, as exposed metrics have them.
fn summary(labels: &[(&str, &str)], timed: &Timed) -> Metric {
    let labels = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut summary = Summary::default();
    summary.set_sample_count(timed.count.load(Relaxed));
    summary.set_sample_sum(timed.seconds());
    let mut metric = Metric::default();
    metric.set_label(labels.collect());
    metric.set_summary(summary);
    metric
}
