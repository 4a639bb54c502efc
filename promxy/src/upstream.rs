//! What queries and the API ask the server groups for.
//!
//! [`Upstream`] is the border between the two halves of the proxy: on one side parsing, planning, evaluation and the API, on the
//! other targets, sockets and the merging of replicas. A query's answer keeps the groups apart ([`Part`]), because only the query
//! knows whether equal series of two groups are one series or two halves of a sum.
//!
//! Dropping a future ends the requests that it made.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use promql::{parser::Matcher, storage::BoxFuture};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    labels::Labels,
    series::{Column, Native, Samples, Series},
    servergroup::{decode::Annotations, time_range::Grid},
};

/// An answer on its way.
pub type Asking<'a, T> = BoxFuture<'a, Result<T, UpstreamError>>;

/// Server groups, or whatever stands in for them.
pub trait Upstream: Send + Sync {
    /// Evaluates an expression on every target, at each time of a grid.
    fn query<'a>(
        &'a self,
        text: &'a str,
        grid: Grid,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<Part<Column<Native>>>>>;

    /// Reads all samples between two times, both belonging to it, in milliseconds since 1970.
    fn raw<'a>(
        &'a self,
        matchers: &'a [Matcher],
        start: i64,
        end: i64,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<Part<Samples<Native>>>>>;

    /// Lists the series that fulfil all matchers of any of the selectors: each once, in the order in which they come first.
    fn series<'a>(&'a self, asked: &'a Asked, asker: &'a Asker) -> Asking<'a, Answer<Vec<Labels>>>;

    /// Lists the label names of series, sorted. Without selectors, of all series.
    fn label_names<'a>(
        &'a self,
        asked: &'a Asked,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<String>>>;

    /// Lists the values of a label, sorted. Without selectors, those of all series.
    fn label_values<'a>(
        &'a self,
        label: &'a str,
        asked: &'a Asked,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<String>>>;

    /// Returns what is known of metrics, sorted by name. An empty `metric` asks for all.
    fn metadata<'a>(
        &'a self,
        metric: &'a str,
        limit: Option<u64>,
        asker: &'a Asker,
    ) -> Asking<'a, Vec<(String, Vec<Metadata>)>>;

    /// Returns the exemplars of the series that fulfil a selector, for each of them.
    fn exemplars<'a>(&'a self, asked: &'a Asked, asker: &'a Asker) -> Asking<'a, Vec<Exemplars>>;

    /// Whether rules of some group drop labels that tell series apart. Servers would then count as several what is one series here.
    fn loses_labels(&self) -> bool {
        false
    }

    /// Whether some group gives a label to series, takes it from them or makes another of it.
    fn changes_label(&self, _name: &str) -> bool {
        false
    }

    /// Whether a metric is known to be a native histogram somewhere.
    fn is_histogram(&self, metric: &str) -> bool;

    /// Returns the places of the groups that could answer a selector and that read histograms in a way that loses buckets though
    /// nobody allowed that.
    fn lossy_groups(&self, selectors: &[&[Matcher]]) -> Vec<usize>;
}

/// Who asks, and how much the answers may take.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    /// Headers of the client's request that every request to a target carries (`--proxy-headers`).
    pub headers: Arc<[(String, String)]>,
    /// How far back targets look for samples, if the client said so. Milliseconds.
    pub lookback_ms: Option<i64>,
    /// What all requests of one query may read together.
    pub budget: Arc<Budget>,
    /// When a target that has not answered counts as failed. Nobody waits for ever: who asks has a limit, and this comes before it.
    pub deadline: Option<Instant>,
}

/// Returns how long targets may take of the time of a request. The rest is for making an answer of what others have said, or an
/// error that names those that have not answered.
pub fn share_of_targets(limit: Duration) -> Duration {
    limit.saturating_sub(limit / 20)
}

/// How much the answers to one query may take. Shared by all its requests.
#[derive(Debug)]
pub struct Budget {
    bytes_left: AtomicU64,
    samples_left: AtomicU64,
    most_bytes: u64,
    most_samples: u64,
}

impl Budget {
    /// Allows so many bytes of answers, inflated, and so many samples in them. A series on a grid takes as many samples as the
    /// grid has times, and the bytes of those that it has none at; each takes some bytes more than its text has.
    pub fn new(bytes: u64, samples: u64) -> Self {
        Self {
            bytes_left: AtomicU64::new(bytes),
            samples_left: AtomicU64::new(samples),
            most_bytes: bytes,
            most_samples: samples,
        }
    }

    /// Takes bytes from what is left, or says that they were too many.
    pub fn take_bytes(&self, bytes: u64) -> Result<(), OverBudget> {
        take(&self.bytes_left, bytes).map_err(|()| OverBudget::Bytes(self.most_bytes))
    }

    /// Takes samples from what is left, or says that they were too many.
    pub fn take_samples(&self, samples: u64) -> Result<(), OverBudget> {
        take(&self.samples_left, samples).map_err(|()| OverBudget::Samples(self.most_samples))
    }

    /// Gives back samples that are not held any more.
    pub fn give_back_samples(&self, samples: u64) {
        self.samples_left.fetch_add(samples, Relaxed);
    }

    /// Returns how many samples are left.
    pub fn samples_left(&self) -> u64 {
        self.samples_left.load(Relaxed)
    }
}

impl Default for Budget {
    /// Allows everything.
    fn default() -> Self {
        Self::new(u64::MAX, u64::MAX)
    }
}

fn take(left: &AtomicU64, amount: u64) -> Result<(), ()> {
    let taken = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(amount));
    taken.map(|_| ()).map_err(|_| ())
}

/// What of a budget was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverBudget {
    /// The bytes, of which there were so many.
    Bytes(u64),
    /// The samples, of which there were so many.
    Samples(u64),
}

/// Selectors and the time that they are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Lists of matchers, any of which may hold.
    pub selectors: Vec<Vec<Matcher>>,
    /// The first time in milliseconds since 1970, if there is one.
    pub start: Option<i64>,
    /// The last time, if there is one.
    pub end: Option<i64>,
    /// How many entries are wanted at most; `None` for all.
    pub limit: Option<u64>,
}

/// An answer and what targets say beside it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer<T> {
    /// The answer.
    pub data: T,
    /// Warnings and infos of all targets, each once.
    pub annotations: Annotations,
}

/// What one group answers, its replicas merged.
#[derive(Clone, Debug, PartialEq)]
pub struct Part<D> {
    /// The group's place in the configuration.
    pub group: usize,
    /// Its series, with its labels added.
    pub series: Vec<Series<D>>,
}

/// What a target knows of a metric.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Metadata {
    /// The kind: `counter`, `gauge`, `histogram`, ...
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The help text.
    #[serde(default)]
    pub help: String,
    /// The unit.
    #[serde(default)]
    pub unit: String,
}

/// The exemplars of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplars {
    /// The series.
    pub series: Labels,
    /// Its exemplars, in the order of time.
    pub exemplars: Vec<Exemplar>,
}

/// A sample with a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// What says which trace.
    pub labels: Labels,
    /// The value.
    pub value: f64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
}

/// Why there is no answer. The text is the one that clients see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamError {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// Names group and target, and says what they did.
    pub message: String,
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for UpstreamError {}

/// Kinds of failures, which decide on the status of the answer to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A target failed, or answered what is no answer.
    Execution,
    /// A target, or the proxy waiting for it, ran out of time.
    Timeout,
    /// The budget of the query is spent.
    TooMuch,
}
