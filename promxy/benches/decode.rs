//! Reading an answer as it comes, in pieces of 32 KiB: 500 series of 1,000 steps, and 20,000 series at one time. Beside it, what
//! looking at the text takes alone.

mod answers;

use std::hint::black_box;

use answers::{START, grid};
use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
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

const SERIES: usize = 500;
const STEPS: usize = 1000;
/// How many series have one sample.
const INSTANTS: usize = 20_000;

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
    let read = || {
        let mut stream = Stream::new(sink(), Shape::default(), usize::MAX);
        for piece in body.as_bytes().chunks(32 << 10) {
            stream.push(piece).expect("it is an answer");
        }
        let (decoded, size) = stream.finish().expect("it is a whole answer");
        assert_eq!(decoded.off_grid, 0);
        (decoded, size)
    };
    let samples = ItemsCount::new(read().1.samples);
    let bytes = BytesCount::new(body.len());
    bencher.counter(bytes).counter(samples).bench_local(read);
}

#[divan::bench]
fn counts_to_columns(bencher: Bencher<'_, '_>) {
    let body = answers::matrix(SERIES, STEPS, counts());
    bench(bencher, &body, || OnGrid::<Native>::new(grid(STEPS), 0));
}

#[divan::bench]
fn floats_to_columns(bencher: Bencher<'_, '_>) {
    let body = answers::matrix(SERIES, STEPS, floats());
    bench(bencher, &body, || OnGrid::<Native>::new(grid(STEPS), 0));
}

#[divan::bench]
fn floats_to_samples(bencher: Bencher<'_, '_>) {
    let body = answers::matrix(SERIES, STEPS, floats());
    bench(bencher, &body, OwnTimes::<Native>::new);
}

/// What the memory takes for the text of [`floats_to_columns`].
#[divan::bench]
fn bytes_of_floats(bencher: Bencher<'_, '_>) {
    let body = answers::matrix(SERIES, STEPS, floats());
    bencher
        .counter(BytesCount::new(body.len()))
        .counter(ItemsCount::new(SERIES * STEPS))
        .bench_local(|| {
            black_box(body.as_bytes())
                .iter()
                .fold(0, |all, byte| all ^ byte)
        });
}

/// Finding the numbers of [`floats_to_columns`], which stand between quotes.
#[divan::bench]
fn quotes_of_floats(bencher: Bencher<'_, '_>) {
    let body = answers::matrix(SERIES, STEPS, floats());
    bencher
        .counter(BytesCount::new(body.len()))
        .counter(ItemsCount::new(SERIES * STEPS))
        .bench_local(|| {
            for place in memchr::memchr_iter(b'"', black_box(body.as_bytes())) {
                black_box(place);
            }
        });
}

/// As a server writes it that is not Prometheus: with spaces.
#[divan::bench]
fn other_json_to_columns(bencher: Bencher<'_, '_>) {
    let body = answers::matrix(SERIES, STEPS, floats()).replace("\"values\":", "\"values\": ");
    bench(bencher, &body, || OnGrid::<Native>::new(grid(STEPS), 0));
}

#[divan::bench]
fn vector_to_columns(bencher: Bencher<'_, '_>) {
    let body = answers::vector(INSTANTS, counts());
    bench(bencher, &body, || {
        OnGrid::<Native>::new(Grid::instant(START), 0)
    });
}
