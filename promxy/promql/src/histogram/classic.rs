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

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<CumulativeBucket> {
        let buckets = pairs.iter();
        buckets
            .map(|&(upper, count)| CumulativeBucket { upper, count })
            .collect()
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn quantiles_lie_between_bounds() {
        let f = |q: f64, pairs: &[(f64, f64)], expected: f64| {
            let (got, forced) = quantile(q, &mut buckets(pairs));
            assert_eq!(got.to_bits(), expected.to_bits(), "{q} {pairs:?}: {got}");
            assert_eq!(forced, None, "{q} {pairs:?}");
        };
        let usual = [(0.1, 2.0), (1.0, 4.0), (INF, 5.0)];
        f(0.2, &usual, 0.05); // the first bucket begins at zero
        f(0.6, &usual, 0.55);
        f(0.9, &usual, 1.0); // nothing is known of the last bucket
        f(-0.1, &usual, -INF);
        f(1.1, &usual, INF);
        f(f64::NAN, &usual, f64::NAN);
        f(0.5, &[(-1.0, 3.0), (INF, 5.0)], -1.0); // no bucket begins at minus infinity
        f(0.5, &[(1.0, 3.0), (2.0, 4.0)], f64::NAN); // no last bucket
        f(0.5, &[(INF, 3.0)], f64::NAN); // nothing but a last bucket
        f(0.5, &[], f64::NAN);
        f(0.5, &[(1.0, 0.0), (INF, 0.0)], f64::NAN); // no observations
        f(0.5, &[(INF, 2.0), (1.0, 1.0), (INF, 2.0), (1.0, 1.0)], 1.0); // unsorted, twice
    }

    #[test]
    fn counts_that_fall_are_raised_and_mentioned() {
        let pairs = [(1.0, 4.0), (2.0, 3.0), (3.0, 6.0), (4.0, 1.0), (INF, 8.0)];
        let (value, forced) = quantile(0.5, &mut buckets(&pairs));
        assert_eq!(value, 1.0);
        let expected = ForcedMonotonicity {
            lowest: 2.0,
            highest: 4.0,
            largest_difference: 5.0,
        };
        assert_eq!(forced, Some(expected));
    }

    #[test]
    fn counts_that_fall_by_rounding_only_are_not_mentioned() {
        let pairs = [(1.0, 4.0), (2.0, 4.0 - 1e-13), (INF, 4.0)];
        assert_eq!(quantile(0.5, &mut buckets(&pairs)), (0.5, None));
    }

    #[test]
    fn fractions_are_between_limits() {
        let f = |lower: f64, upper: f64, pairs: &[(f64, f64)], expected: f64, old: f64| {
            for (compat, expected) in [(Compat::V3_14, expected), (Compat::V3_5, old)] {
                let got = fraction(lower, upper, &mut buckets(pairs), compat);
                let same = got == expected || got.is_nan() && expected.is_nan();
                assert!(same, "{lower} {upper} {pairs:?} {compat:?}: {got}");
            }
        };
        let usual = [(1.0, 2.0), (2.0, 4.0), (INF, 5.0)];
        f(1.0, 2.0, &usual, 0.4, 0.4);
        f(1.5, INF, &usual, 0.4, 0.4);
        f(0.0, 0.5, &usual, 0.2, f64::NAN); // 3.5 has no idea where the first bucket begins
        f(2.0, 1.0, &usual, 0.0, 0.0);
        f(f64::NAN, 1.0, &usual, f64::NAN, f64::NAN);
        f(-INF, INF, &usual, 1.0, 1.0);
        f(-INF, -3.0, &[(-2.0, 1.0), (INF, 2.0)], 0.5, f64::NAN);
        f(0.0, 1.0, &[(1.0, 0.0), (INF, 0.0)], f64::NAN, f64::NAN);
    }
}
