//! From query text to a checked syntax tree, and back to text.
//!
//! In reading order:
//!
//! * [`parse`], [`parse_selector`] and [`ParserOptions`]: the entry points and their switches
//! * `token`, `lex`: text to tokens
//! * `parse`: tokens to a tree; grammar errors with the words of Prometheus' generated parser
//! * `functions`, `check`: what may be called and combined
//! * [`Expr`]: the tree; `printer`, `pretty`, `ast_json`: the tree as text
//! * [`parse_series`]: series as test scripts describe them
//!
//! **Invariant: nothing in here recurses.** The tree is a flat list in which children come before their parents, the parser
//! keeps its open constructs on a heap stack, and every walk is a loop. There is thus no nesting limit: a million open
//! parentheses cost memory in proportion to the text, and dropping the result frees a handful of lists.

mod ast;
mod ast_json;
mod check;
mod errors;
mod functions;
mod lex;
mod literal;
mod parse;
mod pretty;
mod printer;
mod series;
mod token;

pub(crate) use ast::node_index;
pub use ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, DurationExpr, DurationId,
    DurationKind, DurationNode, DurationOp, DurationValue, Expr, ExtendedRange, Grouping, MatchOp,
    Matcher, MatrixSelector, Node, NodeId, NodeKind, NumberLiteral, Sign, Span, Subquery,
    TimeShift, ValueType, VectorMatching, VectorSelector,
};
pub use errors::ParseError;
pub use functions::{Arity, Function, function, functions};
pub use series::{CounterResetHint, HistogramLiteral, SeriesDescription, SeriesItem, parse_series};

/// Which Prometheus' language is meant. Everything not said here is the same in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compat {
    /// Version 3.5, the long-term release: no trim operators, no `fill`, `anchored`, `smoothed`, `step()` and the like.
    V3_5,
    /// Version 3.14.
    V3_14,
}

/// What a query may contain.
///
/// The default is what a Prometheus 3.14 server accepts as it starts without flags.
///
/// ```
/// use promql::parser::{ParserOptions, parse};
///
/// let stock = ParserOptions::default();
/// assert!(parse("limitk(2, up)", &stock).is_err());
/// assert!(parse("limitk(2, up)", &ParserOptions { experimental_functions: true, ..stock }).is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one independent switch for each of Prometheus' feature flags"
)]
pub struct ParserOptions {
    /// The version whose language, error texts and printing apply.
    pub compat: Compat,
    /// Functions and aggregations that Prometheus calls experimental.
    pub experimental_functions: bool,
    /// Arithmetic in place of durations: `rate(x[2 * step()])`.
    pub duration_expressions: bool,
    /// The modifiers `anchored` and `smoothed` (3.14).
    pub extended_range_selectors: bool,
    /// The modifiers `fill`, `fill_left` and `fill_right` of binary operators (3.14).
    pub fill_modifiers: bool,
}

impl ParserOptions {
    /// What a Prometheus 3.14 server accepts as it starts without flags.
    pub const fn v3_14() -> Self {
        Self {
            compat: Compat::V3_14,
            experimental_functions: false,
            duration_expressions: true,
            extended_range_selectors: false,
            fill_modifiers: false,
        }
    }

    /// What a Prometheus 3.5 server accepts as it starts without flags.
    pub const fn v3_5() -> Self {
        Self {
            compat: Compat::V3_5,
            duration_expressions: false,
            ..Self::v3_14()
        }
    }

    /// The same version with every feature switched on.
    #[must_use]
    pub const fn with_all_features(self) -> Self {
        Self {
            compat: self.compat,
            experimental_functions: true,
            duration_expressions: true,
            extended_range_selectors: true,
            fill_modifiers: true,
        }
    }
}

impl Default for ParserOptions {
    fn default() -> Self {
        Self::v3_14()
    }
}

/// Parses a query and checks its types.
///
/// The error is the first one that Prometheus would report; it stops there, where the reference would collect more.
///
/// ```
/// use promql::parser::{NodeKind, ParserOptions, ValueType, parse};
///
/// let expr = parse("rate(errors_total[5m]) / 2", &ParserOptions::default())?;
/// let root = expr.root();
/// assert_eq!(root.value_type, ValueType::Vector);
/// let NodeKind::Binary(division) = &root.kind else { panic!("a quotient") };
/// let rate = &expr[division.lhs];
/// assert_eq!((rate.span.start, rate.span.end), (0, 22));
/// # Ok::<(), promql::parser::ParseError>(())
/// ```
pub fn parse(input: &str, options: &ParserOptions) -> Result<Expr, ParseError> {
    let mut expr = parse::expression(input, *options)?;
    check::check(&mut expr, input)?;
    Ok(expr)
}

/// Parses a selector on its own, as the API's `match[]` parameters have it, and returns its matchers.
///
/// A selector of everything is not an error here.
///
/// ```
/// use promql::parser::{ParserOptions, parse_selector};
///
/// let matchers = parse_selector(r#"up{job=~"api|web"}"#, &ParserOptions::default())?;
/// let texts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
/// assert_eq!(texts, [r#"job=~"api|web""#, r#"__name__="up""#]);
///
/// let error = parse_selector("up[5m]", &ParserOptions::default()).unwrap_err();
/// assert_eq!(error.to_string(), r#"1:3: parse error: unexpected "[""#);
/// # Ok::<(), promql::parser::ParseError>(())
/// ```
pub fn parse_selector(input: &str, options: &ParserOptions) -> Result<Vec<Matcher>, ParseError> {
    parse::selector(input, *options)
}
