//! Reading metrics from wire bytes: agrees with decoding on any bytes, and never panics.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use prost::Message;
use veneur_proxy::{
    proto::{forwardrpc::MetricList, metricpb::Metric},
    wire::{self, WireMetric},
};

/// Compares with decoding; returns whether the bytes are a metric.
fn agree(message: &[u8]) -> bool {
    match (WireMetric::read(message), Metric::decode(message)) {
        (Ok(found), Ok(decoded)) => {
            assert_eq!(found.name(), decoded.name, "{message:02x?}");
            assert_eq!(found.kind(), decoded.r#type, "{message:02x?}");
            let tags: Vec<&[u8]> = found.tags().collect();
            assert_eq!(tags, decoded.tags, "{message:02x?}");
            assert_eq!(found.message(), message);
            true
        }
        (Err(_), Err(_)) => false,
        (found, decoded) => panic!("{message:02x?}: {found:?} but {decoded:?}"),
    }
}

#[test]
fn captured_and_odd_metrics_are_found_as_decoded() {
    let mut checked = 0;
    for (_, metrics) in support::captured_grpc() {
        checked += metrics.iter().filter(|message| agree(message)).count();
    }
    for message in support::odd_metrics() {
        assert!(agree(&message), "{message:02x?}");
        checked += 1;
    }
    let list = support::bytes("inputs/synthetic300.metriclist.bin");
    let metrics = wire::read_list(&list).unwrap();
    checked += metrics
        .iter()
        .filter(|metric| agree(metric.message()))
        .count();
    println!("{checked} metrics are found as they are decoded");
    assert!(checked > 400, "{checked}");

    let mut written = Vec::new();
    wire::write_list(&metrics, &mut written);
    assert!(written == list);
}

#[test]
fn mutated_metrics_are_taken_exactly_when_they_can_be_decoded() {
    let mut rng = fastrand::Rng::with_seed(0x7665_6e65);
    let mut seeds = support::odd_metrics();
    seeds.extend(
        support::captured_grpc()
            .into_iter()
            .flat_map(|(_, metrics)| metrics),
    );
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..200_000 {
        let mut message = seeds[rng.usize(..seeds.len())].clone();
        mutate(&mut message, &mut rng);
        if agree(&message) {
            taken += 1;
        } else {
            refused += 1;
        }
    }
    println!("mutated metrics: {taken} taken, {refused} refused");
    assert!(taken > 10_000 && refused > 10_000);
}

#[test]
fn random_bytes_are_taken_exactly_when_they_can_be_decoded() {
    let mut rng = fastrand::Rng::with_seed(14);
    let mut taken = 0;
    for _ in 0..200_000 {
        // Small numbers, so that keys and lengths are often plausible.
        let top = if rng.bool() { 255 } else { 80 };
        let message: Vec<u8> = (0..rng.usize(..24)).map(|_| rng.u8(..=top)).collect();
        taken += usize::from(agree(&message));
    }
    println!("random bytes: {taken} of 200000 are metrics");
    assert!(taken > 1_000);
}

#[test]
fn mutated_lists_are_taken_exactly_when_they_can_be_decoded() {
    let mut rng = fastrand::Rng::with_seed(300);
    let list = support::bytes("local-captures/v13.2.0-grpc/metriclist.bin");
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..5_000 {
        let mut list = list.clone();
        mutate(&mut list, &mut rng);
        match (wire::read_list(&list), MetricList::decode(&list[..])) {
            (Ok(found), Ok(decoded)) => {
                let names: Vec<&[u8]> = found.iter().map(WireMetric::name).collect();
                let expected: Vec<&[u8]> = decoded.metrics.iter().map(|m| &m.name[..]).collect();
                assert_eq!(names, expected);
                taken += 1;
            }
            (Err(_), Err(_)) => refused += 1,
            (found, decoded) => panic!("{:?} but {:?}", found.err(), decoded.err()),
        }
    }
    println!("mutated lists: {taken} taken, {refused} refused");
    assert!(taken > 100 && refused > 100);
}

fn mutate(bytes: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..4) {
            0 if at < bytes.len() => bytes[at] = rng.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            2 => bytes.insert(at, rng.u8(..)),
            _ => bytes.truncate(at.max(bytes.len().saturating_sub(8))),
        }
    }
}
