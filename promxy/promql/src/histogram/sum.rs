//! Sums and averages of histograms, for aggregations over series and over time.
//!
//! 3.14 compensates what rounding loses, bucket by bucket; 3.5 adds plainly and moves the average step by step. Follows
//! `promql/engine.go` (aggregation) and `promql/functions.go` (`sum_over_time`, `avg_over_time`).

use super::arithmetic::{Adjusted, Incompatible, merge_hints};
use super::distribution::Distribution;
use super::facts::{Fact, Facts, Operation};
use super::kahan::{Compensated, Tally};
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

/// The sum of histograms.
#[derive(Clone, Debug)]
pub struct HistogramSum {
    state: SumState,
    seen: Seen,
    compat: Compat,
}

#[derive(Clone, Debug)]
enum SumState {
    /// As yet a single histogram: nothing is copied before there is something to add.
    Plain(FloatHistogram),
    Compensated(Total),
}

/// The average of histograms.
#[derive(Clone, Debug)]
pub struct HistogramAverage {
    state: AverageState,
    seen: Seen,
    /// How many there were.
    number: f64,
    compat: Compat,
}

#[derive(Clone, Debug)]
enum AverageState {
    /// The average so far, without compensation: 3.5.
    Moving(FloatHistogram),
    /// The sum so far.
    Sum(Total),
    /// The average so far, from where the sum would have overflowed.
    Mean(Total),
}

/// What the hints of histograms said, and whether bounds were reconciled.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    reset: bool,
    not_reset: bool,
    bounds_reconciled: bool,
}

impl HistogramSum {
    /// Begins with a histogram.
    pub fn new(first: &FloatHistogram, compat: Compat) -> Self {
        todo!()
    }

    /// Adds another. After an error the sum is of no use, but [`facts`](Self::facts) hold.
    pub fn add(&mut self, histogram: &FloatHistogram) -> Result<(), Incompatible> {
        todo!()
    }

    /// Returns what the user of a query is told about the sum.
    pub fn facts(&self) -> Facts {
        todo!()
    }

    /// Returns the sum. Aggregations [compact](FloatHistogram::compact) it, `sum_over_time` does not.
    pub fn finish(self) -> FloatHistogram {
        todo!()
    }
}

impl HistogramAverage {
    /// Begins with a histogram.
    pub fn new(first: &FloatHistogram, compat: Compat) -> Self {
        todo!()
    }

    /// Adds another. After an error the average is of no use, but [`facts`](Self::facts) hold.
    pub fn add(&mut self, histogram: &FloatHistogram) -> Result<(), Incompatible> {
        todo!()
    }

    /// Returns what the user of a query is told about the average.
    pub fn facts(&self) -> Facts {
        todo!()
    }

    /// Returns the average. Aggregations [compact](FloatHistogram::compact) it, `avg_over_time` does not.
    pub fn finish(self) -> FloatHistogram {
        todo!()
    }
}
