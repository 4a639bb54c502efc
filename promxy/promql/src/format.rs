//! Numbers and quoted strings in the forms that Go's `strconv` and `fmt` give them.
//!
//! Prometheus' canonical query text, its error texts and its label values are full of these forms, so they are public.

use std::fmt::Write as _;

/// Returns the shortest decimal that reads back as `value`, never with an exponent: query texts and `count_values` labels.
///
/// ```
/// assert_eq!(promql::format::fixed(1e21), "1000000000000000000000");
/// assert_eq!(promql::format::fixed(f64::INFINITY), "+Inf");
/// ```
pub fn fixed(value: f64) -> String {
    special(value).map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns the shortest decimal that reads back as `value`, with an exponent below 1e-4 and from 1e6 on: Go's `%v`.
///
/// ```
/// assert_eq!(promql::format::general(1e6), "1e+06");
/// assert_eq!(promql::format::general(0.5), "0.5");
/// ```
pub fn general(value: f64) -> String {
    if let Some(text) = special(value) {
        return text.to_owned();
    }
    let (digits, exponent) = split(value);
    if (-4..6).contains(&exponent) || value == 0.0 {
        return value.to_string();
    }
    with_exponent(&digits, exponent)
}

/// Returns the shortest decimal that reads back as the finite `value`, with an exponent of at least two digits: Go's `%e`.
///
/// ```
/// assert_eq!(promql::format::scientific(2.5e-7), "2.5e-07");
/// assert_eq!(promql::format::scientific(1e21), "1e+21");
/// ```
pub fn scientific(value: f64) -> String {
    let (digits, exponent) = split(value);
    with_exponent(&digits, exponent)
}

/// Returns the digits of a finite number, with one before the point, and its power of ten.
fn split(value: f64) -> (String, i32) {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    (digits.to_owned(), exponent.parse().unwrap_or(0))
}

fn with_exponent(digits: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Returns `value` with exactly `digits` decimals: Go's `%.3f`, `%f`.
pub(crate) fn with_decimals(value: f64, digits: usize) -> String {
    special(value).map_or_else(|| format!("{value:.digits$}"), str::to_owned)
}

/// Returns `value` with at most two significant digits: Go's `%.2g`.
pub(crate) fn two_digits(value: f64) -> String {
    if special(value).is_some() {
        return general(value);
    }
    let rounded: f64 = format!("{value:.1e}").parse().unwrap_or(value);
    let exponent = if rounded == 0.0 {
        0.0
    } else {
        rounded.abs().log10().floor()
    };
    if (-4.0..2.0).contains(&exponent) {
        return rounded.to_string();
    }
    scientific(rounded)
}

/// Returns a time in seconds since 1970 as `2006-01-02T15:04:05Z`.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let date = crate::func::date::Date::from_seconds(seconds);
    let day_second = seconds.rem_euclid(86_400);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year,
        date.month,
        date.day,
        day_second / 3600,
        day_second / 60 % 60,
        day_second % 60
    )
}

fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value == f64::INFINITY {
        Some("+Inf")
    } else if value == f64::NEG_INFINITY {
        Some("-Inf")
    } else {
        None
    }
}

/// Returns `bytes` between double quotes, with Go's escapes.
///
/// ```
/// assert_eq!(promql::format::quote(b"tab\t, \"quote\", \xff"), r#""tab\t, \"quote\", \xff""#);
/// ```
pub fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut out, c, '"');
        }
        for byte in chunk.invalid() {
            push_hex(&mut out, "\\x", u32::from(*byte), 2);
        }
    }
    out.push('"');
    out
}

/// Returns `c` between single quotes: Go's `%q` of a rune.
pub(crate) fn quote_char(c: char) -> String {
    let mut out = String::from("'");
    push_escaped(&mut out, c, '\'');
    out.push('\'');
    out
}

/// Returns `U+002E '.'`, without the character where it cannot be shown: Go's `%#U`.
pub(crate) fn code_point(c: char) -> String {
    if is_printable(c) {
        format!("U+{:04X} '{c}'", u32::from(c))
    } else {
        format!("U+{:04X}", u32::from(c))
    }
}

fn push_escaped(out: &mut String, c: char, delimiter: char) {
    match c {
        '\u{07}' => out.push_str("\\a"),
        '\u{08}' => out.push_str("\\b"),
        '\u{0c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{0b}' => out.push_str("\\v"),
        '\\' => out.push_str("\\\\"),
        c if c == delimiter => {
            out.push('\\');
            out.push(c);
        }
        c if is_printable(c) => out.push(c),
        c if c < ' ' || c == '\u{7f}' => push_hex(out, "\\x", u32::from(c), 2),
        c if u32::from(c) < 0x1_0000 => push_hex(out, "\\u", u32::from(c), 4),
        c => push_hex(out, "\\U", u32::from(c), 8),
    }
}

fn push_hex(out: &mut String, prefix: &str, value: u32, width: usize) {
    write!(out, "{prefix}{value:0width$x}").expect("writing to a String cannot fail");
}

/// Whether Go calls the character printable: letters, marks, numbers, punctuation, symbols and the ASCII space.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // The standard library escapes the same classes. It also escapes a combining mark at the start of a string, so there is
    // something in front.
    let mut text = String::from("a");
    text.push(c);
    text.escape_debug().nth(1) == Some(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_cannot_be_shown_are_escaped() {
        let f = |input: &str, expected: &str| {
            assert_eq!(quote(input.as_bytes()), expected, "{input:?}");
        };
        f("é台", "\"é台\"");
        f("e\u{301}", "\"e\u{301}\""); // a combining mark is printable
        f("\u{a0}", "\"\\u00a0\""); // a space that is not the ASCII one
        f("\u{e0001}", "\"\\U000e0001\"");
        f("'`", "\"'`\"");
    }

    #[test]
    fn a_single_character_escapes_its_own_quote_only() {
        assert_eq!(quote_char('\''), r"'\''");
        assert_eq!(quote_char('"'), "'\"'");
        assert_eq!(code_point('.'), "U+002E '.'");
        assert_eq!(code_point('\n'), "U+000A");
    }
}
