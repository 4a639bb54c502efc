//! The operators of queries on histograms, ready for use: results are new, compacted, and carry the right hint.
//!
//! Follows `vectorElemBinop` in `promql/engine.go`. `==` and `!=` are [`FloatHistogram::equals`]; every other operator does not
//! exist for histograms.

use std::sync::Arc;

use super::arithmetic::{Adjusted, Incompatible, merge_hints};
use super::distribution::Distribution;
use super::facts::{Fact, Facts, Operation};
use super::{CounterResetHint, FloatHistogram};
use crate::parser::Compat;

impl FloatHistogram {
    /// Adds another histogram, in place and without compacting.
    pub fn add(&mut self, other: &Self, compat: Compat) -> Result<Adjusted, Incompatible> {
        let bounds_reconciled = self.distribution.add(&other.distribution, compat)?;
        self.count += other.count;
        self.sum += other.sum;
        Ok(self.adjusted(other, bounds_reconciled))
    }

    /// Subtracts another histogram, in place and without compacting. The hint is treated as in an addition.
    pub fn subtract(&mut self, other: &Self, compat: Compat) -> Result<Adjusted, Incompatible> {
        let bounds_reconciled = self.distribution.sub(&other.distribution, compat)?;
        self.count -= other.count;
        self.sum -= other.sum;
        Ok(self.adjusted(other, bounds_reconciled))
    }

    /// Whether both have the same buckets, so that their [difference](Self::difference) is that of their numbers.
    pub(super) fn has_buckets_of(&self, other: &Self) -> bool {
        self.distribution.has_buckets_of(&other.distribution)
    }

    /// Subtracts a histogram that [has the same buckets](Self::has_buckets_of), in one go and without compacting. Nothing is
    /// known of resets before the result.
    pub(super) fn difference(&self, other: &Self) -> Self {
        let (own, others) = (&self.distribution, &other.distribution);
        Self {
            count: self.count - other.count,
            sum: self.sum - other.sum,
            hint: CounterResetHint::Unknown,
            distribution: Distribution {
                schema: own.schema,
                zero_threshold: own.zero_threshold,
                zero_count: own.zero_count - others.zero_count,
                positive: own.positive.minus(&others.positive),
                negative: own.negative.minus(&others.negative),
                bounds: Arc::clone(&own.bounds),
            },
        }
    }

    fn adjusted(&mut self, other: &Self, bounds_reconciled: bool) -> Adjusted {
        Adjusted {
            conflicting_resets: merge_hints(&mut self.hint, other.hint),
            bounds_reconciled,
        }
    }

    /// Multiplies, in place and without compacting. In 3.14 a negative factor makes a gauge.
    pub fn multiply(&mut self, factor: f64, compat: Compat) {
        self.count *= factor;
        self.sum *= factor;
        self.distribution.scale(|count| count * factor);
        self.turned_by(factor, compat);
    }

    /// Divides, in place and without compacting. A division by zero leaves no buckets. In 3.14 a negative divisor makes a gauge.
    pub fn divide(&mut self, divisor: f64, compat: Compat) {
        self.count /= divisor;
        self.sum /= divisor;
        if divisor == 0.0 {
            self.distribution.positive = super::buckets::Buckets::default();
            self.distribution.negative = super::buckets::Buckets::default();
        }
        self.distribution.scale(|count| count / divisor);
        self.turned_by(divisor, compat);
    }

    /// Multiplies without compacting.
    fn multiplied(&self, factor: f64, compat: Compat) -> Self {
        let mut product = Self {
            count: self.count * factor,
            sum: self.sum * factor,
            hint: self.hint,
            distribution: self.distribution.map(|count| count * factor),
        };
        product.turned_by(factor, compat);
        product
    }

    fn turned_by(&mut self, factor: f64, compat: Compat) {
        if factor < 0.0 && compat > Compat::V3_5 {
            self.hint = CounterResetHint::Gauge;
        }
    }

    /// `self + other`
    pub fn plus(&self, other: &Self, compat: Compat) -> Result<(Self, Facts), Incompatible> {
        let mut sum = self.clone();
        let adjusted = sum.add(other, compat)?;
        sum.compact();
        Ok((sum, adjusted.facts(Operation::Addition, compat)))
    }

    /// `self - other`. In 3.14 the result is a gauge.
    pub fn minus(&self, other: &Self, compat: Compat) -> Result<(Self, Facts), Incompatible> {
        let mut difference = self.clone();
        let adjusted = difference.subtract(other, compat)?;
        if compat > Compat::V3_5 {
            difference.hint = CounterResetHint::Gauge;
        }
        difference.compact();
        Ok((difference, adjusted.facts(Operation::Subtraction, compat)))
    }

    /// `self * factor`, and the same the other way round
    #[must_use]
    pub fn times(&self, factor: f64, compat: Compat) -> Self {
        let mut product = self.multiplied(factor, compat);
        product.compact();
        product
    }

    /// `self / divisor`
    #[must_use]
    pub fn divided_by(&self, divisor: f64, compat: Compat) -> Self {
        let mut quotient = self.clone();
        quotient.divide(divisor, compat);
        quotient.compact();
        quotient
    }

    /// `-self`. The buckets stay as they are, empty ones included.
    #[must_use]
    pub fn negated(&self, compat: Compat) -> Self {
        self.multiplied(-1.0, compat)
    }
}

