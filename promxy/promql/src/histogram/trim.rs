//! The trim operators `</` and `>/`: a histogram without the observations above or below a number.
//!
//! Follows `TrimBuckets` in `model/histogram/float_histogram.go`.

use super::FloatHistogram;

/// Which observations stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Below,
    Above,
}

impl FloatHistogram {
    /// `self </ limit`: without the observations above `limit`, as far as they can be told apart.
    #[must_use]
    pub fn keep_below(&self, limit: f64) -> Self {
        self.trimmed(limit, Keep::Below)
    }

    /// `self >/ limit`: without the observations below `limit`, as far as they can be told apart.
    #[must_use]
    pub fn keep_above(&self, limit: f64) -> Self {
        self.trimmed(limit, Keep::Above)
    }

    fn trimmed(&self, limit: f64, keep: Keep) -> Self {
        todo!("{limit} {keep:?}")
    }
}
