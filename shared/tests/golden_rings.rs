//! The StatsD rings against placements recorded from the originals (`tests/golden/statsd-rings`): ten sets of nodes, 2,000
//! names, all three rings, each ring whole and with each node removed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, de::DeserializeOwned};
use shared::hashing::{
    Ring,
    go_statsd::GoStatsdRing,
    ketama::{KetamaRing, PointsPerDigest},
};

/// A placement: the node of each name as a base-36 digit, `-` for none.
type Placement = String;
/// Placements by the node that was taken out.
type Without = BTreeMap<usize, Placement>;

#[derive(Deserialize)]
struct Names {
    names: Vec<String>,
}

#[derive(Deserialize)]
struct Set {
    nodes: Vec<String>,
    go: GoRecord,
    #[serde(rename = "hashring-3.2.0")]
    hashring_3: KetamaRecord,
    #[serde(rename = "hashring-1.0.1")]
    hashring_1: KetamaRecord,
}

#[derive(Deserialize)]
struct GoRecord {
    ring_order: Vec<usize>,
    full: Placement,
    absent_at_start: Without,
    dead_after_start: Without,
}

#[derive(Deserialize)]
struct KetamaRecord {
    points_per_node: Vec<usize>,
    full: Placement,
    removed: Without,
    points_per_node_after_removal: BTreeMap<usize, Vec<usize>>,
    removed_first_and_last: Option<Placement>,
}

#[test]
fn statsd_placements_are_those_of_hashring_3_2_0() {
    replay_ketama("statsd", PointsPerDigest::One, |set| &set.hashring_3);
}

#[test]
fn statsd_0_7_placements_are_those_of_hashring_1_0_1() {
    replay_ketama("statsd-0.7", PointsPerDigest::Four, |set| &set.hashring_1);
}

#[test]
fn go_placements_are_those_of_go_statsd_proxy() {
    let names = names();
    let mut checked = 0;
    for (set_name, set) in sets() {
        let check = |what: &str, left_out: &[usize], expected: &str| {
            let (nodes, labels) = without(&set.nodes, left_out);
            let ring = GoStatsdRing::new(&labels);
            compare(
                &format!("{set_name} {what}"),
                &set.nodes,
                &names,
                expected,
                |name| ring.pick(name).map(|place| nodes[place]),
            )
        };
        checked += check("full", &[], &set.go.full);
        for (node, expected) in &set.go.absent_at_start {
            checked += check(&format!("without {node}"), &[*node], expected);
        }
        // A node that dies later: the original goes on sending the lowest node's share to it; we never do (spec, quirk 15).
        let lowest = &set.nodes[set.go.ring_order[0]];
        for (node, expected) in set
            .go
            .dead_after_start
            .iter()
            .filter(|(node, _)| set.nodes[**node] != *lowest)
        {
            checked += check(&format!("{node} dead"), &[*node], expected);
        }
    }
    println!("go-statsd-proxy: {checked} placements as recorded");
    assert!(checked >= 10 * 2_000);
}

#[test]
fn ring_points_are_those_of_hashring() {
    type Points = BTreeMap<String, BTreeMap<String, Vec<(u32, usize)>>>;
    let recorded: Points = golden("ring_points.json");
    let mut checked = 0;
    for (set_name, set) in sets() {
        let (nodes, labels) = distinct(&set.nodes);
        for (version, per_digest) in [
            ("hashring-3.2.0", PointsPerDigest::One),
            ("hashring-1.0.1", PointsPerDigest::Four),
        ] {
            let ring = KetamaRing::new(&labels, per_digest);
            let points: Vec<_> = ring
                .points()
                .map(|(position, place)| (position, nodes[place]))
                .collect();
            assert_eq!(points, recorded[version][&set_name], "{version} {set_name}");
            checked += points.len();
        }
    }
    println!("{checked} points as recorded");
}

fn replay_ketama(label: &str, per_digest: PointsPerDigest, record: impl Fn(&Set) -> &KetamaRecord) {
    let names = names();
    let mut checked = 0;
    for (set_name, set) in sets() {
        let record = record(&set);
        let check =
            |what: &str, left_out: &[usize], expected: &str, points: Option<&Vec<usize>>| {
                let (nodes, labels) = without(&set.nodes, left_out);
                let (distinct_places, labels) = distinct(&labels);
                let ring = KetamaRing::new(&labels, per_digest);
                if let Some(points) = points {
                    let owners: Vec<&str> = ring
                        .points()
                        .map(|(_, place)| labels[place].as_str())
                        .collect();
                    let count =
                        |node: &String| owners.iter().filter(|owner| *owner == node).count();
                    let counted: Vec<usize> = set.nodes.iter().map(count).collect();
                    assert_eq!(&counted, points, "{set_name} {what}");
                }
                compare(
                    &format!("{set_name} {what}"),
                    &set.nodes,
                    &names,
                    expected,
                    |name| ring.pick(name).map(|place| nodes[distinct_places[place]]),
                )
            };
        checked += check("full", &[], &record.full, Some(&record.points_per_node));
        for (node, expected) in &record.removed {
            let same: Vec<usize> = (0..set.nodes.len())
                .filter(|other| set.nodes[*other] == set.nodes[*node])
                .collect();
            checked += check(
                &format!("without {node}"),
                &same,
                expected,
                record.points_per_node_after_removal.get(node),
            );
        }
        if let Some(expected) = &record.removed_first_and_last {
            checked += check(
                "without first and last",
                &[0, set.nodes.len() - 1],
                expected,
                None,
            );
        }
    }
    println!("{label}: {checked} placements as recorded");
    assert!(checked >= 10 * 2_000);
}

/// Compares the owner of every name with a recorded placement, by node text; returns how many names there were.
fn compare(
    what: &str,
    nodes: &[String],
    names: &[String],
    expected: &str,
    pick: impl Fn(&[u8]) -> Option<usize>,
) -> usize {
    assert_eq!(expected.len(), names.len(), "{what}");
    for (name, digit) in names.iter().zip(expected.chars()) {
        let expected = digit.to_digit(36).map(|node| &nodes[node as usize]);
        let picked = pick(name.as_bytes()).map(|node| &nodes[node]);
        assert_eq!(picked, expected, "{what}: {name:?}");
    }
    names.len()
}

/// The nodes that are not left out: their indexes and texts.
fn without(nodes: &[String], left_out: &[usize]) -> (Vec<usize>, Vec<String>) {
    (0..nodes.len())
        .filter(|node| !left_out.contains(node))
        .map(|node| (node, nodes[node].clone()))
        .unzip()
}

/// The first of each text, as `proxy.js` collapses nodes that are listed twice.
fn distinct(nodes: &[String]) -> (Vec<usize>, Vec<String>) {
    (0..nodes.len())
        .filter(|node| !nodes[..*node].contains(&nodes[*node]))
        .map(|node| (node, nodes[node].clone()))
        .unzip()
}

fn names() -> Vec<String> {
    golden::<Names>("names.json").names
}

fn sets() -> BTreeMap<String, Set> {
    golden("placements.json")
}

fn golden<T: DeserializeOwned>(file: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/statsd-rings")
        .join(file);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
