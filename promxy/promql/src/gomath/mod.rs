//! The functions on floats as Go's package `math` computes them on amd64, bit for bit.
//!
//! Platforms' mathematical libraries disagree in the last bits, and so would results and the comparisons made with them. These
//! are the published algorithms that Go uses, of FreeBSD's `msun`, of Moshier's Cephes library and others, with every operation
//! rounded on its own and in the same order. Only [`exp`] fuses, because Go's does. Pinned by `tests/gomath_golden.rs`.

#![expect(
    clippy::excessive_precision,
    clippy::many_single_char_names,
    reason = "constants and formulas are written as they were published"
)]

mod arc;
mod exp;
mod hyperbolic;
mod log;
mod pow;
mod reduce;
mod trig;

pub use arc::{acos, asin, atan, atan2};
pub use exp::{exp, exp2};
pub use hyperbolic::{acosh, asinh, atanh, cosh, sinh, tanh};
pub use log::{ln, log2, log10};
pub use pow::pow;
pub use trig::{cos, sin, tan};

/// Converts as the reference's amd64 machine does: what does not fit becomes the smallest integer.
pub(crate) fn to_i64(value: f64) -> i64 {
    const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;
    if (-TWO_POW_63..TWO_POW_63).contains(&value) {
        value as i64
    } else {
        i64::MIN
    }
}

/// Returns the largest integer that is not above `x`.
pub fn floor(x: f64) -> f64 {
    x.floor()
}

/// Returns the smallest integer that is not below `x`.
pub fn ceil(x: f64) -> f64 {
    x.ceil()
}

/// Returns the square root.
pub fn sqrt(x: f64) -> f64 {
    x.sqrt()
}

/// Returns what is left of `x` after division by `y`, with the sign of `x`.
pub fn modulo(x: f64, y: f64) -> f64 {
    x % y
}

/// Returns the larger of two numbers. Infinity is larger than NaN, and zero than negative zero.
pub fn max(x: f64, y: f64) -> f64 {
    if x == f64::INFINITY || y == f64::INFINITY {
        f64::INFINITY
    } else if x.is_nan() || y.is_nan() {
        f64::NAN
    } else if x == y {
        // They differ in nothing but the sign of a zero.
        if x.is_sign_negative() { y } else { x }
    } else if x > y {
        x
    } else {
        y
    }
}

/// Returns the smaller of two numbers. Negative infinity is smaller than NaN, and negative zero than zero.
pub fn min(x: f64, y: f64) -> f64 {
    -max(-x, -y)
}

/// Splits a number into a fraction from a half up to one and a power of two. Zero, infinity and NaN are their own fraction.
fn fraction_and_exponent(x: f64) -> (f64, i32) {
    const TWO_TO_THE_52: f64 = (1_u64 << 52) as f64;
    if x == 0.0 || !x.is_finite() {
        return (x, 0);
    }
    let (normal, moved) = if x.is_subnormal() {
        (x * TWO_TO_THE_52, 52)
    } else {
        (x, 0)
    };
    let exponent = (normal.to_bits() >> 52 & 0x7ff) as i32 - 1022;
    let fraction = normal.to_bits() & !(0x7ff << 52) | 1022 << 52;
    (f64::from_bits(fraction), exponent - moved)
}

/// Returns x 2^k, rounded once.
fn scale(x: f64, k: i32) -> f64 {
    const TWO_TO_THE_MINUS_53: f64 = 1.0 / (1_u64 << 53) as f64;
    let (fraction, exponent) = fraction_and_exponent(x);
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let exponent = exponent.saturating_add(k);
    let with_exponent = |exponent: i32| {
        let bits = fraction.to_bits() & !(0x7ff << 52) | ((exponent + 1022) as u64) << 52;
        f64::from_bits(bits)
    };
    match exponent {
        1025.. => f64::INFINITY.copysign(x),
        -1021..=1024 => with_exponent(exponent),
        // Too small for a normal number: the last multiplication rounds.
        -1074..-1021 => with_exponent(exponent + 53) * TWO_TO_THE_MINUS_53,
        _ => 0.0_f64.copysign(x),
    }
}