impl Adjusted {
    /// Returns what of it the user of a query is told. 3.5 keeps it to itself.
    pub fn facts(self, operation: Operation, compat: Compat) -> Facts {
        let mut facts = Facts::NONE;
        if compat > Compat::V3_5 {
            facts.insert_if(self.conflicting_resets, Fact::ConflictingResets(operation));
            facts.insert_if(self.bounds_reconciled, Fact::BoundsReconciled(operation));
        }
        facts
    }
}

impl Incompatible {
    /// Returns it as a fact about a function or an aggregation. (About a binary operator, both are "incompatible bucket layout".)
    pub fn fact(self) -> Fact {
        match self {
            Self::Schemas => Fact::MixedSchemas,
            Self::Bounds => Fact::IncompatibleBounds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(text: &str) -> FloatHistogram {
        FloatHistogram::from_text(text).expect("the test writes histograms")
    }

    #[test]
    fn sums_have_the_coarser_layout() {
        let f = |a: &str, b: &str, expected: &str| {
            let (a, b) = (histogram(a), histogram(b));
            for (a, b) in [(&a, &b), (&b, &a)] {
                let (sum, facts) = a.plus(b, Compat::V3_14).expect("they go together");
                assert_eq!(sum.to_test_notation(), expected);
                assert_eq!(facts, Facts::NONE);
            }
        };
        f(
            "{{count:1 sum:1 buckets:[1]}}",
            "{{count:2 sum:3 n_buckets:[2]}}",
            "{{count:3 sum:4 buckets:[1] n_buckets:[2]}}",
        );
        // buckets (1,2] and (2,4] are one at the lower resolution
        f(
            "{{schema:-1 count:1 buckets:[1] offset:1}}",
            "{{schema:0 count:2 buckets:[1 1] offset:1}}",
            "{{schema:-1 count:3 offset:1 buckets:[3]}}",
        );
        // the wider zero bucket swallows (0.5,1]
        f(
            "{{count:1 z_bucket:1 z_bucket_w:1}}",
            "{{count:3 z_bucket:1 z_bucket_w:0.5 buckets:[1 1]}}",
            "{{count:4 z_bucket:3 z_bucket_w:1 offset:1 buckets:[1]}}",
        );
        // the wider zero bucket ends inside of (0.5,1], so it grows to its end
        f(
            "{{count:1 z_bucket:1 z_bucket_w:0.7}}",
            "{{count:2 z_bucket:1 buckets:[1]}}",
            "{{count:3 z_bucket:3 z_bucket_w:1}}",
        );
    }

    #[test]
    fn custom_bounds_are_reconciled_but_not_in_3_5() {
        let a = histogram("{{schema:-53 count:6 custom_values:[1 2 3] buckets:[1 2 3]}}");
        let b = histogram("{{schema:-53 count:5 custom_values:[2 4] buckets:[1 1 3]}}");
        let (sum, facts) = a.plus(&b, Compat::V3_14).expect("they go together");
        let expected = "{{schema:-53 count:11 custom_values:[2] buckets:[4 7]}}";
        assert_eq!(sum.to_test_notation(), expected);
        assert_eq!(facts, Fact::BoundsReconciled(Operation::Addition).into());
        let refused = a.plus(&b, Compat::V3_5).map(|_| ());
        assert_eq!(refused, Err(Incompatible::Bounds));
        assert_eq!(Incompatible::Bounds.fact(), Fact::IncompatibleBounds);
        let exponential = histogram("{{count:1}}");
        let refused = a.minus(&exponential, Compat::V3_14).map(|_| ());
        assert_eq!(refused, Err(Incompatible::Schemas));
    }

    #[test]
    fn hints_of_results_follow_the_table() {
        use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
        let f = |a, b, expected, conflict| {
            let with = |hint| {
                let mut histogram = histogram("{{count:1}}");
                histogram.hint = hint;
                histogram
            };
            for (a, b) in [(a, b), (b, a)] {
                let (a, b) = (with(a), with(b));
                let (sum, facts) = a.plus(&b, Compat::V3_14).expect("they go together");
                assert_eq!(sum.hint, expected);
                let fact = Fact::ConflictingResets(Operation::Addition);
                assert_eq!(facts.contains(fact), conflict);
                let (old, facts) = a.minus(&b, Compat::V3_5).expect("they go together");
                assert_eq!((old.hint, facts), (expected, Facts::NONE));
                let (new, facts) = a.minus(&b, Compat::V3_14).expect("they go together");
                let fact = Fact::ConflictingResets(Operation::Subtraction);
                assert_eq!((new.hint, facts.contains(fact)), (Gauge, conflict));
            }
        };
        f(Unknown, Unknown, Unknown, false);
        f(Reset, Reset, Reset, false);
        f(Gauge, Reset, Gauge, false);
        f(Unknown, Gauge, Gauge, false);
        f(Unknown, NotReset, Unknown, false);
        f(Reset, NotReset, Unknown, true);
    }

    #[test]
    fn a_division_by_zero_leaves_no_buckets() {
        let whole = histogram("{{count:2 sum:0 z_bucket:1 z_bucket_w:1 buckets:[1] offset:1}}");
        let expected = "{{count:+Inf sum:NaN z_bucket:+Inf z_bucket_w:1}}";
        let quotient = whole.divided_by(0.0, Compat::V3_14);
        assert_eq!(quotient.to_test_notation(), expected);
    }
}
