//! Native and classic histograms: what they are made of, and the arithmetic that queries do with them.
//!
//! A pure module: no engine, no storage, no clock. In reading order:
//!
//! * [`Schema`], [`Span`], [`Bucket`]: where buckets lie
//! * [`FloatHistogram`]: a histogram; made with [`FloatHistogram::new`] from spans or
//!   [`FloatHistogram::from_literal`] from a test script
//! * operators on histograms: [`FloatHistogram::plus`], [`FloatHistogram::minus`], [`FloatHistogram::times`],
//!   [`FloatHistogram::divided_by`], [`FloatHistogram::keep_below`], [`FloatHistogram::keep_above`]
//! * [`HistogramSum`], [`HistogramAverage`]: compensated sums and averages, for aggregations and windows
//! * [`detect_reset`](FloatHistogram::detect_reset): counter resets
//! * [`quantile`], [`fraction`], [`FloatHistogram::variance`]: what can be estimated from a histogram
//! * [`window`]: rates and the like over the samples of a window
//! * [`classic`]: histograms that are a series per `le` label
//! * [`as_stored`]: what a storage does to hints and layouts
//! * [`Fact`], [`Facts`]: what happened on the way that the user of a query is told of
//!
//! Buckets follow Prometheus' `model/histogram`, results its `promql` package, in the order of every floating point operation.

mod arithmetic;
mod batch;
mod bounds;
mod bucket;
mod buckets;
mod bytes;
mod chunks;
pub mod classic;
mod custom;
mod display;
mod distribution;
mod facts;
mod float;
mod fraction;
mod kahan;
mod literal;
mod moments;
mod operators;
mod packed;
mod parts;
mod quantile;
mod reset;
mod runs;
mod scale;
mod sum;
mod trim;
pub mod window;
mod zero;

pub use arithmetic::{Adjusted, Incompatible};
pub(crate) use batch::Batch;
pub use bounds::Schema;
pub use bucket::Bucket;
pub use buckets::{Span, SpanError};
pub use chunks::as_stored;
pub use facts::{Fact, Facts, Operation};
pub use float::FloatHistogram;
pub use fraction::fraction;
pub use kahan::Compensated;
pub use literal::{HistogramSteps, InvalidText, StepError};
pub(crate) use packed::{PackedHistograms, Packer, Place};
pub use parts::{CUSTOM_BUCKETS_SCHEMA, HistogramParts, InvalidHistogram};
pub use quantile::quantile;
pub use sum::{HistogramAverage, HistogramSum};

pub use crate::parser::CounterResetHint;
