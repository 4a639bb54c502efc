//! Classic histograms: cumulative counts, a series for each upper bound.
//!
//! Follows `BucketQuantile` and `BucketFraction` in `promql/quantile.go`.

use crate::parser::Compat;

/// How many observations there were up to a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CumulativeBucket {
    /// The upper bound: the value of the label `le`.
    pub upper: f64,
    /// The number of observations up to it.
    pub count: f64,
}

/// Where counts had to be raised since they were below those of lower bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForcedMonotonicity {
    /// The lowest bound with a count that was raised.
    pub lowest: f64,
    /// The highest bound with a count that was raised.
    pub highest: f64,
    /// By how much at most.
    pub largest_difference: f64,
}

/// Two counts whose relative difference is below this are the same but for rounding.
const SMALL_DIFFERENCE: f64 = 1e-12;

/// Estimates the `q`-quantile. Sorts the buckets, joins those with equal bounds and makes counts monotone.
///
/// NaN for a `q` of NaN, with fewer than two buckets, without observations, and if the highest bound is not infinity. Infinite
/// for a `q` outside of 0 to 1.
pub fn quantile(q: f64, buckets: &mut Vec<CumulativeBucket>) -> (f64, Option<ForcedMonotonicity>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !sort_and_join(buckets) {
        return (f64::NAN, None);
    }
    let forced = make_monotone(buckets);
    let [lower @ .., last] = buckets.as_slice() else {
        return (f64::NAN, forced);
    };
    let Some(second_last) = lower.last() else {
        return (f64::NAN, forced);
    };
    if last.count == 0.0 {
        return (f64::NAN, forced);
    }
    let rank = q * last.count;
    let found = first_reaching(rank, lower);
    let Some(bucket) = lower.get(found) else {
        return (second_last.upper, forced);
    };
    let (start, below) = match found.checked_sub(1).and_then(|i| lower.get(i)) {
        None if bucket.upper <= 0.0 => return (bucket.upper, forced),
        None => (0.0, None),
        Some(before) => (before.upper, Some(before.count)),
    };
    let (rank, count) = match below {
        None => (rank, bucket.count),
        Some(below) => (rank - below, bucket.count - below),
    };
    (start + (bucket.upper - start) * (rank / count), forced)
}

/// Estimates which part of the observations lies between `lower` and `upper`. Sorts the buckets and joins those with equal
/// bounds.
///
/// NaN if a limit is NaN, without observations, and if the highest bound is not infinity.
pub fn fraction(
    lower: f64,
    upper: f64,
    buckets: &mut Vec<CumulativeBucket>,
    compat: Compat,
) -> f64 {
    if !sort_and_join(buckets) {
        return f64::NAN;
    }
    let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else {
        return f64::NAN;
    };
    let all = last.count;
    if all == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    // Observations are taken to be positive if the lowest bound is, but not in 3.5.
    let mut start = if first.upper > 0.0 && compat > Compat::V3_5 {
        0.0
    } else {
        f64::NEG_INFINITY
    };
    let mut lower_rank = None;
    let mut upper_rank = None;
    let mut below = 0.0;
    for bucket in buckets.iter() {
        let rank_of = |value: f64| {
            if start >= value {
                Some(below)
            } else if bucket.upper <= value {
                None
            } else if start == f64::NEG_INFINITY && compat > Compat::V3_5 {
                Some(bucket.count)
            } else {
                Some(below + (bucket.count - below) * (value - start) / (bucket.upper - start))
            }
        };
        lower_rank = lower_rank.or_else(|| rank_of(lower));
        upper_rank = upper_rank.or_else(|| rank_of(upper));
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        below = bucket.count;
        start = bucket.upper;
    }
    let capped = |rank: Option<f64>| match rank {
        None => all,
        Some(rank) if rank > all => all,
        Some(rank) => rank,
    };
    (capped(upper_rank) - capped(lower_rank)) / all
}

/// Sorts by bound and adds up buckets with the same. Returns whether the highest bound is infinity.
fn sort_and_join(buckets: &mut Vec<CumulativeBucket>) -> bool {
    let by_bound = |a: &CumulativeBucket, b: &CumulativeBucket| a.upper.total_cmp(&b.upper);
    if !buckets.is_sorted_by(|a, b| by_bound(a, b).is_le()) {
        buckets.sort_by(by_bound);
    }
    buckets.dedup_by(|next, kept| {
        let same = next.upper == kept.upper;
        if same {
            kept.count += next.count;
        }
        same
    });
    buckets
        .last()
        .is_some_and(|last| last.upper == f64::INFINITY)
}

/// Lets no count be below that of a lower bound. Differences that are rounding's go unmentioned.
fn make_monotone(buckets: &mut [CumulativeBucket]) -> Option<ForcedMonotonicity> {
    let mut forced: Option<ForcedMonotonicity> = None;
    let mut highest = buckets.first()?.count;
    for bucket in buckets.iter_mut().skip(1) {
        if almost_equal(highest, bucket.count) {
            bucket.count = highest;
        } else if bucket.count < highest {
            let difference = highest - bucket.count;
            bucket.count = highest;
            let forced = forced.get_or_insert(ForcedMonotonicity {
                lowest: bucket.upper,
                highest: bucket.upper,
                largest_difference: 0.0,
            });
            forced.highest = bucket.upper;
            forced.largest_difference = forced.largest_difference.max(difference);
        } else {
            highest = bucket.count;
        }
    }
    forced
}

/// Returns the first bucket whose count reaches `rank`, or how many there are.
///
/// Probes as Go's `sort.Search` does, which matters if counts are NaN.
fn first_reaching(rank: f64, buckets: &[CumulativeBucket]) -> usize {
    let mut from = 0;
    let mut to = buckets.len();
    while from < to {
        let middle = usize::midpoint(from, to);
        match buckets.get(middle) {
            Some(bucket) if bucket.count >= rank => to = middle,
            _ => from = middle + 1,
        }
    }
    from
}

/// Whether numbers are the same but for rounding. NaN is the same as NaN.
fn almost_equal(a: f64, b: f64) -> bool {
    if a == b || a.is_nan() && b.is_nan() {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < SMALL_DIFFERENCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < SMALL_DIFFERENCE
}
