//! Sums and averages of histograms, for aggregations over series and over time.
//!
//! 3.14 compensates what rounding loses, bucket by bucket; 3.5 adds plainly and moves the average step by step. Follows
//! `promql/engine.go` (aggregation) and `promql/functions.go` (`sum_over_time`, `avg_over_time`).

use super::arithmetic::{Adjusted, Incompatible, merge_hints};
use super::batch::Batch;
use super::distribution::Distribution;
use super::facts::{Facts, Operation};
use super::kahan::{Compensated, Tally, add_rows};
use super::{CounterResetHint, FloatHistogram};
use crate::parser::Compat;

/// A histogram whose every number carries its compensation.
#[derive(Clone, Debug)]
struct Total {
    count: Compensated,
    sum: Compensated,
    hint: CounterResetHint,
    distribution: Distribution<Compensated>,
}

impl Total {
    fn new(first: &FloatHistogram) -> Self {
        Self {
            count: first.count.into(),
            sum: first.sum.into(),
            hint: first.hint,
            distribution: first.distribution.map(Compensated::from),
        }
    }

    /// Adds a histogram. Returns whether custom bounds had to be reconciled.
    fn add(&mut self, other: &FloatHistogram) -> Result<bool, Incompatible> {
        let reconciled = self.distribution.add(&other.distribution, COMPENSATED)?;
        self.count.add(other.count);
        self.sum.add(other.sum);
        merge_hints(&mut self.hint, other.hint);
        Ok(reconciled)
    }

    /// Replaces each number, and each compensation.
    fn scale(&mut self, f: impl Fn(f64) -> f64) {
        self.count.map(&f);
        self.sum.map(&f);
        self.distribution.scale(f);
    }

    /// Whether anything is infinite.
    fn has_overflown(&self) -> bool {
        self.numbers().any(f64::is_infinite)
    }

    /// Whether no number can become infinite when those of `other`, or the sum of several, are added.
    fn has_room_for(&self, other: &FloatHistogram) -> bool {
        // So many numbers of this size are needed for an overflow that no two histograms have them.
        const SAFE: f64 = 1e290;
        let small = |number: f64| number.abs() < SAFE;
        let Distribution {
            zero_count,
            positive,
            negative,
            ..
        } = &other.distribution;
        self.numbers().all(small)
            && [other.count, other.sum, *zero_count]
                .into_iter()
                .chain(positive.counts().iter().copied())
                .chain(negative.counts().iter().copied())
                .all(small)
    }

    /// All sums in it, and its bounds.
    fn numbers(&self) -> impl Iterator<Item = f64> {
        let Distribution {
            zero_count,
            positive,
            negative,
            bounds,
            ..
        } = &self.distribution;
        [self.count, self.sum, *zero_count]
            .into_iter()
            .chain(positive.counts().iter().copied())
            .chain(negative.counts().iter().copied())
            .map(|number| number.sum)
            .chain(bounds.iter().copied())
    }

    /// Returns the histogram with every number compensated.
    fn finish(self) -> FloatHistogram {
        FloatHistogram {
            count: self.count.total(),
            sum: self.sum.total(),
            hint: self.hint,
            distribution: self.distribution.map(Compensated::total),
        }
    }
}

/// Moves an average by its share of a histogram with the same buckets, just as if both were divided and subtracted.
fn move_towards(mean: &mut FloatHistogram, histogram: &FloatHistogram, number: f64) {
    let step = |mean: &mut f64, new: f64| *mean += new / number - *mean / number;
    step(&mut mean.count, histogram.count);
    step(&mut mean.sum, histogram.sum);
    let (own, other) = (&mut mean.distribution, &histogram.distribution);
    step(&mut own.zero_count, other.zero_count);
    let sides = [
        (&mut own.positive, &other.positive),
        (&mut own.negative, &other.negative),
    ];
    for (own, other) in sides {
        for (mean, new) in own.counts_mut().iter_mut().zip(other.counts()) {
            step(mean, *new);
        }
    }
    let mut hint = histogram.hint;
    merge_hints(&mut hint, mean.hint);
    merge_hints(&mut mean.hint, hint);
}

