//! Server groups as the proxy uses them.

mod client;
mod discovery;

use std::{sync::Arc, time::Duration};

use promql::parser::Matcher;
use shared::config::secret::Secret;

use crate::{
    labels::{Labels, filter::Values, metric_relabel::MetricRule, relabel::Rule},
    servergroup::time_range::TimeRange,
};

use super::{
    relabel::relabel_rule,
    schema::{Item, Section},
    server_group::{inject_matchers, metric_rule, relative_bounds, time},
};

pub use client::{
    Authorization, BasicAuth, ClientIdentity, Credential, HttpClient, OAuth2, Proxy, SigV4, Tls,
};
pub use discovery::{
    Consul, Discovery, Dns, DnsRecord, FileDiscovery, HttpDiscovery, Kubernetes,
    KubernetesSelector, Marathon, TargetGroup,
};

/// Whether groups may hold the same series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    /// They may, as a short-term and a long-term store do: equal partial results count once.
    Overlapping,
    /// They do not: equal partial results are parts of a whole.
    Disjoint,
}

impl Groups {
    pub(super) fn from_word(word: &str) -> Self {
        if word == "disjoint" {
            Self::Disjoint
        } else {
            Self::Overlapping
        }
    }
}

/// A server group.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one independent switch for each key of the file"
)]
pub struct ServerGroup {
    /// A name for logs and metrics; may be empty.
    pub name: String,
    /// Labels that all series of the group get.
    pub labels: Labels,
    /// How near samples of two replicas may be before one of them is left out. Milliseconds.
    pub anti_affinity_ms: i64,
    /// Whether that is guessed for each series from its own samples.
    pub anti_affinity_dynamic: bool,
    /// Whether of two near samples the larger is taken.
    pub prefer_max: bool,
    /// Whether of replicas with holes the one with more samples is taken, series by series and step by step.
    pub coverage_aware: bool,
    /// The scheme of targets that relabelling gives none.
    pub scheme: String,
    /// The path in front of the API, with or without slashes at its ends.
    pub path_prefix: String,
    /// Parameters of every request.
    pub query_params: Vec<(String, Secret)>,
    /// Headers of every request.
    pub http_headers: Vec<(String, Secret)>,
    /// How raw samples are read, if not with queries.
    pub remote_read: Option<RemoteRead>,
    /// How long a target may take until its answer begins.
    pub timeout: Option<Duration>,
    /// After how long of waiting for one replica another is asked; `None` asks all at once and merges what they have.
    pub hedge_after: Option<Duration>,
    /// Connections that are kept.
    pub pool: Pool,
    /// What becomes of errors.
    pub on_error: ErrorPolicy,
    /// The times that the group has data of.
    pub time_ranges: Vec<TimeRange>,
    /// Which selectors its targets can answer.
    pub label_filter: Option<LabelFilterKeys>,
    /// Matchers that every request gets.
    pub inject_matchers: Vec<Matcher>,
    /// What is made of discovered labels.
    pub relabel: Arc<[Rule]>,
    /// What is made of series' labels.
    pub metrics_relabel: Arc<[MetricRule]>,
    /// How often metadata is asked for which metrics are histograms.
    pub metadata_refresh: Option<Duration>,
    /// Whether histograms may be read in a way that loses some of their buckets.
    pub allow_lossy_histograms: bool,
    /// Whether answers to range queries come on the grid of whole steps.
    pub align_query_range_with_step: bool,
    /// How targets are connected to.
    pub http_client: HttpClient,
    /// Where targets come from.
    pub discovery: Vec<Discovery>,
}

/// Reading raw samples in Prometheus' remote read protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteRead {
    /// The path behind the path prefix.
    pub path: String,
}

/// Connections that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// How many idle connections are kept.
    pub max_idle: usize,
    /// How many of them to one target.
    pub max_idle_per_host: usize,
    /// For how long.
    pub idle_timeout: Duration,
}

/// What becomes of a group's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorPolicy {
    /// The query fails.
    Fail,
    /// The answer has a warning.
    Warn,
    /// Nothing.
    Ignore,
}

/// The keys of `label_filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFilterKeys {
    /// Labels whose values are asked of the target.
    pub dynamic_labels: Vec<String>,
    /// How often; `None` for once.
    pub sync_interval: Option<Duration>,
    /// Values that the target has whatever it says.
    pub include: Values,
    /// Values that it is taken not to have.
    pub exclude: Values,
}

