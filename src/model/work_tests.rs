use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What can happen to a job.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Add(u64),
    Cut(u64),
    Retry(u64),
    Lease(usize),
    Lose(usize),
    Finish(usize, u64, u64),
    Fail(usize, u64),
    HandBack(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    let which = any::<usize>;
    prop_oneof![
        (0_u64..20).prop_map(Happening::Add),
        (0_u64..9).prop_map(Happening::Cut),
        (1_u64..5).prop_map(Happening::Retry),
        which().prop_map(Happening::Lease),
        which().prop_map(Happening::Lose),
        (which(), 1_u64..60, 0_u64..4).prop_map(|(at, first, more)| Happening::Finish(
            at,
            first,
            first + more
        )),
        (which(), 1_u64..60).prop_map(|(at, number)| Happening::Fail(at, number)),
        which().prop_map(Happening::HandBack),
    ]
}

/// The job, and beside it what the store would hold.
#[derive(Default)]
struct World {
    ledger: Ledger,
    batches: Vec<Batch>,
    again: BTreeMap<u64, u32>,
    ended: BTreeMap<u64, Verdict>,
    attempts: BTreeMap<u64, u32>,
}

impl World {
    fn happen(&mut self, happening: Happening) {
        let count = self.batches.len().max(1);
        match happening {
            Happening::Add(more) => self.ledger.total += more,
            Happening::Cut(most) => self.batches.extend(self.ledger.cut(most)),
            Happening::Retry(most) => {
                let mut batch = Batch::default();
                for _ in 0..most {
                    let Some((number, attempts)) = self.again.pop_first() else { break };
                    self.ledger.retry(&mut batch, number, number, attempts);
                }
                if !batch.open.is_empty() {
                    self.batches.push(batch);
                }
            }
            Happening::Lease(at) => {
                let Some(batch) = self.batches.get_mut(at % count) else { return };
                self.ledger.lease(batch);
            }
            Happening::Lose(at) => {
                let Some(batch) = self.batches.get_mut(at % count) else { return };
                self.ledger.release(batch);
            }
            Happening::Finish(at, first, last) => {
                let Some(batch) = self.batches.get_mut(at % count) else { return };
                if self.ledger.finish(batch, first, last) {
                    for number in first..=last {
                        assert!(self.ended.insert(number, Verdict::Done).is_none(), "{number}");
                    }
                }
            }
            Happening::Fail(at, number) => {
                let Some(batch) = self.batches.get_mut(at % count) else { return };
                let made = self.attempts.entry(number).or_default();
                match self.ledger.fail(batch, number, 3) {
                    None => {}
                    Some(Verdict::Again(attempts)) => {
                        *made += 1;
                        assert_eq!(attempts, *made);
                        assert!(attempts < 3);
                        assert!(self.again.insert(number, attempts).is_none());
                    }
                    Some(failed) => {
                        *made += 1;
                        assert_eq!(failed, Verdict::Failed(3));
                        assert_eq!(*made, 3);
                        assert!(self.ended.insert(number, failed).is_none());
                    }
                }
            }
            Happening::HandBack(at) => {
                if self.batches.is_empty() {
                    return;
                }
                let mut batch = self.batches.swap_remove(at % count);
                for (first, last, attempts) in self.ledger.hand_back(&mut batch) {
                    for number in first..=last {
                        let made = self.attempts.get(&number).copied().unwrap_or_default();
                        assert_eq!(attempts, made, "attempts are not forgotten");
                        assert!(self.again.insert(number, attempts).is_none());
                    }
                }
            }
        }
    }