/// The only version that compensates.
const COMPENSATED: Compat = Compat::V3_14;

/// What histograms had to say while they were added up.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    reset: bool,
    not_reset: bool,
    bounds_reconciled: bool,
}

impl Seen {
    fn hint(&mut self, hint: CounterResetHint) {
        self.reset |= hint == CounterResetHint::Reset;
        self.not_reset |= hint == CounterResetHint::NotReset;
    }

    /// 3.5 keeps it all to itself.
    fn facts(self, compat: Compat) -> Facts {
        let adjusted = Adjusted {
            conflicting_resets: self.reset && self.not_reset,
            bounds_reconciled: self.bounds_reconciled,
        };
        adjusted.facts(Operation::Aggregation, compat)
    }
}

/// A sum of histograms: `sum`, `sum_over_time`.
///
/// ```
/// use promql::histogram::{FloatHistogram, HistogramSum};
/// use promql::parser::Compat;
///
/// let one = FloatHistogram::from_text("{{count:1 sum:1.5 buckets:[0 1]}}")?;
/// let mut sum = HistogramSum::new(&one, Compat::V3_14);
/// sum.add(&one)?;
/// let mut sum = sum.finish();
/// sum.compact();
/// assert_eq!(sum.to_test_notation(), "{{count:2 sum:3 offset:1 buckets:[2]}}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct HistogramSum {
    sum: Sum,
    seen: Seen,
    compat: Compat,
}

#[derive(Clone, Debug)]
enum Sum {
    Plain(FloatHistogram),
    Compensated(Total),
}

impl HistogramSum {
    /// Begins with a histogram.
    pub fn new(first: &FloatHistogram, compat: Compat) -> Self {
        let mut seen = Seen::default();
        seen.hint(first.hint);
        let sum = match compat {
            Compat::V3_5 => Sum::Plain(first.clone()),
            Compat::V3_14 => Sum::Compensated(Total::new(first)),
        };
        Self { sum, seen, compat }
    }

    /// Adds another. After an error the sum is of no use, but [`facts`](Self::facts) hold.
    pub fn add(&mut self, histogram: &FloatHistogram) -> Result<(), Incompatible> {
        self.seen.hint(histogram.hint);
        match &mut self.sum {
            Sum::Plain(sum) => {
                sum.add(histogram, self.compat)?;
            }
            Sum::Compensated(total) => self.seen.bounds_reconciled |= total.add(histogram)?,
        }
        Ok(())
    }

    /// Adds histograms, one after the other.
    pub(crate) fn add_batch(&mut self, batch: &Batch<'_>) -> Result<(), Incompatible> {
        let added = match &mut self.sum {
            Sum::Plain(FloatHistogram {
                count,
                sum,
                hint,
                distribution,
            }) => add_alike((count, sum, hint), distribution, batch),
            Sum::Compensated(Total {
                count,
                sum,
                hint,
                distribution,
            }) => add_alike((count, sum, hint), distribution, batch),
        };
        for histogram in batch.histograms() {
            if added {
                self.seen.hint(histogram.hint);
            } else {
                self.add(histogram)?;
            }
        }
        Ok(())
    }

    /// Returns what the user of a query is told about the sum.
    pub fn facts(&self) -> Facts {
        self.seen.facts(self.compat)
    }

    /// Returns the sum. Aggregations [compact](FloatHistogram::compact) it, `sum_over_time` does not.
    pub fn finish(self) -> FloatHistogram {
        match self.sum {
            Sum::Plain(sum) => sum,
            Sum::Compensated(total) => total.finish(),
        }
    }
}

