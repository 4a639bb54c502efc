//! Parameters, with Prometheus' words for what is wrong with them (`web/api/v1/api.go`).

use std::time::Duration;

use jiff::Timestamp;
use promql::{
    SignedDuration,
    format::quote,
    labels::LabelMatcher,
    parser::{Matcher, ParserOptions, parse_selector},
};

use super::error::ApiError;
use crate::message::form::Form;

/// The first and the last time that is told from others, in milliseconds since 1970; what is beyond is taken for them.
const ENDS: (i64, i64) = (-9_000_000_000_000_000, 9_000_000_000_000_000);

/// The language that is spoken: 3.5's, without experiments.
pub const LANGUAGE: ParserOptions = ParserOptions::v3_5();

/// Reads a time: seconds since 1970 or RFC 3339. Milliseconds since 1970.
pub fn time(text: &str) -> Result<i64, String> {
    if let Some(seconds) = number(text) {
        // Go keeps whole seconds and thousandths apart, which decides on halves.
        let (whole, fraction) = (seconds.trunc(), seconds.fract());
        let millis = (fraction * 1000.0).round() as i64;
        let time = (whole as i64).saturating_mul(1000).saturating_add(millis);
        return Ok(time.clamp(ENDS.0, ENDS.1));
    }
    let parsed: Option<Timestamp> = is_rfc3339(text).then(|| text.parse().ok()).flatten();
    if let Some(time) = parsed {
        return Ok(time.as_millisecond());
    }
    match text {
        // What Prometheus' own clients send for the ends of time.
        "-292273086-05-16T16:47:06Z" => Ok(ENDS.0),
        "292277025-08-18T07:12:54.999999999Z" => Ok(ENDS.1),
        _ => Err(format!(
            "cannot parse {} to a valid timestamp",
            quote(text.as_bytes())
        )),
    }
}

/// Go wants `T`, seconds and an offset, where jiff is content with less.
fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_offset = |rest: &[u8]| {
        rest == b"Z" || (rest.len() == 6 && matches!(rest[0], b'+' | b'-') && rest[3] == b':')
    };
    let Some((head, tail)) = bytes.split_at_checked(19) else {
        return false;
    };
    let digits = tail.strip_prefix(b".").map(|rest| {
        let end = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        &rest[end..]
    });
    head.get(10) == Some(&b'T') && head.get(16) == Some(&b':') && is_offset(digits.unwrap_or(tail))
}

/// Reads a time, or takes another one if there is none.
pub fn time_or(form: &Form, name: &str, missing: i64) -> Result<i64, ApiError> {
    let text = form.get(name);
    if text.is_empty() {
        return Ok(missing);
    }
    time(text)
        .map_err(|reason| format!("invalid time value for '{name}': {reason}"))
        .map_err(|reason| ApiError::invalid(name, reason))
}

/// Reads a time that may be missing. The ends of time say as much as none.
pub fn time_if_given(form: &Form, name: &str) -> Result<Option<i64>, ApiError> {
    let time = time_or(form, name, ENDS.0)?;
    Ok(Some(time).filter(|time| *time != ENDS.0 && *time != ENDS.1))
}

/// Reads a duration: seconds, or Prometheus' form. Nanoseconds.
pub fn duration(text: &str) -> Result<i64, String> {
    if let Some(seconds) = number(text) {
        let nanos = seconds * 1e9;
        return if nanos > i64::MAX as f64 || nanos < i64::MIN as f64 {
            Err(format!(
                "cannot parse {} to a valid duration. It overflows int64",
                quote(text.as_bytes())
            ))
        } else {
            Ok(nanos as i64)
        };
    }
    let parsed: Result<SignedDuration, _> = text.parse();
    parsed.map(SignedDuration::as_nanos).map_err(|_| {
        format!(
            "cannot parse {} to a valid duration",
            quote(text.as_bytes())
        )
    })
}

