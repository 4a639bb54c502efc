//! A native histogram as the API shows it.

/// A histogram with its buckets spelled out. Counts are floats, as in queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// How many observations there are.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// The buckets that have observations, from low to high.
    pub buckets: Vec<Bucket>,
}

/// Observations between two bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Which bounds belong to it, as the API numbers it: 0 the upper, 1 the lower, 2 neither, 3 both.
    pub boundaries: u8,
    /// The lower bound.
    pub lower: f64,
    /// The upper bound.
    pub upper: f64,
    /// How many observations there are.
    pub count: f64,
}
