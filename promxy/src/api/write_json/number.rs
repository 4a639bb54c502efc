//! Numbers and times as Go's JSON has them. Half of an answer are such, so each has a way of its own.

use std::fmt::Write as _;

use promql::format::scientific;

/// Writes a time in seconds: with three decimals, or none.
pub(super) fn write_time(millis: i64, out: &mut String) {
    if millis < 0 {
        out.push('-');
    }
    let millis = millis.unsigned_abs();
    write_integer(millis / 1000, out);
    if !millis.is_multiple_of(1000) {
        write!(out, ".{:03}", millis % 1000).expect("writing to a String cannot fail");
    }
}

/// Writes a time as a number like others, without zeros at its end: beside single values.
pub(super) fn write_shortest_time(millis: i64, out: &mut String) {
    write_time(millis, out);
    if millis % 1000 != 0 {
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// The numbers from 0 to 99, with two digits each.
const PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut number = 0;
    while number < 100 {
        pairs[2 * number] = b'0' + number as u8 / 10;
        pairs[2 * number + 1] = b'0' + number as u8 % 10;
        number += 1;
    }
    pairs
};

/// Writes an integer. Half of an answer are such, and formatting in general takes several times as long.
fn write_integer(value: u64, out: &mut String) {
    let mut digits = [0; 20];
    let mut begin = digits.len();
    let mut left = value;
    while left >= 10 {
        let pair = (left % 100) as usize * 2;
        begin -= 2;
        digits[begin..begin + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
        left /= 100;
    }
    if left > 0 || value == 0 {
        begin -= 1;
        digits[begin] = b'0' + left as u8;
    }
    out.push_str(str::from_utf8(&digits[begin..]).expect("digits are text"));
}

/// Writes a number in its shortest form, with an exponent of at least two digits below 1e-6 and from 1e21 on.
pub fn write_number(value: f64, out: &mut String) {
    if !value.is_finite() {
        let infinite = if value > 0.0 { "+Inf" } else { "-Inf" };
        out.push_str(if value.is_nan() { "NaN" } else { infinite });
        return;
    }
    let magnitude = value.abs();
    let is_small_integer =
        magnitude < 9e15 && value.fract() == 0.0 && !(value == 0.0 && value.is_sign_negative());
    if is_small_integer {
        if value < 0.0 {
            out.push('-');
        }
        write_integer(magnitude as u64, out);
    } else if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        out.push_str(&scientific(value));
    } else {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(value);
        if text.contains('e') {
            write!(out, "{value}").expect("writing to a String cannot fail");
        } else {
            out.push_str(text.strip_suffix(".0").unwrap_or(text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_gos_forms() {
        let f = |value: f64, expected: &str| {
            let mut out = String::new();
            write_number(value, &mut out);
            assert_eq!(out, expected);
        };
        f(0.0, "0");
        f(-0.0, "-0");
        f(1.0, "1");
        f(-10.0, "-10");
        f(109.0, "109");
        f(8_999_999_999_999_999.0, "8999999999999999");
        f(0.1, "0.1");
        f(1e-6, "0.000001");
        f(9.9e-7, "9.9e-07");
        f(-2.5e-10, "-2.5e-10");
        f(5e-324, "5e-324");
        f(1e20, "100000000000000000000");
        f(1e21, "1e+21");
        f(-1.5e300, "-1.5e+300");
        f(123_456_789.125, "123456789.125");
        f(f64::NAN, "NaN");
        f(f64::NEG_INFINITY, "-Inf");
    }

    #[test]
    fn times_have_three_decimals_or_none() {
        let f = |time: i64, expected: &str| {
            let mut out = String::new();
            write_time(time, &mut out);
            assert_eq!(out, expected);
        };
        f(1_795_206_502_500, "1795206502.500");
        f(1_700_000_000_000, "1700000000");
        f(-1, "-0.001");
    }
}
