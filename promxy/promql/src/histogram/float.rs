//! The histogram that queries compute with.
//!
//! Follows `model/histogram/float_histogram.go`.

use std::sync::Arc;

use super::CounterResetHint;
use super::bounds::Schema;
use super::bucket::Bucket;
use super::buckets::{Buckets, Span};
use super::custom::{identical_bounds, same_bounds};
use super::distribution::Distribution;
use super::parts::{InvalidHistogram, custom};

/// A native histogram: how many observations there were, their sum, and how they spread over buckets.
///
/// Counts are floats, as those of rates are, and absolute: each bucket has its own. Cloning copies the buckets; the engine shares
/// histograms as `Arc<FloatHistogram>` and clones only what it changes.
///
/// ```
/// use promql::histogram::FloatHistogram;
///
/// let latency = FloatHistogram::from_text("{{schema:0 count:4 sum:5 buckets:[1 2 1]}}")?;
/// assert_eq!(latency.to_string(), "{count:4, sum:5, (0.5,1]:1, (1,2]:2, (2,4]:1}");
/// let (median, _) = promql::histogram::quantile(0.5, &latency);
/// assert_eq!(median, 1.414213562373095);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct FloatHistogram {
    /// The number of observations, those of NaN included.
    pub count: f64,
    /// The sum of the observations. Prometheus' stale marker here ends the series.
    pub sum: f64,
    /// What is known of counter resets before it.
    pub hint: CounterResetHint,
    pub(super) distribution: Distribution<f64>,
}

impl FloatHistogram {
    /// Makes a histogram with custom buckets of a classic one: of cumulative counts by ascending upper bound, the last of which
    /// is infinity.
    ///
    /// `sum` is the sum of observations, `count` their number. Returns `None` if the bounds do not ascend to infinity, or
    /// the last count is not `count`.
    pub fn from_cumulative(buckets: &[(f64, f64)], count: f64, sum: f64) -> Option<Self> {
        let (&(last_bound, last_count), finite) = buckets.split_last()?;
        if last_bound != f64::INFINITY || last_count != count {
            return None;
        }
        let mut before = 0.0;
        let counts = buckets.iter().map(|(_, cumulative)| {
            let count = cumulative - before;
            before = *cumulative;
            count
        });
        let counts: Vec<f64> = counts.collect();
        let spans = [Span {
            offset: 0,
            length: u32::try_from(counts.len()).ok()?,
        }];
        let bounds = finite.iter().map(|(bound, _)| *bound).collect();
        let mut histogram = Self {
            count,
            sum,
            hint: CounterResetHint::Unknown,
            distribution: custom(&spans, counts, bounds).ok()?,
        };
        histogram.compact();
        Some(histogram)
    }

    /// Returns a histogram without observations and buckets, in the layout of another.
    pub(super) fn empty_like(other: &Self) -> Self {
        Self {
            count: 0.0,
            sum: 0.0,
            hint: CounterResetHint::Unknown,
            distribution: Distribution::empty_like(&other.distribution),
        }
    }

    // === looking ===

    /// The schema.
    pub fn schema(&self) -> Schema {
        self.distribution.schema
    }

    /// Whether the buckets have bounds of their own.
    pub fn has_custom_buckets(&self) -> bool {
        self.distribution.schema.is_custom()
    }

    /// How far the zero bucket reaches to both sides.
    pub fn zero_threshold(&self) -> f64 {
        self.distribution.zero_threshold
    }

    /// What is in the zero bucket.
    pub fn zero_count(&self) -> f64 {
        self.distribution.zero_count
    }

    /// The upper bounds of custom buckets, without the last, which is infinity.
    pub fn custom_bounds(&self) -> &[f64] {
        &self.distribution.bounds
    }

    /// All buckets, ascending, that hold something or were touched once; reversible. The zero bucket is among them if it holds
    /// something; what it covers of its neighbours is cut off theirs.
    pub fn buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> {
        self.distribution.buckets()
    }

