//! Sums with compensation, after Kahan and Neumaier.

#![expect(
    clippy::inline_always,
    reason = "only what is inlined is compiled for the instructions that were chosen"
)]

use fearless_simd::{Level, dispatch};

/// A sum together with what its rounding lost so far.
///
/// Follows `util/kahansum`: a sum that overflows forgets its compensation.
///
/// ```
/// use promql::histogram::Compensated;
///
/// let mut sum = Compensated::default();
/// for value in [1.0, 1e100, 1.0, -1e100] {
///     sum.add(value);
/// }
/// assert_eq!(sum.total(), 2.0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Compensated {
    /// The sum as it was rounded.
    pub sum: f64,
    /// What has to be added to it.
    pub lost: f64,
}

impl Compensated {
    /// Adds a number.
    #[inline(always)]
    pub fn add(&mut self, value: f64) {
        let rounded = self.sum + value;
        self.lost = if rounded.is_infinite() {
            0.0
        } else if self.sum.abs() >= value.abs() {
            self.lost + ((self.sum - rounded) + value)
        } else {
            self.lost + ((value - rounded) + self.sum)
        };
        self.sum = rounded;
    }

    /// Returns the sum, compensated.
    #[inline]
    pub fn total(self) -> f64 {
        // Adding nothing would turn a negative zero around.
        if self.lost == 0.0 {
            self.sum
        } else {
            self.sum + self.lost
        }
    }
}

impl From<f64> for Compensated {
    #[inline]
    fn from(sum: f64) -> Self {
        Self { sum, lost: 0.0 }
    }
}

/// A count of observations: a plain number, or one with compensation.
pub(super) trait Tally: Copy + Default + From<f64> {
    /// Adds another.
    fn add(&mut self, other: Self);

    /// Replaces each of its numbers.
    fn map(&mut self, f: impl Fn(f64) -> f64);

    /// The count, as far as comparisons care.
    fn count(self) -> f64;

    /// Whether nothing is left of it.
    fn is_zero(self) -> bool;
}

impl Tally for f64 {
    #[inline]
    fn add(&mut self, other: Self) {
        *self += other;
    }

    #[inline]
    fn map(&mut self, f: impl Fn(f64) -> f64) {
        *self = f(*self);
    }

    #[inline]
    fn count(self) -> f64 {
        self
    }

    #[inline]
    fn is_zero(self) -> bool {
        self == 0.0
    }
}

impl Tally for Compensated {
    #[inline]
    fn add(&mut self, other: Self) {
        Compensated::add(self, other.sum);
        if other.lost != 0.0 {
            Compensated::add(self, other.lost);
        }
    }

    #[inline]
    fn map(&mut self, f: impl Fn(f64) -> f64) {
        self.sum = f(self.sum);
        self.lost = f(self.lost);
    }

    #[inline]
    fn count(self) -> f64 {
        self.sum
    }

    #[inline]
    fn is_zero(self) -> bool {
        self.sum == 0.0 && self.lost == 0.0
    }
}

/// How many buckets are in hand at once while numbers are added to them.
const IN_HAND: usize = 8;

/// Adds rows of numbers to counts, one row after the other. Rows are as long as the counts.
pub(super) fn add_rows<T: Tally>(counts: &mut [T], rows: &[&[f64]]) {
    dispatch!(Level::new(), _simd => add_rows_in_lanes(counts, rows));
}

/// For the compiler to vectorise.
#[inline(always)]
fn add_rows_in_lanes<T: Tally>(counts: &mut [T], rows: &[&[f64]]) {
    let mut first = 0;
    let (chunks, rest) = counts.as_chunks_mut::<IN_HAND>();
    for chunk in chunks {
        let mut sums = *chunk;
        for row in rows {
            let Some(numbers) = row[first..].first_chunk::<IN_HAND>() else {
                continue;
            };
            for (sum, number) in sums.iter_mut().zip(numbers) {
                sum.add((*number).into());
            }
        }
        *chunk = sums;
        first += IN_HAND;
    }
    for row in rows {
        for (count, number) in rest.iter_mut().zip(&row[first..]) {
            count.add((*number).into());
        }
    }
}
