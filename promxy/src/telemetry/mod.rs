//! What the proxy says about itself: metrics, the log of queries, the list of those that are running.
//!
//! * [`Telemetry`]: all of it, and the text of the page of metrics
//! * [`http`], [`engine`], [`reload`]: what is counted; [`summary`]: observations and their quantiles
//! * [`query_log`], [`active_queries`]: files

pub mod active_queries;
pub mod engine;
pub mod http;
pub mod query_log;
pub mod reload;
pub mod summary;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use shared::metrics::{Family, MetricFamily, Registry, Source};

use self::{engine::Engine, http::Http, reload::Reload};
use crate::build_info::{self, VERSION};

/// What is counted.
pub struct Telemetry {
    /// Requests.
    pub http: Arc<Http>,
    /// Queries.
    pub engine: Arc<Engine>,
    /// Reloads.
    pub reload: Arc<Reload>,
    /// The rest.
    pub other: Arc<Other>,
    registry: Registry,
}

/// Counters of which there is one each.
#[derive(Debug, Default)]
pub struct Other {
    /// Remote reads that run or wait.
    pub remote_reads: AtomicI64,
    /// Federations that failed.
    pub federation_errors: AtomicU64,
    /// Warnings while federating.
    pub federation_warnings: AtomicU64,
    /// Scrapes of the metrics.
    scrapes: AtomicU64,
    /// One if queries are answered, else zero.
    ready: AtomicU64,
}

impl Telemetry {
    /// Starts counting. `sources` count on their own.
    pub fn new(concurrency: i64, sources: Vec<Arc<dyn Source>>) -> Self {
        let http = Arc::new(Http::default());
        let engine = Arc::new(Engine::new(concurrency));
        let reload = Arc::new(Reload::default());
        let other = Arc::new(Other::default());
        let own: [Arc<dyn Source>; 4] = [
            Arc::clone(&http) as _,
            Arc::clone(&engine) as _,
            Arc::clone(&reload) as _,
            Arc::clone(&other) as _,
        ];
        let registry = Registry::new(own.into_iter().chain(sources).collect());
        Self {
            http,
            engine,
            reload,
            other,
            registry,
        }
    }

    /// Returns the content type and the text for a scrape, in the form that it accepts. Says that the proxy answers queries, or not.
    pub fn scraped(
        &self,
        is_ready: bool,
        accepted: &str,
    ) -> Result<(&'static str, Vec<u8>), prometheus::Error> {
        self.other.scrapes.fetch_add(1, Relaxed);
        self.other.ready.store(u64::from(is_ready), Relaxed);
        self.registry.negotiated(accepted)
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

/// The texts are the original's: tools show them.
impl Source for Other {
    fn families(&self) -> Vec<MetricFamily> {
        let Self {
            remote_reads,
            federation_errors,
            federation_warnings,
            scrapes,
            ready,
        } = self;
        let counter = |name: &str, help: &str, counter: &AtomicU64| {
            let value = counter.load(Relaxed) as f64;
            Family::counter(name, help).sample(&[], value).build()
        };
        let build = [
            ("branch", ""),
            ("goarch", build_info::platform()),
            ("goos", std::env::consts::OS),
            ("goversion", ""),
            ("revision", "unknown"),
            ("tags", "unknown"),
            ("version", VERSION),
        ];
        vec![
            Family::gauge(
                "promxy_build_info",
                "A metric with a constant '1' value labeled by version, revision, branch, goversion from which promxy was built, and the goos and goarch for the build.",
            )
            .sample(&build, 1.0)
            .build(),
            Family::gauge(
                "prometheus_ready",
                "Whether Prometheus startup was fully completed and the server is ready for normal operation.",
            )
            .sample(&[], ready.load(Relaxed) as f64)
            .build(),
            Family::gauge(
                "prometheus_remote_read_handler_queries",
                "The current number of remote read queries that are either in execution or queued on the handler.",
            )
            .sample(&[], remote_reads.load(Relaxed) as f64)
            .build(),
            counter(
                "prometheus_web_federation_errors_total",
                "Total number of errors that occurred while sending federation responses.",
                federation_errors,
            ),
            counter(
                "prometheus_web_federation_warnings_total",
                "Total number of warnings that occurred while sending federation responses.",
                federation_warnings,
            ),
            Family::counter(
                "promhttp_metric_handler_requests_total",
                "Total number of scrapes by HTTP status code.",
            )
            .sample(&[("code", "200")], scrapes.load(Relaxed) as f64)
            .build(),
        ]
    }
}
