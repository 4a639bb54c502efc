//! Inverse trigonometric functions, after the Cephes library's `atan.c`.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

/// What is missing of pi/2.
const MORE_BITS: f64 = 6.123233995736765886130e-17;

/// Returns the arc sine.
pub fn asin(x: f64) -> f64 {
    let size = x.abs();
    if x == 0.0 {
        return x;
    }
    if size > 1.0 || x.is_nan() {
        return f64::NAN;
    }
    let cosine = (1.0 - size * size).sqrt();
    let angle = if size > 0.7 {
        FRAC_PI_2 - atan_of_positive(cosine / size)
    } else {
        atan_of_positive(size / cosine)
    };
    angle.copysign(x)
}

/// Returns the arc cosine.
pub fn acos(x: f64) -> f64 {
    FRAC_PI_2 - asin(x)
}

/// Returns the arc tangent.
pub fn atan(x: f64) -> f64 {
    if x == 0.0 {
        return x;
    }
    atan_of_positive(x.abs()).copysign(x)
}

/// Returns the angle of the point with the coordinates `x` and `y`.
pub fn atan2(y: f64, x: f64) -> f64 {
    if x.is_nan() || y.is_nan() {
        return f64::NAN;
    }
    let angle = match () {
        () if y == 0.0 && x.is_sign_positive() => 0.0,
        () if y == 0.0 => PI,
        () if x == 0.0 => FRAC_PI_2,
        () if x.is_infinite() && y.is_infinite() && x > 0.0 => FRAC_PI_4,
        () if x.is_infinite() && y.is_infinite() => 3.0 * FRAC_PI_4,
        () if x == f64::INFINITY => 0.0,
        () if x.is_infinite() => PI,
        () if y.is_infinite() => FRAC_PI_2,
        () => {
            let angle = atan(y / x);
            return match () {
                () if x > 0.0 => angle,
                () if angle <= 0.0 => angle + PI,
                () => angle - PI,
            };
        }
    };
    angle.copysign(y)
}

/// Brings the argument below 0.66 by the addition theorem.
fn atan_of_positive(x: f64) -> f64 {
    const TAN_3_PI_8: f64 = 2.41421356237309504880;
    if x <= 0.66 {
        atan_near_zero(x)
    } else if x > TAN_3_PI_8 {
        FRAC_PI_2 - atan_near_zero(1.0 / x) + MORE_BITS
    } else {
        FRAC_PI_4 + atan_near_zero((x - 1.0) / (x + 1.0)) + 0.5 * MORE_BITS
    }
}

fn atan_near_zero(x: f64) -> f64 {
    const P: [f64; 5] = [
        -8.750608600031904122785e-01,
        -1.615753718733365076637e+01,
        -7.500855792314704667340e+01,
        -1.228866684490136173410e+02,
        -6.485021904942025371773e+01,
    ];
    const Q: [f64; 5] = [
        2.485846490142306297962e+01,
        1.650270098316988542046e+02,
        4.328810604912902668951e+02,
        4.853903996359136964868e+02,
        1.945506571482613964425e+02,
    ];
    let z = x * x;
    let p = (((P[0] * z + P[1]) * z + P[2]) * z + P[3]) * z + P[4];
    let q = ((((z + Q[0]) * z + Q[1]) * z + Q[2]) * z + Q[3]) * z + Q[4];
    x * (z * p / q) + x
}
