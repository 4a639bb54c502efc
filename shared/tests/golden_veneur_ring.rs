//! veneur's ring against what the original's hash library answered (`tests/golden/veneur-ring`): ten sets of members,
//! 2,000 keys, each ring whole, with one member removed and with that member back; every point; histories of changes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde::{Deserialize, de::DeserializeOwned};
use shared::hashing::{Ring, consistent::ConsistentRing};

/// The place in `nodes` of each key's owner; -1 for none.
type Placements = Vec<i64>;
type Points = Vec<(u32, String)>;

#[derive(Deserialize)]
struct Set {
    name: String,
    nodes: Vec<String>,
    points: Points,
    placements: Placements,
    removed: String,
    points_after_remove: Option<Points>,
    placements_after_remove: Placements,
    placements_after_readd: Placements,
}

#[derive(Deserialize)]
struct History {
    ops: Vec<Operation>,
    points: Points,
    members: Option<Vec<String>>,
    get: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Operation {
    op: String,
    args: Vec<String>,
}

#[test]
fn placements_and_points_are_those_of_the_library() {
    let keys: Vec<String> = fs::read_to_string(golden_path("keys.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(keys.len(), 2_000);
    let (mut sets, mut placements, mut points) = (0, 0, 0);
    for path in fs::read_dir(golden_path("")).unwrap() {
        let file = path.unwrap().file_name().into_string().unwrap();
        if !file.starts_with("ring_") || file == "ring_histories.json" {
            continue;
        }
        let set: Set = golden(&file);
        let mut check = |ring: &ConsistentRing, expected: &Placements, when: &str| {
            assert_eq!(expected.len(), keys.len());
            for (key, expected) in keys.iter().zip(expected) {
                let expected = usize::try_from(*expected)
                    .ok()
                    .map(|node| set.nodes[node].as_str());
                let owner = ring.owner(key.as_bytes());
                assert_eq!(owner, expected, "{} {when}: {key:?}", set.name);
                let picked = ring.pick(key.as_bytes());
                assert_eq!(picked.map(|place| ring.members()[place].as_str()), expected);
                placements += 1;
            }
        };
        let mut ring = ConsistentRing::default();
        for node in &set.nodes {
            ring.add(node);
        }
        assert_eq!(ring, ConsistentRing::new(&set.nodes), "{}", set.name);
        assert_eq!(points_of(&ring), set.points, "{}", set.name);
        points += set.points.len();
        check(&ring, &set.placements, "whole");

        ring.remove(&set.removed);
        if let Some(expected) = &set.points_after_remove {
            assert_eq!(&points_of(&ring), expected, "{} after removal", set.name);
            points += expected.len();
        }
        check(&ring, &set.placements_after_remove, "after removal");

        ring.add(&set.removed);
        check(&ring, &set.placements_after_readd, "after return");
        sets += 1;
    }
    println!("{sets} sets: {placements} placements and {points} points as recorded");
    assert_eq!((sets, placements), (10, 10 * 3 * 2_000));
}

#[test]
fn histories_of_changes_end_in_the_recorded_rings() {
    let histories: Vec<History> = golden("ring_histories.json");
    let mut lookups = 0;
    for history in &histories {
        let mut ring = ConsistentRing::default();
        for Operation { op, args } in &history.ops {
            match op.as_str() {
                "set" => ring.set(args),
                "add" => args.iter().for_each(|member| ring.add(member)),
                "remove" => args.iter().for_each(|member| ring.remove(member)),
                other => panic!("unknown operation {other}"),
            }
        }
        assert_eq!(points_of(&ring), history.points, "{:?}", history.ops);
        let mut members = ring.members().to_vec();
        members.sort_unstable();
        let mut expected = history.members.clone().unwrap_or_default();
        expected.sort_unstable();
        assert_eq!(members, expected, "{:?}", history.ops);
        for (key, expected) in &history.get {
            let owner = ring.owner(key.as_bytes());
            let owner = owner.unwrap_or("ERROR: empty circle");
            assert_eq!(owner, expected, "{:?}: {key:?}", history.ops);
            lookups += 1;
        }
    }
    println!(
        "{} histories, {lookups} look-ups as recorded",
        histories.len()
    );
    assert_eq!(histories.len(), 11);
}

fn points_of(ring: &ConsistentRing) -> Points {
    ring.points()
        .map(|(position, place)| (position, ring.members()[place].clone()))
        .collect()
}

fn golden_path(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden/veneur-ring", file]
        .iter()
        .collect()
}

fn golden<T: DeserializeOwned>(file: &str) -> T {
    serde_json::from_slice(&fs::read(golden_path(file)).unwrap()).unwrap()
}
