//! Which whole numbers some numbers come of, and how: by a factor, as rates do, or by a divisor, as averages do.

/// How whole numbers become others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// They are multiplied with this.
    Factor(f64),
    /// They are divided by this.
    Divisor(f64),
}

impl Scale {
    /// They stay as they are.
    pub(super) const ONE: Self = Self::Factor(1.0);

    /// Replaces whole numbers by what they become.
    pub(super) fn apply(self, numbers: &mut [f64]) {
        match self {
            Self::ONE => {}
            Self::Factor(factor) => {
                for number in numbers {
                    *number *= factor;
                }
            }
            Self::Divisor(divisor) => {
                for number in numbers {
                    *number /= divisor;
                }
            }
        }
    }

    /// Returns the factor or divisor.
    pub(super) fn number(self) -> f64 {
        match self {
            Self::Factor(number) | Self::Divisor(number) => number,
        }
    }
}

/// Whole numbers up to this size are looked for, of either sign.
const MOST: f64 = i32::MAX as f64;

/// Numbers of this size have no fraction, and whole numbers of 32 bits that are added to it are its last bits.
const WHOLE: f64 = 1.5 * (1_u64 << 52) as f64;

/// Finds the scales of one set of numbers after the other, which mostly have the same, or none.
#[derive(Debug)]
pub(super) struct ScaleSearch {
    last: Scale,
    whole: Vec<i32>,
    /// How many searches in a row have found nothing, and how many sets are let go before the next.
    failures: u32,
    pause: u32,
}

impl Default for ScaleSearch {
    fn default() -> Self {
        Self {
            last: Scale::ONE,
            whole: Vec::new(),
            failures: 0,
            pause: 0,
        }
    }
}

/// Up to which common divisor of the whole numbers their factor is found. It may be lost: of 7 times 0.1, rounded, and 21 times 0.1,
/// rounded, one need not be three times the other.
const MOST_IN_COMMON: u8 = 32;

/// How often, in powers of two, numbers are let go after searches in vain.
const LONGEST_PAUSE: u32 = 6;

impl ScaleSearch {
    /// Returns a scale that gives back all numbers bit for bit, and the whole numbers that they come of, which fit in 32 bits;
    /// nothing if there is none, or it is hard to find.
    pub(super) fn scale_of(&mut self, numbers: &[f64]) -> Option<(Scale, &[i32])> {
        let scale = if self.fits(self.last, numbers) {
            self.last
        } else if self.fits(Scale::ONE, numbers) {
            Scale::ONE
        } else if self.pause > 0 {
            self.pause -= 1;
            return None;
        } else if let Some(found) = self.search(numbers) {
            self.failures = 0;
            found
        } else {
            self.pause = 1 << self.failures.min(LONGEST_PAUSE);
            self.failures += 1;
            return None;
        };
        self.last = scale;
        Some((scale, &self.whole))
    }

    /// Whether a scale gives back all numbers. If so, their whole numbers are left in `whole`.
    fn fits(&mut self, scale: Scale, numbers: &[f64]) -> bool {
        match scale {
            Scale::Factor(factor) => self.all_are(numbers, 1.0 / factor, |whole| whole * factor),
            Scale::Divisor(divisor) => self.all_are(numbers, divisor, |whole| whole / divisor),
        }
    }

    /// Whether `scaled` gives back all numbers, of the whole numbers that are the nearest to them times `back`.
    #[inline]
    fn all_are(&mut self, numbers: &[f64], back: f64, scaled: impl Fn(f64) -> f64) -> bool {
        self.whole.resize(numbers.len(), 0);
        let (whole, numbers) = (self.whole.chunks_mut(8), numbers.chunks(8));
        whole.zip(numbers).all(|(whole, numbers)| {
            // Without branches, for the compiler to vectorise.
            let mut fits = true;
            for (whole, number) in whole.iter_mut().zip(numbers) {
                let shifted = number * back + WHOLE;
                let nearest = shifted - WHOLE;
                *whole = shifted.to_bits() as i32;
                fits &= scaled(nearest).to_bits() == number.to_bits();
                fits &= nearest.abs() <= MOST;
            }
            fits
        })
    }

