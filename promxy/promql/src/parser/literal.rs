//! Reading numbers and strings whose extent the lexer has found.
//!
//! Numbers follow Go's rules: first an integer with its base detected (`0x1f`, and `017` is fifteen), then a decimal.

use crate::Text;
use crate::format;

/// Returns the value of a number, or the error text that Go would give.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    if let Some(integer) = integer(text) {
        return Ok(integer as f64);
    }
    let refuse = |why: &str| {
        let quoted = format::quote(text.as_bytes());
        Err(format!(
            "error parsing number: strconv.ParseFloat: parsing {quoted}: {why}"
        ))
    };
    if text.eq_ignore_ascii_case("inf") {
        return Ok(f64::INFINITY);
    }
    if text.eq_ignore_ascii_case("nan") {
        return Ok(f64::NAN);
    }
    if !underscores_separate_digits(text) {
        return refuse("invalid syntax");
    }
    match text.replace('_', "").parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => refuse("value out of range"),
        Err(_) => refuse("invalid syntax"),
    }
}

/// Reads an integer of at most 63 bits, decimal, hexadecimal or octal.
fn integer(text: &str) -> Option<i64> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (text.get(2..)?, 16),
        [b'0', _, ..] => (text.get(1..)?, 8),
        _ => (text, 10),
    };
    if !underscores_separate_digits(text)
        || !digits
            .bytes()
            .all(|b| b == b'_' || b.is_ascii_alphanumeric())
    {
        return None;
    }
    i64::from_str_radix(&digits.replace('_', ""), radix).ok()
}

/// Whether every underscore stands between two digits, or between the base and a digit.
fn underscores_separate_digits(text: &str) -> bool {
    let hexadecimal = text
        .get(..2)
        .is_some_and(|base| base.eq_ignore_ascii_case("0x"));
    let is_digit = |b: u8| {
        if hexadecimal {
            b.is_ascii_hexdigit() || matches!(b, b'x' | b'X')
        } else {
            b.is_ascii_digit()
        }
    };
    let bytes = text.as_bytes();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'_')
        .all(|(i, _)| {
            let before = i.checked_sub(1).and_then(|i| bytes.get(i));
            let after = bytes.get(i + 1);
            before.is_some_and(|b| is_digit(*b)) && after.is_some_and(|b| is_digit(*b))
        })
}

/// Returns the value of a string literal that the lexer has accepted, quotes included.
pub(crate) fn unquote(literal: &str) -> Text {
    let mut chars = literal.chars();
    let quote = chars.next();
    chars.next_back();
    let body = chars.as_str();
    if quote == Some('`') {
        return body.into();
    }
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        rest = push_escape(&mut out, escape);
    }
    out.extend_from_slice(rest.as_bytes());
    out.into()
}

/// Appends what an escape stands for, and returns the text after it.
fn push_escape<'a>(out: &mut Vec<u8>, escape: &'a str) -> &'a str {
    let mut chars = escape.chars();
    let Some(c) = chars.next() else { return "" };
    let (digits, radix, skip) = match c {
        'x' => (2, 16, 1),
        'u' => (4, 16, 1),
        'U' => (8, 16, 1),
        '0'..='7' => (3, 8, 0),
        _ => {
            let byte = match c {
                'a' => 0x07,
                'b' => 0x08,
                'f' => 0x0c,
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                'v' => 0x0b,
                // A backslash or the quote: what is left after the lexer's check.
                _ => c as u8,
            };
            out.push(byte);
            return chars.as_str();
        }
    };
    let value = escape
        .get(skip..skip + digits)
        .and_then(|text| u32::from_str_radix(text, radix).ok())
        .unwrap_or_default();
    if matches!(c, 'u' | 'U') {
        let c = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        out.push(value as u8);
    }
    escape.get(skip + digits..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_their_base_detected_and_decimals_do_not() {
        let f = |input: &str, expected: f64| assert_eq!(number(input), Ok(expected), "{input}");
        f("010", 8.0);
        f("08", 8.0); // not octal, so decimal
        f("0x1F", 31.0);
        f("0X_1f", 31.0);
        f("1_000", 1000.0);
        f("1_000.5", 1000.5);
        f("9223372036854775808", 9_223_372_036_854_775_808.0); // one more than fits
        f(".5e1", 5.0);
        f("iNf", f64::INFINITY);
        assert!(number("nan").is_ok_and(f64::is_nan));
    }

    #[test]
    fn a_refused_number_says_so_in_gos_words() {
        let f = |input: &str, expected: &str| {
            assert_eq!(
                number(input),
                Err(format!(
                    "error parsing number: strconv.ParseFloat: {expected}"
                ))
            );
        };
        f("1e", r#"parsing "1e": invalid syntax"#);
        f("0x", r#"parsing "0x": invalid syntax"#);
        f(
            "0x8000000000000000",
            r#"parsing "0x8000000000000000": invalid syntax"#,
        );
        f("1e400", r#"parsing "1e400": value out of range"#);
        f("0.0.0", r#"parsing "0.0.0": invalid syntax"#);
    }

    #[test]
    fn escapes_may_leave_utf8() {
        assert_eq!(unquote(r#""a\x41\101\u0041\U00000041\"\\""#), "aAAAA\"\\");
        assert_eq!(unquote(r"'\xff\n'").as_bytes(), b"\xff\n");
        assert_eq!(unquote(r"`\xff`"), "\\xff");
    }
}
