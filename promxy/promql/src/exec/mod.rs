//! Evaluation: a loop over the plan, leaves first, in which every node yields the columns of its series.
//!
//! * [`Grid`], [`Bitmap`], [`Column`], [`Series`]: times and values
//! * [`Context`]: data, limits, annotations
//! * [`Evaluator`]: the loop
//! * `selector`, `window`, `subquery`: samples to columns
//! * `binary`, `matching`, `setops`: operators
//! * `aggregate`, `topk`: aggregations
//! * `call`, `labels`, `info`: functions on columns
//! * `finish`: series that coincide, the order of results

mod aggregate;
mod binary;
mod bitmap;
mod call;
mod cancel;
mod column;
mod context;
mod count_values;
mod evaluator;
mod finish;
mod grid;
mod histogram_calls;
mod histogram_folds;
mod info;
mod label_calls;
mod matching;
mod parallel;
mod range_call;
mod range_function;
mod scalar_op;
mod selector;
mod setops;
mod smoothed;
mod sparse;
mod step_histograms;
mod topk;
mod window;

pub use cancel::CancelToken;

pub(crate) use bitmap::Bitmap;
pub(crate) use column::{Column, Sample, Series, histogram_samples};
pub(crate) use context::{Context, SampleBudget};
pub(crate) use evaluator::Evaluator;
pub(crate) use finish::result;
pub(crate) use grid::Grid;
pub(crate) use histogram_folds::HistogramFold;
pub(crate) use range_call::RangeCall;
pub(crate) use range_function::RangeFunction;
pub(crate) use sparse::SparseSeries;
pub(crate) use step_histograms::{Packing, StepHistograms};
pub(crate) use window::{Floats, RangeSamples, Window};

use crate::Text;

/// The value of a node.
#[derive(Clone, Debug)]
pub(crate) enum Evaluated {
    /// Series on the grid.
    Matrix(Vec<Series>),
    /// Series on the grid that have few values.
    Sparse(Vec<SparseSeries>),
    /// A number for every step.
    Scalar(Vec<f64>),
    String(Text),
}

impl Evaluated {
    /// Returns how many samples it counts as against the limit.
    pub(crate) fn held(&self) -> usize {
        match self {
            Self::Matrix(series) => series.iter().map(Series::held).sum(),
            Self::Sparse(series) => series.iter().map(SparseSeries::held).sum(),
            Self::Scalar(values) => values.len(),
            Self::String(_) => 0,
        }
    }
}
