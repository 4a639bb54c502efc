//! A host's hook: parts of a query whose values come from elsewhere.

use std::sync::Arc;

use crate::exec::{Bitmap, Column, Series, StepHistograms};
use crate::histogram::FloatHistogram;
use crate::labels::Labels;
use crate::parser::{Expr, NodeId};
use crate::storage::{BoxFuture, StorageError};

/// Replaces parts of a query by series that are on the step grid already, such as those that another server has computed.
///
/// Nodes are offered from the root down; what is below a replaced node is neither offered nor selected.
pub trait NodeRewriter: Send + Sync {
    /// Returns the series that take the place of an instant vector, or nothing to evaluate it as usual.
    fn rewrite<'a>(
        &'a self,
        node: RewriteNode<'a>,
    ) -> BoxFuture<'a, Result<Option<Rewritten>, StorageError>>;
}

/// A part of a query and the steps at which it will be evaluated.
#[derive(Clone, Copy, Debug)]
pub struct RewriteNode<'a> {
    /// The query.
    pub expr: &'a Expr,
    /// The part of it.
    pub id: NodeId,
    /// The first step in milliseconds since 1970. Parts of subqueries and parts that do not change have steps of their own.
    pub start: i64,
    /// The distance of steps in milliseconds.
    pub step: i64,
    /// How many steps there are.
    pub steps: usize,
}

/// What takes the place of a part of a query.
#[derive(Clone, Debug, Default)]
pub struct Rewritten {
    /// The series. No two may have the same labels.
    pub series: Vec<StepSeries>,
    /// What users should know.
    pub warnings: Vec<String>,
}

/// A series on the step grid: at every step a number, a histogram or nothing. Nothing is looked back for.
#[derive(Clone, Debug)]
pub struct StepSeries {
    labels: Labels,
    steps: usize,
    column: Column,
}

impl StepSeries {
    /// Returns a series without values for so many steps.
    pub fn new(labels: Labels, steps: usize) -> Self {
        Self {
            labels,
            steps,
            column: Column::empty(steps),
        }
    }

    /// Returns a series of numbers and histograms, of which nothing is copied.
    ///
    /// There is a number for each of `values.len()` steps, of which those count whose bit is set: bit `n % 64` of word `n / 64`.
    /// Bits beyond the steps are ignored. Histograms are in the order of steps; those at steps that have a number or that are no
    /// steps are left out.
    ///
    /// ```
    /// use promql::{StepSeries, labels::Labels};
    ///
    /// // The second of three steps has no number.
    /// let series = StepSeries::of_column(Labels::empty(), vec![1.0, 0.0, 3.0], vec![0b101], Vec::new());
    /// assert_eq!(series.steps(), 3);
    /// ```
    pub fn of_column(
        labels: Labels,
        values: Vec<f64>,
        present: Vec<u64>,
        mut histograms: Vec<(u32, Arc<FloatHistogram>)>,
    ) -> Self {
        let steps = values.len();
        let present = Bitmap::of_words(present, steps);
        if !histograms.is_empty() {
            histograms.sort_by_key(|(step, _)| *step);
            histograms.dedup_by_key(|(step, _)| *step);
            histograms.retain(|(step, _)| (*step as usize) < steps && !present.has(*step as usize));
        }
        let column = Column {
            values,
            present,
            histograms: StepHistograms::new(histograms),
        };
        Self {
            labels,
            steps,
            column,
        }
    }

    /// Returns how many steps there are.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Sets the number at a step; steps beyond the last are ignored.
    pub fn set(&mut self, step: usize, value: f64) {
        if step < self.steps {
            self.column.set_float(self.steps, step, value);
        }
    }

    /// Appends a histogram at a step after those that have one; other steps are ignored.
    pub fn push_histogram(&mut self, step: usize, histogram: Arc<FloatHistogram>) {
        let last = self.column.histograms.steps().next_back();
        let is_next = last.is_none_or(|last| last < step);
        if step < self.steps && is_next && !self.column.present.has(step) {
            self.column.push_histogram(step, histogram);
        }
    }

    pub(crate) fn into_series(self) -> Series {
        Series {
            labels: self.labels,
            drop_name: false,
            column: self.column,
        }
    }
}
