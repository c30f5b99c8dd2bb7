//! The store as a whole.

mod archive;
mod disk;
mod full;
mod measure;
mod segment;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const NUMBERS: Table<(u32, u32), String> = Table::new(b'n', "numbers");
const NAMES: Table<String, u64> = Table::new(b'N', "names");

fn open(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(Options::new(dir)).unwrap())
}

fn draft(data: &str) -> Draft {
    Draft {
        kind: "test",
        context_id: Some(1),
        subject: "test/1".to_owned(),
        group: None,
        data: data.to_owned(),
    }
}

fn commit(store: &Store, fill: impl FnOnce(&mut Tx<'_>)) -> Result<(), Arc<StoreError>> {
    let mut tx = store.begin();
    fill(&mut tx);
    let (sender, receiver) = mpsc::channel();
    store.submit(tx, move |done| sender.send(done).unwrap());
    receiver.recv().unwrap()
}

fn put(store: &Store, id: u32, text: &str) {
    commit(store, |tx| {
        tx.put(NUMBERS, &(1, id), &text.to_owned()).unwrap();
        tx.emit(u64::from(id), draft("{}"));
    })
    .unwrap();
}

fn all(store: &Store) -> BTreeMap<(u32, u32), String> {
    let mut rows = BTreeMap::new();
    store
        .scan(NUMBERS, &(), None, |key, value| {
            assert!(rows.insert(key, value).is_none());
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(path, target).unwrap();
        }
    }
}

#[test]
fn what_was_committed_is_there_after_a_clean_restart_and_after_none() {
    let dir = TempDir::new().unwrap();
    let crashed = TempDir::new().unwrap();
    let store = open(dir.path());
    for id in 0..100 {
        put(&store, id % 40, &format!("{id}"));
    }
    commit(&store, |tx| tx.remove(NUMBERS, &(1, 3))).unwrap();
    let rows = all(&store);
    assert_eq!(rows.len(), 39);
    copy(&dir.path().join("journal"), &crashed.path().join("journal"));
    std::fs::copy(dir.path().join("format"), crashed.path().join("format")).unwrap();
    drop(store);
    for dir in [&dir, &crashed] {
        let store = open(dir.path());
        assert_eq!(all(&store), rows);
        assert_eq!((store.oldest(), store.latest()), (1, 100));
        assert_eq!(store.events(0, 1_000).unwrap().len(), 100);
        put(&store, 7, "more");
        assert_eq!(store.latest(), 101);
    }
}

#[test]
fn a_second_store_on_the_directory_is_refused_with_a_clear_error() {
    let dir = TempDir::new().unwrap();
    let _store = open(dir.path());
    let err = Store::open(Options::new(dir.path())).unwrap_err();
    assert!(matches!(err, StoreError::Locked(_)));
    assert!(err.to_string().starts_with("another muster process uses "));
}

#[test]
fn a_batch_sees_those_before_it_while_readers_wait_for_the_disk() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let (entered, inside) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    store.submit(store.begin(), move |_| {
        entered.send(()).unwrap();
        wait.recv().unwrap();
    });
    inside.recv().unwrap();
    let mut tx = store.begin();
    tx.put(NAMES, &"a".to_owned(), &1).unwrap();
    tx.emit(0, draft("1"));
    store.submit(tx, |done| done.unwrap());
    let tx = store.begin();
    assert_eq!(tx.get(NAMES, &"a".to_owned()).unwrap(), Some(1));
    assert_eq!(tx.page(NAMES, &(), None, 9).unwrap(), [("a".to_owned(), 1)]);
    assert_eq!(store.get(NAMES, &"a".to_owned()).unwrap(), None);
    assert_eq!(store.latest(), 0);
    go.send(()).unwrap();
    drop(tx);
    commit(&store, |_| {}).unwrap();
    assert_eq!(store.get(NAMES, &"a".to_owned()).unwrap(), Some(1));
    assert_eq!(store.latest(), 1);
}

#[test]
fn a_walk_that_has_begun_sees_what_moves_from_memory_to_the_disk() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let settle = || while store.core.state.settle().unwrap() {};
    let old = |tx: &mut Tx<'_>| {
        for id in (0..2_000).step_by(2) {
            tx.put(NUMBERS, &(1, id), &"old".to_owned()).unwrap();
        }
    };
    commit(&store, old).unwrap();
    settle();
    let mut seen = BTreeMap::new();
    let walk = store.scan(NUMBERS, &1_u32, None, |(_, id), text| {
        if id == 200 {
            let change = |tx: &mut Tx<'_>| {
                for id in 1_000..2_000 {
                    match id % 3 {
                        0 => tx.remove(NUMBERS, &(1, id)),
                        _ => tx.put(NUMBERS, &(1, id), &"new".to_owned()).unwrap(),
                    }
                }
            };
            commit(&store, change).unwrap();
            settle();
        }
        assert!(seen.insert(id, text).is_none());
        ControlFlow::Continue(())
    });
    walk.unwrap();
    let new = seen.range(1_000..).filter(|(_, text)| *text == "new").count();
    assert_eq!((new, seen.range(1_000..).count()), (667, 667));
    assert_eq!(seen.range(..1_000).count(), 500);
}

