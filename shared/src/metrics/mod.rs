//! Metrics as Prometheus scrapes them.
//!
//! Each component owns one struct of plain counters, which its hot path bumps, and implements [`Source`] for it; the
//! families are made only when somebody looks. [`Family`] builds them, [`Registry::page`] prints them, and [`router`] serves them.

mod open_metrics;
mod page;

use std::{fmt, sync::Arc};

use self::open_metrics::Form;
pub use self::page::router;
pub use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder as _, TextEncoder,
    core::Collector as _,
    process_collector::ProcessCollector,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricType, Quantile, Summary},
};

/// The content type of the text that [`Registry::page`] prints.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Something that knows metric families. No two sources of a registry share a family.
pub trait Source: Send + Sync {
    /// Returns the families as they stand now.
    fn families(&self) -> Vec<MetricFamily>;
}

/// The metrics of a process: its own (CPU, memory, descriptors, start time) and those of its sources.
pub struct Registry {
    process: ProcessCollector,
    sources: Vec<Arc<dyn Source>>,
}

impl Registry {
    /// Makes a registry of `sources`.
    pub fn new(sources: Vec<Arc<dyn Source>>) -> Self {
        Self {
            process: ProcessCollector::for_self(),
            sources,
        }
    }

    /// Prints all families that have samples in Prometheus' text format, sorted by name.
    pub fn page(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(8 * 1024);
        TextEncoder::new().encode(&self.families(), &mut text)?;
        Ok(text)
    }

    /// Prints them in the form that a scraper's `Accept` asks for, as Go's `promhttp` does, and returns the content type of that:
    /// `OpenMetrics` or the text format. There is no protobuf, so whoever likes that best gets what it likes second.
    ///
    /// For tools whose originals do so; [`router`] prints text for everybody.
    pub fn negotiated(&self, accept: &str) -> Result<(&'static str, Vec<u8>), prometheus::Error> {
        let form = open_metrics::negotiate(accept);
        let page = match form {
            Form::Text => self.page()?,
            Form::OpenMetrics0 | Form::OpenMetrics1 => open_metrics::print(&self.families()),
        };
        Ok((form.content_type(), page))
    }

    /// Returns all families that have samples, sorted by name.
    fn families(&self) -> Vec<MetricFamily> {
        let mut families = self.process.collect();
        families.extend(self.sources.iter().flat_map(|source| source.families()));
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        families
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

/// A metric family under construction: one name, one kind, one sample per set of labels.
#[derive(Debug)]
pub struct Family {
    family: MetricFamily,
    samples: Vec<Metric>,
}

impl Family {
    /// Starts a family of counters; `name` should end in `_total`.
    pub fn counter(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::COUNTER)
    }

    /// Starts a family of gauges.
    pub fn gauge(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::GAUGE)
    }

    /// Starts a family of summaries; see [`Family::summary_sample`].
    pub fn summary(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::SUMMARY)
    }

    /// Starts a family of histograms; see [`Family::histogram_sample`].
    pub fn histogram(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::HISTOGRAM)
    }

    fn new(name: &str, help: &str, kind: MetricType) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        Self {
            family,
            samples: Vec::new(),
        }
    }

    /// Adds a sample.
    #[must_use]
    pub fn sample(mut self, labels: &[(&str, &str)], value: f64) -> Self {
        let mut sample = labelled(labels);
        if self.family.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            sample.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            sample.set_gauge(gauge);
        }
        self.samples.push(sample);
        self
    }

    /// Adds a sample to a family of summaries: how many observations there were, their sum, and values at quantiles.
    #[must_use]
    pub fn summary_sample(
        mut self,
        labels: &[(&str, &str)],
        count: u64,
        sum: f64,
        quantiles: &[(f64, f64)],
    ) -> Self {
        let quantiles = quantiles.iter().map(|(rank, value)| {
            let mut quantile = Quantile::default();
            quantile.set_quantile(*rank);
            quantile.set_value(*value);
            quantile
        });
        let mut summary = Summary::default();
        summary.set_sample_count(count);
        summary.set_sample_sum(sum);
        summary.set_quantile(quantiles.collect());
        let mut sample = labelled(labels);
        sample.set_summary(summary);
        self.samples.push(sample);
        self
    }

    /// Adds a sample to a family of histograms: how many observations there were, their sum, and how many were not above each
    /// bound, in the order of bounds. The last bucket, of all observations, is added by itself.
    #[must_use]
    pub fn histogram_sample(
        mut self,
        labels: &[(&str, &str)],
        count: u64,
        sum: f64,
        buckets: &[(f64, u64)],
    ) -> Self {
        let buckets = buckets.iter().map(|(bound, cumulative)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(*cumulative);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_sample_count(count);
        histogram.set_sample_sum(sum);
        histogram.set_bucket(buckets.collect());
        let mut sample = labelled(labels);
        sample.set_histogram(histogram);
        self.samples.push(sample);
        self
    }

    /// Returns the finished family.
    pub fn build(mut self) -> MetricFamily {
        self.family.set_metric(self.samples);
        self.family
    }
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let labels = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut sample = Metric::default();
    sample.set_label(labels.collect());
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two;

    impl Source for Two {
        fn families(&self) -> Vec<MetricFamily> {
            vec![
                Family::counter("lines_total", "Lines.")
                    .sample(&[("node", "a")], 3.0)
                    .sample(&[("node", "b\"")], 4.0)
                    .build(),
                Family::gauge("up", "Up.").sample(&[], 1.0).build(),
                Family::summary("wait", "W.")
                    .summary_sample(&[("at", "x")], 2, 3.5, &[(0.5, 1.5)])
                    .build(),
                Family::histogram("size", "S.")
                    .histogram_sample(&[], 3, 6.0, &[(1.0, 1), (2.0, 2)])
                    .build(),
            ]
        }
    }

    #[test]
    fn a_page_holds_the_families_of_its_sources_and_of_the_process() {
        let page = String::from_utf8(Registry::new(vec![Arc::new(Two)]).page().unwrap()).unwrap();
        assert!(page.contains(
            "# TYPE lines_total counter\nlines_total{node=\"a\"} 3\nlines_total{node=\"b\\\"\"} 4\n"
        ));
        assert!(
            page.contains("# HELP up Up.\n# TYPE up gauge\nup 1\n"),
            "{page}"
        );
        assert!(
            page.contains("wait{at=\"x\",quantile=\"0.5\"} 1.5\nwait_sum{at=\"x\"} 3.5\nwait_count{at=\"x\"} 2\n"),
            "{page}"
        );
        assert!(
            page.contains(
                "size_bucket{le=\"2\"} 2\nsize_bucket{le=\"+Inf\"} 3\nsize_sum 6\nsize_count 3\n"
            ),
            "{page}"
        );
        assert!(page.contains("process_resident_memory_bytes"));
    }
}
