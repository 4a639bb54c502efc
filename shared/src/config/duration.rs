//! Go durations: `1h15m30.918s`, as `time.ParseDuration` reads and `Duration.String` prints them.
//!
//! A Go duration is a signed count of nanoseconds in 64 bits. Pinned by `golden/go-stdlib/duration.jsonl`.

use std::fmt::Write as _;

use thiserror::Error;

/// Why a text is not a duration. The texts are Go's, because they reach users of the originals.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Not of the form number, unit, number, unit ...; or beyond 64 bits of nanoseconds.
    #[error("time: invalid duration {0}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0}")]
    MissingUnit(String),
    /// A unit other than ns, us, µs, μs, ms, s, m, h.
    #[error("time: unknown unit {unit} in duration {text}")]
    UnknownUnit {
        /// The unit as quoted by Go.
        unit: String,
        /// The whole text as quoted by Go.
        text: String,
    },
}

/// Parses a Go duration into nanoseconds.
pub fn parse_nanos(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text.as_bytes()[1..]),
        Some(b'+') => (false, &text.as_bytes()[1..]),
        _ => (false, text.as_bytes()),
    };
    if rest == b"0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (part, after) = parse_part(rest, text)?;
        total = total
            .checked_add(part)
            .filter(|sum| *sum <= 1 << 63)
            .ok_or_else(invalid)?;
        rest = after;
    }
    match (negative, i64::try_from(total)) {
        (true, _) => Ok((total as i64).wrapping_neg()),
        (false, Ok(nanos)) => Ok(nanos),
        (false, Err(_)) => Err(invalid()),
    }
}

/// Formats nanoseconds as Go does: `1h15m30.918s`, `1.5ms`, `0s`.
pub fn format_nanos(nanos: i64) -> String {
    let magnitude = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    match magnitude {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{magnitude}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", fraction(magnitude, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", fraction(magnitude, 1_000_000)),
        _ => {
            const MINUTE: u64 = 60_000_000_000;
            let (hours, minutes) = (magnitude / (60 * MINUTE), magnitude / MINUTE % 60);
            let mut text = sign.to_owned();
            if hours > 0 {
                write!(text, "{hours}h").expect("writing to a string cannot fail");
            }
            if hours > 0 || minutes > 0 {
                write!(text, "{minutes}m").expect("writing to a string cannot fail");
            }
            text + &fraction(magnitude % MINUTE, 1_000_000_000) + "s"
        }
    }
}

/// One number with its unit, in nanoseconds, and what follows it.
fn parse_part<'a>(part: &'a [u8], text: &str) -> Result<(u64, &'a [u8]), DurationError> {
    let invalid = || DurationError::Invalid(quote(text));
    let (whole, after_whole) = part.split_at(digits(part));
    let (decimals, after_number) = match after_whole.strip_prefix(b".") {
        Some(tail) => tail.split_at(digits(tail)),
        None => (&after_whole[..0], after_whole),
    };
    if whole.is_empty() && decimals.is_empty() {
        return Err(invalid());
    }
    let unit_length = after_number
        .iter()
        .take_while(|c| **c != b'.' && !c.is_ascii_digit())
        .count();
    let (unit, rest) = after_number.split_at(unit_length);
    if unit.is_empty() {
        return Err(DurationError::MissingUnit(quote(text)));
    }
    let nanos_per_unit = unit_nanos(unit).ok_or_else(|| DurationError::UnknownUnit {
        unit: quote(&String::from_utf8_lossy(unit)),
        text: quote(text),
    })?;
    let whole = whole
        .iter()
        .try_fold(0u64, |sum, digit| {
            sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })
        .and_then(|number| number.checked_mul(nanos_per_unit))
        .filter(|nanos| *nanos <= 1 << 63)
        .ok_or_else(invalid)?;
    let nanos = whole
        .checked_add(fraction_nanos(decimals, nanos_per_unit))
        .filter(|nanos| *nanos <= 1 << 63);
    Ok((nanos.ok_or_else(invalid)?, rest))
}

/// Go keeps as many decimals as fit 63 bits and multiplies in floating point.
fn fraction_nanos(decimals: &[u8], nanos_per_unit: u64) -> u64 {
    let (mut number, mut scale) = (0u64, 1.0f64);
    for digit in decimals {
        let Some(next) = number
            .checked_mul(10)
            .and_then(|n| n.checked_add(u64::from(digit - b'0')))
        else {
            break;
        };
        if next > i64::MAX as u64 {
            break;
        }
        number = next;
        scale *= 10.0;
    }
    (number as f64 * (nanos_per_unit as f64 / scale)) as u64
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|c| c.is_ascii_digit()).count()
}

fn unit_nanos(unit: &[u8]) -> Option<u64> {
    Some(match unit {
        b"ns" => 1,
        // Both Unicode letters for micro: U+00B5 and U+03BC.
        b"us" | b"\xc2\xb5s" | b"\xce\xbcs" => 1_000,
        b"ms" => 1_000_000,
        b"s" => 1_000_000_000,
        b"m" => 60_000_000_000,
        b"h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `value / unit` with the decimals it needs and no more.
fn fraction(value: u64, unit: u64) -> String {
    let (whole, part) = (value / unit, value % unit);
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let decimals = format!("{part:0width$}");
    format!("{whole}.{}", decimals.trim_end_matches('0'))
}

/// The quoting of package `time`: bytes outside printable ASCII as `\xNN`.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => write!(out, "\\x{byte:02x}").expect("writing to a string cannot fail"),
        }
    }
    out.push('"');
    out
}
