//! What is counted of queries.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use shared::metrics::{Family, MetricFamily, Source};

use super::summary::Summary;
use crate::query::Timings;

/// Queries.
#[derive(Debug)]
pub struct Engine {
    running: AtomicI64,
    most: i64,
    samples: AtomicU64,
    queue: Summary,
    prepare: Summary,
    evaluate: Summary,
    sort: Summary,
    log_enabled: AtomicU64,
    log_failures: AtomicU64,
}

/// A query that is counted as running until this is dropped.
#[derive(Debug)]
pub struct Running<'a>(&'a Engine);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}

impl Engine {
    /// Starts counting; so many queries may run at once.
    pub fn new(most: i64) -> Self {
        Self {
            running: AtomicI64::new(0),
            most,
            samples: AtomicU64::new(0),
            queue: Summary::default(),
            prepare: Summary::default(),
            evaluate: Summary::default(),
            sort: Summary::default(),
            log_enabled: AtomicU64::new(0),
            log_failures: AtomicU64::new(0),
        }
    }

    /// Counts a query that runs or waits.
    pub fn begin(&self) -> Running<'_> {
        self.running.fetch_add(1, Relaxed);
        Running(self)
    }

    /// Counts what a query took. Waiting for servers is part of preparing it.
    pub fn end(&self, timings: &Timings, samples: u64) {
        self.samples.fetch_add(samples, Relaxed);
        self.queue.observe(timings.queue);
        self.prepare.observe(timings.fetch);
        self.evaluate.observe(timings.evaluate);
    }

    /// Says whether queries are logged.
    pub fn set_log(&self, is_enabled: bool) {
        self.log_enabled.store(u64::from(is_enabled), Relaxed);
    }

    /// Counts a line that could not be logged.
    pub fn log_failed(&self) {
        self.log_failures.fetch_add(1, Relaxed);
    }
}

impl Source for Engine {
    fn families(&self) -> Vec<MetricFamily> {
        let Self {
            running,
            most,
            samples,
            queue,
            prepare,
            evaluate,
            sort,
            log_enabled,
            log_failures,
        } = self;
        let mut durations =
            Family::summary("prometheus_engine_query_duration_seconds", "Query timings");
        let slices = [
            ("inner_eval", evaluate),
            ("prepare_time", prepare),
            ("queue_time", queue),
            ("result_sort", sort),
        ];
        for (slice, summary) in slices {
            durations = summary.add_to(durations, &[("slice", slice)]);
        }
        vec![
            Family::gauge(
                "prometheus_engine_queries",
                "The current number of queries being executed or waiting.",
            )
            .sample(&[], running.load(Relaxed) as f64)
            .build(),
            Family::gauge(
                "prometheus_engine_queries_concurrent_max",
                "The max number of concurrent queries.",
            )
            .sample(&[], *most as f64)
            .build(),
            durations.build(),
            Family::counter(
                "prometheus_engine_query_samples_total",
                "The total number of samples loaded by all queries.",
            )
            .sample(&[], samples.load(Relaxed) as f64)
            .build(),
            Family::gauge(
                "prometheus_engine_query_log_enabled",
                "State of the query log.",
            )
            .sample(&[], log_enabled.load(Relaxed) as f64)
            .build(),
            Family::counter(
                "prometheus_engine_query_log_failures_total",
                "The number of query log failures.",
            )
            .sample(&[], log_failures.load(Relaxed) as f64)
            .build(),
        ]
    }
}
