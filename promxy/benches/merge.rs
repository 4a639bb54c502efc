//! Merging two replicas of 4,000 series by 240 steps, 960,000 samples each: whole, with holes, and raw.

mod answers;

use answers::{STEP, grid, labels};
use divan::{Bencher, counter::ItemsCount};
use promxy::{
    merge::{Options, sets},
    series::{Column, Native, Samples, Series},
};

fn main() {
    divan::main();
}

const SERIES: usize = 4000;
const STEPS: usize = 240;
/// Those of both.
const SAMPLES: usize = 2 * SERIES * STEPS;
const OPTIONS: Options = Options {
    buffer_ms: 10_000,
    dynamic: false,
    prefer_max: false,
};

fn columns(hole: usize) -> Vec<Series<Column<Native>>> {
    let series = |number: usize| {
        let mut data = Column::empty(STEPS);
        for place in (0..STEPS).filter(|place| hole == 0 || place % hole != 1) {
            data.set(place, place as f64);
        }
        let labels = labels(number);
        Series { labels, data }
    };
    (0..SERIES).map(series).collect()
}

fn raw(offset: i64) -> Vec<Series<Samples<Native>>> {
    let series = |number: usize| {
        let floats = (0..STEPS as i64)
            .map(|step| (step * STEP + offset, step as f64))
            .collect();
        let data = Samples {
            floats,
            histograms: Vec::new(),
        };
        let labels = labels(number);
        Series { labels, data }
    };
    (0..SERIES).map(series).collect()
}

/// Whole, or with every ninth sample missing in the first.
#[divan::bench(args = [0, 9])]
fn two_replicas_of_columns(bencher: Bencher<'_, '_>, hole: usize) {
    let members = || vec![columns(hole), columns(0)];
    bencher
        .counter(ItemsCount::new(SAMPLES))
        .with_inputs(members)
        .bench_local_values(|members| sets(members, OPTIONS, &grid(STEPS)));
}

/// The second's samples are three seconds later.
#[divan::bench]
fn two_replicas_raw(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(SAMPLES))
        .with_inputs(|| vec![raw(0), raw(3000)])
        .bench_local_values(|members| sets(members, OPTIONS, &()));
}
