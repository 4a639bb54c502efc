//! Which part of the observations lies between two numbers.
//!
//! Follows `HistogramFraction` in `promql/quantile.go`.

use super::FloatHistogram;
use super::bucket::Bucket;
use super::facts::{Fact, Facts};
use crate::gomath;
use crate::parser::Compat;

impl Bucket {
    /// Returns which part of the bucket, whose bounds are finite and on either side of `value`, lies below `value`.
    pub(super) fn part_below(&self, value: f64, spread: Spread) -> f64 {
        match spread {
            Spread::Linear => (value - self.lower) / (self.upper - self.lower),
            Spread::Exponential => {
                let log_lower = gomath::log2(self.lower.abs());
                let log_upper = gomath::log2(self.upper.abs());
                let log_value = gomath::log2(value.abs());
                if value > 0.0 {
                    (log_value - log_lower) / (log_upper - log_lower)
                } else {
                    1.0 - ((log_value - log_upper) / (log_lower - log_upper))
                }
            }
        }
    }
}

/// How observations are taken to be spread inside of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// Evenly.
    Linear,
    /// Evenly on a logarithmic scale.
    Exponential,
}

/// Estimates which part of the observations lies between `lower` and `upper`.
///
/// Interpolates as [`quantile`](super::quantile()) does. NaN without observations and if a limit is NaN.
pub fn fraction(
    lower: f64,
    upper: f64,
    histogram: &FloatHistogram,
    compat: Compat,
) -> (f64, Facts) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, Facts::NONE);
    }
    if lower >= upper {
        return (0.0, Facts::NONE);
    }
    let mut lower_rank = None;
    let mut upper_rank = None;
    // How many observations lie below the bucket, and how many do with all buckets looked at.
    let mut below = 0.0;
    let mut seen = 0.0;
    let mut buckets = histogram.buckets();
    for mut bucket in buckets.by_ref() {
        seen += bucket.count;
        let spread = if bucket.touches_zero() {
            histogram.cut_at_zero(&mut bucket);
            Spread::Linear
        } else if histogram.has_custom_buckets() {
            Spread::Linear
        } else {
            Spread::Exponential
        };
        let rank_of = |value: f64| {
            if bucket.lower >= value {
                Some(below)
            } else if bucket.upper > value {
                Some(inside(&bucket, below, value, spread, compat))
            } else {
                None
            }
        };
        lower_rank = lower_rank.or_else(|| rank_of(lower));
        upper_rank = upper_rank.or_else(|| rank_of(upper));
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        below += bucket.count;
    }
    let mut facts = Facts::NONE;
    let all = if histogram.sum.is_nan() {
        // What is NaN is in no bucket.
        for bucket in buckets {
            seen += bucket.count;
        }
        facts.insert_if(seen < histogram.count, Fact::NansInNoFraction);
        seen
    } else {
        histogram.count
    };
    let capped = |rank: Option<f64>| match rank {
        None => all,
        Some(rank) if rank > all => all,
        Some(rank) => rank,
    };
    (
        (capped(upper_rank) - capped(lower_rank)) / histogram.count,
        facts,
    )
}

/// Returns how many observations lie below `value`, which is inside of `bucket`.
fn inside(bucket: &Bucket, below: f64, value: f64, spread: Spread, compat: Compat) -> f64 {
    match (spread, compat) {
        // In a bucket without a lower bound nothing can be said; since 3.8 all of it is below.
        (Spread::Linear, Compat::V3_14) if bucket.lower == f64::NEG_INFINITY => bucket.count,
        (Spread::Linear, Compat::V3_5) => {
            below + bucket.count * (value - bucket.lower) / (bucket.upper - bucket.lower)
        }
        _ => below + bucket.count * bucket.part_below(value, spread),
    }
}
