//! Picking an owner: the hashing part of every line that a proxy routes.

use divan::{Bencher, counter::ItemsCount};
use shared::hashing::{
    Ring,
    consistent::ConsistentRing,
    go_statsd::GoStatsdRing,
    ketama::{KetamaRing, PointsPerDigest},
};

fn main() {
    divan::main();
}

const NODES: [usize; 2] = [4, 20];

fn nodes(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("10.0.0.{i}:8125")).collect()
}

fn pick(bencher: Bencher<'_, '_>, ring: &dyn Ring) {
    let names: Vec<String> = (0..1_000)
        .map(|i| format!("app.service{}.host{i:05}.requests.latency", i % 37))
        .collect();
    bencher.counter(ItemsCount::new(names.len())).bench(|| {
        names
            .iter()
            .filter_map(|name| ring.pick(name.as_bytes()))
            .sum::<usize>()
    });
}

#[divan::bench(args = NODES)]
fn statsd(bencher: Bencher<'_, '_>, count: usize) {
    pick(
        bencher,
        &KetamaRing::new(&nodes(count), PointsPerDigest::One),
    );
}

#[divan::bench(args = NODES)]
fn statsd_0_7(bencher: Bencher<'_, '_>, count: usize) {
    pick(
        bencher,
        &KetamaRing::new(&nodes(count), PointsPerDigest::Four),
    );
}

#[divan::bench(args = NODES)]
fn go_statsd_proxy(bencher: Bencher<'_, '_>, count: usize) {
    pick(bencher, &GoStatsdRing::new(&nodes(count)));
}

#[divan::bench(args = NODES)]
fn veneur(bencher: Bencher<'_, '_>, count: usize) {
    pick(bencher, &ConsistentRing::new(&nodes(count)));
}
