//! What histograms are made of and taken apart into, as protocols write them, and what is wrong with parts.
//!
//! Follows `Validate` in `model/histogram/float_histogram.go`.

use std::sync::Arc;

use super::bounds::Schema;
use super::buckets::{Buckets, Span, SpanError};
use super::distribution::Distribution;
use super::{CounterResetHint, FloatHistogram};

/// The number of the schema whose buckets have bounds of their own.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// What a histogram consists of, as protocols write it.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramParts {
    /// The number of the schema. Resolutions above the highest that there is (9 to 52) are reduced to it.
    pub schema: i32,
    /// How far the zero bucket reaches to both sides.
    pub zero_threshold: f64,
    /// What is in the zero bucket.
    pub zero_count: f64,
    /// The number of observations.
    pub count: f64,
    /// The sum of the observations.
    pub sum: f64,
    /// Where the positive buckets are; all buckets, if they are custom.
    pub positive_spans: Vec<Span>,
    /// What is in each positive bucket.
    pub positive_counts: Vec<f64>,
    /// Where the negative buckets are.
    pub negative_spans: Vec<Span>,
    /// What is in each negative bucket.
    pub negative_counts: Vec<f64>,
    /// The upper bounds of custom buckets, without the last, which is infinity.
    pub custom_values: Vec<f64>,
    /// What is known of counter resets before it.
    pub hint: CounterResetHint,
}

/// Why parts do not make a histogram, in Prometheus' words where it has some.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum InvalidHistogram {
    /// There is no such schema.
    #[error(
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, \
         or -53 for custom buckets, got schema {0}"
    )]
    Schema(i64),
    /// The width of the zero bucket is not one.
    #[error("histogram has an invalid zero threshold of {0}")]
    ZeroThreshold(f64),
    /// The positive buckets are not where buckets can be.
    #[error("positive side: {0}")]
    PositiveSpans(SpanError),
    /// The negative buckets are not where buckets can be.
    #[error("negative side: {0}")]
    NegativeSpans(SpanError),
    /// Custom buckets are not where buckets can be.
    #[error("custom buckets: {0}")]
    CustomSpans(SpanError),
    /// A custom bucket has a negative index.
    #[error(
        "custom buckets: span number {number} with offset {offset}: histogram has a span whose offset is negative"
    )]
    CustomOffset {
        /// Which span, from one on.
        number: usize,
        /// Its offset.
        offset: i32,
    },
    /// A custom bucket lies behind the last bound.
    #[error(
        "custom buckets: only {bounds} custom bounds defined which is insufficient to cover total span length of {length}: \
         histogram custom bounds are too few"
    )]
    TooFewBounds {
        /// How many bounds there are.
        bounds: usize,
        /// How many buckets there would be.
        length: i64,
    },
    /// Custom bounds do not ascend.
    #[error(
        "custom buckets: previous bound is {previous:.6} and current is {current:.6}: \
         histogram custom bounds must be in strictly increasing order"
    )]
    BoundsNotAscending {
        /// The bound before.
        previous: f64,
        /// The bound that is not higher.
        current: f64,
    },
    /// A custom bound is NaN.
    #[error("custom buckets: histogram custom bounds must not be NaN")]
    NanBound,
    /// The last custom bound is infinity, which is implied.
    #[error(
        "custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite"
    )]
    InfiniteBound,
    /// Custom buckets come with something in a zero bucket.
    #[error("custom buckets: must have zero count of 0")]
    CustomZeroCount,
    /// Custom buckets come with a zero bucket.
    #[error("custom buckets: must have zero threshold of 0")]
    CustomZeroThreshold,
    /// Custom buckets come with negative buckets.
    #[error("custom buckets: must not have negative buckets")]
    CustomNegativeBuckets,
    /// Exponential buckets come with custom bounds.
    #[error("histogram with exponential schema must not have custom bounds")]
    ExponentialBounds,
    /// A count is negative. Only [`FloatHistogram::validate`] asks.
    #[error("histogram has a bucket or count of {0}, which is negative")]
    NegativeCount(f64),
}

