//! The local journal: what survives a torn write, and what is reported.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::super::batch::Changes;
use super::*;
use crate::model::event::Event;

fn batch(number: u64, seq_before: u64, events: u64, text: &str) -> Batch {
    let event = |seq| {
        let (kind, subject, data) = ("k".to_owned(), "s".to_owned(), text.to_owned());
        let event = Event {
            seq,
            at: seq,
            kind: kind.into(),
            context_id: None,
            subject,
            group: None,
            data,
            by: None,
        };
        Arc::new(Logged::new(event))
    };
    let changes: Changes =
        [(KeyBytes::from(&number.to_be_bytes()[..]), Some(Arc::from(text.as_bytes())))].into();
    Batch {
        number,
        seq_before,
        events: (1..=events).map(|n| event(seq_before + n)).collect(),
        changes: Arc::new(changes),
        large: false,
    }
}

fn numbers(journal: &Segments, after: u64) -> Result<Vec<u64>, StoreError> {
    let mut found = vec![];
    journal.read(after, &mut |batch| {
        found.push(batch.number);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn only_file(dir: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let file = files.next().unwrap();
    assert!(files.next().is_none());
    file
}

/// Three groups: batch 1, batches 2 and 3, batches 4 and 5. Returns the offset of the last group,
/// that of its second record, and the end.
fn three_groups(dir: &Path) -> [u64; 3] {
    let journal = Segments::open(dir, Position::default()).unwrap();
    journal.append(&[batch(1, 0, 2, "one")]).unwrap();
    journal.append(&[batch(2, 2, 1, "two"), batch(3, 3, 0, "three")]).unwrap();
    let start = journal.end();
    journal.append(&[batch(4, 3, 1, "four"), batch(5, 4, 1, "five")]).unwrap();
    let end = journal.end();
    let mut record = vec![];
    super::super::record::put_record(&mut record, 4, &batch(4, 3, 1, "four")).unwrap();
    [start, start + u64::try_from(record.len()).unwrap(), end]
}

#[test]
fn a_torn_tail_is_cut_off_wherever_it_is_torn() {
    let dir = TempDir::new().unwrap();
    let [start, middle, end] = three_groups(dir.path());
    let whole = std::fs::read(only_file(dir.path())).unwrap();
    for cut in start..=end {
        for zeros in [0, 5_000] {
            let torn = TempDir::new().unwrap();
            let path = torn.path().join("00000000000000000001.log");
            let mut bytes = whole[..usize::try_from(cut).unwrap()].to_vec();
            bytes.resize(bytes.len() + zeros, 0);
            std::fs::write(&path, bytes).unwrap();
            let journal = Segments::open(torn.path(), Position::default()).unwrap();
            let last = 3 + u64::from(cut >= middle) + u64::from(cut == end);
            assert_eq!(journal.last().number, last, "cut at {cut}");
            assert_eq!(numbers(&journal, 0).unwrap(), (1..=last).collect::<Vec<_>>());
            if cut % 16 != 0 {
                continue;
            }
            let next = batch(last + 1, journal.last().seq, 1, "next");
            journal.append(&[next]).unwrap();
            drop(journal);
            let journal = Segments::open(torn.path(), Position::default()).unwrap();
            assert_eq!(journal.last().number, last + 1);
        }
    }
}

#[test]
fn a_hole_in_the_last_group_is_a_torn_write_and_one_before_it_is_damage() {
    let dir = TempDir::new().unwrap();
    let [start, middle, end] = three_groups(dir.path());
    let whole = std::fs::read(only_file(dir.path())).unwrap();
    for at in 32..end {
        let copy = TempDir::new().unwrap();
        let path = copy.path().join("00000000000000000001.log");
        let mut bytes = whole.clone();
        bytes[usize::try_from(at).unwrap()] ^= 0x55;
        std::fs::write(&path, bytes).unwrap();
        let opened = Segments::open(copy.path(), Position::default());
        if at < start {
            let Err(StoreError::Damaged { offset, .. }) = opened else { panic!("at {at}") };
            assert!(offset <= at);
        } else {
            let last = if at < middle { 3 } else { 4 };
            assert_eq!(opened.unwrap().last().number, last, "at {at}");
        }
    }
}

#[test]
fn a_damaged_header_is_reported_and_a_file_never_begun_is_removed() {
    let dir = TempDir::new().unwrap();
    three_groups(dir.path());
    let path = only_file(dir.path());
    std::fs::write(dir.path().join("00000000000000000006.log"), [0; 9]).unwrap();
    assert_eq!(Segments::open(dir.path(), Position::default()).unwrap().last().number, 5);
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[7], 20).unwrap();
    let opened = Segments::open(dir.path(), Position::default());
    assert!(matches!(opened, Err(StoreError::Damaged { offset: 0, .. })));
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[9], 8).unwrap();
}

#[test]
fn batches_and_events_are_found_across_files_and_forgotten_by_whole_files() {
    let dir = TempDir::new().unwrap();
    let journal = Segments::open_with(dir.path(), Position::default(), 100_000).unwrap();
    let text = "x".repeat(2_000);
    let mut seq = 0;
    for number in 1..=300 {
        let events = number % 3;
        journal.append(&[batch(number, seq, events, &text)]).unwrap();
        seq += events;
    }
    let check = |journal: &Segments, oldest: u64| {
        for after in (oldest..=300).step_by(7) {
            assert_eq!(numbers(journal, after).unwrap(), (after + 1..=300).collect::<Vec<_>>());
        }
        let first = journal.first().seq;
        for since in (first..seq).step_by(11) {
            let mut found = vec![];
            let visit = &mut |batch: Batch| {
                found.extend(batch.events.iter().map(|e| e.seq).filter(|seq| *seq > since));
                ControlFlow::Continue(())
            };
            journal.read_events(since, visit).unwrap();
            assert_eq!(found, (since + 1..=seq).collect::<Vec<_>>());
        }
    };
    check(&journal, 0);
    let before = journal.bytes();
    journal.forget(Position { number: 150, seq }).unwrap();
    assert!(journal.bytes() < before);
    let first = journal.first();
    assert!(first.number > 100 && first.number <= 150);
    check(&journal, first.number);
    assert!(matches!(numbers(&journal, 3), Err(StoreError::Forgotten)));
    journal.forget(Position { number: 300, seq: first.seq }).unwrap();
    assert_eq!(journal.first(), first, "its events are still wanted");
    drop(journal);
    let journal = Segments::open(dir.path(), Position::default()).unwrap();
    assert_eq!((journal.first(), journal.last()), (first, Position { number: 300, seq }));
    check(&journal, first.number);
}

#[test]
fn only_the_next_batch_is_taken() {
    let dir = TempDir::new().unwrap();
    let journal = Segments::open(dir.path(), Position { number: 6, seq: 9 }).unwrap();
    for wrong in [batch(6, 9, 1, ""), batch(8, 9, 1, ""), batch(7, 8, 1, "")] {
        assert!(matches!(journal.append(&[wrong]), Err(StoreError::Superseded)));
    }
    journal.append(&[batch(7, 9, 1, "")]).unwrap();
    let gap = [batch(8, 10, 0, ""), batch(10, 10, 0, "")];
    assert!(matches!(journal.append(&gap), Err(StoreError::Superseded)));
    assert_eq!(numbers(&journal, 6).unwrap(), [7]);
}

#[test]
fn a_file_that_lost_all_its_batches_is_reported_and_they_are_not_skipped() {
    let dir = TempDir::new().unwrap();
    let journal = Segments::open_with(dir.path(), Position::default(), 100).unwrap();
    for number in 1..=3 {
        journal.append(&[batch(number, number - 1, 1, &"x".repeat(100))]).unwrap();
    }
    drop(journal);
    let second = dir.path().join("00000000000000000002.log");
    OpenOptions::new().write(true).open(second).unwrap().set_len(32).unwrap();
    let journal = Segments::open(dir.path(), Position::default()).unwrap();
    for after in 0..=1 {
        assert!(matches!(numbers(&journal, after), Err(StoreError::Damaged { .. })), "{after}");
    }
    assert_eq!(numbers(&journal, 2).unwrap(), [3]);
}

#[test]
fn what_follows_a_file_that_could_not_be_begun_is_not_lost_with_it() {
    let dir = TempDir::new().unwrap();
    let journal = Segments::open_with(dir.path(), Position::default(), 300).unwrap();
    journal.append(&[batch(1, 0, 1, "one")]).unwrap();
    // A directory of the name of the next file: it can neither be begun nor be removed.
    let next = dir.path().join("00000000000000000002.log");
    std::fs::create_dir(&next).unwrap();
    let large = batch(2, 1, 1, &"x".repeat(300));
    assert!(matches!(journal.append(&[large]), Err(StoreError::Io { .. })));
    // Smaller, it would go into the file before.
    let small = || batch(2, 1, 1, "two");
    assert!(matches!(journal.append(&[small()]), Err(StoreError::Io { .. })));
    std::fs::remove_dir(&next).unwrap();
    journal.append(&[small()]).unwrap();
    drop(journal);
    let journal = Segments::open(dir.path(), Position::default()).unwrap();
    assert_eq!(numbers(&journal, 0).unwrap(), [1, 2]);
}