/// Reads how long a query may take. `None` if nothing is said; what is not positive is no time at all.
pub fn timeout(form: &Form) -> Result<Option<Duration>, ApiError> {
    let text = form.get("timeout");
    if text.is_empty() {
        return Ok(None);
    }
    let nanos = duration(text).map_err(|reason| ApiError::invalid("timeout", reason))?;
    Ok(Some(Duration::from_nanos(
        u64::try_from(nanos).unwrap_or(0),
    )))
}

/// Reads how far back samples are looked for. Milliseconds.
pub fn lookback(form: &Form) -> Result<Option<i64>, ApiError> {
    let text = form.get("lookback_delta");
    if text.is_empty() {
        return Ok(None);
    }
    match duration(text) {
        Ok(nanos) => Ok(Some(nanos / 1_000_000)),
        Err(reason) => Err(ApiError::bad_data(format!(
            "error parsing lookback delta duration: {reason}"
        ))),
    }
}

/// Reads how many entries are wanted; `None` for all.
pub fn limit(form: &Form) -> Result<Option<usize>, ApiError> {
    let text = form.get("limit");
    if text.is_empty() {
        return Ok(None);
    }
    let limit = integer(text, "strconv.Atoi").map_err(|e| ApiError::invalid("limit", e))?;
    let limit = usize::try_from(limit)
        .map_err(|_| ApiError::invalid("limit", "limit must be non-negative"))?;
    Ok(Some(limit).filter(|limit| *limit > 0))
}

/// Reads an integer; an error has the words of the function of Go that is named.
pub fn integer(text: &str, function: &str) -> Result<i64, String> {
    text.parse().map_err(|_| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let reason = if is_number {
            "value out of range"
        } else {
            "invalid syntax"
        };
        format!("{function}: parsing {}: {reason}", quote(text.as_bytes()))
    })
}

/// Reads the selectors of `match[]`. The error is its text alone.
pub fn selectors(form: &Form) -> Result<Vec<Vec<Matcher>>, String> {
    let parsed = form
        .all("match[]")
        .map(|text| parse_selector(text, &LANGUAGE));
    let selectors: Vec<Vec<Matcher>> = parsed
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let is_open = |matcher: &Matcher| LabelMatcher::new(matcher).is_ok_and(|it| it.matches(""));
    if selectors
        .iter()
        .any(|matchers| matchers.iter().all(is_open))
    {
        return Err("match[] must contain at least one non-empty matcher".to_owned());
    }
    Ok(selectors)
}

/// Reads a number as Go's `strconv.ParseFloat` does; no spaces, `Inf` and `NaN` in any case.
fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        let f = |text: &str, expected: Option<i64>| {
            assert_eq!(time(text).ok(), expected, "{text}");
        };
        f("1795206515.123", Some(1_795_206_515_123));
        f("1.7e9", Some(1_700_000_000_000));
        f("-1", Some(-1_000));
        f("2026-11-20T20:28:35Z", Some(1_795_206_515_000));
        f("2026-11-20T20:28:35.5+00:00", Some(1_795_206_515_500));
        f("2024-01-01", None);
        f("2024-01-01 00:00:00Z", None);
        f("abc", None);
        f("", None);
        assert_eq!(
            time("x").unwrap_err(),
            "cannot parse \"x\" to a valid timestamp"
        );
    }

    #[test]
    fn durations_are_seconds_or_prometheus() {
        let f = |text: &str, expected: Option<i64>| {
            assert_eq!(duration(text).ok(), expected, "{text}");
        };
        f("5", Some(5_000_000_000));
        f("0.5", Some(500_000_000));
        f("1m5s", Some(65_000_000_000));
        f("1d", Some(86_400_000_000_000));
        f("1ns", None);
        f("abc", None);
        let overflow = duration("1e30").unwrap_err();
        assert!(overflow.ends_with("It overflows int64"), "{overflow}");
    }
}
