//! Series descriptions: the small language in which Prometheus' test scripts and rule tests write down series, such as
//! `requests{job="a"} 1 2 _ 0+10x5 stale {{schema:1 count:2 buckets:[1 1]}}`.
//!
//! Follows the second half of Prometheus' grammar (`promql/parser/generated_parser.y`) in what it accepts; the errors are worded
//! here. Repetitions stay as they are written, so that a short text cannot ask for much memory.

mod histogram;

pub use histogram::{CounterResetHint, HistogramLiteral};

use crate::Text;
use crate::parser::ast::METRIC_NAME;
use crate::parser::lex::Lexer;
use crate::parser::token::{Token, TokenKind};
use crate::parser::{Compat, ParseError, Sign, Span, literal};

/// A series as a test script describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesDescription {
    /// The labels, the metric name among them, by name.
    pub labels: Vec<(Text, Text)>,
    /// The samples, one or more steps each.
    pub items: Vec<SeriesItem>,
}

/// One or more steps of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum SeriesItem {
    /// `_`, `_x5`: no sample.
    Gap {
        /// For how many steps.
        steps: u64,
    },
    /// `stale`: the series ends here.
    Stale,
    /// `1`, `1x5`, `1+2x5`: numbers. `x5` means five more than the first.
    Floats {
        /// The first number.
        first: f64,
        /// What is added at every further step.
        increment: f64,
        /// For how many steps.
        steps: u64,
    },
    /// `{{...}}`, `{{...}}x5`, `{{...}}+{{...}}x5`: histograms.
    Histograms {
        /// The first histogram.
        first: Box<HistogramLiteral>,
        /// What is added or subtracted at every further step.
        change: Option<(Sign, Box<HistogramLiteral>)>,
        /// For how many steps.
        steps: u64,
    },
}

/// Parses a series description.
///
/// ```
/// use promql::parser::{SeriesItem, parse_series};
///
/// let series = parse_series(r#"requests{job="a"} 0+10x5 _ stale"#)?;
/// let (name, value) = &series.labels[1];
/// assert_eq!((name.to_string(), value.to_string()), ("job".into(), "a".into()));
/// assert_eq!(
///     series.items,
///     [
///         SeriesItem::Floats { first: 0.0, increment: 10.0, steps: 6 },
///         SeriesItem::Gap { steps: 1 },
///         SeriesItem::Stale,
///     ],
/// );
/// # Ok::<(), promql::parser::ParseError>(())
/// ```
pub fn parse_series(input: &str) -> Result<SeriesDescription, ParseError> {
    let (labels, position) = labels(input)?;
    let mut cursor = Cursor { input, position };
    let mut items = Vec::new();
    while !cursor.at_end() {
        if !cursor.skip_space() {
            return Err(cursor.error("unexpected text in series values, expected a space"));
        }
        if !cursor.at_end() {
            items.push(cursor.item()?);
        }
    }
    Ok(SeriesDescription { labels, items })
}

/// Reads the metric and returns its labels and where they end.
fn labels(input: &str) -> Result<(Vec<(Text, Text)>, usize), ParseError> {
    let mut lexer = Lexer::new(input, Compat::V3_14);
    let text = |token: Token| {
        input
            .get(token.span.start..token.span.end)
            .unwrap_or_default()
    };
    let expected = |token: Token, what: &str| {
        Err(ParseError::new(
            input,
            token.span,
            format!("unexpected {:?} in series, expected {what}", text(token)),
        ))
    };
    let mut labels: Vec<(Text, Text)> = Vec::new();
    let mut token = lexer.next()?;
    if token.kind.is_metric_name() {
        labels.push((METRIC_NAME.into(), text(token).into()));
        // Only a brace right after the name is its own; after a space it begins a histogram.
        if input.as_bytes().get(token.span.end) != Some(&b'{') {
            return Ok((labels, token.span.end));
        }
        token = lexer.next()?;
    }
    if token.kind != TokenKind::LeftBrace {
        return expected(token, "a metric");
    }
    loop {
        let label = lexer.next()?;
        let mut next = match label.kind {
            TokenKind::RightBrace => {
                labels.sort();
                return Ok((labels, label.span.end));
            }
            TokenKind::Identifier | TokenKind::String => lexer.next()?,
            _ => return expected(label, "a label or \"}\""),
        };
        let name = match label.kind {
            TokenKind::String => literal::unquote(text(label)),
            _ => text(label).into(),
        };
        if next.kind == TokenKind::Assign {
            let value = lexer.next()?;
            if value.kind != TokenKind::String {
                return expected(value, "a string");
            }
            labels.push((name, literal::unquote(text(value))));
            next = lexer.next()?;
        } else if label.kind == TokenKind::String {
            labels.push((METRIC_NAME.into(), name));
        } else {
            return expected(next, "\"=\"");
        }
        match next.kind {
            TokenKind::Comma => {}
            TokenKind::RightBrace => {
                labels.sort();
                return Ok((labels, next.span.end));
            }
            _ => return expected(next, "\",\" or \"}\""),
        }
    }
}

