//! Histograms as text: as strings of query results, and in the notation of test scripts.

use std::fmt;

use super::{CounterResetHint, FloatHistogram};
use crate::format::general;

/// `{count:4, sum:5, (0.5,1]:1, (1,2]:3}`: the value of `count_values` labels and of messages.
impl fmt::Display for FloatHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{{count:{}, sum:{}",
            general(self.count),
            general(self.sum)
        )?;
        let mut write = |bucket: super::Bucket| match bucket.count {
            0.0 => Ok(()),
            _ => write!(f, ", {bucket}"),
        };
        self.negative_buckets().rev().try_for_each(&mut write)?;
        if !self.has_custom_buckets() {
            write(self.distribution.zero_bucket())?;
        }
        self.positive_buckets().try_for_each(&mut write)?;
        f.write_str("}")
    }
}

/// The largest number of buckets that are written out for the empty ones between two populated ones.
const LARGEST_GAP: u32 = 10_000;

impl FloatHistogram {
    /// Returns the histogram as test scripts write it: `{{schema:1 count:3 sum:4.5 buckets:[1 2]}}`.
    ///
    /// The notation has no way to leave out buckets. Those that are more than 10,000 behind others are left out together with
    /// all behind them.
    pub fn to_test_notation(&self) -> String {
        let mut compacted = self.clone();
        compacted.compact_with_gaps(LARGEST_GAP);
        let distribution = &compacted.distribution;
        let mut words = Vec::new();
        let mut number = |key: &str, value: f64| {
            if value != 0.0 {
                words.push(format!("{key}:{}", general(value)));
            }
        };
        number("schema", f64::from(distribution.schema.number()));
        number("count", self.count);
        number("sum", self.sum);
        number("z_bucket", distribution.zero_count);
        number("z_bucket_w", distribution.zero_threshold);
        if self.has_custom_buckets() {
            words.push(format!("custom_values:{}", list(&distribution.bounds)));
        }
        match self.hint {
            CounterResetHint::Unknown => {}
            CounterResetHint::Reset => words.push("counter_reset_hint:reset".into()),
            CounterResetHint::NotReset => words.push("counter_reset_hint:not_reset".into()),
            CounterResetHint::Gauge => words.push("counter_reset_hint:gauge".into()),
        }
        for (buckets, key, offset_key) in [
            (&distribution.positive, "buckets", "offset"),
            (&distribution.negative, "n_buckets", "n_offset"),
        ] {
            let Some(span) = buckets.spans().next() else {
                continue;
            };
            if span.offset != 0 {
                words.push(format!("{offset_key}:{}", span.offset));
            }
            let counts = buckets.counts().get(..span.length as usize);
            words.push(format!("{key}:{}", list(counts.unwrap_or_default())));
        }
        format!("{{{{{}}}}}", words.join(" "))
    }
}

/// `[1 2 3]`
fn list(numbers: &[f64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(|number| general(*number)).collect();
    format!("[{}]", numbers.join(" "))
}
