//! Merging two replicas of 4,000 series by 240 steps, 960,000 samples: whole, with holes, and raw.

mod answers;

use answers::{STEP, grid, labels};
use divan::Bencher;
use promxy::{
    merge::{Options, sets},
    series::{Column, Histogram, Samples, Series},
};

fn main() {
    divan::main();
}

const SERIES: usize = 4000;
const STEPS: usize = 240;
const OPTIONS: Options = Options {
    buffer_ms: 10_000,
    dynamic: false,
    prefer_max: false,
};

fn columns(hole: usize) -> Vec<Series<Column<Histogram>>> {
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

fn raw(offset: i64) -> Vec<Series<Samples<Histogram>>> {
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

#[divan::bench(args = [0, 9])]
fn two_replicas_of_columns(bencher: Bencher<'_, '_>, hole: usize) {
    let members = || vec![columns(hole), columns(0)];
    bencher
        .with_inputs(members)
        .bench_local_values(|members| sets(members, OPTIONS, &grid(STEPS)));
}

#[divan::bench]
fn two_replicas_raw(bencher: Bencher<'_, '_>) {
    bencher
        .with_inputs(|| vec![raw(0), raw(3000)])
        .bench_local_values(|members| sets(members, OPTIONS, &()));
}
