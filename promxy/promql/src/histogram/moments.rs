//! Average, variance and standard deviation.
//!
//! Follows `histogramVariance` in `promql/functions.go`.

use super::FloatHistogram;
use super::bucket::middle;
use super::kahan::Compensated;

impl FloatHistogram {
    /// The average of the observations.
    pub fn average(&self) -> f64 {
        self.sum / self.count
    }

    /// Estimates the variance of the observations, as if all of a bucket were at its centre: the geometric one of exponential
    /// buckets, the arithmetic one of custom buckets, zero for the zero bucket.
    pub fn variance(&self) -> f64 {
        let average = self.average();
        let mut squares = Compensated::default();
        for bucket in self.buckets().filter(|bucket| bucket.count != 0.0) {
            let centre = if self.has_custom_buckets() {
                middle(bucket.upper, bucket.lower)
            } else if bucket.touches_zero() {
                0.0
            } else {
                (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
            };
            let deviation = centre - average;
            squares.add(bucket.count * deviation * deviation);
        }
        squares.total() / self.count
    }

    /// Estimates the standard deviation of the observations.
    pub fn standard_deviation(&self) -> f64 {
        self.variance().sqrt()
    }
}
