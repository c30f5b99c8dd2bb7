//! Open jobs of the compute face: what has become of their slices, and how batches are cut.
//!
//! Every slice is in exactly one place: after the cursor, among those to be tried again, in one
//! batch, or at its end, which is a result or an error.

use minicbor::{Decode, Encode};

use super::numbers::Numbers;

/// Attempts at a slice before it has failed, unless configured otherwise.
pub const ATTEMPTS: u32 = 3;
/// Most slices in a batch.
pub const BATCH: u64 = 8_192;
/// Most slices in a row of inputs or results.
pub const ROW: u64 = 4_096;
/// What a batch should take, seconds.
const AIM: f64 = 0.08;
/// How much larger than the largest that was seen through the next batch may be.
const GROWTH: u64 = 16;
/// What the inputs of a batch should take at most, bytes, as far as their mean says.
const BYTES: u64 = 1 << 20;

/// Where an open job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum WorkStatus {
    /// It has no slices yet.
    #[n(0)]
    New,
    /// It has slices that have not ended.
    #[n(1)]
    Running,
    /// All its slices have results.
    #[n(2)]
    Completed,
    /// All its slices have ended, and some have failed.
    #[n(3)]
    Corrupted,
    /// It was cancelled.
    #[n(4)]
    Cancelled,
    /// It is held.
    #[n(5)]
    Paused,
}

impl WorkStatus {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::New, Self::Running, Self::Completed, Self::Corrupted, Self::Cancelled, Self::Paused];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Corrupted => "corrupted",
            Self::Cancelled => "cancelled",
            Self::Paused => "paused",
        }
    }
}

/// The account of an open job's slices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Ledger {
    /// Slices submitted so far.
    #[n(0)]
    pub total: u64,
    /// Slices up to this number have been put into batches: the cursor.
    #[n(1)]
    pub given: u64,
    /// Slices that are to be tried again.
    #[n(2)]
    pub again: u64,
    /// Slices in batches that runners have.
    #[n(3)]
    pub active: u64,
    /// Slices with a result.
    #[n(4)]
    pub completed: u64,
    /// Slices that have failed for good.
    #[n(5)]
    pub failed: u64,
    /// The number of the last batch.
    #[n(6)]
    pub batches: u32,
    /// The number of the last event.
    #[n(7)]
    pub seq: u64,
    /// Processor time spent, microseconds.
    #[n(8)]
    pub cpu_micros: u64,
    /// Bytes of all inputs.
    #[n(9)]
    pub input_bytes: u64,
    /// It was cancelled.
    #[n(10)]
    pub cancelled: bool,
    /// Why.
    #[n(11)]
    pub reason: Option<String>,
    /// It is held.
    #[n(12)]
    pub held: bool,
    /// Its account cannot pay for another slice.
    #[cbor(n(13), default)]
    pub unpaid: bool,
}

/// A batch: slices that are given to a runner together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Batch {
    /// Slices of which nothing has come yet.
    #[n(0)]
    pub open: Numbers,
    /// Attempts before this one, of slices that had any.
    #[n(1)]
    pub tried: Vec<(u64, u32)>,
    /// Whether a runner has it.
    #[n(2)]
    pub leased: bool,
    /// Slices of which something has come.
    #[n(3)]
    pub settled: u64,
}

/// What follows from the end of an attempt at a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has a result.
    Done,
    /// It is to be tried again after so many attempts.
    Again(u32),
    /// It has failed, after so many attempts.
    Failed(u32),
}

impl Ledger {
    /// Where the job stands.
    pub const fn status(&self) -> WorkStatus {
        if self.cancelled {
            WorkStatus::Cancelled
        } else if self.held || self.unpaid {
            WorkStatus::Paused
        } else if self.total == 0 {
            WorkStatus::New
        } else if self.completed == self.total {
            WorkStatus::Completed
        } else if self.completed + self.failed == self.total {
            WorkStatus::Corrupted
        } else {
            WorkStatus::Running
        }
    }

    /// Slices that wait to be put into a batch.
    pub const fn pending(&self) -> u64 {
        if self.cancelled || self.held || self.unpaid {
            0
        } else {
            self.total - self.given + self.again
        }
    }

    /// Whether nothing is left to do.
    pub const fn is_settled(&self) -> bool {
        self.cancelled || self.completed + self.failed == self.total
    }

    /// Mean size of an input, bytes.
    pub fn mean_bytes(&self) -> u64 {
        self.input_bytes.checked_div(self.total).unwrap_or_default()
    }

    /// Takes the next slices off the cursor, at most so many.
    pub fn cut(&mut self, most: u64) -> Option<Batch> {
        let first = self.given.checked_add(1).filter(|first| *first <= self.total)?;
        let last = self.total.min(self.given.saturating_add(most.max(1)));
        self.given = last;
        Some(Batch { open: Numbers::run(first, last), ..Batch::default() })
    }

