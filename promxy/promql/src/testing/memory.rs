//! A storage in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::load::{Load, WrittenSample};
use crate::histogram::{FloatHistogram, as_stored};
use crate::labels::{LabelMatcher, Labels};
use crate::parser::HistogramLiteral;
use crate::storage::{
    BoxFuture, Querier, Queryable, Samples, SelectHints, SeriesData, SeriesSet, StorageError,
    is_stale,
};

/// Series in memory, in the order of their labels, or as they were given.
///
/// Histograms read back as from Prometheus' storage, which knows of counter resets from its own chunks and not from what was
/// written.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    /// What was written, by series and time.
    written: BTreeMap<Labels, BTreeMap<i64, WrittenSample>>,
    series: Arc<[SeriesData]>,
    /// Whether all numbers of a load are stored before its histograms.
    numbers_first: bool,
}

impl MemoryStorage {
    /// Returns a storage without series.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a storage that takes up a load as Prometheus 3.5 does: first all numbers, then the histograms, of which those are
    /// lost that are older than the last number of their series.
    pub fn like_3_5() -> Self {
        Self {
            numbers_first: true,
            ..Self::default()
        }
    }

    /// Returns a storage of series that are taken as they are, in their order. Their labels must differ.
    pub fn of_series(series: Vec<SeriesData>) -> Self {
        Self {
            series: series.into(),
            ..Self::default()
        }
    }

    /// Adds the series of a `load` command.
    pub fn load(&mut self, load: &Load) {
        for series in &load.series {
            let written = self.written.entry(series.labels.clone()).or_default();
            let numbers = series
                .samples
                .iter()
                .filter(|sample| sample.histogram.is_none());
            let last_number = numbers.map(|sample| sample.timestamp).max();
            for sample in &series.samples {
                let is_late = sample.histogram.is_some() && Some(sample.timestamp) < last_number;
                if !(self.numbers_first && is_late) {
                    written.insert(sample.timestamp, sample.clone());
                }
            }
        }
        let stored = self.written.iter().map(|(labels, samples)| SeriesData {
            labels: labels.clone(),
            samples: Arc::new(stored(samples)),
        });
        self.series = stored.collect();
    }

    /// Removes all series.
    pub fn clear(&mut self) {
        *self = Self {
            numbers_first: self.numbers_first,
            ..Self::default()
        };
    }

    /// Returns the series as they are read back.
    pub fn series(&self) -> &[SeriesData] {
        &self.series
    }
}

/// Returns samples as they are read back.
fn stored(written: &BTreeMap<i64, WrittenSample>) -> Samples {
    let mut after_histogram = false;
    let mut histograms: Vec<(i64, Option<FloatHistogram>)> = Vec::with_capacity(written.len());
    for sample in written.values() {
        let mut histogram = sample.histogram.clone();
        // The end of a series of histograms is a histogram itself.
        if histogram.is_none() && after_histogram && is_stale(sample.value) {
            let stale = HistogramLiteral {
                sum: sample.value,
                ..HistogramLiteral::default()
            };
            histogram = FloatHistogram::from_literal(&stale).ok();
        }
        after_histogram = histogram.is_some();
        histograms.push((sample.timestamp, histogram));
    }
    as_stored(&mut histograms);
    let has_starts = written.values().any(|sample| sample.start != 0);
    let mut samples = Samples::default();
    for ((time, histogram), sample) in histograms.into_iter().zip(written.values()) {
        if let Some(mut histogram) = histogram {
            if let Some(before) = samples.histograms.last() {
                histogram.share_bounds(before);
            }
            samples.histogram_timestamps.push(time);
            samples.histograms.push(histogram.into());
            if has_starts {
                samples.histogram_start_timestamps.push(sample.start);
            }
        } else {
            samples.timestamps.push(time);
            samples.values.push(sample.value);
            if has_starts {
                samples.start_timestamps.push(sample.start);
            }
        }
    }
    samples
}

impl Queryable for MemoryStorage {
    fn querier(&self, _: i64, _: i64) -> BoxFuture<'_, Result<Box<dyn Querier>, StorageError>> {
        let querier: Box<dyn Querier> = Box::new(MemoryQuerier(Arc::clone(&self.series)));
        Box::pin(std::future::ready(Ok(querier)))
    }
}

struct MemoryQuerier(Arc<[SeriesData]>);

impl Querier for MemoryQuerier {
    fn select(&self, _: &SelectHints, matchers: &[LabelMatcher]) -> Box<dyn SeriesSet> {
        let matches = |series: &&SeriesData| {
            let mut matchers = matchers.iter();
            matchers.all(|matcher| matcher.matches_labels(&series.labels))
        };
        let found: Vec<SeriesData> = self.0.iter().filter(matches).cloned().collect();
        Box::new(MemorySet(found.into_iter()))
    }
}

struct MemorySet(std::vec::IntoIter<SeriesData>);

impl SeriesSet for MemorySet {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<SeriesData>, StorageError>> {
        Box::pin(std::future::ready(Ok(self.0.next())))
    }
}
