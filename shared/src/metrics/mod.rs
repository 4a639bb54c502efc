//! Metrics as Prometheus scrapes them.
//!
//! Each component owns one struct of plain counters, which its hot path bumps, and implements [`Source`] for it; the
//! families are made only when somebody looks. [`Family`] builds them, [`Registry::page`] prints them, and [`router`] serves them.

mod page;

use std::{fmt, sync::Arc};

pub use self::page::router;
pub use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder as _, TextEncoder,
    core::Collector as _,
    process_collector::ProcessCollector,
    proto::{Counter, Gauge, LabelPair, Metric, MetricType},
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
        let mut families = self.process.collect();
        families.extend(self.sources.iter().flat_map(|source| source.families()));
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::with_capacity(8 * 1024);
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
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
        let labels = labels.iter().map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut sample = Metric::default();
        sample.set_label(labels.collect());
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

    /// Returns the finished family.
    pub fn build(mut self) -> MetricFamily {
        self.family.set_metric(self.samples);
        self.family
    }
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
        assert!(page.contains("process_resident_memory_bytes"));
    }
}
