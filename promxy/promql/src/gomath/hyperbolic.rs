//! Hyperbolic functions and their inverses: the sine by a fraction of Hart and Cheney's "Computer Approximations", the tangent
//! after the Cephes library's `tanh.c`, the inverses after FreeBSD's `s_asinh.c`, `e_acosh.c` and `e_atanh.c`.

use std::f64::consts::LN_2;

use super::exp::exp;
use super::log::{ln, ln_1p};

const LARGE: f64 = (1 << 28) as f64;

/// Returns the hyperbolic sine.
pub fn sinh(x: f64) -> f64 {
    const P: [f64; 4] = [
        -0.2630563213397497062819489e+2,
        -0.2894211355989563807284660366e+4,
        -0.8991272022039509355398013511e+5,
        -0.6307673640497716991184787251e+6,
    ];
    const Q: [f64; 3] = [
        -0.173678953558233699533450911e+3,
        0.1521517378790019070696485176e+5,
        -0.6307673640497716991212077277e+6,
    ];
    let size = x.abs();
    let sine = if size > 21.0 {
        exp(size) * 0.5
    } else if size > 0.5 {
        let power = exp(size);
        (power - 1.0 / power) * 0.5
    } else {
        let z = size * size;
        let p = ((P[0] * z + P[1]) * z + P[2]) * z + P[3];
        let q = ((z + Q[0]) * z + Q[1]) * z + Q[2];
        p * size / q
    };
    sine.copysign(x)
}

/// Returns the hyperbolic cosine.
pub fn cosh(x: f64) -> f64 {
    let power = exp(x.abs());
    if x.abs() > 21.0 {
        power * 0.5
    } else {
        (power + 1.0 / power) * 0.5
    }
}

/// Returns the hyperbolic tangent.
pub fn tanh(x: f64) -> f64 {
    const P: [f64; 3] = [
        -9.64399179425052238628e-1,
        -9.92877231001918586564e1,
        -1.61468768441708447952e3,
    ];
    const Q: [f64; 3] = [
        1.12811678491632931402e2,
        2.23548839060100448583e3,
        4.84406305325125486048e3,
    ];
    const MOST: f64 = 0.5 * 8.8029691931113054295988e+01;
    let size = x.abs();
    if size > MOST {
        return 1.0_f64.copysign(x);
    }
    if size >= 0.625 {
        return (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x);
    }
    if x == 0.0 {
        return x;
    }
    let z = x * x;
    x + x * z * ((P[0] * z + P[1]) * z + P[2]) / (((z + Q[0]) * z + Q[1]) * z + Q[2])
}

/// Returns the inverse hyperbolic sine.
pub fn asinh(x: f64) -> f64 {
    if x.is_nan() || x.is_infinite() {
        return x;
    }
    let size = x.abs();
    let inverse = if size > LARGE {
        ln(size) + LN_2
    } else if size > 2.0 {
        ln(2.0 * size + 1.0 / ((size * size + 1.0).sqrt() + size))
    } else if size < 1.0 / LARGE {
        size
    } else {
        ln_1p(size + size * size / (1.0 + (1.0 + size * size).sqrt()))
    };
    inverse.copysign(x)
}

/// Returns the inverse hyperbolic cosine.
pub fn acosh(x: f64) -> f64 {
    if x < 1.0 || x.is_nan() {
        f64::NAN
    } else if x == 1.0 {
        0.0
    } else if x >= LARGE {
        ln(x) + LN_2
    } else if x > 2.0 {
        ln(2.0 * x - 1.0 / (x + (x * x - 1.0).sqrt()))
    } else {
        let t = x - 1.0;
        ln_1p(t + (2.0 * t + t * t).sqrt())
    }
}

/// Returns the inverse hyperbolic tangent.
pub fn atanh(x: f64) -> f64 {
    let size = x.abs();
    if size > 1.0 || x.is_nan() {
        return f64::NAN;
    }
    let inverse = if size == 1.0 {
        f64::INFINITY
    } else if size < 1.0 / LARGE {
        size
    } else if size < 0.5 {
        let double = size + size;
        0.5 * ln_1p(double + double * size / (1.0 - size))
    } else {
        0.5 * ln_1p((size + size) / (1.0 - size))
    };
    inverse.copysign(x)
}
