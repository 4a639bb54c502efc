//! Selectors, subqueries and what shifts them in time.

use crate::parser::{DurationValue, NodeId};
use crate::{SignedDuration, Text};

/// The label that holds the metric name.
pub(crate) const METRIC_NAME: &str = "__name__";

/// A selector of series.
#[derive(Clone, Debug)]
pub struct VectorSelector {
    /// The metric name in front of the braces; empty if there was none.
    pub name: String,
    /// The matchers as written, then one for `name` unless that is empty.
    pub matchers: Vec<Matcher>,
    /// `offset` and `@`.
    pub shift: TimeShift,
    /// `anchored` or `smoothed`.
    pub extended: Option<ExtendedRange>,
}

/// A selector of ranges of samples.
#[derive(Clone, Debug)]
pub struct MatrixSelector {
    /// The [`VectorSelector`], which also holds the time shift.
    pub selector: NodeId,
    /// The length of the ranges.
    pub range: DurationValue,
}

/// An expression evaluated over a range of time.
#[derive(Clone, Debug)]
pub struct Subquery {
    /// The expression.
    pub expr: NodeId,
    /// The length of the range.
    pub range: DurationValue,
    /// The distance of the evaluations, unless it is the default.
    pub step: Option<DurationValue>,
    /// `offset` and `@`.
    pub shift: TimeShift,
}

/// When a selector or subquery looks at its series, relative to or instead of the time of evaluation.
#[derive(Clone, Debug)]
pub struct TimeShift {
    /// How far back it looks; zero without `offset`.
    pub offset: DurationValue,
    /// The time that replaces that of the evaluation.
    pub at: Option<At>,
}

impl Default for TimeShift {
    fn default() -> Self {
        Self {
            offset: DurationValue::Fixed(SignedDuration::ZERO),
            at: None,
        }
    }
}

/// The operand of `@`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// A time in milliseconds since 1970.
    Timestamp(i64),
    /// `start()`: where the query starts.
    Start,
    /// `end()`: where the query ends.
    End,
}

/// What happens at the edges of a range (3.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtendedRange {
    /// The last sample before the range counts as its first.
    Anchored,
    /// Values at the edges are interpolated.
    Smoothed,
}

impl ExtendedRange {
    /// Returns the modifier as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anchored => "anchored",
            Self::Smoothed => "smoothed",
        }
    }
}

/// A condition on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// The label.
    pub name: Text,
    /// The kind of condition.
    pub op: MatchOp,
    /// The value or pattern.
    pub value: Text,
}

impl Matcher {
    /// Returns the condition that a metric has a name.
    pub(crate) fn metric_name(name: Text) -> Self {
        Self {
            name: METRIC_NAME.into(),
            op: MatchOp::Equal,
            value: name,
        }
    }
}

/// The kinds of conditions on a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// Returns the operator as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}
