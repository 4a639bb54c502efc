//! Reading an answer as it comes, in pieces of 64 KiB: 500 series of 1,000 steps, and 20,000 series at one time.

mod answers;

use answers::{START, grid};
use divan::{Bencher, counter::BytesCount};
use promxy::{
    series::Native,
    servergroup::{
        decode::{OnGrid, OwnTimes, Shape, Sink, Stream},
        time_range::Grid,
    },
};

fn main() {
    divan::main();
}

const STEPS: usize = 1000;

/// Integers, as counters have them.
fn counts() -> impl FnMut() -> f64 {
    let mut random = fastrand::Rng::with_seed(7);
    move || f64::from(random.u32(..1_000_000))
}

/// Numbers with as many digits as floats have.
fn floats() -> impl FnMut() -> f64 {
    let mut random = fastrand::Rng::with_seed(7);
    move || random.f64() * 1000.0
}

fn bench<S: Sink>(bencher: Bencher<'_, '_>, body: &str, sink: impl Fn() -> S) {
    let bytes = BytesCount::new(body.len());
    bencher.counter(bytes).bench_local(|| {
        let mut stream = Stream::new(sink(), Shape::default(), usize::MAX);
        for piece in body.as_bytes().chunks(64 << 10) {
            stream.push(piece).expect("it is an answer");
        }
        stream.finish().expect("it is a whole answer").0
    });
}

#[divan::bench]
fn counts_to_columns(bencher: Bencher<'_, '_>) {
    let body = answers::matrix(500, STEPS, counts());
    bench(bencher, &body, || OnGrid::<Native>::new(grid(STEPS), 0));
}

#[divan::bench]
fn floats_to_columns(bencher: Bencher<'_, '_>) {
    let body = answers::matrix(500, STEPS, floats());
    bench(bencher, &body, || OnGrid::<Native>::new(grid(STEPS), 0));
}

#[divan::bench]
fn floats_to_samples(bencher: Bencher<'_, '_>) {
    let body = answers::matrix(500, STEPS, floats());
    bench(bencher, &body, OwnTimes::<Native>::new);
}

/// As a server writes it that is not Prometheus: with spaces.
#[divan::bench]
fn other_json_to_columns(bencher: Bencher<'_, '_>) {
    let body = answers::matrix(500, STEPS, floats()).replace("\"values\":", "\"values\": ");
    bench(bencher, &body, || OnGrid::<Native>::new(grid(STEPS), 0));
}

#[divan::bench]
fn vector_to_columns(bencher: Bencher<'_, '_>) {
    let body = answers::vector(20_000, counts());
    bench(bencher, &body, || {
        OnGrid::<Native>::new(Grid::instant(START), 0)
    });
}
