//! The metrics page: the original's names, types, labels and help texts, then ours.
//!
//! Pinned by `tests/golden/mpp/metrics`.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY},
};
use prometheus::{
    core::Collector as _,
    process_collector::ProcessCollector,
    proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};
use shared::metrics::Family;

use super::exposition::{self, Format};
use crate::{
    backend::{Backend, Backends, Failure, LATENCY_BOUNDS},
    flags::version,
    proxy::{Proxy, body::ResponseBody},
    select::Selector,
};

/// The help text of three families: the original has copied it.
const SELECTED_HELP: &str = "The number of currently selected backends";

/// Everything that the page is made of.
pub struct Metrics {
    pub(crate) selector: Selector,
    pub(crate) backends: Arc<Backends>,
    pub(crate) proxy: Arc<Proxy>,
    process: ProcessCollector,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Counts nothing itself.
    pub fn new(selector: Selector, backends: Arc<Backends>, proxy: Arc<Proxy>) -> Self {
        Self {
            selector,
            backends,
            proxy,
            process: ProcessCollector::for_self(),
        }
    }

    /// Answers a scrape in the format that its headers ask for.
    pub(super) fn page(&self, headers: &HeaderMap) -> Response<ResponseBody> {
        let text = |name| {
            headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
                .unwrap_or_default()
        };
        let format = Format::negotiate(text(ACCEPT));
        let mut body = exposition::print(&self.families(), format);
        let mut response = Response::new(ResponseBody::EMPTY);
        if text(ACCEPT_ENCODING).contains("gzip")
            && let Ok(packed) = exposition::gzip(&body)
        {
            body = packed;
            response
                .headers_mut()
                .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static(format.content_type()),
        );
        response
            .headers_mut()
            .insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        *response.body_mut() = ResponseBody::Whole(Bytes::from(body));
        response
    }

    /// Returns all families that have samples, sorted by name.
    fn families(&self) -> Vec<MetricFamily> {
        let mut families = self.process.collect();
        families.extend(self.selection());
        families.extend(self.affinity());
        families.extend(self.traffic());
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        families
    }

    fn selection(&self) -> Vec<MetricFamily> {
        let selection = self.selector.current();
        let labels = [
            ("branch", ""),
            (
                "goversion",
                concat!("rust, mpp ", env!("CARGO_PKG_VERSION")),
            ),
            ("revision", ""),
            ("version", version()),
        ];
        let age = selection
            .ended
            .map(|(ended, _)| Instant::now().duration_since(ended).as_secs_f64());
        let mut families = vec![
            Family::gauge("mpp_build_info", SELECTED_HELP)
                .sample(&labels, 1.0)
                .build(),
            Family::gauge("mpp_selected_backends", SELECTED_HELP)
                .sample(&[], selection.selected as f64)
                .build(),
            Family::counter("mpp_selection_events", "The number of selection events")
                .sample(&[], selection.rounds as f64)
                .build(),
            Family::counter(
                "mpp_forced_selections_total",
                "Rounds of selection that failed requests have asked for",
            )
            .sample(&[], self.selector.forced.load(Relaxed) as f64)
            .build(),
        ];
        if let Some(age) = age {
            families.push(
                Family::gauge(
                    "mpp_selection_age_seconds",
                    "Time since the last round of selection ended",
                )
                .sample(&[], age)
                .build(),
            );
        }
        families
    }

    fn affinity(&self) -> Vec<MetricFamily> {
        let affinity = &self.proxy.router.affinity;
        let mut family = Family::counter(
            "mpp_affinity_hits",
            "The number of requests routed based on affinity match",
        );
        for (kind, hits) in [
            ("cookies", &affinity.cookie_hits),
            ("sourceip", &affinity.source_ip_hits),
        ] {
            let hits = hits.load(Relaxed);
            if hits > 0 {
                family = family.sample(&[("type", kind)], hits as f64);
            }
        }
        vec![family.build()]
    }

    /// Per server, by origin: two addresses that differ in their path alone share their label.
    fn traffic(&self) -> Vec<MetricFamily> {
        let all = self.backends.all();
        let mut by_origin: BTreeMap<&str, Vec<&Backend>> = BTreeMap::new();
        for backend in &all {
            by_origin
                .entry(backend.endpoint.origin())
                .or_default()
                .push(backend);
        }
        let mut page = Page::new();
        for (origin, backends) in by_origin {
            page.add(origin, &backends);
        }
        page.finish()
    }
}

/// The families with a sample per server.
struct Page {
    requests: Family,
    milliseconds: Family,
    retries: Family,
    retries_by_reason: Family,
    failures: Family,
    in_flight: Family,
    ejected: Family,
    ejections: Family,
    idle: Family,
    durations: Vec<Metric>,
}

