//! A single bucket, as it is seen from outside.

use std::fmt;

use crate::format;

/// A bucket: an interval and how many observations are in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// The lower bound.
    pub lower: f64,
    /// The upper bound.
    pub upper: f64,
    /// Whether the lower bound belongs to it.
    pub lower_inclusive: bool,
    /// Whether the upper bound belongs to it.
    pub upper_inclusive: bool,
    /// The number of observations.
    pub count: f64,
}

impl Bucket {
    /// Returns which bounds belong to the bucket, as Prometheus' HTTP API numbers it: 0 the upper, 1 the lower, 2 none, 3 both.
    pub fn boundaries(&self) -> u8 {
        match (self.lower_inclusive, self.upper_inclusive) {
            (false, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (true, true) => 3,
        }
    }

    /// Whether zero lies in it or on its edge.
    pub(super) fn touches_zero(&self) -> bool {
        self.lower <= 0.0 && self.upper >= 0.0
    }
}

/// Returns the arithmetic mean, which overflows as the reference's does.
pub(super) fn middle(a: f64, b: f64) -> f64 {
    (a + b) * 0.5
}

/// Interval notation with the count: `(1,2]:3`.
impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{},{}{}:{}",
            if self.lower_inclusive { '[' } else { '(' },
            format::general(self.lower),
            format::general(self.upper),
            if self.upper_inclusive { ']' } else { ')' },
            format::general(self.count),
        )
    }
}
