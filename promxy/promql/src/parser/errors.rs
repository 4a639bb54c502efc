//! The one error of the parser: a message at a place, with the place in the words of Prometheus.
//!
//! Follows Prometheus' parse error and position range (`promql/parser/posrange`): the column counts bytes, and an empty query
//! has no position.

use std::fmt;

use crate::parser::Span;

/// Why a text is not a query.
///
/// ```
/// use promql::parser::{ParserOptions, parse};
///
/// let error = parse("up{\n  job=}", &ParserOptions::default()).unwrap_err();
/// assert_eq!(error.to_string(), r#"2:7: parse error: unexpected "}" in label matching, expected string"#);
/// assert_eq!(error.message(), r#"unexpected "}" in label matching, expected string"#);
/// assert_eq!((error.span().start, error.span().end), (10, 11));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: parse error: {message}")]
pub struct ParseError {
    place: Place,
    message: String,
    span: Span,
}

impl ParseError {
    pub(crate) fn new(input: &str, span: Span, message: impl Into<String>) -> Self {
        Self {
            place: Place::of(input, span.start),
            message: message.into(),
            span,
        }
    }

    /// Returns what is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the bytes of the query that are at fault.
    pub fn span(&self) -> Span {
        self.span
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Unknown,
    At { line: usize, column: usize },
}

impl Place {
    fn of(input: &str, offset: usize) -> Self {
        if input.is_empty() {
            return Self::Unknown;
        }
        let before = input.as_bytes().get(..offset).unwrap_or(input.as_bytes());
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        let column =
            before.len() - memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1) + 1;
        Self::At { line, column }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown position"),
            Self::At { line, column } => write!(f, "{line}:{column}"),
        }
    }
}