    /// A runner has got the batch.
    pub fn lease(&mut self, batch: &mut Batch) {
        if !batch.leased {
            batch.leased = true;
            self.active += batch.open.len();
        }
    }

    /// Its runner has the batch no more.
    pub fn release(&mut self, batch: &mut Batch) {
        if batch.leased {
            batch.leased = false;
            self.active = self.active.saturating_sub(batch.open.len());
        }
    }

    /// Results of slices in a row; `false`, and nothing has changed, unless all of them were open.
    pub fn finish(&mut self, batch: &mut Batch, first: u64, last: u64) -> bool {
        if !batch.open.remove_run(first, last) {
            return false;
        }
        let count = last - first + 1;
        batch.settled += count;
        self.completed += count;
        if batch.leased {
            self.active = self.active.saturating_sub(count);
        }
        true
    }

    /// An attempt at a slice has failed; none when the slice was not open.
    pub fn fail(&mut self, batch: &mut Batch, number: u64, attempts: u32) -> Option<Verdict> {
        if !batch.open.remove_run(number, number) {
            return None;
        }
        batch.settled += 1;
        if batch.leased {
            self.active = self.active.saturating_sub(1);
        }
        let made = batch.attempts(number).saturating_add(1);
        if made < attempts {
            self.again += 1;
            Some(Verdict::Again(made))
        } else {
            self.failed += 1;
            Some(Verdict::Failed(made))
        }
    }

    /// Takes all open slices out of a batch, uncharged: runs of slices with as many attempts.
    pub fn hand_back(&mut self, batch: &mut Batch) -> Vec<(u64, u64, u32)> {
        self.release(batch);
        let open = std::mem::take(&mut batch.open);
        self.again += open.len();
        let mut runs = Vec::new();
        for (mut first, last) in open.runs().iter().copied() {
            for (number, attempts) in batch.tried_between(first, last) {
                if first < number {
                    runs.push((first, number - 1, 0));
                }
                runs.push((number, number, attempts));
                first = number + 1;
            }
            if first <= last {
                runs.push((first, last, 0));
            }
        }
        runs
    }

    /// Slices that were to be tried again go into a batch.
    pub fn retry(&mut self, batch: &mut Batch, first: u64, last: u64, attempts: u32) {
        self.again = self.again.saturating_sub(last - first + 1);
        batch.open.insert_run(first, last);
        if attempts > 0 {
            batch.tried.extend((first..=last).map(|number| (number, attempts)));
        }
    }
}

impl Batch {
    /// Attempts at a slice before this one.
    pub fn attempts(&self, number: u64) -> u32 {
        self.tried.iter().find(|(tried, _)| *tried == number).map_or(0, |(_, attempts)| *attempts)
    }

    fn tried_between(&self, first: u64, last: u64) -> Vec<(u64, u32)> {
        let mut tried: Vec<(u64, u32)> = self
            .tried
            .iter()
            .filter(|(number, _)| (first..=last).contains(number))
            .copied()
            .collect();
        tried.sort_unstable();
        tried
    }
}

/// What is known of how long the slices of a job take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Mean time of a slice, seconds; the later ones count more.
    seconds: f64,
    /// The largest batch that was seen through.
    largest: u64,
}

impl Pace {
    /// Slices have taken so long together.
    #[expect(
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "a batch has far fewer slices than a float has digits"
    )]
    pub fn learn(&mut self, slices: u64, seconds: f64) {
        if slices == 0 || !seconds.is_finite() {
            return;
        }
        let mean = seconds.max(0.0) / slices as f64;
        // A change for the worse counts at once: a batch that is too long holds its slices up.
        let share = if mean > self.seconds { 1.0 } else { 0.5 };
        self.seconds += (mean - self.seconds) * share;
    }

    /// A batch of so many slices was seen through.
    pub fn saw(&mut self, slices: u64) {
        self.largest = self.largest.max(slices);
    }

    /// How many slices the next batch should have, of `pending` ones for so many slots.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::as_conversions,
        reason = "a cast of a float saturates, and it is bounded right after"
    )]
    pub fn batch(&self, pending: u64, slots: u64, mean_bytes: u64) -> u64 {
        let by_growth = self.largest.saturating_mul(GROWTH).max(1);
        let by_time = if self.seconds > 0.0 { (AIM / self.seconds) as u64 } else { u64::MAX };
        let by_bytes = BYTES.checked_div(mean_bytes).unwrap_or(u64::MAX);
        // The last slices are spread over all slots.
        let by_share = pending.div_ceil(slots.max(1).saturating_mul(2));
        by_growth.min(by_time).min(by_bytes).min(by_share).clamp(1, BATCH)
    }
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
