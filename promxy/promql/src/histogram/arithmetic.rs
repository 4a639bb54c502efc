//! Addition and subtraction: what two histograms have to agree on, and what becomes of their hints.
//!
//! Follows `model/histogram/float_histogram.go`.

use super::CounterResetHint;
use super::custom::same_bounds;
use super::distribution::Distribution;
use super::kahan::{Tally, add_rows};
use crate::parser::Compat;

/// Why two histograms cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incompatible {
    /// One has exponential buckets, the other custom ones.
    #[error(
        "cannot apply this operation on histograms with a mix of exponential and custom bucket schemas"
    )]
    Schemas,
    /// Both have custom buckets, with different bounds. Only in 3.5.
    #[error(
        "cannot apply this operation on custom buckets histograms with different custom bounds"
    )]
    Bounds,
}

/// What had to be given up to add two histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adjusted {
    /// One said "there was a reset", the other "there was none"; the result does not know.
    pub conflicting_resets: bool,
    /// The bounds of custom buckets differed; the result has those that both had.
    pub bounds_reconciled: bool,
}

/// Brings a hint in line with that of a histogram which is added. Returns whether they contradict each other.
pub(super) fn merge_hints(hint: &mut CounterResetHint, other: CounterResetHint) -> bool {
    use CounterResetHint::{Gauge, Unknown};
    let (merged, conflict) = match (*hint, other) {
        (own, other) if own == other => (own, false),
        (Gauge, _) | (_, Gauge) => (Gauge, false),
        (Unknown, _) | (_, Unknown) => (Unknown, false),
        _ => (Unknown, true),
    };
    *hint = merged;
    conflict
}

impl<T: Tally> Distribution<T> {
    /// Adds the buckets of another. Returns whether custom bounds had to be reconciled.
    pub(super) fn add(
        &mut self,
        other: &Distribution<f64>,
        compat: Compat,
    ) -> Result<bool, Incompatible> {
        if !self.has_buckets_of(other) {
            return self.merge(other, compat, |count| count);
        }
        // As `merge` does it, with nothing to find.
        self.zero_count.add(other.zero_count.into());
        add_rows(self.positive.counts_mut(), &[other.positive.counts()]);
        add_rows(self.negative.counts_mut(), &[other.negative.counts()]);
        Ok(false)
    }

    /// Adds what `signed` makes of the buckets of another.
    fn merge(
        &mut self,
        other: &Distribution<f64>,
        compat: Compat,
        signed: impl Fn(T) -> T,
    ) -> Result<bool, Incompatible> {
        if self.schema.is_custom() != other.schema.is_custom() {
            return Err(Incompatible::Schemas);
        }
        if self.schema.is_custom() && !same_bounds(&self.bounds, &other.bounds) {
            if compat == Compat::V3_5 {
                return Err(Incompatible::Bounds);
            }
            self.merge_custom(other, |count, added| count.add(signed(T::from(added))));
            return Ok(true);
        }
        if self.schema == other.schema && self.zero_threshold == other.zero_threshold {
            self.zero_count.add(signed(T::from(other.zero_count)));
            self.merge_buckets(other, |count| signed(T::from(count)));
        } else {
            // Zero buckets are reconciled at the resolutions that there are; only then the resolution is reduced.
            let mut other = other.map(T::from);
            let zero = self.reconcile_zero(&other);
            self.zero_count.add(signed(zero));
            other.reduce_to(self.schema);
            self.reduce_to(other.schema);
            self.merge_buckets(&other, signed);
        }
        Ok(false)
    }

    /// Adds what `signed` makes of the buckets of another with the same schema that are not inside the zero bucket.
    fn merge_buckets<U: Tally>(&mut self, other: &Distribution<U>, signed: impl Fn(U) -> T) {
        let (schema, threshold) = (self.schema, self.zero_threshold);
        let inside = |index: i32| !schema.is_custom() && schema.bound(index) <= threshold;
        for (own, theirs) in [
            (&mut self.positive, &other.positive),
            (&mut self.negative, &other.negative),
        ] {
            own.merge(theirs, inside, &signed, |count, added| {
                count.add(signed(added));
            });
        }
    }
}

impl Distribution<f64> {
    /// Subtracts the buckets of another. Returns whether custom bounds had to be reconciled.
    pub(super) fn sub(
        &mut self,
        other: &Distribution<f64>,
        compat: Compat,
    ) -> Result<bool, Incompatible> {
        self.merge(other, compat, |count: f64| -count)
    }
}
