//! What an answer means for its batch, pure.
//!
//! Only 200 is success, as in the original. What a retry can change is retried, which the original does not.

use std::time::Duration;

use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};

use crate::counters::{DropReason, RetryReason};

/// The longest that a gateway can make a batch wait by `Retry-After`.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The gateway has it.
    Delivered,
    /// It is sent again.
    Retry(RetryReason),
    /// It is kept for as long as the gateway may need to learn the key.
    Hold,
    /// No retry can help.
    Drop(DropReason),
}

/// Judges an answer's status.
pub(crate) fn judge(status: u16) -> Verdict {
    match status {
        200 => Verdict::Delivered,
        400 => Verdict::Drop(DropReason::BadRequest),
        401 => Verdict::Hold,
        403 => Verdict::Drop(DropReason::Forbidden),
        413 => Verdict::Drop(DropReason::TooLarge),
        408 | 425 | 429 => Verdict::Retry(RetryReason::Busy),
        500..=599 => Verdict::Retry(RetryReason::Server),
        _ => Verdict::Drop(DropReason::Status),
    }
}

/// Reads `Retry-After`: seconds, or a date.
pub(crate) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = if let Ok(seconds) = value.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let date = DateTimeParser::new().parse_timestamp(value).ok()?;
        Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_judged_as_the_readme_says() {
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert!(matches!(judge(status), Verdict::Retry(_)), "{status}");
        }
        for status in [201, 202, 204, 302, 400, 403, 404, 410, 413] {
            assert!(matches!(judge(status), Verdict::Drop(_)), "{status}");
        }
        assert_eq!(
            (judge(200), judge(401)),
            (Verdict::Delivered, Verdict::Hold)
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        let f = |value: &str, seconds: Option<u64>| {
            assert_eq!(
                retry_after(value, now),
                seconds.map(Duration::from_secs),
                "{value}"
            );
        };
        f("5", Some(5));
        f(" 0 ", Some(0));
        f("99999", Some(300));
        f("Sun, 06 Nov 1994 08:50:07 GMT", Some(30));
        f("Sun, 06 Nov 1994 08:49:07 GMT", Some(0));
        f("soon", None);
        f("-1", None);
    }
}
