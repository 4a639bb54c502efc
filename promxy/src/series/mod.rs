//! Series as they come from servers: samples at their own times, or one value for each time of a query.
//!
//! * [`Samples`]: what a raw fetch returns, at the times of the scrapes
//! * [`Column`]: what a query returns, a number for each time of its grid and a bitmap of which are there
//! * [`Histogram`]: a native histogram as the API shows it; [`Native`]: as queries compute with it

mod column;
mod histogram;
mod native;

pub use column::Column;
pub use histogram::{Bucket, Histogram};
pub use native::native;

use std::sync::Arc;

use promql::histogram::FloatHistogram;

use crate::labels::Labels;

/// A native histogram that queries compute with. Clones share it.
pub type Native = Arc<FloatHistogram>;

/// What a histogram of an answer becomes.
pub trait FromShown: Sized {
    /// Makes it of a histogram as the API shows it; `None` if its buckets make no sense.
    fn from_shown(shown: Histogram) -> Option<Self>;
}

impl FromShown for Histogram {
    fn from_shown(shown: Histogram) -> Option<Self> {
        Some(shown)
    }
}

impl FromShown for Native {
    fn from_shown(shown: Histogram) -> Option<Self> {
        native(&shown).map(Arc::new)
    }
}

/// A series.
#[derive(Clone, Debug, PartialEq)]
pub struct Series<D> {
    /// Its labels.
    pub labels: Labels,
    /// What it holds.
    pub data: D,
}

/// Samples at their own times, in milliseconds since 1970. Floats and histograms are kept apart, each in the order of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples<H> {
    /// Numbers.
    pub floats: Vec<(i64, f64)>,
    /// Histograms.
    pub histograms: Vec<(i64, H)>,
}

impl<H> Default for Samples<H> {
    fn default() -> Self {
        let (floats, histograms) = (Vec::new(), Vec::new());
        Self { floats, histograms }
    }
}
