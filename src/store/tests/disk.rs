//! Rows large and small in sled.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;

use crate::store::batch::Position;
use crate::store::disk::Disk;
use crate::store::{KeyBytes, StoreError};

const CACHE: u64 = 1 << 20;
const START: Position = Position { number: 1, seq: 1 };

fn open(dir: &Path) -> Disk {
    Disk::open(dir, CACHE).unwrap()
}

fn write(disk: &Disk, rows: &[(&[u8], Option<&[u8]>)]) {
    let rows: Vec<_> = rows.iter().map(|(key, value)| (KeyBytes::from(*key), *value)).collect();
    disk.write(rows.iter().map(|(key, value)| (key, *value)), START).unwrap();
}

/// A value as the tables store it: its kind first.
fn value(fill: u8, length: usize) -> Vec<u8> {
    let mut value = vec![fill; length + 1];
    value[0] = 0;
    value
}

/// All rows, by a walk and one by one.
fn all(disk: &Disk) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut rows = BTreeMap::new();
    for row in disk.range(Bound::Excluded(b"\0position")) {
        let (key, stored) = row.unwrap();
        let passed = disk.passed(&key, stored).unwrap().unwrap().to_vec();
        assert_eq!(&*disk.get(&key).unwrap().unwrap(), passed);
        rows.insert(key.to_vec(), passed);
    }
    rows
}

#[test]
fn a_walk_leaves_out_the_position_whatever_it_looks_like() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    for number in 0..4 {
        disk.write(std::iter::empty(), Position { number, seq: number }).unwrap();
        let walked: Vec<_> = disk.range(Bound::Unbounded).map(Result::unwrap).collect();
        assert_eq!(walked.len(), 1);
        for (key, stored) in walked {
            assert!(disk.passed(&key, stored).unwrap().is_none());
        }
    }
}

#[test]
fn no_page_grows_so_large_that_it_becomes_a_file_which_the_cache_would_keep() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    for (table, length) in [(b'a', 48 << 10), (b'b', 4_000), (b'c', 1_799)] {
        for id in 0..200_u32 {
            let mut key = [table; 40];
            key[36..].copy_from_slice(&id.wrapping_mul(2_654_435_761).to_be_bytes());
            write(&disk, &[(&key, Some(&value(table, length)))]);
        }
    }
    disk.flush().unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("blobs")).unwrap().count(), 0);
    assert_eq!(all(&disk).len(), 600);
}

#[test]
fn parts_go_with_their_row_also_after_opening_again() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    write(&disk, &[(b"kept", Some(&value(1, 9_000))), (b"small", Some(&value(2, 10)))]);
    write(&disk, &[(b"shrinks", Some(&value(3, 20_000))), (b"goes", Some(&value(4, 64 << 10)))]);
    drop(disk);
    let disk = open(dir.path());
    write(&disk, &[(b"shrinks", Some(&value(5, 2_000))), (b"goes", None)]);
    assert_eq!(disk.parts_for_test(), 6 + 2);
    write(&disk, &[(b"shrinks", Some(&value(6, 2))), (b"kept", None)]);
    assert_eq!(disk.parts_for_test(), 0);
    let rows = [(b"shrinks".to_vec(), value(6, 2)), (b"small".to_vec(), value(2, 10))];
    assert_eq!(all(&disk), rows.into());
}

#[test]
fn a_reader_gets_what_was_written_whole_while_it_is_replaced() {
    let dir = TempDir::new().unwrap();
    let (disk, done) = (open(dir.path()), AtomicBool::new(false));
    write(&disk, &[(b"row", Some(&value(0, 10_000)))]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..500_usize {
                let fill = u8::try_from(round % 251).unwrap();
                write(&disk, &[(b"row", Some(&value(fill, 2_000 + 37 * round)))]);
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let found = disk.get(b"row").unwrap().unwrap();
            assert!(found[1..].iter().all(|byte| *byte == found[1]));
        }
    });
}

#[test]
fn a_row_without_one_of_its_parts_is_an_error() {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    write(&disk, &[(b"row", Some(&value(1, 9_000)))]);
    disk.lose_part_for_test();
    let err = disk.get(b"row").unwrap_err();
    assert!(matches!(err, StoreError::Value { table: "state", .. }), "{err}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn it_holds_what_was_written_last(
        writes in proptest::collection::vec(
            // Keys that begin with others, and the bytes that parts add to them.
            ("[ab]{1,3}\0{0,3}", proptest::option::of((0..250_u8, 0..12_000_usize))),
            1..80,
        ),
    ) {
        let dir = TempDir::new().unwrap();
        let (disk, mut model) = (open(dir.path()), BTreeMap::new());
        for (key, change) in writes {
            let (key, bytes) = (key.into_bytes(), change.map(|(fill, length)| value(fill, length)));
            write(&disk, &[(&key, bytes.as_deref())]);
            match bytes {
                Some(bytes) => model.insert(key, bytes),
                None => model.remove(&key),
            };
        }
        prop_assert_eq!(all(&disk), model);
    }
}
