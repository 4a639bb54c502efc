//! Powers.

use super::exp::exp;
use super::log::ln;
use super::{fraction_and_exponent, scale};

/// Returns `x` to the power `y`.
///
/// The integer part of the exponent is done by squaring, on the fraction of x with its exponent apart, so that nothing overflows
/// on the way; the rest, at most a half, by exp(y ln x).
pub fn pow(x: f64, y: f64) -> f64 {
    if let Some(power) = special(x, y) {
        return power;
    }
    let whole = y.abs().trunc();
    let rest = y.abs() - whole;
    if rest != 0.0 && x < 0.0 {
        return f64::NAN;
    }
    if whole >= 9.223372036854775808e18 {
        // Even; what is not 1 overflows one way or the other.
        return match () {
            () if x == -1.0 => 1.0,
            () if (x.abs() < 1.0) == (y > 0.0) => 0.0,
            () => f64::INFINITY,
        };
    }
    let (mut power, mut power_exponent) = (1.0, 0_i64);
    let mut times = whole as i64;
    if rest > 0.5 {
        times += 1;
        power = exp((rest - 1.0) * ln(x));
    } else if rest != 0.0 {
        power = exp(rest * ln(x));
    }
    let (mut square, exponent) = fraction_and_exponent(x);
    let mut square_exponent = i64::from(exponent);
    while times != 0 {
        if square_exponent.abs() > 1 << 12 {
            // Overflows or underflows for sure.
            power_exponent += square_exponent;
            break;
        }
        if times & 1 == 1 {
            power *= square;
            power_exponent += square_exponent;
        }
        square *= square;
        square_exponent *= 2;
        if square < 0.5 {
            square += square;
            square_exponent -= 1;
        }
        times >>= 1;
    }
    if y < 0.0 {
        power = 1.0 / power;
        power_exponent = -power_exponent;
    }
    scale(power, power_exponent as i32)
}

/// The powers that are known without computing.
fn special(x: f64, y: f64) -> Option<f64> {
    let is_odd = y.abs() < 9007199254740992.0 && y % 2.0 != 0.0 && y.trunc() == y;
    let signed = |size: f64| if is_odd { size.copysign(x) } else { size };
    let power = match () {
        () if y == 0.0 || x == 1.0 => 1.0,
        () if y == 1.0 => x,
        () if x.is_nan() || y.is_nan() => f64::NAN,
        () if x == 0.0 && y < 0.0 => signed(f64::INFINITY),
        () if x == 0.0 => signed(0.0),
        () if y.is_infinite() && x == -1.0 => 1.0,
        () if y.is_infinite() && (x.abs() < 1.0) == (y > 0.0) => 0.0,
        () if y.is_infinite() => f64::INFINITY,
        () if x.is_infinite() && y < 0.0 => signed(0.0),
        () if x.is_infinite() => signed(f64::INFINITY),
        () if y == 0.5 => x.sqrt(),
        () if y == -0.5 => 1.0 / x.sqrt(),
        () => return None,
    };
    Some(power)
}
