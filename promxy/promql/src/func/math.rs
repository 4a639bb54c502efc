//! Functions of one number.
//!
//! Follows `promql/functions.go`; `gomath` gives Go's results bit for bit.

use std::f64::consts::PI;

use super::date::Date;
use crate::gomath;

/// Returns the function of a name, if it is one of one number.
pub(crate) fn unary(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => gomath::ceil,
        "floor" => gomath::floor,
        "exp" => gomath::exp,
        "sqrt" => gomath::sqrt,
        "ln" => gomath::ln,
        "log2" => gomath::log2,
        "log10" => gomath::log10,
        "sin" => gomath::sin,
        "cos" => gomath::cos,
        "tan" => gomath::tan,
        "asin" => gomath::asin,
        "acos" => gomath::acos,
        "atan" => gomath::atan,
        "sinh" => gomath::sinh,
        "cosh" => gomath::cosh,
        "tanh" => gomath::tanh,
        "asinh" => gomath::asinh,
        "acosh" => gomath::acosh,
        "atanh" => gomath::atanh,
        "rad" => |degrees| degrees * PI / 180.0,
        "deg" => |radians| radians * 180.0 / PI,
        "sgn" => sign,
        _ => return None,
    })
}

/// Returns the part of a date that a function names.
pub(crate) fn date_part(name: &str) -> Option<fn(&Date) -> f64> {
    Some(match name {
        "days_in_month" => |date| date.days_in_month() as f64,
        "day_of_month" => |date| date.day as f64,
        "day_of_week" => |date| date.day_of_week as f64,
        "day_of_year" => |date| date.day_of_year as f64,
        "hour" => |date| date.hour as f64,
        "minute" => |date| date.minute as f64,
        "month" => |date| date.month as f64,
        "year" => |date| date.year as f64,
        _ => return None,
    })
}

/// NaN and zero are their own sign.
fn sign(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

/// Rounds to the nearest multiple, halves up. Multiplying with the inverse loses less.
pub(crate) fn round(value: f64, to_nearest: f64) -> f64 {
    let inverse = 1.0 / to_nearest;
    (value * inverse + 0.5).floor() / inverse
}

/// Moves a number into bounds.
pub(crate) fn clamp(value: f64, min: f64, max: f64) -> f64 {
    gomath::max(min, gomath::min(max, value))
}
