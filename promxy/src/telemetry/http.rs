//! What is counted of requests.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;

use shared::metrics::{Family, MetricFamily, Source};

/// Bounds of durations in seconds, and of sizes in bytes.
const SECONDS: [f64; 9] = [0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0];
const BYTES: [f64; 9] = [1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];

/// Handlers that are listed and not counted, as in the original.
const UNCOUNTED: [&str; 4] = ["/federate", "/metadata", "/status/config", "/metrics"];

/// Requests by handler.
#[derive(Debug, Default)]
pub struct Http(Mutex<BTreeMap<&'static str, Counts>>);

#[derive(Debug, Default)]
struct Counts {
    codes: BTreeMap<u16, u64>,
    durations: Distribution,
    sizes: Distribution,
}

/// Observations under each bound, their number and their sum.
#[derive(Debug, Default)]
struct Distribution {
    under: [u64; 9],
    count: u64,
    sum: f64,
}

impl Distribution {
    fn observe(&mut self, value: f64, bounds: &[f64; 9]) {
        for (under, bound) in self.under.iter_mut().zip(bounds) {
            *under += u64::from(value <= *bound);
        }
        self.count += 1;
        self.sum += value;
    }
}

impl Http {
    /// Lists handlers before anybody has asked them.
    pub fn expect(&self, handlers: impl Iterator<Item = &'static str>) {
        let mut counts = self.0.lock();
        for handler in handlers {
            counts
                .entry(handler)
                .or_default()
                .codes
                .entry(200)
                .or_default();
        }
    }

    /// Counts a request. One without a handler is not counted.
    pub fn record(&self, handler: &'static str, status: u16, took: Duration, bytes: u64) {
        if handler.is_empty() || UNCOUNTED.contains(&handler) {
            return;
        }
        let mut counts = self.0.lock();
        let counts = counts.entry(handler).or_default();
        *counts.codes.entry(status).or_default() += 1;
        counts.durations.observe(took.as_secs_f64(), &SECONDS);
        counts.sizes.observe(bytes as f64, &BYTES);
    }
}

impl Source for Http {
    fn families(&self) -> Vec<MetricFamily> {
        let mut requests = Family::counter(
            "prometheus_http_requests_total",
            "Counter of HTTP requests.",
        );
        let mut durations = Family::histogram(
            "prometheus_http_request_duration_seconds",
            "Histogram of latencies for HTTP requests.",
        );
        let mut sizes = Family::histogram(
            "prometheus_http_response_size_bytes",
            "Histogram of response size for HTTP requests.",
        );
        let buckets = |distribution: &Distribution, bounds: &[f64; 9]| -> Vec<(f64, u64)> {
            let under = distribution.under.iter().copied();
            bounds.iter().copied().zip(under).collect()
        };
        let all = self.0.lock();
        for (handler, counts) in all.iter() {
            let Counts {
                codes,
                durations: took,
                sizes: bytes,
            } = counts;
            for (code, count) in codes {
                let labels = [
                    ("code", code.to_string()),
                    ("handler", (*handler).to_owned()),
                ];
                let labels = labels
                    .each_ref()
                    .map(|(name, value)| (*name, value.as_str()));
                requests = requests.sample(&labels, *count as f64);
            }
            let labels = [("handler", *handler)];
            if took.count > 0 {
                durations = durations.histogram_sample(
                    &labels,
                    took.count,
                    took.sum,
                    &buckets(took, &SECONDS),
                );
                sizes = sizes.histogram_sample(
                    &labels,
                    bytes.count,
                    bytes.sum,
                    &buckets(bytes, &BYTES),
                );
            }
        }
        vec![requests.build(), durations.build(), sizes.build()]
    }
}
