//! Sums over several windows side by side, so that their chains of dependent additions run in parallel.

use super::kahan::Kahan;

/// How many windows are computed side by side.
pub(super) use super::lock_step::LANES;

/// A number for every window.
pub(super) type Lanes = [f64; LANES];

/// Compensated sums, none of which may overflow.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    sum: Lanes,
    lost: Lanes,
}

impl Sums {
    pub(super) const NOTHING: Self = Self {
        sum: [0.0; LANES],
        lost: [0.0; LANES],
    };

    /// Adds a number to each.
    ///
    /// What rounding takes is found without comparing. It is exact in this form as in that of [`Kahan`], so it is the same
    /// number.
    #[inline]
    pub(super) fn add(&mut self, values: Lanes) {
        let sums = self.sum.iter_mut().zip(&mut self.lost);
        for ((sum, lost), value) in sums.zip(values) {
            let old = *sum;
            *sum += value;
            let taken = *sum - old;
            *lost += (old - (*sum - taken)) + (value - taken);
        }
    }

    /// Returns the sum of one window.
    pub(super) fn of(&self, lane: usize) -> Kahan {
        Kahan {
            sum: self.sum[lane],
            lost: self.lost[lane],
        }
    }
}

/// Cuts slices to the length of the shortest, and returns that.
pub(super) fn together<T>(slices: [&[T]; LANES]) -> ([&[T]; LANES], usize) {
    let shared = slices.iter().map(|slice| slice.len()).min().unwrap_or(0);
    (slices.map(|slice| &slice[..shared]), shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_one_after_another() {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut sums = Sums::NOTHING;
        let mut expected = [Kahan::default(); LANES];
        for _ in 0..10_000 {
            let size = 10f64.powi(rng.i32(-8..20));
            let values: Lanes = std::array::from_fn(|_| (rng.f64() - 0.5) * size);
            sums.add(values);
            for (sum, value) in expected.iter_mut().zip(values) {
                *sum = sum.add(value);
            }
        }
        for (lane, expected) in expected.iter().enumerate() {
            let got = sums.of(lane);
            assert_eq!(got.sum.to_bits(), expected.sum.to_bits());
            assert_eq!(got.lost.to_bits(), expected.lost.to_bits());
        }
    }
}
