//! Histogram literals: `{{schema:1 count:3 sum:4.5 z_bucket:1 buckets:[1 1] offset:-1}}`.

use super::Cursor;
use crate::parser::ParseError;

/// A histogram as a series description writes it. What is not written is zero or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramLiteral {
    /// `schema`: the resolution; -53 for custom buckets.
    pub schema: i64,
    /// `sum`: of the observations.
    pub sum: f64,
    /// `count`: of the observations.
    pub count: f64,
    /// `z_bucket`: the count of the zero bucket.
    pub zero_count: f64,
    /// `z_bucket_w`: the width of the zero bucket.
    pub zero_threshold: f64,
    /// `offset`: the index of the first positive bucket.
    pub offset: i64,
    /// `buckets`: the counts of the positive buckets.
    pub buckets: Vec<f64>,
    /// `n_offset`: the index of the first negative bucket.
    pub negative_offset: i64,
    /// `n_buckets`: the counts of the negative buckets.
    pub negative_buckets: Vec<f64>,
    /// `custom_values`: the bounds of custom buckets.
    pub custom_values: Vec<f64>,
    /// `counter_reset_hint`, if it was written.
    pub counter_reset_hint: Option<CounterResetHint>,
}

/// What is known of counter resets before a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterResetHint {
    /// `unknown`
    Unknown,
    /// `reset`: there was one.
    Reset,
    /// `not_reset`: there was none.
    NotReset,
    /// `gauge`: the histogram is not a counter.
    Gauge,
}

impl Cursor<'_> {
    /// Reads a histogram literal.
    pub(super) fn histogram(&mut self) -> Result<HistogramLiteral, ParseError> {
        if !self.accept("{{") {
            return Err(self.error("unexpected text in series values, expected a histogram"));
        }
        let mut histogram = HistogramLiteral::default();
        let mut seen: Vec<String> = Vec::new();
        loop {
            let spaced = self.skip_space();
            if self.accept("}}") {
                return Ok(histogram);
            }
            if !spaced && !seen.is_empty() {
                return Err(
                    self.error("unexpected text in histogram description, expected a space")
                );
            }
            let start = self.position;
            let key = self.word().to_ascii_lowercase();
            if seen.contains(&key) {
                return Err(self.error_from(start, format!("duplicate key \"{key}\" in histogram")));
            }
            if !self.accept(":") {
                return Err(self.error("missing `:` for histogram descriptor"));
            }
            self.descriptor(&key, start, &mut histogram)?;
            seen.push(key);
        }
    }

    /// Reads what a key of a histogram is set to; the key began at `start`.
    fn descriptor(
        &mut self,
        key: &str,
        start: usize,
        histogram: &mut HistogramLiteral,
    ) -> Result<(), ParseError> {
        match key {
            "schema" => histogram.schema = self.integer()?,
            "sum" => histogram.sum = self.signed_number()?,
            "count" => histogram.count = self.signed_number()?,
            "z_bucket" => histogram.zero_count = self.signed_number()?,
            "z_bucket_w" => histogram.zero_threshold = self.number()?,
            "offset" => histogram.offset = self.integer()?,
            "n_offset" => histogram.negative_offset = self.integer()?,
            "buckets" => histogram.buckets = self.numbers()?,
            "n_buckets" => histogram.negative_buckets = self.numbers()?,
            "custom_values" => histogram.custom_values = self.numbers()?,
            "counter_reset_hint" => histogram.counter_reset_hint = Some(self.hint()?),
            _ => {
                return Err(
                    self.error_from(start, format!("bad histogram descriptor found: {key:?}"))
                );
            }
        }
        Ok(())
    }

    fn hint(&mut self) -> Result<CounterResetHint, ParseError> {
        let start = self.position;
        match self.word().to_ascii_lowercase().as_str() {
            "unknown" => Ok(CounterResetHint::Unknown),
            "reset" => Ok(CounterResetHint::Reset),
            "not_reset" => Ok(CounterResetHint::NotReset),
            "gauge" => Ok(CounterResetHint::Gauge),
            _ => Err(self.error_from(start, "unknown counter reset hint")),
        }
    }

    fn integer(&mut self) -> Result<i64, ParseError> {
        let start = self.position;
        let negative = self.accept("-");
        let digits = self.take(|c| c.is_ascii_digit());
        let value: Option<i64> = digits.parse().ok();
        let value = value
            .ok_or_else(|| self.error_from(start, "invalid integer in histogram description"))?;
        Ok(if negative { -value } else { value })
    }

    /// Reads `[1 2 3]`, at least one number.
    fn numbers(&mut self) -> Result<Vec<f64>, ParseError> {
        if !self.accept("[") {
            return Err(self.error("unexpected text in histogram description, expected \"[\""));
        }
        let mut numbers = vec![self.signed_number()?];
        loop {
            let spaced = self.skip_space();
            if self.accept("]") {
                return Ok(numbers);
            }
            if !spaced {
                return Err(
                    self.error("unexpected text in buckets description, expected a space or \"]\"")
                );
            }
            numbers.push(self.signed_number()?);
        }
    }
}
