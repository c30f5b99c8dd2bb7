//! Large values, backup, restore, compaction and rebuilding.

use super::super::apply;
use super::*;

const BIG: usize = 100_000;

fn big(store: &Store, id: u32, letter: &str) {
    put(store, id, &letter.repeat(BIG));
}

fn files(dir: &Path) -> usize {
    let Ok(folders) = std::fs::read_dir(dir.join("blobs")) else { return 0 };
    folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
}

#[test]
fn large_values_are_files_shared_by_content_and_removed_when_unused() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    big(&store, 1, "a");
    big(&store, 2, "a");
    big(&store, 3, "b");
    put(&store, 4, "small");
    assert_eq!(files(dir.path()), 2);
    assert_eq!(store.get(NUMBERS, &(1, 2)).unwrap().unwrap(), "a".repeat(BIG));
    big(&store, 3, "c");
    apply::collect(&store.core).unwrap();
    assert_eq!(files(dir.path()), 2, "b is gone, c has come");
    assert_eq!(store.stats().unwrap().blob_bytes, 2 * 100_005);
    let rows = all(&store);
    drop(store);
    let store = open(dir.path());
    assert_eq!(all(&store), rows);
    commit(&store, |tx| tx.remove(NUMBERS, &(1, 3))).unwrap();
    apply::collect(&store.core).unwrap();
    assert_eq!(files(dir.path()), 1);
}

#[test]
fn a_backup_holds_one_moment_while_commits_go_on_and_restores_to_it() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for id in 0..500 {
        put(&store, id, "start");
    }
    big(&store, 1_000, "z");
    let (writer, stop) = (Arc::clone(&store), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    // Each batch moves the same text to two rows, so that a torn copy shows.
    let writing = std::thread::spawn(move || {
        for round in 0_u32.. {
            if stopped.load(Ordering::SeqCst) {
                return;
            }
            commit(&writer, |tx| {
                tx.put(NUMBERS, &(1, round % 500), &round.to_string()).unwrap();
                tx.put(NUMBERS, &(2, round % 500), &round.to_string()).unwrap();
                tx.put(NUMBERS, &(3, 0), &round.to_string()).unwrap();
                tx.emit(0, draft("{}"));
            })
            .unwrap();
        }
    });
    let file = dir.path().join("backups").join("one.bak");
    for round in 0..5 {
        let made = store.backup(&file).unwrap();
        assert_eq!(made.bytes, std::fs::metadata(&file).unwrap().len());
        let target = dir.path().join(format!("restored{round}"));
        assert_eq!(restore(&file, &target).unwrap(), made);
        let restored = open(&target);
        let rows = all(&restored);
        assert_eq!(restored.latest(), made.seq);
        assert_eq!(restored.oldest(), store.oldest());
        let told = |store: &Store| -> Vec<String> {
            let events = store.events(0, 1_000_000).unwrap();
            let events = events.iter().take_while(|event| event.seq <= made.seq);
            events.map(|event| event.raw().get().to_owned()).collect()
        };
        assert_eq!(told(&restored), told(&store));
        assert_eq!(rows[&(1, 1_000)], "z".repeat(BIG));
        if let Some(last) = rows.get(&(3, 0)) {
            let last: u32 = last.parse().unwrap();
            for round in last.saturating_sub(499)..=last {
                assert_eq!(rows[&(1, round % 500)], round.to_string());
                assert_eq!(rows[&(2, round % 500)], round.to_string());
            }
        }
        put(&restored, 9, "goes on");
        assert_eq!(restored.events(made.seq, 9).unwrap()[0].seq, made.seq + 1);
        let rows = all(&restored);
        drop(restored);
        rebuild(&target, None).unwrap();
        assert_eq!(all(&open(&target)), rows, "its journal goes back to the beginning");
    }
    stop.store(true, Ordering::SeqCst);
    writing.join().unwrap();
}

#[test]
fn a_backup_of_the_first_version_is_read() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir.path().join("data"));
    put(&store, 1, "row");
    let file = dir.path().join("old.bak");
    store.backup(&file).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len() - blake3::OUT_LEN;
    bytes[8] = 1;
    let digest = blake3::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(digest.as_bytes());
    std::fs::write(&file, bytes).unwrap();
    let target = dir.path().join("target");
    restore(&file, &target).unwrap();
    assert_eq!(all(&open(&target)), all(&store));
}

