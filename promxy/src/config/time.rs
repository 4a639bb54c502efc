//! Times as a configuration file writes them.

use jiff::{Timestamp, civil};

/// Whether YAML 1.1 takes a plain word for a time.
pub(crate) fn is_yaml_timestamp(word: &str) -> bool {
    let is_digit = |at: usize| word.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    (0..4).all(is_digit) && word.as_bytes().get(4) == Some(&b'-') && yaml_timestamp(word).is_some()
}

/// Reads a time in any of the forms of YAML 1.1, into milliseconds since 1970.
pub(crate) fn yaml_timestamp(word: &str) -> Option<i64> {
    if let Ok(date) = word.parse::<civil::Date>() {
        let midnight = date.to_datetime(civil::Time::midnight());
        let zoned = midnight.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        return Some(zoned.timestamp().as_millisecond());
    }
    if let Ok(timestamp) = word.parse::<Timestamp>() {
        return Some(timestamp.as_millisecond());
    }
    let datetime: civil::DateTime = word.parse().ok()?;
    let zoned = datetime.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_millisecond())
}

/// Reads a time as RFC 3339 writes it, into milliseconds since 1970. The error is Go's.
pub(crate) fn rfc3339(word: &str) -> Result<i64, String> {
    let parsed = word.parse::<Timestamp>().ok();
    parsed.map(Timestamp::as_millisecond).ok_or_else(|| {
        let word = promql::format::quote(word.as_bytes());
        format!(
            "parsing time {word} as \"2006-01-02T15:04:05Z07:00\": cannot parse {word} as \"2006\""
        )
    })
}

/// Writes milliseconds since 1970 as RFC 3339 with the decimals it takes.
pub(crate) fn write_rfc3339(millis: i64) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| String::new(), |time| time.to_string())
}
