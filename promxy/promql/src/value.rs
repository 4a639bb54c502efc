//! Results.

use std::sync::Arc;

use crate::Text;
use crate::exec::{Column, Grid};
use crate::histogram::FloatHistogram;
use crate::labels::Labels;

/// The value of a query.
#[derive(Clone, Debug)]
pub enum Value {
    /// A number and the time of evaluation.
    Scalar {
        /// Milliseconds since 1970.
        timestamp: i64,
        /// The number.
        value: f64,
    },
    /// A text and the time of evaluation.
    String {
        /// Milliseconds since 1970.
        timestamp: i64,
        /// The text.
        value: Text,
    },
    /// One sample for each series, in the order of evaluation.
    Vector(Vec<VectorSample>),
    /// Many samples for each series, in the order of labels.
    Matrix(Vec<MatrixSeries>),
}

/// An element of an instant vector.
#[derive(Clone, Debug)]
pub struct VectorSample {
    /// The labels.
    pub labels: Labels,
    /// The time of evaluation in milliseconds since 1970.
    pub timestamp: i64,
    /// The value.
    pub value: SampleValue,
}

/// A number or a histogram.
#[derive(Clone, Debug)]
pub enum SampleValue {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// A series of a range vector or of a range query's result.
#[derive(Clone, Debug)]
pub struct MatrixSeries {
    /// The labels.
    pub labels: Labels,
    pub(crate) points: Points,
}

/// The samples of a [`MatrixSeries`].
#[derive(Clone, Debug)]
pub(crate) enum Points {
    /// Values on the steps of the query.
    Steps(Grid, Column),
    /// Samples at their own times.
    Raw {
        floats: Vec<(i64, f64)>,
        histograms: Vec<(i64, Arc<FloatHistogram>)>,
    },
}

impl MatrixSeries {
    /// Returns the numbers with their times in milliseconds since 1970.
    pub fn floats(&self) -> impl Iterator<Item = (i64, f64)> {
        let (steps, raw) = match &self.points {
            Points::Steps(grid, column) => (
                Some(
                    column
                        .floats()
                        .map(|(step, value)| (grid.time(step), value)),
                ),
                None,
            ),
            Points::Raw { floats, .. } => (None, Some(floats.iter().copied())),
        };
        steps.into_iter().flatten().chain(raw.into_iter().flatten())
    }

    /// Returns the histograms with their times in milliseconds since 1970.
    ///
    /// Those that were computed are made one after the other, since in few bytes is how they lie in memory.
    pub fn histograms(&self) -> impl Iterator<Item = (i64, Arc<FloatHistogram>)> {
        let (steps, raw) = match &self.points {
            Points::Steps(grid, column) => (
                Some(
                    column
                        .histograms
                        .iter()
                        .map(|(step, value)| (grid.time(step), value.into_owned())),
                ),
                None,
            ),
            Points::Raw { histograms, .. } => {
                let shared = histograms.iter();
                (None, Some(shared.map(|(t, value)| (*t, Arc::clone(value)))))
            }
        };
        steps.into_iter().flatten().chain(raw.into_iter().flatten())
    }
}
