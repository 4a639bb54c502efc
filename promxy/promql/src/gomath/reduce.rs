//! Brings an angle near zero: which multiple of a quarter of pi it is nearest to, and what is left.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_4};

/// An even number of eighths of a turn, and the angle from there, at most a quarter of pi to either side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Octant {
    /// 0, 2, 4 or 6; or what comes before it, if that leaves nothing.
    pub(super) number: u64,
    pub(super) rest: f64,
}

/// Reduces an angle that is not negative. There is none for infinity and NaN.
pub(super) fn reduce(angle: f64) -> Option<Octant> {
    const MOST_FOR_PARTS: f64 = (1 << 29) as f64;
    if !angle.is_finite() {
        return None;
    }
    Some(if angle < MOST_FOR_PARTS {
        by_parts(angle)
    } else {
        by_digits(angle)
    })
}

/// The method of W. Cody and W. Waite: takes a multiple of pi/4 away in three parts, so that the products are exact.
fn by_parts(angle: f64) -> Octant {
    const PARTS: [f64; 3] = [
        7.85398125648498535156e-1,
        3.77489470793079817668e-8,
        2.69515142907905952645e-15,
    ];
    let mut number = (angle * (2.0 * FRAC_2_PI)) as u64;
    number += number & 1;
    let multiple = number as f64;
    let rest = ((angle - multiple * PARTS[0]) - multiple * PARTS[1]) - multiple * PARTS[2];
    let number = number % 8;
    Octant { number, rest }
}

/// The digits of 4/pi: the first word is the integer part.
const FOUR_OVER_PI: [u64; 20] = [
    0x0000000000000001,
    0x45f306dc9c882a53,
    0xf84eafa3ea69bb81,
    0xb6c52b3278872083,
    0xfca2c757bd778ac3,
    0x6e48dc74849ba5c0,
    0x0c925dd413a32439,
    0xfc3bd63962534e7d,
    0xd1046bea5d768909,
    0xd338e04d68befc82,
    0x7323ac7306a673e9,
    0x3908bf177bf25076,
    0x3ff12fffbc0b301f,
    0xde5e2316b414da3e,
    0xda6cfd9e4f96136e,
    0x9e8c7ecd3cbfd45a,
    0xea4f758fd7cbe2f6,
    0x7a0e73ef14a525d4,
    0xd7f6bf623f1aba10,
    0xac06608df8f6d757,
];

/// The method of M. Payne and R. Hanek: multiplies with those digits of 4/pi only that make up the last three bits before the
/// point and what is behind it. With the angle m 2^e, digits above change the product by multiples of eight.
fn by_digits(angle: f64) -> Octant {
    let mantissa = (angle.to_bits() & ((1 << 52) - 1)) | (1 << 52);
    // The table's first bit is worth 2^63, the first that is needed 2^(2-e); the stored exponent is e + 1075.
    let first = (angle.to_bits() >> 52) as usize - (1075 - 61);
    let (word, shift) = (first / 64, first % 64);
    let digits = |index: usize| {
        let pair = u128::from(FOUR_OVER_PI[index]) << 64 | u128::from(FOUR_OVER_PI[index + 1]);
        (pair << shift >> 64) as u64
    };
    let (high, low) = (u128::from(digits(word)) << 64, u128::from(digits(word + 1)));
    let mantissa = u128::from(mantissa);
    let lowest = (u128::from(digits(word + 2)) * mantissa) >> 64;
    let product = (high | low).wrapping_mul(mantissa).wrapping_add(lowest);
    // Three bits before the point, the rest behind it, of which 53 are kept.
    let number = (product >> 125) as u64;
    let fraction = product << 3;
    let zeros = fraction.leading_zeros().min(64);
    let kept = (fraction << zeros >> 75) as f64;
    let fraction = kept * f64::from_bits(u64::from(1023 - 53 - zeros) << 52);
    let (number, fraction) = if number & 1 == 1 {
        ((number + 1) % 8, fraction - 1.0)
    } else {
        (number, fraction)
    };
    let rest = fraction * FRAC_PI_4;
    Octant { number, rest }
}
