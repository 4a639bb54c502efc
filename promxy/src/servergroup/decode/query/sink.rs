//! What becomes of samples: places on a grid, or lists with their times.

use std::marker::PhantomData;

use crate::{
    series::{Column, FromShown, Samples},
    servergroup::time_range::Grid,
};

/// Where samples go.
pub trait Sink {
    /// What becomes of a series.
    type Data;
    /// What becomes of a histogram.
    type Histogram: FromShown;

    /// Makes room for a series.
    fn start(&self) -> Self::Data;

    /// Returns for how many samples there is room in every series, however few it has.
    fn room(&self) -> usize;

    /// Takes a number; the time is in milliseconds since 1970.
    fn float(&mut self, data: &mut Self::Data, time: i64, value: f64);

    /// Takes a histogram.
    fn histogram(&mut self, data: &mut Self::Data, time: i64, histogram: Self::Histogram);

    /// Returns how many samples had no place, to set it back when a series is read again.
    fn off_grid(&mut self) -> &mut usize;
}

/// Samples go to their places on a grid.
#[derive(Debug)]
pub struct OnGrid<H> {
    grid: Grid,
    /// How many places the grid has.
    length: usize,
    /// What is added to the answer's times.
    shift_ms: i64,
    off_grid: usize,
    histograms: PhantomData<fn() -> H>,
}

impl<H> OnGrid<H> {
    /// Makes columns for a grid; `shift_ms` is added to the answer's times.
    pub fn new(grid: Grid, shift_ms: i64) -> Self {
        Self {
            grid,
            length: grid.len(),
            shift_ms,
            off_grid: 0,
            histograms: PhantomData,
        }
    }

    fn place(&mut self, time: i64) -> Option<usize> {
        // The answer for one time is the answer, however the server rounds that time.
        if self.grid.is_instant() {
            return Some(0);
        }
        let place = self.grid.index(time.saturating_add(self.shift_ms));
        let place = place.filter(|place| *place < self.length);
        self.off_grid += usize::from(place.is_none());
        place
    }
}

impl<H: FromShown> Sink for OnGrid<H> {
    type Data = Column<H>;
    type Histogram = H;

    fn start(&self) -> Self::Data {
        Column::empty(self.length)
    }

    fn room(&self) -> usize {
        self.length
    }

    fn float(&mut self, data: &mut Self::Data, time: i64, value: f64) {
        if let Some(place) = self.place(time) {
            data.set(place, value);
        }
    }

    fn histogram(&mut self, data: &mut Self::Data, time: i64, histogram: H) {
        if let Some(place) = self.place(time) {
            data.set_histogram(place, histogram);
        }
    }

    fn off_grid(&mut self) -> &mut usize {
        &mut self.off_grid
    }
}

/// Samples keep their times.
#[derive(Debug)]
pub struct OwnTimes<H> {
    off_grid: usize,
    histograms: PhantomData<fn() -> H>,
}

impl<H> OwnTimes<H> {
    /// Makes lists of samples.
    #[expect(clippy::new_without_default, reason = "it is no setting")]
    pub fn new() -> Self {
        Self {
            off_grid: 0,
            histograms: PhantomData,
        }
    }
}

impl<H: FromShown> Sink for OwnTimes<H> {
    type Data = Samples<H>;
    type Histogram = H;

    fn start(&self) -> Self::Data {
        Samples::default()
    }

    fn room(&self) -> usize {
        0
    }

    fn float(&mut self, data: &mut Self::Data, time: i64, value: f64) {
        data.floats.push((time, value));
    }

    fn histogram(&mut self, data: &mut Self::Data, time: i64, histogram: H) {
        data.histograms.push((time, histogram));
    }

    fn off_grid(&mut self) -> &mut usize {
        &mut self.off_grid
    }
}