impl Page {
    fn new() -> Self {
        Self {
            requests: Family::counter("mpp_requests", "The number of requests"),
            milliseconds: Family::counter(
                "mpp_response_milliseconds",
                "The number of milliseconds taken to respond",
            ),
            retries: Family::counter("mpp_retries", "The number of http request retries"),
            retries_by_reason: Family::counter(
                "mpp_retries_by_reason_total",
                "Requests tried again elsewhere, by the backend that failed and the reason",
            ),
            failures: Family::counter(
                "mpp_backend_failures_total",
                "Attempts that failed, by reason",
            ),
            in_flight: Family::gauge("mpp_backend_in_flight", "Requests under way"),
            ejected: Family::gauge(
                "mpp_backend_ejected",
                "Whether the backend gets no requests because of failures",
            ),
            ejections: Family::counter(
                "mpp_backend_ejections_total",
                "How many times the backend was ejected",
            ),
            idle: Family::gauge("mpp_backend_idle_connections", "Idle connections kept"),
            durations: Vec::new(),
        }
    }

    fn add(&mut self, origin: &str, backends: &[&Backend]) {
        let sum = |count: &dyn Fn(&Backend) -> u64| -> f64 {
            backends.iter().map(|backend| count(backend)).sum::<u64>() as f64
        };
        let label = [("backend", origin)];
        let attempts = sum(&|b| b.traffic.attempts.load(Relaxed));
        if attempts > 0.0 {
            push(&mut self.requests, &label, attempts);
            let micros = sum(&|b| b.traffic.microseconds.load(Relaxed));
            push(&mut self.milliseconds, &label, micros / 1000.0);
            self.durations.push(durations(origin, backends));
        }
        let retries = sum(&|b| b.traffic.retried());
        if retries > 0.0 {
            push(&mut self.retries, &label, retries);
        }
        for (place, why) in Failure::ALL.iter().enumerate() {
            let label = [("backend", origin), ("reason", why.name())];
            let retries = sum(&|b| b.traffic.retries[place].load(Relaxed));
            if retries > 0.0 {
                push(&mut self.retries_by_reason, &label, retries);
            }
            let failures = sum(&|b| b.traffic.failures[place].load(Relaxed));
            if failures > 0.0 {
                push(&mut self.failures, &label, failures);
            }
        }
        push(
            &mut self.in_flight,
            &label,
            sum(&|b| b.traffic.in_flight.load(Relaxed) as u64),
        );
        push(
            &mut self.ejected,
            &label,
            sum(&|b| u64::from(b.is_ejected())),
        );
        push(&mut self.ejections, &label, sum(&Backend::ejections));
        push(
            &mut self.idle,
            &label,
            sum(&|b| b.pools.iter().map(|pool| pool.len() as u64).sum()),
        );
    }

    fn finish(self) -> Vec<MetricFamily> {
        let Self {
            requests,
            milliseconds,
            retries,
            retries_by_reason,
            failures,
            in_flight,
            ejected,
            ejections,
            idle,
            durations,
        } = self;
        let mut family = MetricFamily::default();
        family.set_name("mpp_request_duration_seconds".to_owned());
        family.set_help("How long attempts took, to the last byte".to_owned());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(durations);
        vec![
            requests.build(),
            milliseconds.build(),
            retries.build(),
            retries_by_reason.build(),
            failures.build(),
            in_flight.build(),
            ejected.build(),
            ejections.build(),
            idle.build(),
            family,
        ]
    }
}

fn push(family: &mut Family, labels: &[(&str, &str)], value: f64) {
    let taken = std::mem::replace(family, Family::gauge("", ""));
    *family = taken.sample(labels, value);
}

fn durations(origin: &str, backends: &[&Backend]) -> Metric {
    let count = |bucket: usize| -> u64 {
        backends
            .iter()
            .map(|backend| backend.traffic.latencies[bucket].load(Relaxed))
            .sum()
    };
    let mut total = 0;
    let mut buckets = Vec::with_capacity(LATENCY_BOUNDS.len());
    for (place, bound) in LATENCY_BOUNDS.iter().enumerate() {
        total += count(place);
        let mut bucket = Bucket::default();
        bucket.set_cumulative_count(total);
        bucket.set_upper_bound(*bound);
        buckets.push(bucket);
    }
    total += count(LATENCY_BOUNDS.len());
    let micros: u64 = backends
        .iter()
        .map(|backend| backend.traffic.microseconds.load(Relaxed))
        .sum();
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(total);
    histogram.set_sample_sum(micros as f64 / 1e6);
    let mut label = LabelPair::default();
    label.set_name("backend".to_owned());
    label.set_value(origin.to_owned());
    let mut metric = Metric::default();
    metric.set_label(vec![label]);
    metric.set_histogram(histogram);
    metric
}
