//! Prometheus' query language as a library.
//!
//! In reading order:
//!
//! * [`Engine`], [`Query`], [`Outcome`]: from text to result; [`EngineOptions`], [`CancelToken`]
//! * [`storage`]: where series come from, for hosts to implement; [`NodeRewriter`]: parts of a query from elsewhere
//! * [`value`], [`annotations`], [`QueryError`]: results, remarks on them, and why there are none
//! * [`labels`], [`histogram`]: what series and samples are made of; native and classic histograms
//! * [`parser`]: from text to a checked syntax tree and back, with byte positions and Prometheus' error texts
//! * [`format`](mod@format): numbers and quoted strings as Go prints them
//! * [`gomath`]: the functions on floats as Go computes them, bit for bit
//! * [`SignedDuration`]: a duration in nanoseconds, read and written as `1h30m`
//! * [`Text`]: string values, which need not be UTF-8
//!
//! ```
//! use promql::parser::{ParserOptions, parse};
//!
//! // The engine's example is in the README.
//! let expr = parse("sum BY(job)(rate(http_requests_total[5m]))", &ParserOptions::default())?;
//! assert_eq!(expr.to_string(), "sum by (job) (rate(http_requests_total[5m]))");
//!
//! let error = parse("sum(rate(x[5m])", &ParserOptions::default()).unwrap_err();
//! assert_eq!(error.to_string(), "1:16: parse error: unclosed left parenthesis");
//! # Ok::<(), promql::parser::ParseError>(())
//! ```

pub mod annotations;
mod duration;
mod engine;
mod error;
mod exec;
pub mod format;
mod func;
pub mod gomath;
pub mod histogram;
mod join;
pub mod labels;
pub mod parser;
mod plan;
mod rewrite;
mod stats;
pub mod storage;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
pub mod value;

pub use duration::{DurationError, SignedDuration};
pub use engine::{Engine, EngineOptions, Outcome, Prepared, Query};
pub use error::{QueryError, Stage};
pub use exec::CancelToken;
pub use rewrite::{NodeRewriter, RewriteNode, Rewritten, StepSeries};
pub use stats::SampleStats;
pub use text::Text;

/// The README's example, run as a test.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../README.md")]
struct Readme;
