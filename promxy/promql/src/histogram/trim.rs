//! The trim operators `</` and `>/`: a histogram without the observations above or below a number.
//!
//! A bucket that the number cuts keeps its part on the right side, as interpolation sees it. If anything goes, count and sum are
//! estimated anew, the sum as if all of a bucket were at its centre. Follows `TrimBuckets` in
//! `model/histogram/float_histogram.go`; the rules for infinite buckets are pinned by `native_histograms.test`.

use super::FloatHistogram;
use super::bucket::{Bucket, middle};
use super::fraction::Spread;

/// Which observations stay.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Keep {
    Below(f64),
    Above(f64),
}

/// What stays of a bucket, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kept {
    count: f64,
    centre: f64,
}

const NOTHING: Kept = Kept {
    count: 0.0,
    centre: 0.0,
};

/// The kinds of buckets, as far as centres are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Custom,
    Positive,
    Negative,
}

impl FloatHistogram {
    /// `self </ limit`: without the observations above `limit`.
    #[must_use]
    pub fn keep_below(&self, limit: f64) -> Self {
        self.trimmed(Keep::Below(limit))
    }

    /// `self >/ limit`: without the observations below `limit`.
    #[must_use]
    pub fn keep_above(&self, limit: f64) -> Self {
        self.trimmed(Keep::Above(limit))
    }

    fn trimmed(&self, keep: Keep) -> Self {
        let mut result = self.clone();
        let mut changed = false;
        let (mut count, mut sum) = (0.0, 0.0);
        let mut tally = |before: f64, kept: Kept| {
            changed |= kept.count != before;
            count += kept.count;
            sum += kept.centre * kept.count;
            kept.count
        };
        let upper_kind = if self.has_custom_buckets() {
            Kind::Custom
        } else {
            Kind::Positive
        };
        let counts = result.distribution.positive.counts_mut();
        for (count, bucket) in counts.iter_mut().zip(self.positive_buckets()) {
            if bucket.count != 0.0 {
                *count = tally(bucket.count, keep.part_of(&bucket, upper_kind));
            }
        }
        let counts = result.distribution.negative.counts_mut();
        for (count, bucket) in counts.iter_mut().zip(self.negative_buckets()) {
            if bucket.count != 0.0 {
                *count = tally(bucket.count, keep.part_of(&bucket, Kind::Negative));
            }
        }
        if self.zero_count() > 0.0 {
            let mut zero = self.distribution.zero_bucket();
            let any = |counts: &[f64]| counts.iter().any(|count| *count != 0.0);
            match (
                any(self.distribution.negative.counts()),
                any(self.distribution.positive.counts()),
            ) {
                (true, false) => zero.upper = 0.0,
                (false, true) => zero.lower = 0.0,
                _ => {}
            }
            result.distribution.zero_count = tally(zero.count, keep.part_of_zero(&zero));
        }
        if changed {
            result.count = count;
            result.sum = sum;
            result.compact();
        }
        result
    }
}

impl Keep {
    /// Returns what stays of a populated bucket.
    fn part_of(self, bucket: &Bucket, kind: Kind) -> Kept {
        let (lower, upper) = (bucket.lower, bucket.upper);
        let (inside, cut) = match self {
            Self::Below(limit) => (upper <= limit, lower < limit),
            Self::Above(limit) => (lower >= limit, upper > limit),
        };
        if inside {
            return Kept {
                count: bucket.count,
                centre: centre(lower, upper, kind),
            };
        }
        if !cut {
            return NOTHING;
        }
        if lower == f64::NEG_INFINITY {
            return self.part_of_lowest(bucket);
        }
        if upper == f64::INFINITY {
            return match self {
                // How much lies below is anyone's guess.
                Self::Below(_) => NOTHING,
                Self::Above(limit) => Kept {
                    count: bucket.count,
                    centre: limit,
                },
            };
        }
        let spread = match kind {
            Kind::Custom => Spread::Linear,
            Kind::Positive | Kind::Negative => Spread::Exponential,
        };
        match self {
            Self::Below(limit) => Kept {
                count: bucket.count * bucket.part_below(limit, spread),
                centre: centre(lower, limit, kind),
            },
            Self::Above(limit) => Kept {
                count: bucket.count - bucket.count * bucket.part_below(limit, spread),
                centre: centre(limit, upper, kind),
            },
        }
    }

    /// Returns what stays of a bucket without a lower bound. If its upper bound is positive, it is taken to begin at zero.
    fn part_of_lowest(self, bucket: &Bucket) -> Kept {
        let upper = bucket.upper;
        let begins_at_zero = upper > 0.0 && upper < f64::INFINITY;
        match self {
            Self::Below(limit) if begins_at_zero && limit > 0.0 => Kept {
                count: bucket.count * limit / upper,
                centre: limit / 2.0,
            },
            Self::Below(limit) if upper <= 0.0 => Kept {
                count: bucket.count,
                centre: limit,
            },
            Self::Above(limit) if begins_at_zero && limit >= 0.0 => Kept {
                count: bucket.count * (1.0 - limit / upper),
                centre: middle(limit, upper),
            },
            // How much lies on the right side is anyone's guess.
            _ => NOTHING,
        }
    }

    /// Returns what stays of the zero bucket, in which observations are spread evenly.
    fn part_of_zero(self, zero: &Bucket) -> Kept {
        let (lower, upper) = (zero.lower, zero.upper);
        let all = Kept {
            count: zero.count,
            centre: middle(lower, upper),
        };
        match self {
            Self::Below(limit) if limit <= lower => NOTHING,
            Self::Below(limit) if limit >= upper => all,
            Self::Below(limit) => Kept {
                count: zero.count * ((limit - lower) / (upper - lower)),
                centre: middle(lower, limit),
            },
            Self::Above(limit) if limit <= lower => all,
            Self::Above(limit) if limit >= upper => NOTHING,
            Self::Above(limit) => Kept {
                count: zero.count * ((upper - limit) / (upper - lower)),
                centre: middle(limit, upper),
            },
        }
    }
}

/// Returns where the observations between two bounds are taken to be.
fn centre(lower: f64, upper: f64, kind: Kind) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) => match kind {
            Kind::Custom => middle(lower, upper),
            Kind::Positive => (lower * upper).abs().sqrt(),
            Kind::Negative => -(lower * upper).abs().sqrt(),
        },
    }
}