    /// The buckets that hold something, ascending: those that Prometheus' HTTP API lists, each as its
    /// [`boundaries`](Bucket::boundaries), bounds and count.
    pub fn populated_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> {
        self.buckets().filter(|bucket| bucket.count != 0.0)
    }

    /// The positive buckets, ascending; all custom buckets. Reversible.
    pub fn positive_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> {
        self.distribution.positive_buckets()
    }

    /// The negative buckets, descending, that is, away from zero. Reversible.
    pub fn negative_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> {
        self.distribution.negative_buckets()
    }

    /// Looks for negative counts, as Prometheus' storage does.
    pub fn validate(&self) -> Result<(), InvalidHistogram> {
        let Distribution {
            zero_count,
            positive,
            negative,
            ..
        } = &self.distribution;
        [self.count, *zero_count]
            .iter()
            .chain(positive.counts())
            .chain(negative.counts())
            .find(|count| **count < 0.0)
            .map_or(Ok(()), |count| Err(InvalidHistogram::NegativeCount(*count)))
    }

    /// How many samples the histogram counts as towards the sample limit, rounding left to whoever adds them up: its size as
    /// Prometheus reckons it and eight bytes for a timestamp, in units of 16 bytes.
    pub fn sample_equivalents(&self) -> usize {
        let Distribution {
            positive,
            negative,
            bounds,
            ..
        } = &self.distribution;
        let elements = positive.run_count()
            + negative.run_count()
            + positive.len()
            + negative.len()
            + bounds.len();
        sample_equivalents(elements)
    }

    /// Whether both have the same layout, counts and sum, bit for bit. Hints do not matter.
    ///
    /// Follows Prometheus' `==` between histograms, which it expects to be [compacted](Self::compact).
    pub fn equals(&self, other: &Self) -> bool {
        let (own, others) = (&self.distribution, &other.distribution);
        let same = |a: &Buckets<f64>, b: &Buckets<f64>| {
            a.same_layout(b)
                && (a.counts().iter().zip(b.counts())).all(|(a, b)| a.to_bits() == b.to_bits())
        };
        own.schema == others.schema
            && self.count.to_bits() == other.count.to_bits()
            && self.sum.to_bits() == other.sum.to_bits()
            && own.zero_threshold == others.zero_threshold
            && own.zero_count.to_bits() == others.zero_count.to_bits()
            && same_bounds(&own.bounds, &others.bounds)
            && same(&own.positive, &others.positive)
            && same(&own.negative, &others.negative)
    }

    // === changing ===

    /// Lays custom bounds down where another has the same, so that both need memory for them once and are seen at once to go
    /// together. A storage does so with the histogram before in the series.
    pub fn share_bounds(&mut self, other: &Self) {
        let (own, others) = (&mut self.distribution.bounds, &other.distribution.bounds);
        if !Arc::ptr_eq(own, others) && identical_bounds(own, others) {
            *own = Arc::clone(others);
        }
    }

    /// Drops empty buckets.
    pub fn compact(&mut self) {
        self.distribution.compact(0);
    }

    /// Drops empty buckets, unless no more than `gap` of them are between others.
    pub fn compact_with_gaps(&mut self, gap: u32) {
        self.distribution.compact(gap);
    }

    /// Merges buckets until the resolution is no higher than that of `schema`. Custom buckets stay as they are.
    pub fn reduce_resolution(&mut self, schema: Schema) {
        self.distribution.reduce_to(schema);
    }

    /// Leaves only count and sum, for functions that need no more, and the schema, unless another is given.
    pub(super) fn without_buckets(&self, schema: Option<Schema>) -> Self {
        let mut bare = Self::empty_like(self);
        bare.distribution.schema = schema.unwrap_or(self.schema());
        bare.distribution.bounds = Arc::default();
        bare.count = self.count;
        bare.sum = self.sum;
        bare.hint = self.hint;
        bare
    }
}

/// How many samples a histogram counts as that has so many runs, buckets and bounds.
pub(super) fn sample_equivalents(elements: usize) -> usize {
    (168 + 8 * elements + 8) / 16
}
