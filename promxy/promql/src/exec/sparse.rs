//! Series that have a number at few of the steps, each.

use super::column::least_held;
use super::{Column, Grid, Series};
use crate::labels::Labels;
use crate::value::{MatrixSeries, Points};

/// A series with memory for the steps at which it has a number, and no others.
#[derive(Clone, Debug)]
pub(crate) struct SparseSeries {
    pub(crate) labels: Labels,
    /// Steps, ascending, and numbers.
    pub(crate) values: Vec<(u32, f64)>,
    /// How many steps the grid has.
    pub(crate) steps: usize,
}

impl SparseSeries {
    /// Returns how many samples it counts as against the limit: as many as the [column](Self::into_series) that it may become.
    pub(crate) fn held(&self) -> usize {
        self.values.len().max(least_held(self.steps)) + self.labels.held()
    }

    /// Makes a column of it, which has room for every step.
    pub(crate) fn into_series(self) -> Series {
        let mut column = Column::empty(self.steps);
        for (step, value) in self.values {
            column.set_float(self.steps, step as usize, value);
        }
        Series {
            labels: self.labels,
            drop_name: false,
            column,
        }
    }

    /// Makes a result of it.
    pub(crate) fn into_result(self, grid: Grid) -> MatrixSeries {
        let values = self.values.iter();
        let floats = values.map(|(step, value)| (grid.time(*step as usize), *value));
        MatrixSeries {
            labels: self.labels,
            points: Points::Raw {
                floats: floats.collect(),
                histograms: Vec::new(),
            },
        }
    }
}