/// Adds histograms to the parts of a sum, if all have its buckets.
fn add_alike<T: Tally>(
    (count, sum, hint): (&mut T, &mut T, &mut CounterResetHint),
    distribution: &mut Distribution<T>,
    batch: &Batch<'_>,
) -> bool {
    let Some(rows) = batch.counts_for(distribution) else {
        return false;
    };
    add_rows(distribution.positive.counts_mut(), &rows.positive);
    add_rows(distribution.negative.counts_mut(), &rows.negative);
    for histogram in batch.histograms() {
        count.add(histogram.count.into());
        sum.add(histogram.sum.into());
        let zero_count = histogram.distribution.zero_count;
        distribution.zero_count.add(zero_count.into());
        merge_hints(hint, histogram.hint);
    }
    true
}

/// An average of histograms: `avg`, `avg_over_time`.
///
/// In 3.14 it is the sum divided by the number of histograms, unless the sum overflows; in 3.5 it moves with each histogram.
#[derive(Clone, Debug)]
pub struct HistogramAverage {
    average: Average,
    /// How many histograms there were.
    number: f64,
    seen: Seen,
    compat: Compat,
}

#[derive(Clone, Debug)]
enum Average {
    /// The average so far, without compensation.
    Moving(FloatHistogram),
    /// The sum so far.
    Sum(Total),
    /// The average so far, since the sum would have overflowed.
    Mean(Total),
}

impl HistogramAverage {
    /// Begins with a histogram.
    pub fn new(first: &FloatHistogram, compat: Compat) -> Self {
        let mut seen = Seen::default();
        seen.hint(first.hint);
        let average = match compat {
            Compat::V3_5 => Average::Moving(first.clone()),
            Compat::V3_14 => Average::Sum(Total::new(first)),
        };
        Self {
            average,
            number: 1.0,
            seen,
            compat,
        }
    }

    /// Adds another. After an error the average is of no use, but [`facts`](Self::facts) hold.
    pub fn add(&mut self, histogram: &FloatHistogram) -> Result<(), Incompatible> {
        self.seen.hint(histogram.hint);
        self.number += 1.0;
        let number = self.number;
        if let Average::Sum(sum) = &mut self.average {
            if sum.has_room_for(histogram) {
                self.seen.bounds_reconciled |= sum.add(histogram)?;
                return Ok(());
            }
            let mut next = sum.clone();
            self.seen.bounds_reconciled |= next.add(histogram)?;
            if !next.has_overflown() {
                *sum = next;
                return Ok(());
            }
            sum.scale(|count| count / (number - 1.0));
            self.average = Average::Mean(sum.clone());
        }
        match &mut self.average {
            Average::Moving(mean) if mean.distribution.has_buckets_of(&histogram.distribution) => {
                move_towards(mean, histogram, number);
            }
            Average::Moving(mean) => {
                let mut step = histogram.clone();
                step.divide(number, self.compat);
                let mut part = mean.clone();
                part.divide(number, self.compat);
                step.subtract(&part, self.compat)?;
                mean.add(&step, self.compat)?;
            }
            Average::Sum(mean) | Average::Mean(mean) => {
                let weight = (number - 1.0) / number;
                mean.scale(|count| count * weight);
                let mut part = histogram.clone();
                part.divide(number, self.compat);
                self.seen.bounds_reconciled |= mean.add(&part)?;
            }
        }
        Ok(())
    }

    /// Returns what the user of a query is told about the average.
    pub fn facts(&self) -> Facts {
        self.seen.facts(self.compat)
    }

    /// Returns the average. Aggregations [compact](FloatHistogram::compact) it, `avg_over_time` does not.
    pub fn finish(self) -> FloatHistogram {
        match self.average {
            Average::Moving(mean) => mean,
            Average::Mean(mean) => mean.finish(),
            Average::Sum(mut sum) => {
                sum.scale(|count| count / self.number);
                sum.finish()
            }
        }
    }
}
