//! Logarithms, after FreeBSD's `e_log.c` and `s_log1p.c`.

use std::f64::consts::{FRAC_1_SQRT_2, LOG2_E, LOG10_E};

use super::exp::{LN2_HIGH, LN2_LOW};
use super::fraction_and_exponent;

/// The coefficients of (log(1+s) - log(1-s) - 2s) / s in powers of s^2.
const L: [f64; 7] = [
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
];

/// Returns the natural logarithm: log(2^k (1+f)) = k ln 2 + log(1+f), where s = f / (2+f).
///
/// The reference takes exponent and fraction from a subnormal number as if it were normal, so all of them are near -709.
pub fn ln(x: f64) -> f64 {
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    let mut fraction = f64::from_bits((x.to_bits() & FRACTION) | 0.5_f64.to_bits());
    let mut exponent = (x.to_bits() >> 52) as i32 - 1022;
    if fraction < FRAC_1_SQRT_2 {
        fraction *= 2.0;
        exponent -= 1;
    }
    let f = fraction - 1.0;
    let k = f64::from(exponent);
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let odd = s2 * (L[0] + s4 * (L[2] + s4 * (L[4] + s4 * L[6])));
    let even = s4 * (L[1] + s4 * (L[3] + s4 * L[5]));
    let half_square = 0.5 * f * f;
    k * LN2_HIGH - ((half_square - (s * (half_square + (odd + even)) + k * LN2_LOW)) - f)
}

/// Returns the binary logarithm; powers of two are exact.
pub fn log2(x: f64) -> f64 {
    let (fraction, exponent) = fraction_and_exponent(x);
    let exponent = f64::from(exponent);
    if fraction == 0.5 {
        return exponent - 1.0;
    }
    ln(fraction) * LOG2_E + exponent
}

/// Returns the decimal logarithm.
pub fn log10(x: f64) -> f64 {
    ln(x) * LOG10_E
}

/// Returns ln(1 + x), exact for small x, too.
pub(super) fn ln_1p(x: f64) -> f64 {
    const SQRT2_LESS_1: f64 = 4.142135623730950488017e-01;
    const HALF_SQRT2_LESS_1: f64 = -2.928932188134524755992e-01;
    const SMALL: f64 = 1.0 / (1_u64 << 29) as f64;
    const TINY: f64 = 1.0 / (1_u64 << 54) as f64;
    if x < -1.0 || x.is_nan() {
        return f64::NAN;
    }
    if x == -1.0 {
        return f64::NEG_INFINITY;
    }
    if x == f64::INFINITY {
        return x;
    }
    let size = x.abs();
    if size < TINY {
        return x;
    }
    if size < SMALL {
        return x - x * x * 0.5;
    }
    // 1 + x is 2^k (1 + f); c makes up for the rounding of 1 + x.
    let (mut k, mut f, mut c) = (0, x, 0.0);
    let mut fraction_bits = 1;
    if x <= HALF_SQRT2_LESS_1 || x >= SQRT2_LESS_1 {
        let mut u = x;
        if size < (1_u64 << 53) as f64 {
            u = 1.0 + x;
            k = exponent_of(u);
            c = if k > 0 { 1.0 - (u - x) } else { x - (u - 1.0) };
            c /= u;
        } else {
            k = exponent_of(u);
        }
        fraction_bits = u.to_bits() & FRACTION;
        let exponent = if fraction_bits < SQRT2_FRACTION {
            1.0_f64
        } else {
            k += 1;
            fraction_bits = ((1 << 52) - fraction_bits) >> 2;
            0.5
        };
        f = f64::from_bits((u.to_bits() & FRACTION) | exponent.to_bits()) - 1.0;
    }
    let k = f64::from(k);
    let half_square = 0.5 * f * f;
    if fraction_bits == 0 {
        // f is tiny.
        if f == 0.0 {
            return if k == 0.0 {
                0.0
            } else {
                k * LN2_HIGH + (c + k * LN2_LOW)
            };
        }
        let r = half_square * (1.0 - 0.66666666666666666 * f);
        return if k == 0.0 {
            f - r
        } else {
            k * LN2_HIGH - ((r - (k * LN2_LOW + c)) - f)
        };
    }
    let s = f / (2.0 + f);
    let z = s * s;
    let r = z * (L[0] + z * (L[1] + z * (L[2] + z * (L[3] + z * (L[4] + z * (L[5] + z * L[6]))))));
    if k == 0.0 {
        f - (half_square - s * (half_square + r))
    } else {
        k * LN2_HIGH - ((half_square - (s * (half_square + r) + (k * LN2_LOW + c))) - f)
    }
}

/// The bits of a number's fraction.
const FRACTION: u64 = (1 << 52) - 1;

/// The fraction of the square root of two.
const SQRT2_FRACTION: u64 = 0x6a09e667f3bcd;

/// Returns the exponent of a normal number.
fn exponent_of(x: f64) -> i32 {
    (x.to_bits() >> 52) as i32 - 1023
}
