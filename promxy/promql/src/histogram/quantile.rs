//! Quantiles of native histograms.
//!
//! Follows `HistogramQuantile` in `promql/quantile.go`.

use super::FloatHistogram;
use super::bucket::Bucket;
use super::facts::{Fact, Facts};
use crate::gomath;

/// Estimates the `q`-quantile.
///
/// Inside of custom buckets and the zero bucket observations are taken to be spread evenly, inside of exponential ones as if
/// they fell evenly into the buckets of a higher resolution. NaN without observations and for a `q` of NaN; infinite for a `q`
/// outside of 0 to 1.
pub fn quantile(q: f64, histogram: &FloatHistogram) -> (f64, Facts) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, Facts::NONE);
    }
    if q > 1.0 {
        return (f64::INFINITY, Facts::NONE);
    }
    if histogram.count == 0.0 || q.is_nan() {
        return (f64::NAN, Facts::NONE);
    }
    let mut facts = Facts::NONE;
    let mut buckets = histogram.buckets();
    // Observations of NaN are in no bucket and count as the highest, so ranks hold only from below.
    let upward = histogram.sum.is_nan() || q < 0.5;
    let (mut rank, (mut bucket, reached)) = if upward {
        let rank = q * histogram.count;
        (rank, locate(rank, &mut buckets))
    } else {
        let rank = (1.0 - q) * histogram.count;
        (rank, locate(rank, &mut buckets.by_ref().rev()))
    };
    if histogram.has_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, facts);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, facts);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        histogram.cut_at_zero(&mut bucket);
    }
    // Rounding may have made the buckets hold more than there is.
    let mut reached = if reached > histogram.count {
        histogram.count
    } else {
        reached
    };
    if reached < rank {
        if histogram.sum.is_nan() {
            facts.insert(Fact::QuantileIsNan);
            return (f64::NAN, facts);
        }
        return (bucket.upper, facts);
    }
    rank = if upward {
        rank - (reached - bucket.count)
    } else {
        reached - rank
    };
    if histogram.sum.is_nan() {
        // A quirk of `HistogramQuantile`: looking whether anything is in no bucket, it goes on with the last bucket. The
        // cases of `native_histograms.test` with NaN observations pin it.
        for last in buckets {
            bucket = last;
            reached += bucket.count;
        }
        facts.insert_if(reached < histogram.count, Fact::QuantileSkewedByNan);
    }
    let fraction = rank / bucket.count;
    if histogram.has_custom_buckets() || bucket.touches_zero() {
        return (
            bucket.lower + (bucket.upper - bucket.lower) * fraction,
            facts,
        );
    }
    let log_lower = gomath::log2(bucket.lower.abs());
    let log_upper = gomath::log2(bucket.upper.abs());
    let value = if bucket.lower > 0.0 {
        gomath::exp2(log_lower + (log_upper - log_lower) * fraction)
    } else {
        -gomath::exp2(log_upper + (log_lower - log_upper) * (1.0 - fraction))
    };
    (value, facts)
}

/// Returns the bucket in which the number of observations reaches `rank`, or the last one, and that number.
fn locate(rank: f64, buckets: &mut impl Iterator<Item = Bucket>) -> (Bucket, f64) {
    let mut bucket = Bucket {
        lower: 0.0,
        upper: 0.0,
        lower_inclusive: false,
        upper_inclusive: false,
        count: 0.0,
    };
    let mut reached = 0.0;
    for next in buckets {
        bucket = next;
        if bucket.count != 0.0 {
            reached += bucket.count;
            if reached >= rank {
                break;
            }
        }
    }
    (bucket, reached)
}

impl FloatHistogram {
    /// Cuts the zero bucket at zero if there are buckets on one side of it only.
    pub(super) fn cut_at_zero(&self, zero: &mut Bucket) {
        let (positive, negative) = (&self.distribution.positive, &self.distribution.negative);
        if negative.is_empty() && !positive.is_empty() {
            zero.lower = 0.0;
        } else if positive.is_empty() && !negative.is_empty() {
            zero.upper = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_of_nan_are_told() {
        let f = |q: f64, text: &str, expected: f64, fact: Option<Fact>| {
            let histogram = FloatHistogram::from_text(text).expect("it is one");
            let (value, facts) = quantile(q, &histogram);
            let same = value == expected || value.is_nan() && expected.is_nan();
            assert!(same, "{q} {text}: {value}");
            assert_eq!(facts, fact.map_or(Facts::NONE, Facts::from), "{q} {text}");
        };
        let skewed = Some(Fact::QuantileSkewedByNan);
        f(0.5, "{{count:4 sum:NaN buckets:[2]}}", 1.0, skewed);
        f(
            0.9,
            "{{count:4 sum:NaN buckets:[2]}}",
            f64::NAN,
            Some(Fact::QuantileIsNan),
        );
        f(1.0, "{{count:2 sum:NaN buckets:[2]}}", 1.0, None); // infinities of both signs
        f(0.5, "{{count:0 sum:NaN}}", f64::NAN, None);
    }

    #[test]
    fn custom_buckets_end_where_something_is_known() {
        let f = |q: f64, text: &str, expected: f64| {
            let histogram = FloatHistogram::from_text(text).expect("it is one");
            assert_eq!(
                quantile(q, &histogram),
                (expected, Facts::NONE),
                "{q} {text}"
            );
        };
        f(
            0.5,
            "{{schema:-53 count:4 custom_values:[2 4] buckets:[4]}}",
            1.0,
        );
        f(
            0.5,
            "{{schema:-53 count:4 custom_values:[-2 4] buckets:[4]}}",
            -2.0,
        );
        f(
            0.9,
            "{{schema:-53 count:4 custom_values:[2 4] buckets:[1 1 2]}}",
            4.0,
        );
        f(
            0.375,
            "{{schema:-53 count:4 custom_values:[2 4] buckets:[1 1 2]}}",
            3.0,
        );
    }
}
