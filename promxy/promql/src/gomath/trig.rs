//! Sine, cosine and tangent, after the Cephes library's `sin.c` and `tan.c`.

use super::reduce::{Octant, reduce};

/// Returns the sine.
pub fn sin(x: f64) -> f64 {
    if x == 0.0 {
        return x;
    }
    let Some(Octant { number, rest }) = reduce(x.abs()) else {
        return f64::NAN;
    };
    let is_negative = (x < 0.0) != (number > 3);
    let size = match number % 4 {
        1 | 2 => cos_near_zero(rest),
        _ => sin_near_zero(rest),
    };
    if is_negative { -size } else { size }
}

/// Returns the cosine.
pub fn cos(x: f64) -> f64 {
    let Some(Octant { number, rest }) = reduce(x.abs()) else {
        return f64::NAN;
    };
    let is_negative = matches!(number, 2..=5);
    let size = match number % 4 {
        1 | 2 => sin_near_zero(rest),
        _ => cos_near_zero(rest),
    };
    if is_negative { -size } else { size }
}

/// Returns the tangent.
pub fn tan(x: f64) -> f64 {
    const P: [f64; 3] = [
        -1.30936939181383734205e4,
        1.15351664838587416140e6,
        -1.79565251976484877988e7,
    ];
    const Q: [f64; 4] = [
        1.36812963470692954678e4,
        -1.32089234440210967447e6,
        2.50083801823357915839e7,
        -5.38695755929454629881e7,
    ];
    if x == 0.0 {
        return x;
    }
    let Some(Octant { number, rest }) = reduce(x.abs()) else {
        return f64::NAN;
    };
    let z = rest * rest;
    let mut tangent = rest;
    if z > 1e-14 {
        let p = (P[0] * z + P[1]) * z + P[2];
        let q = (((z + Q[0]) * z + Q[1]) * z + Q[2]) * z + Q[3];
        tangent = rest + rest * (z * p / q);
    }
    if number & 2 == 2 {
        tangent = -1.0 / tangent;
    }
    if x < 0.0 { -tangent } else { tangent }
}

fn sin_near_zero(x: f64) -> f64 {
    const C: [f64; 6] = [
        1.58962301576546568060e-10,
        -2.50507477628578072866e-8,
        2.75573136213857245213e-6,
        -1.98412698295895385996e-4,
        8.33333333332211858878e-3,
        -1.66666666666666307295e-1,
    ];
    let z = x * x;
    x + x * z * (((((C[0] * z + C[1]) * z + C[2]) * z + C[3]) * z + C[4]) * z + C[5])
}

fn cos_near_zero(x: f64) -> f64 {
    const C: [f64; 6] = [
        -1.13585365213876817300e-11,
        2.08757008419747316778e-9,
        -2.75573141792967388112e-7,
        2.48015872888517045348e-5,
        -1.38888888888730564116e-3,
        4.16666666666665929218e-2,
    ];
    let z = x * x;
    1.0 - 0.5 * z + z * z * (((((C[0] * z + C[1]) * z + C[2]) * z + C[3]) * z + C[4]) * z + C[5])
}
