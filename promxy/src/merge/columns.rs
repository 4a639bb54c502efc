//! Two columns on one grid as one.
//!
//! The rule is that of [`super::samples`], with the grid's times. Where the base has a number everywhere, which is the usual case, it
//! is the answer; with no buffer, holes are filled word by word of the bitmap. Only a base with holes and a buffer takes the long way.

use super::{Mergeable, Options};
use crate::{
    series::{Column, Samples},
    servergroup::time_range::Grid,
};

impl<H: Clone> Mergeable for Column<H> {
    type Context = Grid;

    fn merge(self, later: Self, options: Options, grid: &Grid) -> Self {
        let has_histograms = !self.histograms().is_empty() || !later.histograms().is_empty();
        if has_histograms || options.prefer_max {
            return by_samples(&self, &later, options, grid);
        }
        let (mut base, other) = if later.count() > self.count() {
            (later, self)
        } else {
            (self, later)
        };
        if base.is_full() {
            return base;
        }
        if options.buffer_ms == 0 && !options.dynamic {
            base.fill_from(&other);
            return base;
        }
        by_samples(&base, &other, options, grid)
    }
}

/// Returns both numbers and histograms of a column at their times.
fn samples<H: Clone>(column: &Column<H>, grid: &Grid) -> Samples<H> {
    let histograms = column.histograms().iter();
    Samples {
        floats: column
            .iter()
            .map(|(place, value)| (grid.time(place), value))
            .collect(),
        histograms: histograms
            .map(|(place, h)| (grid.time(*place as usize), h.clone()))
            .collect(),
    }
}

fn by_samples<H: Clone>(a: &Column<H>, b: &Column<H>, options: Options, grid: &Grid) -> Column<H> {
    let length = a.len();
    let merged = samples(a, grid).merge(samples(b, grid), options, &());
    let mut column = Column::empty(length);
    for (time, histogram) in merged.histograms {
        if let Some(place) = grid.index(time).filter(|place| *place < length) {
            column.set_histogram(place, histogram);
        }
    }
    for (time, value) in merged.floats {
        if let Some(place) = grid.index(time).filter(|place| *place < length) {
            column.set(place, value);
        }
    }
    column
}

/// Takes, place by place, the number of the replica whose range function saw more samples; of equals, the first's.
///
/// `seen` and `later_seen` are the answers to `count_over_time` with the same selector and grid. What only one replica has is
/// taken. For groups with `coverage_aware`: a function over a range that one replica has a hole in is then not the answer.
#[must_use]
pub fn covered<H: Clone>(
    first: Column<H>,
    seen: &Column<H>,
    later: &Column<H>,
    later_seen: &Column<H>,
) -> Column<H> {
    let mut taken = first;
    for (place, value) in later.iter().filter(|(place, _)| *place < seen.len()) {
        let (own, others) = (
            seen.get(place).unwrap_or(0.0),
            later_seen.get(place).unwrap_or(0.0),
        );
        if taken.get(place).is_none() || others > own {
            taken.set(place, value);
        }
    }
    taken
}