impl FloatHistogram {
    /// Makes a histogram of its parts.
    ///
    /// Counts may be anything, since differences of histograms may have negative ones; [`validate`](Self::validate) has a look
    /// at them.
    pub fn new(parts: HistogramParts) -> Result<Self, InvalidHistogram> {
        let HistogramParts {
            schema,
            zero_threshold,
            zero_count,
            count,
            sum,
            positive_spans,
            positive_counts,
            negative_spans,
            negative_counts,
            custom_values,
            hint,
        } = parts;
        let distribution = if schema == CUSTOM_BUCKETS_SCHEMA {
            if zero_count != 0.0 {
                return Err(InvalidHistogram::CustomZeroCount);
            }
            if zero_threshold != 0.0 {
                return Err(InvalidHistogram::CustomZeroThreshold);
            }
            if !negative_spans.is_empty() || !negative_counts.is_empty() {
                return Err(InvalidHistogram::CustomNegativeBuckets);
            }
            custom(&positive_spans, positive_counts, custom_values)?
        } else {
            if zero_threshold.is_nan() || zero_threshold < 0.0 {
                return Err(InvalidHistogram::ZeroThreshold(zero_threshold));
            }
            if !custom_values.is_empty() {
                return Err(InvalidHistogram::ExponentialBounds);
            }
            let positive = Buckets::new(&positive_spans, positive_counts)
                .map_err(InvalidHistogram::PositiveSpans)?;
            let negative = Buckets::new(&negative_spans, negative_counts)
                .map_err(InvalidHistogram::NegativeSpans)?;
            let finer = schema
                .saturating_sub(i32::from(Schema::MAX.number()))
                .clamp(0, 44);
            let reduced = |buckets: Buckets<f64>| match finer {
                0 => buckets,
                _ => buckets.regroup(|index| ((index - 1) >> finer.min(31)) + 1),
            };
            Distribution {
                schema: Schema::new(i64::from(schema - finer))
                    .filter(|schema| !schema.is_custom())
                    .ok_or(InvalidHistogram::Schema(i64::from(schema)))?,
                zero_threshold,
                zero_count,
                positive: reduced(positive),
                negative: reduced(negative),
                bounds: Arc::default(),
            }
        };
        Ok(Self {
            count,
            sum,
            hint,
            distribution,
        })
    }

    /// Takes the histogram apart.
    pub fn to_parts(&self) -> HistogramParts {
        let Distribution {
            schema,
            zero_threshold,
            zero_count,
            positive,
            negative,
            bounds,
        } = &self.distribution;
        HistogramParts {
            schema: i32::from(schema.number()),
            zero_threshold: *zero_threshold,
            zero_count: *zero_count,
            count: self.count,
            sum: self.sum,
            positive_spans: positive.spans().collect(),
            positive_counts: positive.counts().to_vec(),
            negative_spans: negative.spans().collect(),
            negative_counts: negative.counts().to_vec(),
            custom_values: bounds.to_vec(),
            hint: self.hint,
        }
    }
}

/// Makes custom buckets.
pub(super) fn custom(
    spans: &[Span],
    counts: Vec<f64>,
    bounds: Vec<f64>,
) -> Result<Distribution<f64>, InvalidHistogram> {
    for (i, current) in bounds.iter().enumerate() {
        if current.is_nan() {
            return Err(InvalidHistogram::NanBound);
        }
        if let Some(previous) = i.checked_sub(1).and_then(|i| bounds.get(i))
            && current <= previous
        {
            return Err(InvalidHistogram::BoundsNotAscending {
                previous: *previous,
                current: *current,
            });
        }
    }
    if bounds.last() == Some(&f64::INFINITY) {
        return Err(InvalidHistogram::InfiniteBound);
    }
    let positive = Buckets::new(spans, counts).map_err(InvalidHistogram::CustomSpans)?;
    if let Some(offset) = positive.first_index().filter(|first| *first < 0) {
        return Err(InvalidHistogram::CustomOffset { number: 1, offset });
    }
    if let Some(last) = positive.last_index()
        && i64::from(last) > bounds.len() as i64
    {
        return Err(InvalidHistogram::TooFewBounds {
            bounds: bounds.len(),
            length: i64::from(last) + 1,
        });
    }
    Ok(Distribution {
        schema: Schema::CUSTOM,
        zero_threshold: 0.0,
        zero_count: 0.0,
        positive,
        negative: Buckets::default(),
        bounds: bounds.into(),
    })
}
