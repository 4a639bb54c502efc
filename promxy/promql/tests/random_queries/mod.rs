//! What those have in common that write random queries.

/// Functions over ranges.
const OVER_TIME: [&str; 21] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "sum_over_time",
    "avg_over_time",
    "max_over_time",
    "min_over_time",
    "stddev_over_time",
    "count_over_time",
    "first_over_time",
    "last_over_time",
    "changes",
    "resets",
    "deriv",
    "mad_over_time",
    "ts_of_min_over_time",
    "ts_of_max_over_time",
    "absent_over_time",
    "present_over_time",
];

/// Writes random queries.
pub(crate) struct Writer(pub(crate) fastrand::Rng);

impl Writer {
    pub(crate) fn pick<'t>(&mut self, choices: &[&'t str]) -> &'t str {
        choices[self.0.usize(..choices.len())]
    }

    /// Applies a function to a range.
    pub(crate) fn over_time(&mut self, range: &str) -> String {
        format!("{}({range})", self.pick(&OVER_TIME))
    }
}
