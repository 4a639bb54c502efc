//! `load_with_nhcb`: classic histograms turned into native ones with custom buckets.
//!
//! Follows `util/convertnhcb` of the reference.

use std::collections::BTreeMap;

use super::load::{LoadedSeries, WrittenSample};
use crate::histogram::FloatHistogram;
use crate::labels::{BUCKET_BOUND, Labels, LabelsBuilder, METRIC_NAME};

/// A classic histogram at one time.
#[derive(Default)]
struct Classic {
    /// Cumulative counts by bound.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// Returns the native histograms for the classic ones among series.
pub(super) fn convert(series: &[LoadedSeries]) -> Result<Vec<LoadedSeries>, String> {
    let mut collected: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
    for series in series {
        let name = series.labels.metric_name();
        let endings = ["_bucket", "_sum", "_count"];
        let Some(ending) = endings.iter().find(|ending| name.ends_with(**ending)) else {
            continue;
        };
        let bound = series.labels.get(BUCKET_BOUND).unwrap_or_default();
        let bound: Option<f64> = bound.parse().ok().filter(|bound: &f64| !bound.is_nan());
        let mut builder = LabelsBuilder::new(&series.labels);
        builder.set(METRIC_NAME, name.strip_suffix(*ending).unwrap_or(name));
        builder.remove(BUCKET_BOUND);
        let times = collected.entry(builder.build()).or_default();
        for sample in series.samples.iter().filter(|s| s.histogram.is_none()) {
            let classic = times.entry(sample.timestamp).or_default();
            match *ending {
                "_sum" => classic.sum = sample.value,
                "_count" => classic.count = Some(sample.value),
                _ => classic
                    .buckets
                    .extend(bound.map(|bound| (bound, sample.value))),
            }
        }
    }
    let mut converted = Vec::new();
    for (labels, times) in collected {
        let mut samples = Vec::new();
        for (timestamp, classic) in times {
            let histogram = classic
                .into_native()
                .ok_or_else(|| format!("{labels} at {timestamp} is no classic histogram"))?;
            samples.push(WrittenSample {
                timestamp,
                value: 0.0,
                histogram: Some(histogram),
                start: 0,
            });
        }
        converted.push(LoadedSeries { labels, samples });
    }
    Ok(converted)
}

impl Classic {
    fn into_native(mut self) -> Option<FloatHistogram> {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup_by(|later, first| later.0 == first.0);
        let last = self.buckets.last().copied();
        let count = self.count.or(last.map(|(_, count)| count)).unwrap_or(0.0);
        if last.is_none_or(|(bound, _)| bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        FloatHistogram::from_cumulative(&self.buckets, count, self.sum)
    }
}