/// A place in a series description.
struct Cursor<'a> {
    input: &'a str,
    position: usize,
}

impl<'a> Cursor<'a> {
    fn item(&mut self) -> Result<SeriesItem, ParseError> {
        if self.accept("_") {
            let steps = if self.accept("x") { self.count()? } else { 1 };
            return Ok(SeriesItem::Gap { steps });
        }
        if self.rest().starts_with("{{") {
            return self.histograms();
        }
        if self.rest().starts_with("stale") && self.word() == "stale" {
            return Ok(SeriesItem::Stale);
        }
        let first = self.signed_number()?;
        let increment = if self.rest().starts_with(['+', '-']) {
            Some(self.signed_number()?)
        } else {
            None
        };
        // An increment makes no sense without a repetition.
        let steps = match (increment, self.accept("x")) {
            (_, true) => self.more_steps()?,
            (None, false) => 1,
            (Some(_), false) => {
                return Err(self.error("unexpected text in series values, expected \"x\""));
            }
        };
        Ok(SeriesItem::Floats {
            first,
            increment: increment.unwrap_or(0.0),
            steps,
        })
    }

    fn histograms(&mut self) -> Result<SeriesItem, ParseError> {
        let first = Box::new(self.histogram()?);
        let sign = if self.accept("+") {
            Some(Sign::Plus)
        } else if self.accept("-") {
            Some(Sign::Minus)
        } else {
            None
        };
        let change = match sign {
            Some(sign) => Some((sign, Box::new(self.histogram()?))),
            None => None,
        };
        let steps = match (&change, self.accept("x")) {
            (_, true) => self.more_steps()?,
            (None, false) => 1,
            (Some(_), false) => {
                return Err(self.error("unexpected text in series values, expected \"x\""));
            }
        };
        Ok(SeriesItem::Histograms {
            first,
            change,
            steps,
        })
    }

    /// Reads the count after `x`, which does not include the first step.
    fn more_steps(&mut self) -> Result<u64, ParseError> {
        Ok(self.count()?.saturating_add(1))
    }

    fn count(&mut self) -> Result<u64, ParseError> {
        let start = self.position;
        let digits = self.take(|c| c.is_ascii_digit());
        digits
            .parse()
            .map_err(|_| self.error_from(start, "invalid repetition in series values"))
    }

    fn signed_number(&mut self) -> Result<f64, ParseError> {
        let negative = self.rest().starts_with('-');
        if self.rest().starts_with(['+', '-']) {
            self.position += 1;
        }
        let value = self.number()?;
        Ok(if negative { -value } else { value })
    }

    /// Reads a number without a sign. `x` ends it, so it cannot be hexadecimal.
    fn number(&mut self) -> Result<f64, ParseError> {
        let start = self.position;
        if self.rest().starts_with(|c: char| c.is_ascii_alphabetic()) {
            self.word();
        } else {
            let mut after_exponent = false;
            self.take(|c| {
                let belongs = c.is_ascii_digit()
                    || matches!(c, '.' | '_' | 'e' | 'E')
                    || after_exponent && matches!(c, '+' | '-');
                after_exponent = matches!(c, 'e' | 'E');
                belongs
            });
        }
        let text = self.input.get(start..self.position).unwrap_or_default();
        if text.is_empty() {
            return Err(
                self.error("unexpected text in series values, expected a number or \"stale\"")
            );
        }
        literal::number(text).map_err(|message| self.error_from(start, message))
    }

    // === text ===

    fn rest(&self) -> &'a str {
        self.input.get(self.position..).unwrap_or_default()
    }

    fn at_end(&self) -> bool {
        self.position >= self.input.len()
    }

    fn accept(&mut self, text: &str) -> bool {
        let accepted = self.rest().starts_with(text);
        if accepted {
            self.position += text.len();
        }
        accepted
    }

    fn take(&mut self, mut belongs: impl FnMut(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.position += end;
        rest.get(..end).unwrap_or_default()
    }

    fn word(&mut self) -> &'a str {
        self.take(|c| c == '_' || c.is_ascii_alphanumeric())
    }

    fn skip_space(&mut self) -> bool {
        !self
            .take(|c| matches!(c, ' ' | '\t' | '\n' | '\r'))
            .is_empty()
    }

    /// Complains of what is next.
    fn error(&self, message: impl Into<String>) -> ParseError {
        self.error_from(self.position, message)
    }

    fn error_from(&self, start: usize, message: impl Into<String>) -> ParseError {
        ParseError::new(
            self.input,
            Span {
                start,
                end: self.input.len(),
            },
            message,
        )
    }
}
