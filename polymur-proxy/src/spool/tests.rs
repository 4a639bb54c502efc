use std::{fs, path::PathBuf};

use bytes::Bytes;
use proptest::prelude::*;

use super::store::{Next, Recovered, Store};
use crate::batch::{Batch, Moment};

fn batch(number: u32) -> Batch {
    Batch {
        body: Bytes::from(vec![number as u8; 100 + number as usize % 50]),
        lines: number,
        raw_bytes: 7,
        closed: Moment(u64::from(number)),
        ticket: None,
    }
}

fn next(store: &mut Store) -> Option<Batch> {
    match store.next().unwrap() {
        Next::Batch(batch) => Some(batch),
        Next::Damaged { .. } => panic!("a record is damaged"),
        Next::Nothing => None,
    }
}

fn segments(folder: &tempfile::TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn batches_come_back_in_order_also_to_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, recovered) = Store::open(folder.path(), 1 << 20).unwrap();
    assert_eq!(recovered, Recovered::default());
    for number in 1..=5 {
        assert!(store.append(&batch(number)).unwrap());
    }
    let first = next(&mut store).unwrap();
    let second = next(&mut store).unwrap();
    assert_eq!((first.lines, second.lines), (1, 2));
    // The second is done, the first is not: only the second does not come back.
    store.done(second.ticket.unwrap());
    drop(store);

    let (mut store, recovered) = Store::open(folder.path(), 1 << 20).unwrap();
    assert_eq!((recovered.batches, recovered.lines), (4, 1 + 3 + 4 + 5));
    assert!(store.append(&batch(6)).unwrap());
    let mut back = Vec::new();
    while let Some(found) = next(&mut store) {
        assert_eq!(found.body, batch(found.lines).body);
        assert_eq!(found.closed, Moment(u64::from(found.lines)));
        back.push(found);
    }
    let lines: Vec<u32> = back.iter().map(|batch| batch.lines).collect();
    assert_eq!(lines, [1, 3, 4, 5, 6]);
    for batch in back {
        store.done(batch.ticket.unwrap());
    }
    store.tidy();
    assert_eq!(segments(&folder), [] as [PathBuf; 0]);
    assert_eq!(store.depth().bytes, 0);
}

#[test]
fn a_folder_has_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Store::open(folder.path(), 1 << 20).unwrap();
    assert!(Store::open(folder.path(), 1 << 20).is_err());
}

#[test]
fn a_full_spool_refuses_until_the_oldest_segment_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(folder.path(), 64 << 10).unwrap();
    let mut taken = 0;
    while store.append(&batch(1)).unwrap() {
        taken += 1;
    }
    assert!(segments(&folder).len() > 4);
    let lost = store.drop_oldest().unwrap();
    assert!(lost > 0);
    assert!(store.append(&batch(1)).unwrap());
    assert_eq!(store.depth().unread_lines, taken - lost + 1);
}

#[test]
fn a_torn_tail_and_damaged_bytes_are_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(folder.path(), 1 << 20).unwrap();
    for number in 1..=4 {
        assert!(store.append(&batch(number)).unwrap());
    }
    drop(store);
    let path = &segments(&folder)[0];
    let mut bytes = fs::read(path).unwrap();
    let record = |number: usize| 36 + 100 + number;
    // The head of the second is damaged, the stream of the third, and the fourth is cut.
    let second = record(1);
    bytes[second + 20] ^= 1;
    bytes[second + record(2) + 50] ^= 1;
    bytes.truncate(bytes.len() - 10);
    fs::write(path, &bytes).unwrap();

    let (mut store, recovered) = Store::open(folder.path(), 1 << 20).unwrap();
    assert_eq!((recovered.batches, recovered.lines), (2, 1 + 3));
    assert_eq!(recovered.skipped_bytes as usize, record(2) + record(4) - 10);
    assert_eq!(next(&mut store).unwrap().lines, 1);
    assert!(matches!(
        store.next().unwrap(),
        Next::Damaged { lines: 3, .. }
    ));
    assert!(next(&mut store).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_a_spool(
        garbage in prop::collection::vec(prop_oneof![Just(b'P'), Just(b'M'), any::<u8>()], 0..300),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(folder.path(), 1 << 20).unwrap();
        for number in 1..=5 {
            prop_assert!(store.append(&batch(number)).unwrap());
        }
        drop(store);
        let path = &segments(&folder)[0];
        let mut bytes = fs::read(path).unwrap();
        for (place, byte) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= byte;
        }
        let at = cut.index(bytes.len());
        bytes.splice(at..at, garbage);
        fs::write(path, &bytes).unwrap();

        let (mut store, recovered) = Store::open(folder.path(), 1 << 20).unwrap();
        let mut read = 0;
        loop {
            match store.next().unwrap() {
                Next::Batch(found) => {
                    // What is intact is what was written.
                    prop_assert_eq!(&found.body, &batch(found.lines).body);
                    read += 1;
                }
                Next::Damaged { .. } => read += 1,
                Next::Nothing => break,
            }
        }
        prop_assert_eq!(read, recovered.batches);
        prop_assert!(store.append(&batch(9)).unwrap());
        prop_assert_eq!(next(&mut store).unwrap().lines, 9);
    }
}
