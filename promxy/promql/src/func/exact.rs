//! Sums that are exact, and so can be carried along from window to window.
//!
//! Rounding makes a sum depend on where it began, so overlapping windows have nothing to share in general. But a compensated sum
//! is the true sum, rounded once, as long as what it keeps apart is not rounded itself; and the true sum is a whole number of
//! some small power of two, from which a number that leaves the window can be taken away again. [`Units::compensate`] says
//! when that holds, which it does for all but numbers of wildly different sizes.

use crate::exec::Window;

/// The largest exponent of numbers for which no sum of squares overflows.
const LARGEST: i32 = 480;

/// The smallest exponent of units that are normal numbers.
const SMALLEST: i32 = -1000;

/// The significant bits of a number.
const PRECISION: i32 = f64::MANTISSA_DIGITS as i32;

/// A power of two that all of some numbers are whole multiples of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Units {
    /// The exponent of the power.
    exponent: i32,
    /// All numbers are below two to this power.
    top: i32,
}

impl Units {
    /// Returns the largest such power. Nothing if a number is not finite, or so large or small that squares would not be normal.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let mut units = Self {
            exponent: i32::MAX,
            top: i32::MIN,
        };
        for value in values {
            let (mantissa, exponent) = parts(*value);
            if mantissa != 0 {
                units.exponent = units
                    .exponent
                    .min(exponent + mantissa.trailing_zeros() as i32);
                units.top = units.top.max(exponent + PRECISION);
            }
        }
        if units.top == i32::MIN {
            return Some(Self {
                exponent: 0,
                top: 0,
            });
        }
        (units.exponent >= SMALLEST && units.top <= LARGEST).then_some(units)
    }

    /// Returns units of whole numbers up to `largest`.
    pub(super) fn of_whole(largest: u64) -> Self {
        Self {
            exponent: 0,
            top: (u64::BITS - largest.leading_zeros()) as i32,
        }
    }

    /// Returns units of products, rounded or not.
    pub(super) fn times(self, other: Self) -> Self {
        Self {
            exponent: self.exponent + other.exponent,
            top: self.top + other.top,
        }
    }

    /// Whether every number of units up to the largest is one that can be written down, so that products are not rounded.
    pub(super) fn is_exact(self) -> bool {
        self.top - self.exponent <= PRECISION
    }

    /// Whether a compensated sum of so many numbers is their true sum, rounded once.
    ///
    /// What is kept apart at each addition is a multiple of the unit, and at most half a unit in the last place of the sum so
    /// far. So all of it together has no more bits than a number holds, and is not rounded.
    pub(super) fn compensate(self, count: usize) -> bool {
        let count = bits_of(count);
        let largest_sum = self.top + count + 1;
        largest_sum - self.exponent + count < 2 * PRECISION
    }

    /// Whether plain sums of so many numbers are not rounded at all.
    pub(super) fn add_exactly(self, count: usize) -> bool {
        let top = self.top + bits_of(count);
        Self { top, ..self }.is_exact()
    }

    /// Returns how many units a number is. It must be one of those that the units are of, or a sum of such.
    #[inline]
    pub(super) fn count(self, value: f64) -> i128 {
        let (mantissa, exponent) = parts(value);
        let mantissa = i128::from(mantissa);
        let shift = exponent - self.exponent;
        // A shift to the right takes zeros away.
        let units = if shift >= 0 {
            mantissa << shift.min(127)
        } else {
            mantissa >> shift.unsigned_abs().min(127)
        };
        if value.is_sign_negative() {
            -units
        } else {
            units
        }
    }

    /// Returns the number of so many units, rounded once.
    #[inline]
    pub(super) fn value(self, units: i128) -> f64 {
        units as f64 * power(self.exponent)
    }
}

/// Returns the mantissa and the exponent of a number without its sign.
#[inline]
fn parts(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    let fraction = bits & ((1 << (PRECISION - 1)) - 1);
    let exponent = (bits >> (PRECISION - 1) & 0x7ff) as i32;
    match exponent {
        0 => (fraction, -1074),
        _ => (fraction | 1 << (PRECISION - 1), exponent - 1075),
    }
}

/// Returns how many bits it takes to count that far.
fn bits_of(count: usize) -> i32 {
    (usize::BITS - count.leading_zeros()) as i32
}

/// Splits numbers in two, so that both halves of many can be added up without rounding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Halves {
    /// A number so large that what is below the upper half is lost on the way there and back.
    large: f64,
}