#[test]
fn a_damaged_backup_is_refused_and_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir.path().join("data"));
    for id in 0..20 {
        put(&store, id, "row");
    }
    let file = dir.path().join("whole.bak");
    store.backup(&file).unwrap();
    let whole = std::fs::read(&file).unwrap();
    let target = dir.path().join("target");
    let broken = dir.path().join("broken.bak");
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&broken, bytes).unwrap();
        restore(&broken, &target).unwrap_err();
        std::fs::write(&broken, &whole[..at]).unwrap();
        restore(&broken, &target).unwrap_err();
        assert!(!target.exists());
    }
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("mine"), "precious").unwrap();
    assert!(matches!(restore(&file, &target), Err(StoreError::NotEmpty(_))));
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 1);
    let used = dir.path().join("data");
    assert!(matches!(restore(&file, &used), Err(StoreError::NotEmpty(_))));
    // The mark of a restore that was complete, which a crash has brought back.
    std::fs::write(used.join("restoring"), "").unwrap();
    assert!(matches!(restore(&file, &used), Err(StoreError::NotEmpty(_))));
    std::fs::remove_file(target.join("mine")).unwrap();
    restore(&file, &target).unwrap();
    assert_eq!(all(&open(&target)), all(&store));
}

#[test]
fn nothing_is_put_into_a_directory_that_is_no_data_directory() {
    let dir = TempDir::new().unwrap();
    assert!(matches!(check(dir.path()), Err(StoreError::Foreign(_))));
    assert!(matches!(compact(dir.path()), Err(StoreError::Foreign(_))));
    assert!(matches!(rebuild(dir.path(), None), Err(StoreError::Foreign(_))));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_state_can_be_compacted_and_rebuilt_from_the_journal_or_from_a_backup_and_it() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for id in 0..300 {
        put(&store, id % 90, &id.to_string());
    }
    let file = dir.path().join("x.bak");
    store.backup(&file).unwrap();
    big(&store, 7, "y");
    let (rows, latest) = (all(&store), store.latest());
    assert!(matches!(compact(dir.path()), Err(StoreError::Locked(_))));
    drop(store);
    compact(dir.path()).unwrap();
    assert_eq!(all(&open(dir.path())), rows);
    for backup in [None, Some(&*file)] {
        std::fs::remove_dir_all(dir.path().join("state")).unwrap();
        assert_eq!(rebuild(dir.path(), backup).unwrap().seq, latest);
        let store = open(dir.path());
        assert_eq!((all(&store), store.latest()), (rows.clone(), latest));
    }
    for left in ["state.new", "state.old"] {
        std::fs::create_dir(dir.path().join(left)).unwrap();
    }
    std::fs::remove_dir(dir.path().join("state.old")).unwrap();
    std::fs::rename(dir.path().join("state"), dir.path().join("state.old")).unwrap();
    assert_eq!(all(&open(dir.path())), rows, "an interrupted swap is undone");
}

#[test]
fn a_check_reads_everything_and_names_what_is_wrong() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    commit(&store, |tx| {
        tx.put(IDEMPOTENCY_AGE, &(5, 1, [9; 16]), &()).unwrap();
        tx.put(ACTIVE, &(1, 0, 0, 4), &()).unwrap();
        tx.put(FLOW_RUNS.part::<u64>(), &(1, 1), &3).unwrap();
        tx.emit(0, draft("{}"));
    })
    .unwrap();
    let report = store.check().unwrap();
    drop(store);
    assert_eq!(check(dir.path()).unwrap(), report);
    assert_eq!((report.rows, report.batches, report.events), (3, 1, 1));
    let told = report.problems.join("\n");
    assert_eq!(report.problem_count, 3, "{told}");
    for part in ["flow runs", "idempotency age (5, 1", "active (1, 0, 0, 4) has no row in flows"] {
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn sled_opened_again_in_process_catches_up_from_the_journal() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for id in 0..50 {
        put(&store, id, "x");
    }
    while store.core.state.settle().unwrap() {}
    put(&store, 99, "in memory");
    let rows = all(&store);
    let stored = store.core.state.stored();
    store.core.state.forget_for_test();
    apply::reopen(&store.core).unwrap();
    assert_eq!(all(&store), rows);
    assert!(store.core.state.stored() >= stored);
    put(&store, 100, "goes on");
    drop(store);
    assert_eq!(all(&open(dir.path())).len(), rows.len() + 1);
}
