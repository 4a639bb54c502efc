//! The operators of queries on histograms, ready for use: results are new, compacted, and carry the right hint.
//!
//! Follows `vectorElemBinop` in `promql/engine.go`. `==` and `!=` are [`FloatHistogram::equals`]; every other operator does not
//! exist for histograms.

use super::arithmetic::{Adjusted, Incompatible, merge_hints};
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
        let mut product = self.clone();
        product.multiply(factor, compat);
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
        let mut opposite = self.clone();
        opposite.multiply(-1.0, compat);
        opposite
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