    fn search(&mut self, numbers: &[f64]) -> Option<Scale> {
        let measure = common_measure(numbers)?;
        let largest = numbers.iter().copied().map(f64::abs).fold(0.0, f64::max);
        let multiple = nearest(largest / measure);
        // Zero times a negative factor is negative zero.
        let turned = numbers.iter().any(|n| n.to_bits() == (-0.0_f64).to_bits());
        let sign = if turned { -1.0 } else { 1.0 };
        for in_common in 1..=MOST_IN_COMMON {
            let whole = multiple * f64::from(in_common);
            // Both may be up to two units in the last place beside what was rounded.
            for factor in around(sign * (largest / whole)) {
                if self.fits(Scale::Factor(factor), numbers) {
                    return Some(Scale::Factor(factor));
                }
            }
            for divisor in around(sign * (whole / largest)) {
                if self.fits(Scale::Divisor(divisor), numbers) {
                    return Some(Scale::Divisor(divisor));
                }
            }
        }
        None
    }
}

/// Returns a number and its neighbours.
fn around(number: f64) -> [f64; 5] {
    let (up, down) = (number.next_up(), number.next_down());
    [number, up, down, up.next_up(), down.next_down()]
}

/// Returns the nearest whole number, if it is one of 51 bits or less; else anything.
#[inline]
fn nearest(number: f64) -> f64 {
    number + WHOLE - WHOLE
}

/// A positive number that is not known exactly.
#[derive(Clone, Copy, Debug)]
struct Rough {
    number: f64,
    /// By how much it may be wrong.
    error: f64,
}

impl Rough {
    fn is_nothing(self) -> bool {
        // Errors are estimates.
        self.number <= 4.0 * self.error
    }
}

/// Returns a number of which all others are whole multiples, as far as their rounding allows to say so: the last remainder of
/// Euclid's algorithm that is more than an error.
fn common_measure(numbers: &[f64]) -> Option<f64> {
    let mut measure = Rough {
        number: 0.0,
        error: 0.0,
    };
    for number in numbers.iter().filter(|number| **number != 0.0) {
        let number = number.abs();
        if !number.is_finite() {
            return None;
        }
        let mut larger = Rough {
            number,
            error: number * f64::EPSILON,
        };
        let mut smaller = measure;
        while !smaller.is_nothing() {
            let times = nearest(larger.number / smaller.number);
            if times > MOST {
                return None;
            }
            let rest = Rough {
                number: (larger.number - times * smaller.number).abs(),
                error: larger.error + times * smaller.error + larger.number * f64::EPSILON,
            };
            (larger, smaller) = (smaller, rest);
        }
        measure = larger;
        if measure.error > measure.number / 16.0 {
            return None;
        }
    }
    (measure.number > 0.0).then_some(measure.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(numbers: &[f64]) -> Option<(Scale, Vec<i32>)> {
        let mut search = ScaleSearch::default();
        let found = search.scale_of(numbers);
        found.map(|(scale, whole)| (scale, whole.to_vec()))
    }

    #[test]
    fn factors_and_divisors_are_found() {
        let f = |numbers: &[f64], scale, whole: &[i32]| {
            assert_eq!(found(numbers), Some((scale, whole.to_vec())));
        };
        f(&[3.0, 0.0, 1.0], Scale::ONE, &[3, 0, 1]);
        f(&[-3.0, 0.0, 2e9], Scale::ONE, &[-3, 0, 2_000_000_000]);
        f(&[0.5, 1.5], Scale::Factor(0.5), &[1, 3]);
        f(&[-0.0, -1.5, 0.5], Scale::Factor(-0.5), &[0, 3, -1]);
        f(
            &[1.0 / 3.0, 2.0 / 3.0, 5.0 / 3.0, 7.0 / 3.0],
            Scale::Divisor(3.0),
            &[1, 2, 5, 7],
        );
    }

    #[test]
    fn numbers_that_have_nothing_in_common_have_no_scale() {
        let root = 2_f64.sqrt();
        for numbers in [
            &[1.0, root] as &[f64],
            &[0.0, -0.0],
            &[3e9, 1.0],
            &[f64::NAN; 3],
            &[1.0, f64::NAN],
            &[f64::INFINITY, 1.0],
            &[f64::MAX, 0.3],
            &[5e-324, 0.3],
        ] {
            assert_eq!(found(numbers), None, "{numbers:?}");
        }
    }

    #[test]
    fn a_search_in_vain_is_not_repeated_at_once() {
        let mut search = ScaleSearch::default();
        let (vain, tenths) = ([1.0, 2_f64.sqrt()], [0.1, 0.7]);
        assert!(search.scale_of(&vain).is_none());
        assert!(search.scale_of(&tenths).is_none());
        assert!(search.scale_of(&tenths).is_some());
        // What is known needs no search.
        assert!(search.scale_of(&[3.0, 4.0]).is_some());
    }
}
