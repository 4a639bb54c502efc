//! How observations are spread over buckets: the part of a histogram whose layout has to be brought in line before two can be
//! added.

use std::sync::Arc;

use super::bounds::Schema;
use super::bucket::Bucket;
use super::buckets::Buckets;
use super::custom::same_bounds;
use super::kahan::Tally;

/// Buckets on both sides of zero and the zero bucket between them, or custom buckets.
#[derive(Clone, Debug)]
pub(super) struct Distribution<T> {
    pub(super) schema: Schema,
    /// The zero bucket reaches this far to both sides. Zero for custom buckets.
    pub(super) zero_threshold: f64,
    /// What is in the zero bucket. Nothing for custom buckets.
    pub(super) zero_count: T,
    /// Positive observations; for custom buckets, all.
    pub(super) positive: Buckets<T>,
    /// Negative observations by the size of their opposite. None for custom buckets.
    pub(super) negative: Buckets<T>,
    /// The upper bounds of custom buckets but the last, which has none. Empty for exponential buckets.
    pub(super) bounds: Arc<[f64]>,
}

impl<T: Tally> Distribution<T> {
    /// No observations and no buckets, in the layout of another.
    pub(super) fn empty_like<U>(other: &Distribution<U>) -> Self {
        Self {
            schema: other.schema,
            zero_threshold: 0.0,
            zero_count: T::default(),
            positive: Buckets::default(),
            negative: Buckets::default(),
            bounds: Arc::clone(&other.bounds),
        }
    }

    /// The same layout with something else in each bucket.
    pub(super) fn map<U>(&self, f: impl Fn(T) -> U) -> Distribution<U> {
        Distribution {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: f(self.zero_count),
            positive: self.positive.map(&f),
            negative: self.negative.map(&f),
            bounds: Arc::clone(&self.bounds),
        }
    }

    /// Whether another has the same buckets, so that each number has one to go with; none of them is inside of the zero bucket.
    pub(super) fn has_buckets_of(&self, other: &Distribution<f64>) -> bool {
        let outside = |first: Option<i32>| {
            first.is_none_or(|first| {
                self.schema.is_custom()
                    || self.schema.is_seen_beyond(first, self.zero_threshold)
                    || self.schema.bound(first) > self.zero_threshold
            })
        };
        self.schema == other.schema
            && self.zero_threshold == other.zero_threshold
            && same_bounds(&self.bounds, &other.bounds)
            && self.positive.same_layout(&other.positive)
            && self.negative.same_layout(&other.negative)
            && outside(self.positive.first_index())
            && outside(self.negative.first_index())
    }

    /// Replaces the numbers of every bucket.
    pub(super) fn scale(&mut self, f: impl Fn(f64) -> f64) {
        self.zero_count.map(&f);
        for count in self.positive.counts_mut() {
            count.map(&f);
        }
        for count in self.negative.counts_mut() {
            count.map(&f);
        }
    }

    /// Merges buckets until the resolution is no higher than that of `schema`. Custom buckets stay as they are.
    pub(super) fn reduce_to(&mut self, schema: Schema) {
        if schema < self.schema && !schema.is_custom() {
            let index = |index| self.schema.index_in(schema, index);
            self.positive = self.positive.regroup(index);
            self.negative = self.negative.regroup(index);
            self.schema = schema;
        }
    }

    /// Drops empty buckets. Up to `gap` of them may stay between others.
    pub(super) fn compact(&mut self, gap: u32) {
        self.positive.compact(gap);
        self.negative.compact(gap);
    }

    /// Returns the upper bound of a bucket, of a positive one if they are exponential.
    pub(super) fn bound(&self, index: i32) -> f64 {
        if !self.schema.is_custom() {
            return self.schema.bound(index);
        }
        match usize::try_from(index) {
            Err(_) => f64::NEG_INFINITY,
            Ok(index) => self.bounds.get(index).copied().unwrap_or(f64::INFINITY),
        }
    }
}

impl Distribution<f64> {
    /// Positive buckets, ascending; all custom buckets.
    pub(super) fn positive_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> {
        let custom = self.schema.is_custom();
        self.positive.iter().map(move |(index, count)| {
            let lower = self.bound(index - 1);
            let upper = self.bound(index);
            Bucket {
                lower,
                upper,
                lower_inclusive: if custom { index == 0 } else { lower < 0.0 },
                upper_inclusive: custom || upper > 0.0,
                count,
            }
        })
    }

    /// Negative buckets, descending, that is, away from zero.
    pub(super) fn negative_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> {
        self.negative.iter().map(|(index, count)| {
            let lower = -self.bound(index);
            let upper = -self.bound(index - 1);
            Bucket {
                lower,
                upper,
                lower_inclusive: lower < 0.0,
                upper_inclusive: upper > 0.0,
                count,
            }
        })
    }

    /// The zero bucket.
    pub(super) fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        }
    }

    /// All buckets, ascending. The zero bucket is left out if there is nothing in it; what it covers of its neighbours is cut off
    /// theirs.
    pub(super) fn buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> {
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        self.negative_buckets()
            .rev()
            .map(|bucket| self.beside_zero(bucket))
            .chain(zero)
            .chain(
                self.positive_buckets()
                    .map(|bucket| self.beside_zero(bucket)),
            )
    }

    /// Cuts off what the zero bucket covers.
    fn beside_zero(&self, mut bucket: Bucket) -> Bucket {
        if bucket.upper < 0.0 && bucket.upper > -self.zero_threshold {
            bucket.upper = -self.zero_threshold;
        } else if bucket.lower > 0.0 && bucket.lower < self.zero_threshold {
            bucket.lower = self.zero_threshold;
        }
        bucket
    }
}
