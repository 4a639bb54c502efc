//! What happens while histograms are computed with and is worth an annotation of the query.
//!
//! Texts and positions are the engine's business: kernels return [`Facts`], a set that is free to copy and to merge.

/// Something that the user of a query is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// A counter function met a gauge histogram (warning).
    NotACounter,
    /// A gauge function met a histogram that is not a gauge (warning).
    NotAGauge,
    /// Exponential and custom buckets cannot be brought together; there is no result (warning).
    MixedSchemas,
    /// Custom buckets with different bounds cannot be brought together in 3.5; there is no result (warning).
    IncompatibleBounds,
    /// One histogram said "there was a reset", another "there was none" (warning).
    ConflictingResets(Operation),
    /// Custom buckets with different bounds were reduced to the bounds they share (info).
    BoundsReconciled(Operation),
    /// A quantile lies among observations of NaN and is NaN (info).
    QuantileIsNan,
    /// Observations of NaN, which count as the highest, make a quantile higher (info).
    QuantileSkewedByNan,
    /// Observations of NaN are in none of the fractions (info).
    NansInNoFraction,
    /// A sample begins before its predecessor was taken, but not where that one began (warning).
    StartTimesOverlap,
}

/// The operation during which a [`Fact`] was found, as annotations name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// "addition"
    Addition,
    /// "subtraction"
    Subtraction,
    /// "aggregation"
    Aggregation,
}

impl Operation {
    /// Returns the word that annotations use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// All facts, in the order of their bits in [`Facts`].
const ALL: [Fact; 14] = [
    Fact::NotACounter,
    Fact::NotAGauge,
    Fact::MixedSchemas,
    Fact::IncompatibleBounds,
    Fact::ConflictingResets(Operation::Addition),
    Fact::ConflictingResets(Operation::Subtraction),
    Fact::ConflictingResets(Operation::Aggregation),
    Fact::BoundsReconciled(Operation::Addition),
    Fact::BoundsReconciled(Operation::Subtraction),
    Fact::BoundsReconciled(Operation::Aggregation),
    Fact::QuantileIsNan,
    Fact::QuantileSkewedByNan,
    Fact::NansInNoFraction,
    Fact::StartTimesOverlap,
];

/// A set of [`Fact`]s.
///
/// ```
/// use promql::histogram::{Fact, Facts};
///
/// let facts = Facts::from(Fact::NotACounter) | Fact::MixedSchemas.into();
/// assert!(facts.contains(Fact::MixedSchemas));
/// assert_eq!(facts.iter().count(), 2);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts(u16);

impl Facts {
    /// No fact at all.
    pub const NONE: Self = Self(0);

    /// Adds a fact.
    pub fn insert(&mut self, fact: Fact) {
        self.0 |= Self::from(fact).0;
    }

    /// Adds a fact if it holds.
    pub(crate) fn insert_if(&mut self, holds: bool, fact: Fact) {
        if holds {
            self.insert(fact);
        }
    }

    /// Whether a fact is among them.
    pub fn contains(self, fact: Fact) -> bool {
        self.0 & Self::from(fact).0 != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the facts.
    pub fn iter(self) -> impl Iterator<Item = Fact> {
        ALL.into_iter().filter(move |fact| self.contains(*fact))
    }
}

impl From<Fact> for Facts {
    fn from(fact: Fact) -> Self {
        let bit = ALL.iter().position(|known| *known == fact);
        Self(bit.map_or(0, |bit| 1 << bit))
    }
}

impl std::ops::BitOr for Facts {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Facts {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_has_a_bit_of_its_own() {
        let mut facts = Facts::NONE;
        for (count, fact) in ALL.into_iter().enumerate() {
            assert!(!facts.contains(fact));
            facts.insert(fact);
            assert_eq!(facts.iter().count(), count + 1);
        }
    }
}
