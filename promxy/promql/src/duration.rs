//! Durations as Prometheus reads and writes them: `1h30m`, at most about 292 years, either sign.
//!
//! Follows the duration type of Prometheus' common library (`model/time.go`); pinned by the `duration` rows of the golden
//! data.

use std::fmt;

use crate::format;
use crate::gomath::to_i64;

const NANOS_PER_MILLI: i64 = 1_000_000;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A unit: its name, its length in milliseconds, and whether printing uses it only for a whole number of them.
struct Unit {
    name: &'static str,
    millis: u64,
    only_whole: bool,
}

/// The units from the longest to the shortest, which is the only order in which they may be written.
const UNITS: [Unit; 7] = [
    Unit {
        name: "y",
        millis: 365 * 24 * 3_600_000,
        only_whole: true,
    },
    Unit {
        name: "w",
        millis: 7 * 24 * 3_600_000,
        only_whole: true,
    },
    Unit {
        name: "d",
        millis: 24 * 3_600_000,
        only_whole: false,
    },
    Unit {
        name: "h",
        millis: 3_600_000,
        only_whole: false,
    },
    Unit {
        name: "m",
        millis: 60_000,
        only_whole: false,
    },
    Unit {
        name: "s",
        millis: 1_000,
        only_whole: false,
    },
    Unit {
        name: "ms",
        millis: 1,
        only_whole: false,
    },
];

/// A duration in nanoseconds that may be negative, as offsets are.
///
/// ```
/// use promql::SignedDuration;
///
/// let duration: SignedDuration = "1h90m".parse()?;
/// assert_eq!(duration.to_string(), "2h30m");
/// assert_eq!(duration.as_millis(), 9_000_000);
/// # Ok::<(), promql::DurationError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignedDuration(i64);

impl SignedDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Returns a duration of this many nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Returns the duration nearest to a number of seconds.
    pub fn from_secs_f64(seconds: f64) -> Self {
        Self(to_i64((seconds * NANOS_PER_SECOND as f64).round()))
    }

    /// Returns the whole nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Returns the whole milliseconds, cut towards zero.
    pub const fn as_millis(self) -> i64 {
        self.0 / NANOS_PER_MILLI
    }

    /// Returns the seconds.
    pub fn as_secs_f64(self) -> f64 {
        (self.0 / NANOS_PER_SECOND) as f64
            + (self.0 % NANOS_PER_SECOND) as f64 / NANOS_PER_SECOND as f64
    }
}

/// Why a text is not a duration. The texts are Prometheus'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// There is nothing in it.
    #[error("empty duration string")]
    Empty,
    /// It is not a sequence of numbers and units in falling order.
    #[error("not a valid duration string: {}", format::quote(.0.as_bytes()))]
    Malformed(String),
    /// A unit is none of `y w d h m s ms`.
    #[error("unknown unit {} in duration {}", format::quote(.unit.as_bytes()), format::quote(.text.as_bytes()))]
    UnknownUnit {
        /// The word in place of a unit.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// It is longer than 2^63 nanoseconds.
    #[error("duration out of range")]
    OutOfRange,
}

impl std::str::FromStr for SignedDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        if text.is_empty() {
            return Err(DurationError::Empty);
        }
        if text == "0" {
            return Ok(Self::ZERO);
        }
        let malformed = || DurationError::Malformed(text.to_owned());
        let mut rest = text;
        let mut units = UNITS.iter();
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (digits, after) = split_while(rest, |c| c.is_ascii_digit());
            let count: u64 = digits.parse().map_err(|_| malformed())?;
            let (name, after) = split_while(after, |c| !c.is_ascii_digit());
            if name.is_empty() {
                return Err(malformed());
            }
            if !UNITS.iter().any(|unit| unit.name == name) {
                return Err(DurationError::UnknownUnit {
                    unit: name.to_owned(),
                    text: text.to_owned(),
                });
            }
            // The iterator only moves on, so a unit that was passed is not found again.
            let unit = units.find(|unit| unit.name == name).ok_or_else(malformed)?;
            total = count
                .checked_mul(unit.millis)
                .and_then(|millis| millis.checked_mul(NANOS_PER_MILLI as u64))
                .and_then(|nanos| total.checked_add(nanos))
                .filter(|nanos| i64::try_from(*nanos).is_ok())
                .ok_or(DurationError::OutOfRange)?;
            rest = after;
        }
        Ok(Self(total as i64))
    }
}

impl fmt::Display for SignedDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.as_millis().unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        if millis == 0 {
            return f.write_str("0s");
        }
        for unit in &UNITS {
            let count = millis / unit.millis;
            if count == 0 || unit.only_whole && !millis.is_multiple_of(unit.millis) {
                continue;
            }
            write!(f, "{count}{}", unit.name)?;
            millis %= unit.millis;
        }
        Ok(())
    }
}

fn split_while(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !keep(c)).unwrap_or(text.len()))
}
