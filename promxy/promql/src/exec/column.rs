//! The values of one series over a grid.

use std::sync::Arc;

use super::{Bitmap, StepHistograms};
use crate::histogram::FloatHistogram;
use crate::labels::Labels;

/// Numbers in one place for every step, which steps have one, and histograms at the steps that have those.
///
/// Where there is no number, `values` holds anything, so that loops need not ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct Column {
    pub(crate) values: Vec<f64>,
    pub(crate) present: Bitmap,
    /// At none of the steps in `present`.
    pub(crate) histograms: StepHistograms,
}

/// A value at a step.
#[derive(Clone, Debug)]
pub(crate) enum Sample {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Column {
    /// Returns a column without values. Memory for numbers is taken when the first one comes.
    pub(crate) fn empty(steps: usize) -> Self {
        Self {
            values: Vec::new(),
            present: Bitmap::none(steps),
            histograms: StepHistograms::default(),
        }
    }

    /// Returns a column with a number at every step.
    pub(crate) fn dense(values: Vec<f64>) -> Self {
        Self {
            present: Bitmap::all(values.len()),
            values,
            histograms: StepHistograms::default(),
        }
    }

    /// Puts a number where there is none. `steps` is the length of the grid.
    pub(crate) fn set_float(&mut self, steps: usize, step: usize, value: f64) {
        if self.values.is_empty() {
            self.values = vec![0.0; steps];
        }
        self.values[step] = value;
        self.present.insert(step);
    }

    /// Appends a histogram, at a step after all that there are.
    pub(crate) fn push_histogram(&mut self, step: usize, histogram: Arc<FloatHistogram>) {
        self.histograms.push(step, histogram);
    }

    pub(crate) fn push(&mut self, steps: usize, step: usize, sample: Sample) {
        match sample {
            Sample::Float(value) => self.set_float(steps, step, value),
            Sample::Histogram(histogram) => self.push_histogram(step, histogram),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.histograms.is_empty() && self.present.is_empty()
    }

    /// Returns the number at a step.
    pub(crate) fn float(&self, step: usize) -> Option<f64> {
        self.present.has(step).then(|| self.values[step])
    }

    /// Returns what there is at a step.
    pub(crate) fn sample(&self, step: usize) -> Option<Sample> {
        match self.float(step) {
            Some(value) => Some(Sample::Float(value)),
            None => self.histograms.at(step).map(Sample::Histogram),
        }
    }

    /// Returns what there is at steps that ascend from call to call.
    pub(crate) fn in_order(&self) -> impl FnMut(usize) -> Option<Sample> {
        let mut histogram = self.histograms.in_order();
        move |step| match self.float(step) {
            Some(value) => Some(Sample::Float(value)),
            None => histogram(step).map(Sample::Histogram),
        }
    }

    /// Returns the numbers and their steps.
    pub(crate) fn floats(&self) -> impl Iterator<Item = (usize, f64)> {
        self.present.iter().map(|step| (step, self.values[step]))
    }

    /// Returns the steps that have a value of either kind.
    pub(crate) fn steps(&self) -> Bitmap {
        let mut steps = self.present.clone();
        for step in self.histograms.steps() {
            steps.insert(step);
        }
        steps
    }

    /// Keeps only the values at some steps.
    pub(crate) fn retain_steps(&mut self, steps: &Bitmap) {
        self.present = self.present.and(steps);
        self.histograms.retain(|step| steps.has(step));
    }

    /// Takes over the values of another column. Fails if both have one at the same step.
    pub(crate) fn absorb(&mut self, other: Self) -> Result<(), StepTaken> {
        if self.steps().intersects(&other.steps()) {
            return Err(StepTaken);
        }
        if self.values.is_empty() {
            self.values = other.values;
        } else {
            for (step, value) in other.floats() {
                self.values[step] = value;
            }
        }
        self.present.or_with(&other.present);
        self.histograms.absorb(other.histograms);
        Ok(())
    }

    /// Repeats the only step of the column over so many steps.
    pub(crate) fn repeated(self, steps: usize) -> Self {
        if let Some(value) = self.float(0) {
            return Self::dense(vec![value; steps]);
        }
        let mut column = Self::empty(steps);
        if let Some((_, histogram)) = self.histograms.iter().next() {
            let histogram = histogram.into_owned();
            let repeated = (0..steps as u32).map(|step| (step, Arc::clone(&histogram)));
            column.histograms = StepHistograms::new(repeated.collect());
        }
        column
    }

    /// Returns how many samples it counts as: histograms by their size.
    pub(crate) fn samples(&self) -> usize {
        self.present.count() + self.histograms.samples()
    }

    /// Returns how many samples it counts as against the limit: all that it has, and for its places if it has few.
    pub(crate) fn held(&self) -> usize {
        self.samples().max(least_held(self.values.len()))
    }
}

/// How many empty places for numbers count as a sample. A column has a place of eight bytes for every step, so that a million
/// samples of the limit are at most 128 MB of places; the reference makes room of 16 bytes for every step of a series, and does
/// not count it.
const PLACES_PER_SAMPLE: usize = 16;

/// How many samples a column of so many steps counts as at least, once it has a number.
pub(crate) fn least_held(steps: usize) -> usize {
    steps / PLACES_PER_SAMPLE
}

/// How many samples a histogram counts as.
pub(crate) fn histogram_samples(histogram: &FloatHistogram) -> usize {
    histogram.sample_equivalents()
}

/// Two values came for one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepTaken;

/// A series on a grid.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    /// Whether the metadata labels go when the query is done, if they have not gone already.
    pub(crate) drop_name: bool,
    pub(crate) column: Column,
}

impl Series {
    /// Returns how many samples it counts as against the limit.
    pub(crate) fn held(&self) -> usize {
        self.column.held() + self.labels.held()
    }
}
