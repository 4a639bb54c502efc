//! Where series come from: the boundary that a host implements.
//!
//! A query opens one [`Querier`] for all the time it looks at, issues all its selects at once and reads the series as they
//! arrive. The futures are plain: no runtime is named here. Evaluation begins when all series are there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::histogram::FloatHistogram;
use crate::labels::{LabelMatcher, Labels};

/// A future on the heap that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Opens storage for queries.
pub trait Queryable: Send + Sync {
    /// Returns what answers selects between two times, both included, in milliseconds since 1970.
    fn querier(
        &self,
        start: i64,
        end: i64,
    ) -> BoxFuture<'_, Result<Box<dyn Querier>, StorageError>>;
}

/// Answers the selects of one query.
pub trait Querier: Send + Sync {
    /// Returns the series that fulfil all of `matchers`.
    ///
    /// No two series may have the same labels. Their order is the order of summation and of instant results, so a source
    /// whose order is stable makes results stable. Samples outside the hinted range may be left out or not.
    fn select(&self, hints: &SelectHints, matchers: &[LabelMatcher]) -> Box<dyn SeriesSet>;
}

/// Series on their way.
pub trait SeriesSet: Send {
    /// Returns the next series, or nothing at the end.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<SeriesData>, StorageError>>;

    /// Returns what users should know of the answer. Asked at the end.
    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// Why storage could not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StorageError {
    /// The text that users see, after `expanding series: `.
    pub message: String,
}

/// What a select will be used for. Nothing of it has to be heeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectHints {
    /// The first time whose samples matter, in milliseconds since 1970.
    pub start: i64,
    /// The last time whose samples matter.
    pub end: i64,
    /// The distance of evaluations in milliseconds; zero for an instant query.
    pub step: i64,
    /// The function or aggregation around the selector, empty if there is none.
    pub function: &'static str,
    /// The labels that an aggregation directly around the selector groups by, or without which it groups.
    pub grouping: Vec<String>,
    /// Whether `grouping` lists the labels that are kept.
    pub by: bool,
    /// The length of a range selector in milliseconds; zero for an instant selector.
    pub range: i64,
}

/// A series with its samples. Clones share them.
#[derive(Clone, Debug)]
pub struct SeriesData {
    /// The labels, the metric name among them.
    pub labels: Labels,
    /// The samples.
    pub samples: Arc<Samples>,
}

/// The samples of a series in columns, each in the order of time. Times are in milliseconds since 1970.
///
/// The number with the bits of [`stale_marker`] says that the series ended there; of a histogram its sum has them.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// The times of `values`.
    pub timestamps: Vec<i64>,
    /// The numbers.
    pub values: Vec<f64>,
    /// The times of `histograms`.
    pub histogram_timestamps: Vec<i64>,
    /// The native histograms.
    pub histograms: Vec<Arc<FloatHistogram>>,
    /// When each number's counter began, zero where that is not known; empty if it is nowhere known.
    pub start_timestamps: Vec<i64>,
    /// The same for `histograms`.
    pub histogram_start_timestamps: Vec<i64>,
}

const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Returns the number that ends a series.
pub fn stale_marker() -> f64 {
    f64::from_bits(STALE_BITS)
}

/// Whether a number is the one that ends a series. Other NaNs are not.
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}