#[test]
fn a_rollback_takes_back_what_was_staged_since_the_mark_only() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    commit(&store, |tx| {
        tx.put(NUMBERS, &(1, 1), &"kept".to_owned()).unwrap();
        tx.emit(0, draft("1"));
        let mark = tx.mark();
        tx.put(NUMBERS, &(1, 1), &"lost".to_owned()).unwrap();
        tx.put(NUMBERS, &(1, 2), &"lost".to_owned()).unwrap();
        tx.remove(NUMBERS, &(1, 1));
        tx.emit(0, draft("2"));
        tx.rollback(mark);
        tx.put(NUMBERS, &(1, 3), &"kept".to_owned()).unwrap();
        tx.emit(0, draft("3"));
    })
    .unwrap();
    assert_eq!(all(&store).into_keys().collect::<Vec<_>>(), [(1, 1), (1, 3)]);
    assert_eq!(all(&store)[&(1, 1)], "kept");
    let data: Vec<_> = store.events(0, 9).unwrap().iter().map(|e| e.data.clone()).collect();
    assert_eq!(data, ["1", "3"]);
}

/// Refuses to append while the switch is on.
#[derive(Debug)]
struct Failing(Segments, Arc<AtomicBool>);

impl Journal for Failing {
    fn append(&self, batches: &[Batch]) -> Result<(), StoreError> {
        if self.1.load(Ordering::SeqCst) {
            let source = std::io::ErrorKind::StorageFull.into();
            return Err(StoreError::Io { what: "appending to the journal", source });
        }
        self.0.append(batches)
    }
    fn first(&self) -> Position {
        self.0.first()
    }
    fn last(&self) -> Position {
        self.0.last()
    }
    fn read(&self, after: u64, visit: Visit<'_>) -> Result<(), StoreError> {
        self.0.read(after, visit)
    }
    fn read_events(&self, seq: u64, visit: Visit<'_>) -> Result<(), StoreError> {
        self.0.read_events(seq, visit)
    }
    fn forget(&self, done: Position) -> Result<(), StoreError> {
        self.0.forget(done)
    }
    fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

/// A store whose appends fail while the switch is on.
pub(crate) fn open_failing(dir: &Path, fails: Arc<AtomicBool>) -> Arc<Store> {
    let wrap = |journal| -> Box<dyn Journal> { Box::new(Failing(journal, fails)) };
    Arc::new(Store::open_with(&Options::new(dir), wrap).unwrap())
}

#[test]
fn after_a_failed_append_every_batch_on_top_fails_and_nothing_remains_of_them() {
    let dir = TempDir::new().unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let store = open_failing(dir.path(), Arc::clone(&fails));
    put(&store, 1, "before");
    fails.store(true, Ordering::SeqCst);
    let (sender, outcomes) = mpsc::channel();
    for id in 2..6 {
        let mut tx = store.begin();
        tx.put(NUMBERS, &(1, id), &"lost".to_owned()).unwrap();
        tx.emit(0, draft("0"));
        let sender = sender.clone();
        store.submit(tx, move |done| sender.send(done.is_err()).unwrap());
    }
    drop(sender);
    assert_eq!(outcomes.iter().collect::<Vec<_>>(), [true; 4]);
    fails.store(false, Ordering::SeqCst);
    assert!(store.has_failed());
    assert!(commit(&store, |_| {}).is_err(), "not before it was recovered from");
    store.recover();
    assert!(!store.has_failed());
    assert_eq!(store.begin().get(NUMBERS, &(1, 2)).unwrap(), None);
    put(&store, 7, "after");
    assert_eq!(all(&store).into_keys().collect::<Vec<_>>(), [(1, 1), (1, 7)]);
    let numbers: Vec<_> = store.events(0, 9).unwrap().iter().map(|e| e.seq).collect();
    assert_eq!(numbers, [1, 2]);
    drop(store);
    assert_eq!(all(&open(dir.path())).into_keys().collect::<Vec<_>>(), [(1, 1), (1, 7)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_misses_nothing_and_sees_nothing_twice() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    put(&store, 0, "first");
    let mut live = store.follow(None).unwrap();
    let writer = Arc::clone(&store);
    let writing = std::thread::spawn(move || {
        for round in 0..50_u32 {
            let mut tx = writer.begin();
            for _ in 0..=round {
                tx.emit(0, draft("{}"));
            }
            writer.submit(tx, |done| done.unwrap());
        }
    });
    let mut followers = vec![];
    for since in [0, 1] {
        let mut follower = store.follow(Some(since)).unwrap();
        followers.push(tokio::spawn(async move {
            let mut seen = since;
            while seen < 1_276 {
                let Next::Events(page) = follower.next().await else { panic!("ended") };
                for event in page {
                    assert_eq!(event.seq, seen + 1);
                    seen = event.seq;
                }
            }
        }));
    }
    let mut seen = 1;
    while seen < 1_276 {
        let Next::Events(page) = live.next().await else { panic!("ended") };
        for event in page {
            assert_eq!(event.seq, seen + 1);
            seen = event.seq;
        }
    }
    for follower in followers {
        follower.await.unwrap();
    }
    writing.join().unwrap();
    store.close();
    assert!(matches!(live.next().await, Next::Closed));
}

#[tokio::test]
async fn retention_by_number_and_age_is_exact() {
    let dir = TempDir::new().unwrap();
    let options = Options { events_keep: 10, ..Options::new(dir.path()) };
    let store = Arc::new(Store::open(options.clone()).unwrap());
    let mut slow = store.follow(Some(0)).unwrap();
    for id in 0..25 {
        put(&store, id, "x");
    }
    assert_eq!((store.oldest(), store.latest()), (16, 25));
    assert_eq!(store.events(15, 99).unwrap().len(), 10);
    assert!(matches!(store.events(14, 99), Err(Error::Gone { oldest: 16 })));
    assert!(matches!(store.events(26, 99), Err(Error::Params { .. })));
    assert!(matches!(store.follow(Some(3)), Err(Error::Gone { oldest: 16 })));
    assert!(matches!(slow.next().await, Next::Lagged));
    drop((slow, store));
    let aged = Options { events_keep_age: Some(Duration::from_millis(5)), ..options };
    let store = Store::open(aged).unwrap();
    assert_eq!(store.oldest(), 16);
    store.core.log.tick(26);
    store.core.log.expire(&*store.core.journal).unwrap();
    assert_eq!(store.oldest(), 22, "those at 16 to 20 are older than 26 - 5");
    store.core.log.tick(1_000);
    store.core.log.expire(&*store.core.journal).unwrap();
    assert_eq!((store.oldest(), store.latest()), (26, 25));
    assert!(store.events(25, 9).unwrap().is_empty());
    // The clock was wrong, and is right again.
    store.core.log.tick(26);
    put(&store, 26, "x");
    store.core.log.expire(&*store.core.journal).unwrap();
    assert_eq!((store.oldest(), store.latest()), (26, 26));
}

#[derive(Clone, Debug)]
enum Step {
    Put(u32, u16),
    Remove(u32),
    Commit,
    Freeze,
    Store,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..60_u32, any::<u16>()).prop_map(|(key, value)| Step::Put(key, value)),
        3 => (0..60_u32).prop_map(Step::Remove),
        2 => Just(Step::Commit),
        1 => Just(Step::Freeze),
        1 => Just(Step::Store),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn reads_over_all_layers_equal_a_plain_map(
        steps in prop::collection::vec(step(), 1..80),
        after in prop::option::of(0..60_u32),
        limit in 1..20_usize,
    ) {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path());
        let (mut model, mut staged) = (BTreeMap::new(), BTreeMap::new());
        let mut tx = store.begin();
        for step in steps {
            match step {
                Step::Put(key, value) => {
                    tx.put(NUMBERS, &(1, key), &value.to_string()).unwrap();
                    staged.insert((1, key), value.to_string());
                }
                Step::Remove(key) => {
                    tx.remove(NUMBERS, &(1, key));
                    staged.remove(&(1, key));
                }
                Step::Commit => {
                    let (sender, receiver) = mpsc::channel();
                    store.submit(tx, move |done| sender.send(done).unwrap());
                    receiver.recv().unwrap().unwrap();
                    model = staged.clone();
                    tx = store.begin();
                }
                Step::Freeze => drop(store.core.state.freeze()),
                Step::Store => drop(store.core.state.settle().unwrap()),
            }
            prop_assert_eq!(&all(&store), &model);
        }
        let after = after.map(|id| (1, id));
        let expect = |map: &BTreeMap<(u32, u32), String>| -> Vec<_> {
            let later = map.iter().filter(|(key, _)| after.is_none_or(|after| **key > after));
            later.take(limit).map(|(k, v)| (*k, v.clone())).collect()
        };
        prop_assert_eq!(store.page(NUMBERS, &1_u32, after.as_ref(), limit).unwrap(), expect(&model));
        prop_assert_eq!(tx.page(NUMBERS, &1_u32, after.as_ref(), limit).unwrap(), expect(&staged));
        for id in 0..60 {
            prop_assert_eq!(tx.get(NUMBERS, &(1, id)).unwrap(), staged.get(&(1, id)).cloned());
            prop_assert_eq!(store.get(NUMBERS, &(1, id)).unwrap(), model.get(&(1, id)).cloned());
        }
        prop_assert!(store.page(NUMBERS, &2_u32, None, 9).unwrap().is_empty());
    }
}

/// Brings everything to sled, so that reads depend on it.
pub(crate) fn settle(store: &Store) {
    while store.core.state.settle().unwrap() {}
}

/// Makes reads fail until [`reopen`].
pub(crate) fn lose_disk(store: &Store) {
    store.core.state.lose_for_test();
}

/// Ends what [`lose_disk`] began.
pub(crate) fn reopen(store: &Store) {
    super::apply::reopen(&store.core).unwrap();
}
