//! Merging two replicas of 4000 series by 240 steps, as the 960,000 samples: whole, with holes, and raw.

use divan::Bencher;
use promxy::{
    labels::Labels,
    merge::{Options, sets},
    series::{Column, Histogram, Samples, Series},
    servergroup::time_range::Grid,
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

fn labels(number: usize) -> Labels {
    let instance = format!("10.0.{}.{}:9090", number / 250, number % 250);
    [
        ("__name__", "up"),
        ("instance", &instance),
        ("job", "prometheus"),
    ]
    .into_iter()
    .collect()
}

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
            .map(|step| (step * 15_000 + offset, step as f64))
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

fn grid() -> Grid {
    Grid {
        start: 0,
        end: (STEPS as i64 - 1) * 15_000,
        step: 15_000,
    }
}

#[divan::bench(args = [0, 9])]
fn two_replicas_of_columns(bencher: Bencher<'_, '_>, hole: usize) {
    let members = || vec![columns(hole), columns(0)];
    bencher
        .with_inputs(members)
        .bench_local_values(|members| sets(members, OPTIONS, &grid()));
}

#[divan::bench]
fn two_replicas_raw(bencher: Bencher<'_, '_>) {
    bencher
        .with_inputs(|| vec![raw(0), raw(3000)])
        .bench_local_values(|members| sets(members, OPTIONS, &()));
}
