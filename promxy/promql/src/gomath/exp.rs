//! Powers of e and of 2.

use super::scale;

/// ln 2 with its last bits cut off, so that a multiple of it by a small integer is exact, and what is missing.
pub(super) const LN2_HIGH: f64 = 6.93147180369123816490e-01;
/// See [`LN2_HIGH`].
pub(super) const LN2_LOW: f64 = 1.90821492927058770002e-10;

/// Returns e to the power `x`.
///
/// The method is that of N. Shibata, "Efficient evaluation methods of elementary functions suitable for SIMD computation"
/// (2010): x is k ln 2 + r; the Taylor series of exp(r/16) - 1 is squared up four times, and the result is scaled by 2^k. The
/// reference multiplies and adds with one rounding where the processor can, and that is what was recorded.
pub fn exp(x: f64) -> f64 {
    const LARGEST: f64 = 7.09782712893384e+02;
    const LN2_UPPER: f64 = 0.69314718055966295651160180568695068359375;
    const LN2_LOWER: f64 = 0.28235290563031577122588448175013436025525412068e-12;
    // 1/8!, 1/7!, ..., 1/2!, 1
    const TAYLOR: [f64; 8] = [
        2.4801587301587301587e-5,
        1.9841269841269841270e-4,
        1.3888888888888888889e-3,
        8.3333333333333333333e-3,
        4.1666666666666666667e-2,
        1.6666666666666666667e-1,
        0.5,
        1.0,
    ];
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x > LARGEST {
        return f64::INFINITY;
    }
    if x < -1000.0 {
        return 0.0;
    }
    let k = (x * std::f64::consts::LOG2_E).round_ties_even();
    let r = (-k).mul_add(LN2_LOWER, (-k).mul_add(LN2_UPPER, x)) / 16.0;
    let series = TAYLOR[1..]
        .iter()
        .fold(TAYLOR[0], |sum, term| sum.mul_add(r, *term));
    let mut power = series * r; // exp(r) - 1
    for _ in 0..3 {
        power *= power + 2.0; // (1 + p)^2 - 1 = p (p + 2)
    }
    let power = power.mul_add(power + 2.0, 1.0);
    // The reference gives up where 2^k alone is too large, though the power may be a little below one.
    if k > 1023.0 {
        return f64::INFINITY;
    }
    scale(power, k as i32)
}

/// Returns 2 to the power `x`.
pub fn exp2(x: f64) -> f64 {
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x > 1.0239999999999999e+03 {
        return f64::INFINITY;
    }
    if x < -1.0740e+03 {
        return 0.0;
    }
    // The integer part is the exponent, the rest is at most a half.
    let k = (x + 0.5_f64.copysign(x)).trunc();
    let rest = x - k;
    exp_of_difference(rest * LN2_HIGH, -rest * LN2_LOW, k as i32)
}

/// Returns 2^k exp(high - low) for a small difference, after FreeBSD's `e_exp.c`: with R(z) = z (exp(z)+1) / (exp(z)-1) as a
/// polynomial in the square, exp(r) = 1 + 2r / (R - r).
fn exp_of_difference(high: f64, low: f64, k: i32) -> f64 {
    const P: [f64; 5] = [
        1.66666666666666657415e-01,
        -2.77777777770155933842e-03,
        6.61375632143793436117e-05,
        -1.65339022054652515390e-06,
        4.13813679705723846039e-08,
    ];
    let r = high - low;
    let t = r * r;
    let c = r - t * (P[0] + t * (P[1] + t * (P[2] + t * (P[3] + t * P[4]))));
    let y = 1.0 - ((low - (r * c) / (2.0 - c)) - high);
    scale(y, k)
}
