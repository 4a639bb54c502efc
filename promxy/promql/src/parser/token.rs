//! Tokens, the words of the language, and how an error names a token.
//!
//! Follows the item types, the keyword table and the item descriptions of Prometheus' lexer; pinned by the `unexpected ...`
//! errors of `tests/parse_golden.rs`.

use crate::format;
use crate::parser::{AggregateOp, BinaryOp, Compat, Span};

/// A token: its kind and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    End,
    Comma,
    Colon,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    LeftParen,
    RightParen,
    /// `=`, which only matchers use.
    Assign,
    /// `=~`, only between braces.
    MatchRegex,
    /// `!~`, only between braces.
    MatchNotRegex,
    At,
    Binary(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
    Preprocessor(Preprocessor),
    Identifier,
    MetricIdentifier,
    String,
    Number,
    Duration,
}

/// Words that modify an operator, an aggregation or a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyword {
    Anchored,
    Bool,
    By,
    Fill,
    FillLeft,
    FillRight,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Smoothed,
    Without,
}

/// Words that stand for a value known when the query runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preprocessor {
    Start,
    End,
    Step,
    Range,
    MinOf,
    MaxOf,
}

impl TokenKind {
    /// Returns the kind of a word outside braces; words are the same in upper and lower case.
    pub(crate) fn of_word(word: &str, compat: Compat) -> Self {
        // No word is longer, so a hostile identifier is not copied.
        const LONGEST: usize = "count_values".len();
        let plain = if word.contains(':') {
            Self::MetricIdentifier
        } else {
            Self::Identifier
        };
        if word.len() > LONGEST {
            return plain;
        }
        let word = word.to_ascii_lowercase();
        if let Some(op) = BinaryOp::from_word(&word) {
            return Self::Binary(op);
        }
        if let Some(op) = AggregateOp::from_word(&word) {
            return Self::Aggregate(op);
        }
        match word.as_str() {
            "inf" | "nan" => return Self::Number,
            "bool" => return Self::Keyword(Keyword::Bool),
            "by" => return Self::Keyword(Keyword::By),
            "group_left" => return Self::Keyword(Keyword::GroupLeft),
            "group_right" => return Self::Keyword(Keyword::GroupRight),
            "ignoring" => return Self::Keyword(Keyword::Ignoring),
            "offset" => return Self::Keyword(Keyword::Offset),
            "on" => return Self::Keyword(Keyword::On),
            "without" => return Self::Keyword(Keyword::Without),
            "start" => return Self::Preprocessor(Preprocessor::Start),
            "end" => return Self::Preprocessor(Preprocessor::End),
            _ => {}
        }
        if compat == Compat::V3_5 {
            return plain;
        }
        match word.as_str() {
            "anchored" => Self::Keyword(Keyword::Anchored),
            "smoothed" => Self::Keyword(Keyword::Smoothed),
            "fill" => Self::Keyword(Keyword::Fill),
            "fill_left" => Self::Keyword(Keyword::FillLeft),
            "fill_right" => Self::Keyword(Keyword::FillRight),
            other => Self::of_duration_word(other).unwrap_or(plain),
        }
    }

    /// Returns the kind of a lower-case word that may stand in a duration expression.
    pub(crate) fn of_duration_word(word: &str) -> Option<Self> {
        Some(Self::Preprocessor(match word {
            "step" => Preprocessor::Step,
            "range" => Preprocessor::Range,
            "min_of" => Preprocessor::MinOf,
            "max_of" => Preprocessor::MaxOf,
            _ => return None,
        }))
    }

    /// Whether the token names a metric where an operand is expected. Most keywords do.
    pub(crate) fn is_metric_name(self) -> bool {
        match self {
            Self::Identifier
            | Self::MetricIdentifier
            | Self::Aggregate(_)
            | Self::Preprocessor(_) => true,
            Self::Binary(op) => op.is_set_operator(),
            Self::Keyword(keyword) => !matches!(
                keyword,
                Keyword::Bool
                    | Keyword::GroupLeft
                    | Keyword::GroupRight
                    | Keyword::Ignoring
                    | Keyword::On
            ),
            _ => false,
        }
    }

    /// Whether the token names a label in a list of labels. All keywords but `without` do.
    pub(crate) fn is_label_name(self) -> bool {
        match self {
            Self::Identifier
            | Self::MetricIdentifier
            | Self::Aggregate(_)
            | Self::Preprocessor(_) => true,
            Self::Binary(op) => op.is_set_operator() || op == BinaryOp::Atan2,
            Self::Keyword(keyword) => keyword != Keyword::Without,
            _ => false,
        }
    }

    /// Whether an expression may begin with the token.
    pub(crate) fn starts_expression(self) -> bool {
        self.is_metric_name()
            || matches!(
                self,
                Self::LeftParen
                    | Self::LeftBrace
                    | Self::Number
                    | Self::Duration
                    | Self::String
                    | Self::Binary(BinaryOp::Add | BinaryOp::Sub)
            )
    }
}

/// Returns the words with which an error names a token.
pub(crate) fn describe(kind: TokenKind, text: &str, compat: Compat) -> String {
    match kind {
        TokenKind::End => "end of input".to_owned(),
        TokenKind::Identifier => format!("identifier {}", format::quote(text.as_bytes())),
        TokenKind::MetricIdentifier => {
            format!("metric identifier {}", format::quote(text.as_bytes()))
        }
        TokenKind::String => format!("string {}", quote_cut(text)),
        TokenKind::Number => format!("number {}", quote_cut(text)),
        TokenKind::Duration => format!("duration {}", quote_cut(text)),
        TokenKind::Keyword(_) => format!("<{text}>"),
        TokenKind::Aggregate(_) => format!("<aggr:{text}>"),
        // 3.5 has no name for this operator and shows the number of its token.
        TokenKind::At if compat == Compat::V3_5 => "\"<Item 57400>\" <op:@>".to_owned(),
        TokenKind::At | TokenKind::Binary(_) | TokenKind::MatchRegex | TokenKind::MatchNotRegex => {
            format!("<op:{text}>")
        }
        _ => quote_cut(text),
    }
}

/// Quotes a text; one of more than ten bytes is cut after its first ten characters.
fn quote_cut(text: &str) -> String {
    const LONGEST: usize = 10;
    if text.len() <= LONGEST {
        return format::quote(text.as_bytes());
    }
    let cut: String = text.chars().take(LONGEST).collect();
    format!("{}...", format::quote(cut.as_bytes()))
}
