//! The answers of two replicas to one range query, 4,000 series of 240 steps each: 960,000 samples inflated, read as they come,
//! merged, and written again.

mod answers;

use std::{io::Read as _, sync::Arc};

use answers::grid;
use divan::{Bencher, counter::BytesCount};
use flate2::{
    Compression,
    read::{GzDecoder, GzEncoder},
};
use promxy::{
    api::write_json,
    labels::Labels,
    merge::{Options, sets},
    series::{Column, Histogram, Series},
    servergroup::decode::{OnGrid, Shape, Stream},
};

fn main() {
    divan::main();
}

const SERIES: usize = 4000;
const STEPS: usize = 240;

fn answer(seed: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    answers::matrix(SERIES, STEPS, || f64::from(random.u32(..1_000_000)))
}

fn read(body: &[u8]) -> Vec<Series<Column<Histogram>>> {
    let added: Labels = [("az", "a")].into_iter().collect();
    let shape = Shape::new(added, Arc::from([]));
    let mut stream = Stream::new(OnGrid::new(grid(STEPS), 0), shape, usize::MAX);
    for piece in body.chunks(64 << 10) {
        stream.push(piece).expect("it is an answer");
    }
    stream.finish().expect("it is a whole answer").0.series
}

#[divan::bench(sample_count = 10)]
fn inflate_both(bencher: Bencher<'_, '_>) {
    let bodies = [answer(1), answer(2)];
    let bytes = BytesCount::new(bodies.iter().map(String::len).sum::<usize>());
    let packed = bodies.map(|body| {
        let mut packed = Vec::new();
        let mut packing = GzEncoder::new(body.as_bytes(), Compression::default());
        packing.read_to_end(&mut packed).expect("it is in memory");
        packed
    });
    bencher.counter(bytes).bench_local(|| {
        let mut room = vec![0; 64 << 10];
        for packed in &packed {
            let mut inflating = GzDecoder::new(packed.as_slice());
            while inflating.read(&mut room).expect("it is in memory") > 0 {}
        }
    });
}

#[divan::bench(sample_count = 10)]
fn read_and_merge(bencher: Bencher<'_, '_>) {
    let bodies = [answer(1), answer(2)];
    let bytes = BytesCount::new(bodies.iter().map(String::len).sum::<usize>());
    bencher.counter(bytes).bench_local(|| {
        let members = bodies.iter().map(|body| read(body.as_bytes())).collect();
        let options = Options {
            buffer_ms: 10_000,
            dynamic: false,
            prefer_max: false,
        };
        sets(members, options, &grid(STEPS))
    });
}

#[divan::bench(sample_count = 10)]
fn write(bencher: Bencher<'_, '_>) {
    let series = read(answer(1).as_bytes());
    let bytes = BytesCount::new(write_json::matrix_of_columns(&series, grid(STEPS)).len());
    bencher
        .counter(bytes)
        .bench_local(|| write_json::matrix_of_columns(&series, grid(STEPS)));
}