    /// Every slice is in one place, and the ledger says how many are where.
    fn check(&self) {
        let Ledger { total, given, again, active, completed, failed, .. } = self.ledger;
        let mut places: BTreeMap<u64, u32> = BTreeMap::new();
        let of_batches = self.batches.iter().flat_map(|batch| batch.open.iter());
        let ended = self.ended.keys().copied();
        for number in of_batches.chain(self.again.keys().copied()).chain(ended) {
            *places.entry(number).or_default() += 1;
        }
        assert_eq!(places.keys().copied().collect::<Vec<_>>(), (1..=given).collect::<Vec<_>>());
        assert!(places.values().all(|count| *count == 1));
        assert!(given <= total);
        let count = |wanted: fn(&Verdict) -> bool| {
            u64::try_from(self.ended.values().filter(|end| wanted(end)).count()).unwrap()
        };
        assert_eq!(completed, count(|end| *end == Verdict::Done));
        assert_eq!(failed, count(|end| *end != Verdict::Done));
        assert_eq!(again, u64::try_from(self.again.len()).unwrap());
        let leased = self.batches.iter().filter(|batch| batch.leased);
        assert_eq!(active, leased.map(|batch| batch.open.len()).sum::<u64>());
    }
}

proptest! {
    #[test]
    fn every_slice_is_in_one_place_whatever_happens(
        happenings in prop::collection::vec(happening(), 0..80),
    ) {
        let mut world = World::default();
        for happening in happenings {
            world.happen(happening);
            world.check();
        }
        // Whatever has happened, a job that is worked on ends.
        while !world.ledger.is_settled() {
            for at in (0..world.batches.len()).rev() {
                let mut batch = world.batches.swap_remove(at);
                world.ledger.lease(&mut batch);
                for (first, last) in batch.open.clone().runs() {
                    prop_assert!(world.ledger.finish(&mut batch, *first, *last));
                    world.ended.extend((*first..=*last).map(|number| (number, Verdict::Done)));
                }
            }
            world.happen(Happening::Retry(4));
            world.happen(Happening::Cut(7));
        }
        world.check();
        let ended = matches!(
            world.ledger.status(),
            WorkStatus::New | WorkStatus::Completed | WorkStatus::Corrupted
        );
        prop_assert!(ended);
    }

    #[test]
    fn a_batch_is_never_empty_nor_larger_than_it_may_be(
        learned in prop::collection::vec((0_u64..2_000, -1.0..100.0, any::<bool>()), 0..20),
        pending in 1_u64..10_000_000,
        slots in 0_u64..2_000,
        bytes in 0_u64..100_000_000,
    ) {
        let mut pace = Pace::default();
        for (slices, seconds, whole) in learned {
            pace.learn(slices, seconds);
            pace.saw(if whole { slices } else { 0 });
        }
        let size = pace.batch(pending, slots, bytes);
        prop_assert!((1..=BATCH).contains(&size));
        prop_assert!(bytes == 0 || size == 1 || size * bytes <= BYTES);
    }
}

#[test]
fn batches_grow_to_what_a_tenth_of_a_second_holds() {
    let mut pace = Pace::default();
    let mut sizes = Vec::new();
    for _ in 0..5 {
        let size = pace.batch(1_000_000, 2, 2);
        sizes.push(size);
        pace.learn(size, f64::from(u32::try_from(size).unwrap()) * 0.000_001);
        pace.saw(size);
    }
    assert_eq!(sizes, [1, 16, 256, 4_096, 8_192]);
    pace.learn(1_024, 1_024.0 * 0.002);
    assert_eq!(pace.batch(1_000_000, 2, 2), 40);
    pace.learn(1, 1.0);
    assert_eq!(pace.batch(1_000_000, 2, 2), 1, "a slow slice travels alone");
    assert_eq!(Pace::default().batch(1_000_000, 2, 2), 1);
}

#[test]
fn the_first_condition_that_holds_is_the_status() {
    let ledger =
        |total, completed, failed| Ledger { total, completed, failed, ..Ledger::default() };
    assert_eq!(ledger(0, 0, 0).status(), WorkStatus::New);
    assert_eq!(ledger(3, 2, 0).status(), WorkStatus::Running);
    assert_eq!(ledger(3, 3, 0).status(), WorkStatus::Completed);
    assert_eq!(ledger(3, 2, 1).status(), WorkStatus::Corrupted);
    assert_eq!(ledger(3, 0, 3).status(), WorkStatus::Corrupted);
    assert_eq!(Ledger { held: true, ..ledger(3, 3, 0) }.status(), WorkStatus::Paused);
    let cancelled = Ledger { cancelled: true, held: true, ..ledger(0, 0, 0) };
    assert_eq!(cancelled.status(), WorkStatus::Cancelled);
}
