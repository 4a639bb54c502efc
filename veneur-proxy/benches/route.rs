//! Metrics placed per second, from the bytes that came in to the bytes that go out.

use divan::{Bencher, counter::ItemsCount};
use shared::hashing::consistent::ConsistentRing;
use veneur_proxy::{
    json_metric::{self, ImportBody},
    route::{IgnoreTags, place},
    wire,
};

fn main() {
    divan::main();
}

const LIST: &[u8] = include_bytes!("../tests/golden/inputs/synthetic300.metriclist.bin");
const BODY: &[u8] = include_bytes!("../tests/golden/inputs/synthetic300.json");
const METRICS: usize = 300;

fn ring() -> ConsistentRing {
    ConsistentRing::new(&[
        "10.0.0.1:8128",
        "10.0.0.2:8128",
        "10.0.0.3:8128",
        "10.0.0.4:8128",
    ])
}

#[divan::bench]
fn metric_list(bencher: Bencher<'_, '_>) {
    let (ring, ignored) = (ring(), IgnoreTags::default());
    let mut out = Vec::with_capacity(LIST.len());
    bencher.counter(ItemsCount::new(METRICS)).bench_local(|| {
        let metrics = wire::read_list(divan::black_box(LIST)).expect("recorded from an original");
        let placed = place(&ring, &ignored, metrics);
        for group in &placed.groups {
            out.clear();
            wire::write_list(group, &mut out);
        }
        out.len()
    });
}

#[divan::bench]
fn json_body(bencher: Bencher<'_, '_>) {
    let (ring, ignored) = (ring(), IgnoreTags::default());
    let mut out = Vec::with_capacity(BODY.len());
    bencher.counter(ItemsCount::new(METRICS)).bench_local(|| {
        let body = ImportBody::open(b"", divan::black_box(BODY), 1 << 20).expect("below the limit");
        let metrics = body.metrics().expect("recorded from an original");
        let placed = place(&ring, &ignored, metrics);
        for group in &placed.groups {
            out.clear();
            json_metric::write_body(group, &mut out);
        }
        out.len()
    });
}
