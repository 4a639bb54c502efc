//! The answers of two replicas to one range query, 4,000 series of 240 steps each: 960,000 samples of each inflated, read as they
//! come and merged, and written again in pieces.

mod answers;

use std::{hint::black_box, io::Read as _, sync::Arc};

use answers::{START, STEP, grid, labels};
use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use flate2::{
    Compression,
    read::{GzDecoder, GzEncoder},
};
use promql::{
    CancelToken, Engine, EngineOptions,
    parser::ParserOptions,
    storage::{Samples, SeriesData},
    testing::{MemoryStorage, block_on},
    value::Value,
};
use promxy::{
    api::pieces::Pieces,
    labels::Labels,
    merge::{Options, sets},
    series::{Column, Native, Series},
    servergroup::decode::{Annotations, OnGrid, Shape, Stream},
};

fn main() {
    divan::main();
}

const SERIES: usize = 4000;
const STEPS: usize = 240;
const SAMPLES: usize = SERIES * STEPS;

/// Integers, as counters have them.
fn counts(seed: u64) -> impl FnMut() -> f64 {
    let mut random = fastrand::Rng::with_seed(seed);
    move || f64::from(random.u32(..1_000_000))
}

/// What the two answer.
fn bodies() -> [String; 2] {
    [1, 2].map(|seed| answers::matrix(SERIES, STEPS, counts(seed)))
}

fn length(bodies: &[String]) -> BytesCount {
    BytesCount::new(bodies.iter().map(String::len).sum::<usize>())
}

fn read(body: &[u8]) -> Vec<Series<Column<Native>>> {
    let added: Labels = [("az", "a")].into_iter().collect();
    let shape = Shape::new(added, Arc::from([]));
    let mut stream = Stream::new(OnGrid::new(grid(STEPS), 0), shape, usize::MAX);
    for piece in body.chunks(32 << 10) {
        stream.push(piece).expect("it is an answer");
    }
    stream.finish().expect("it is a whole answer").0.series
}

#[divan::bench(sample_count = 10)]
fn inflate_both(bencher: Bencher<'_, '_>) {
    let bodies = bodies();
    let (bytes, samples) = (length(&bodies), ItemsCount::new(2 * SAMPLES));
    let packed = bodies.map(|body| {
        let mut packed = Vec::new();
        let mut packing = GzEncoder::new(body.as_bytes(), Compression::default());
        packing.read_to_end(&mut packed).expect("it is in memory");
        packed
    });
    bencher.counter(bytes).counter(samples).bench_local(|| {
        let mut room = vec![0; 32 << 10];
        for packed in &packed {
            let mut inflating = GzDecoder::new(packed.as_slice());
            while inflating.read(&mut room).expect("it is in memory") > 0 {}
        }
    });
}

#[divan::bench(sample_count = 10)]
fn read_and_merge(bencher: Bencher<'_, '_>) {
    let bodies = bodies();
    let (bytes, samples) = (length(&bodies), ItemsCount::new(2 * SAMPLES));
    bencher.counter(bytes).counter(samples).bench_local(|| {
        let members = bodies.iter().map(|body| read(body.as_bytes())).collect();
        let options = Options {
            buffer_ms: 10_000,
            dynamic: false,
            prefer_max: false,
        };
        sets(members, options, &grid(STEPS))
    });
}

/// What a range query of as many samples has as its value.
fn value() -> Value {
    let mut number = counts(1);
    let timestamps: Vec<i64> = (0..STEPS as i64).map(|step| START + step * STEP).collect();
    let series = (0..SERIES).map(|place| SeriesData {
        labels: labels(place),
        samples: Arc::new(Samples {
            timestamps: timestamps.clone(),
            values: timestamps.iter().map(|_| number()).collect(),
            ..Samples::default()
        }),
    });
    let storage = MemoryStorage::of_series(series.collect());
    let engine = Engine::new(EngineOptions::new(ParserOptions::v3_5()));
    let (start, end) = (START, grid(STEPS).end);
    let query = engine.range_query("http_requests_total", start, end, STEP);
    let run = |query: promql::Query| block_on(query.run(&storage, &CancelToken::default())).value;
    query.and_then(run).expect("it is a query")
}

#[divan::bench(sample_count = 10)]
fn write(bencher: Bencher<'_, '_>) {
    let (value, none) = (value(), Annotations::default());
    let pieces = || Pieces::new(value.clone(), "", &none);
    let bytes = BytesCount::new(pieces().map(|piece| piece.len()).sum::<usize>());
    let samples = ItemsCount::new(SAMPLES);
    bencher
        .counter(bytes)
        .counter(samples)
        .with_inputs(pieces)
        .bench_local_values(|pieces| {
            for piece in pieces {
                drop(black_box(piece));
            }
        });
}
