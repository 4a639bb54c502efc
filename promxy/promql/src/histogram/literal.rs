//! Histograms as test scripts describe them.
//!
//! Follows `promql/parser/parse.go`, as far as histograms are concerned.

use super::arithmetic::Incompatible;
use super::buckets::{Span, SpanError};
use super::{CounterResetHint, FloatHistogram, HistogramParts, InvalidHistogram};
use crate::parser::{Compat, HistogramLiteral, SeriesItem, Sign, parse_series};

impl FloatHistogram {
    /// Makes the histogram that a literal describes. A hint that is not written is "unknown".
    pub fn from_literal(literal: &HistogramLiteral) -> Result<Self, InvalidHistogram> {
        let schema =
            i32::try_from(literal.schema).map_err(|_| InvalidHistogram::Schema(literal.schema))?;
        let positive_spans =
            span(literal.offset, literal.buckets.len()).map_err(InvalidHistogram::PositiveSpans)?;
        let negative_spans = span(literal.negative_offset, literal.negative_buckets.len())
            .map_err(InvalidHistogram::NegativeSpans)?;
        Self::new(HistogramParts {
            schema,
            zero_threshold: literal.zero_threshold,
            zero_count: literal.zero_count,
            count: literal.count,
            sum: literal.sum,
            positive_spans,
            positive_counts: literal.buckets.clone(),
            negative_spans,
            negative_counts: literal.negative_buckets.clone(),
            custom_values: literal.custom_values.clone(),
            hint: literal
                .counter_reset_hint
                .unwrap_or(CounterResetHint::Unknown),
        })
    }

    /// Reads a histogram in the notation of test scripts: `{{schema:1 count:3 sum:4.5 buckets:[1 2]}}`.
    pub fn from_text(text: &str) -> Result<Self, InvalidText> {
        let series = parse_series(&format!("{{}} {text}"))?;
        match series.items.as_slice() {
            [
                SeriesItem::Histograms {
                    first,
                    change: None,
                    steps: 1,
                },
            ] => Ok(Self::from_literal(first)?),
            _ => Err(InvalidText::NotOne),
        }
    }
}

/// Why a text is not a histogram.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InvalidText {
    /// The text is not in the notation.
    #[error(transparent)]
    Syntax(#[from] crate::parser::ParseError),
    /// There is no histogram, or more than one.
    #[error("expected one histogram")]
    NotOne,
    /// There is no such histogram.
    #[error(transparent)]
    Invalid(#[from] InvalidHistogram),
}

/// Returns the one span that `length` buckets from `offset` on are.
fn span(offset: i64, length: usize) -> Result<Vec<Span>, SpanError> {
    if length == 0 {
        return Ok(Vec::new());
    }
    let offset = i32::try_from(offset).map_err(|_| SpanError::IndexOutOfRange)?;
    let length = u32::try_from(length).map_err(|_| SpanError::IndexOutOfRange)?;
    Ok(vec![Span { offset, length }])
}

/// The samples of an item such as `{{...}}+{{...}}x5`, one at a time: a repetition may be longer than memory is large.
#[derive(Clone, Debug)]
pub struct HistogramSteps {
    /// The next histogram, unless the last one was the last.
    next: Option<Result<FloatHistogram, StepError>>,
    change: Option<(Sign, FloatHistogram)>,
    /// How many come after the next.
    left: u64,
    compat: Compat,
}

/// Why the samples of an item end early.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum StepError {
    /// The item has no samples at all.
    #[error(transparent)]
    Invalid(#[from] InvalidHistogram),
    /// The change has a lower resolution than what it changes.
    #[error("error combining histograms: cannot merge from schema {change} to {base}")]
    Resolution {
        /// The schema of the change.
        change: i8,
        /// The schema of what it changes.
        base: i8,
    },
    /// The change and what it changes cannot be brought together.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
}

impl HistogramSteps {
    /// Starts with `first` and changes it for `steps` samples in all.
    pub fn new(
        first: &HistogramLiteral,
        change: Option<&(Sign, Box<HistogramLiteral>)>,
        steps: u64,
        compat: Compat,
    ) -> Result<Self, InvalidHistogram> {
        let change = change
            .map(|(sign, literal)| Ok((*sign, FloatHistogram::from_literal(literal)?)))
            .transpose()?;
        let first = FloatHistogram::from_literal(first)?;
        Ok(Self {
            next: (steps > 0).then_some(Ok(first)),
            change,
            left: steps.saturating_sub(1),
            compat,
        })
    }

    fn after(&self, histogram: &FloatHistogram) -> Result<FloatHistogram, StepError> {
        let mut next = histogram.clone();
        let Some((sign, change)) = &self.change else {
            return Ok(next);
        };
        if next.schema() > change.schema() {
            return Err(StepError::Resolution {
                change: change.schema().number(),
                base: next.schema().number(),
            });
        }
        match sign {
            Sign::Plus => next.add(change, self.compat)?,
            Sign::Minus => next.subtract(change, self.compat)?,
        };
        Ok(next)
    }
}

impl Iterator for HistogramSteps {
    type Item = Result<FloatHistogram, StepError>;

    fn next(&mut self) -> Option<Self::Item> {
        let current = self.next.take()?;
        if let Ok(histogram) = &current
            && self.left > 0
        {
            self.left -= 1;
            self.next = Some(self.after(histogram));
        }
        Some(current)
    }
}