impl ServerGroup {
    pub(super) fn new(group: &Section) -> Result<Self, String> {
        let text = |key: &str| group.text(key).to_owned();
        let secrets = |key: &str| {
            let pairs = group.pairs(key).into_iter();
            pairs
                .map(|(name, value)| (name, Secret::new(value)))
                .collect()
        };
        let histogram = group.section("native_histogram");
        let rules: Result<Vec<Rule>, String> = group
            .sections("relabel_configs")
            .map(relabel_rule)
            .collect();
        let metric_rules: Result<Vec<MetricRule>, String> = group
            .sections("metrics_relabel_configs")
            .map(metric_rule)
            .collect();
        Ok(Self {
            name: text("name"),
            labels: group.pairs("labels").into_iter().collect(),
            anti_affinity_ms: group.nanos("anti_affinity") / 1_000_000,
            anti_affinity_dynamic: group.flag("anti_affinity_dynamic"),
            prefer_max: group.flag("prefer_max"),
            coverage_aware: group.flag("coverage_aware"),
            scheme: text("scheme"),
            path_prefix: text("path_prefix"),
            query_params: secrets("query_params"),
            http_headers: secrets("http_headers"),
            remote_read: group.flag("remote_read").then(|| RemoteRead {
                path: text("remote_read_path"),
            }),
            timeout: positive(group.nanos("timeout")),
            hedge_after: positive(group.nanos("hedge_after")),
            pool: Pool {
                // What nothing means is Go's.
                max_idle: most_idle(group.int("max_idle_conns"), usize::MAX),
                max_idle_per_host: most_idle(group.int("max_idle_conns_per_host"), 2),
                idle_timeout: positive(group.nanos("idle_conn_timeout")).unwrap_or(Duration::MAX),
            },
            on_error: match (group.flag("ignore_error"), group.flag("downgrade_error")) {
                (true, _) => ErrorPolicy::Ignore,
                (false, true) => ErrorPolicy::Warn,
                (false, false) => ErrorPolicy::Fail,
            },
            time_ranges: time_ranges(group),
            label_filter: group.section("label_filter").map(label_filter),
            inject_matchers: inject_matchers(group)?,
            relabel: rules?.into(),
            metrics_relabel: metric_rules?.into(),
            metadata_refresh: histogram.and_then(|h| positive(h.nanos("metadata_refresh"))),
            allow_lossy_histograms: histogram.is_some_and(|h| h.flag("allow_lossy")),
            align_query_range_with_step: group.flag("align_query_range_with_step"),
            http_client: group
                .section("http_client")
                .map(HttpClient::new)
                .unwrap_or_default(),
            discovery: discovery::discovery(group),
        })
    }
}

/// Returns a time limit; what is not positive is none.
fn positive(nanos: i64) -> Option<Duration> {
    u64::try_from(nanos)
        .ok()
        .filter(|nanos| *nanos > 0)
        .map(Duration::from_nanos)
}

/// Returns how many connections are kept; what is negative is none.
fn most_idle(number: i64, of_zero: usize) -> usize {
    match number {
        0 => of_zero,
        number => usize::try_from(number).unwrap_or(0),
    }
}

fn time_ranges(group: &Section) -> Vec<TimeRange> {
    let mut ranges = Vec::new();
    if let Some(range) = group.section("absolute_time_range") {
        ranges.push(TimeRange::Absolute {
            start_ms: time(range, "start"),
            end_ms: time(range, "end"),
            truncate: range.flag("truncate"),
        });
    }
    if let Some(range) = group.section("relative_time_range") {
        let (start, end) = relative_bounds(range);
        ranges.push(TimeRange::Relative {
            start_ms: start.map(|nanos| nanos / 1_000_000),
            end_ms: end.map(|nanos| nanos / 1_000_000),
            truncate: range.flag("truncate"),
        });
    }
    ranges
}

fn label_filter(filter: &Section) -> LabelFilterKeys {
    let lists = |key: &str| {
        let words = |item: &Item| match item {
            Item::List(items) => items.iter().map(|item| item.as_text().to_owned()).collect(),
            _ => Vec::new(),
        };
        let entries = filter.map(key).iter();
        entries
            .map(|(label, item)| (label.clone(), words(item)))
            .collect()
    };
    LabelFilterKeys {
        dynamic_labels: filter.words("dynamic_labels").map(str::to_owned).collect(),
        sync_interval: positive(filter.nanos("sync_interval")),
        include: lists("static_labels_include"),
        exclude: lists("static_labels_exclude"),
    }
}

/// Returns a word that is not empty.
fn word(section: &Section, key: &str) -> Option<String> {
    let word = section.text(key);
    (!word.is_empty()).then(|| word.to_owned())
}