impl Halves {
    /// Returns halves for so many numbers, if two are enough for them.
    pub(super) fn of(units: Units, count: usize) -> Option<Self> {
        let count = bits_of(count).max(2);
        // As many bits below as sums of lower halves have room for.
        let middle = PRECISION + units.exponent - count;
        let fits = units.top + count <= PRECISION + middle;
        let large = PRECISION - 1 + middle;
        (fits && (SMALLEST..=LARGEST).contains(&large)).then(|| Self {
            large: 1.5 * power(large),
        })
    }

    #[inline]
    pub(super) fn split(self, value: f64) -> (f64, f64) {
        let upper = (value + self.large) - self.large;
        (upper, value - upper)
    }

    /// Returns the sums of both halves of products.
    pub(super) fn sum(self, times: &[f64], values: &[f64], origin: f64) -> (f64, f64) {
        let mut sums = (0.0, 0.0);
        for (time, value) in times.iter().zip(values) {
            let (upper, lower) = self.split((time - origin) * value);
            sums.0 += upper;
            sums.1 += lower;
        }
        sums
    }
}

/// Returns two to a power that is a normal number.
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << (PRECISION - 1))
}

/// A sum over a window that moves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlidingSum {
    from: usize,
    to: usize,
    units: i128,
}

impl SlidingSum {
    /// Moves to a window at or after the last one, and returns the sum over it of `units_of` an index.
    #[inline]
    pub(super) fn over(&mut self, window: &Window, units_of: impl Fn(usize) -> i128) -> i128 {
        if window.from >= self.to {
            (self.from, self.to, self.units) = (window.from, window.from, 0);
        }
        for index in self.from..window.from {
            self.units -= units_of(index);
        }
        for index in self.to..window.to {
            self.units += units_of(index);
        }
        (self.from, self.to) = (window.from, window.to);
        self.units
    }
}

/// The numbers that any of some windows holds, if windows overlap so much that sharing pays; and how many the largest holds.
pub(super) fn shared<'v, T>(values: &'v [T], windows: &[Window]) -> Option<(&'v [T], usize)> {
    let (first, last) = (windows.first()?, windows.last()?);
    let total: usize = windows.iter().map(|window| window.to - window.from).sum();
    let largest = windows.iter().map(|window| window.to - window.from).max()?;
    let span = values.get(first.from..last.to)?;
    (total > 4 * span.len()).then_some((span, largest))
}

#[cfg(test)]
mod tests {
    use super::super::kahan::Kahan;
    use super::*;

    fn compensated(values: &[f64]) -> f64 {
        let sum = values
            .iter()
            .fold(Kahan::default(), |sum, value| sum.add(*value));
        sum.total()
    }

    #[test]
    fn exact_sums_are_compensated_sums_to_the_last_bit() {
        let mut rng = fastrand::Rng::with_seed(11);
        let mut exact = 0;
        for round in 0..400 {
            let spread = round % 40;
            let values: Vec<f64> = (0..300)
                .map(|_| {
                    let size = 2f64.powi(rng.i32(0..=spread));
                    match round % 3 {
                        0 => (rng.f64() - 0.5) * size,
                        1 => rng.f64() * size,
                        _ => (rng.f64() * 100.0 * size).round() / 10.0,
                    }
                })
                .collect();
            let Some(units) = Units::of(&values) else {
                panic!("{values:?}")
            };
            if !units.compensate(100) {
                continue;
            }
            exact += 1;
            let mut sliding = SlidingSum::default();
            for from in (0..200).step_by(1 + round as usize % 7) {
                let window = Window::of_floats(from, from + 100);
                let units_of = |index: usize| units.count(values[index]);
                let sum = units.value(sliding.over(&window, units_of));
                let expected = compensated(&values[from..from + 100]);
                assert_eq!(sum.to_bits(), expected.to_bits(), "{sum} {expected}");
            }
        }
        assert!(exact > 200, "{exact}");
    }

    #[test]
    fn units_count_and_come_back() {
        let values = [0.0, -0.0, 1.5, -3.25, 1e10, -1e-3];
        let units = Units::of(&values).unwrap();
        for value in values {
            assert_eq!(units.value(units.count(value)), value);
        }
        assert!(Units::of(&[1.0, f64::NAN]).is_none());
        assert!(Units::of(&[1.0, f64::INFINITY]).is_none());
        assert!(Units::of(&[f64::MIN_POSITIVE]).is_none());
        assert!(Units::of(&[f64::MAX]).is_none());
        let whole = Units::of(&[3.0, -70.0]).unwrap();
        assert!(whole.add_exactly(1 << 40) && whole.compensate(1 << 20));
        assert!(!Units::of(&[0.1, 1e20]).unwrap().compensate(1 << 20));
    }
}
