//! Zero buckets of different widths are brought to the same width before two histograms are added or compared.
//!
//! The wider one wins. A populated bucket that it cuts is swallowed whole, which widens it further and may make the other
//! histogram follow.

use super::distribution::Distribution;
use super::kahan::Tally;

/// What a zero bucket would be if it were wider.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct WiderZero<T> {
    pub(super) threshold: f64,
    pub(super) count: T,
}

impl<T: Tally> Distribution<T> {
    /// Returns the zero bucket as it would be if it reached to `threshold`, which is not below its own, or further to the end of
    /// a populated bucket there.
    pub(super) fn widened_zero(&self, threshold: f64) -> WiderZero<T> {
        let mut threshold = threshold;
        if threshold == self.zero_threshold {
            return WiderZero {
                threshold,
                count: self.zero_count,
            };
        }
        'wider: loop {
            let mut count = self.zero_count;
            // Whatever the positive buckets do to the threshold, those swallowed before stay swallowed.
            for (index, swallowed) in self.positive.iter() {
                if self.schema.bound(index - 1) >= threshold {
                    break;
                }
                count.add(swallowed);
                let upper = self.schema.bound(index);
                if upper > threshold {
                    if swallowed.count() != 0.0 {
                        threshold = upper;
                    }
                    break;
                }
            }
            for (index, swallowed) in self.negative.iter() {
                if self.schema.bound(index - 1) >= threshold {
                    break;
                }
                count.add(swallowed);
                let edge = self.schema.bound(index);
                if edge > threshold {
                    if swallowed.count() != 0.0 {
                        // More of the positive buckets are inside now.
                        threshold = edge;
                        continue 'wider;
                    }
                    break;
                }
            }
            return WiderZero { threshold, count };
        }
    }

    /// Makes the zero bucket as wide as needed for it to have the same width as `other`'s, and returns what is in `other`'s zero
    /// bucket at that width.
    ///
    /// Buckets of `other` inside of it are not changed; they have to be left out.
    pub(super) fn reconcile_zero<U: Tally>(&mut self, other: &Distribution<U>) -> U {
        let mut theirs = WiderZero {
            threshold: other.zero_threshold,
            count: other.zero_count,
        };
        while theirs.threshold != self.zero_threshold {
            if theirs.threshold < self.zero_threshold {
                theirs = other.widened_zero(self.zero_threshold);
            }
            if theirs.threshold > self.zero_threshold {
                self.widen_zero(theirs.threshold);
            } else if theirs.threshold != self.zero_threshold {
                break; // One of them is NaN: there is no common width.
            }
        }
        theirs.count
    }

    /// Makes the zero bucket reach to `threshold` or further, and drops the buckets that it swallows.
    fn widen_zero(&mut self, threshold: f64) {
        let wider = self.widened_zero(threshold);
        self.zero_threshold = wider.threshold;
        self.zero_count = wider.count;
        let schema = self.schema;
        let outside = |index: i32| schema.bound(index - 1) >= wider.threshold;
        self.positive = self.positive.retained(outside);
        self.negative = self.negative.retained(outside);
    }
}
