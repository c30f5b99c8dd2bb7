//! Batches of slices: cut when slots are free, each one task, and what comes of them.

use super::delivered::{Delivered, Failure, Run, runs};
use super::groups::Start;
use super::memory::{GroupId, GroupKey};
use super::plan::{History, JobSpec, Plan, Prepared};
use super::queue::{Place, Skill};
use super::token::Token;
use super::turn::{Live, SliceNote, Turn};
use super::works::OpenWork;
use crate::Result;
use crate::model::task::State;
use crate::model::work::{Batch, Verdict};
use crate::model::{Millis, Triple};
use crate::store::{
    AGAIN, ATTEMPTS, BATCHES, FAILED, RESULTS, SLICE_FAILURES, SliceFailureRow, TASKS, Tx,
    WorkEvent,
};

/// Batches that wait for a slot at most, per compute group and language.
const WAITING: u64 = 256;
/// Slices that have to be fetched of which one batch is made at most.
const FETCHED: u64 = 8;
/// Rows of slices to be tried again that one batch is made of at most.
const RETRIES: usize = 64;
/// Ended batches of a job whose task is kept, so that a report that is repeated is understood.
const REMEMBERED: u32 = 64;
/// What a runner may need besides the time of the slices, seconds.
const SPARE_SECONDS: u64 = 60;

/// How a batch has ended.
enum Ending {
    /// Its runner is through with it.
    Finished,
    /// Its runner could not see it through.
    Failed(String),
    /// Its job was cancelled or held.
    Dropped,
}

impl Turn<'_> {
    /// Cuts batches until as many wait as there are slots: a slot that becomes free is filled at
    /// once, with a batch that is durable by then.
    pub(super) fn cut_batches(&mut self, group: u32) -> Result<()> {
        let open: Vec<Place> =
            self.memory.turns.keys().filter(|place| place.0 == group).copied().collect();
        for key in open {
            let slots = self.memory.slots.get(&key).copied().unwrap_or_default();
            let wanted = usize::try_from(slots.min(WAITING)).unwrap_or(usize::MAX);
            while self.memory.ready.waiting(key) < wanted {
                let turns = self.memory.turns.get_mut(&key);
                let Some(work) = turns.and_then(std::collections::VecDeque::pop_front) else {
                    break;
                };
                self.cut_batch(work, slots)?;
            }
            if self.memory.turns.get(&key).is_some_and(std::collections::VecDeque::is_empty) {
                self.memory.turns.remove(&key);
            }
        }
        Ok(())
    }

    fn cut_batch(&mut self, work: u32, slots: u64) -> Result<()> {
        self.touch();
        let Some(open) = self.memory.works.get_mut(&work) else { return Ok(()) };
        open.queued = false;
        let pending = open.ledger.pending();
        if pending == 0 {
            return Ok(());
        }
        let mut most = open.pace.batch(pending, slots, open.ledger.mean_bytes());
        if open.ledger.given < open.remote || (open.remote > 0 && open.ledger.again > 0) {
            most = most.min(FETCHED);
        }
        let most = open.afford(&self.tx, most)?;
        if most == 0 {
            // It goes on when what is under way has ended, or there is credit again.
            return if open.ledger.unpaid { self.keep_work(work) } else { Ok(()) };
        }
        let mut batch = Batch::default();
        if open.ledger.again > 0 {
            take_again(&mut self.tx, open, &mut batch, most)?;
        }
        if batch.open.is_empty() {
            let Some(next) = open.ledger.cut(most) else { return Ok(()) };
            batch = next;
        }
        open.ledger.batches = open.ledger.batches.wrapping_add(1);
        let number = open.ledger.batches;
        let key = (open.group, work, number);
        let start = start(key, open, &batch)?;
        self.tx.put(BATCHES, &(work, number), &batch)?;
        open.batches.insert(number, batch);
        let group = self.start_group(start)?;
        self.begin_tasks(group, History::default(), false)?;
        self.keep_work(work)
    }

    /// Takes what a runner says about the slices of a batch that it has.
    pub(super) fn take_slices(
        &mut self,
        group: GroupId,
        token: Token,
        delivered: &Delivered,
    ) -> Result<()> {
        let key = self.memory.groups.get(&group).map(|group| group.key);
        let Some(GroupKey::Batch((_, work, number))) = key else { return Ok(()) };
        self.touch();
        let now = self.now;
        if self.live.receiver_count() > 0 {
            let told = |note: &SliceNote| Live::Slice(SliceNote { work, at: now, ..note.clone() });
            self.lines.extend(delivered.notes.iter().map(told));
        }
        if delivered.runs.is_empty() && delivered.failures.is_empty() {
            return Ok(());
        }
        let Some(open) = self.memory.works.get_mut(&work) else { return Ok(()) };
        let Some(mut batch) = open.batches.remove(&number) else { return Ok(()) };
        let (before, completed) = (batch.settled, open.ledger.completed);
        for run in &delivered.runs {
            keep_results(&mut self.tx, open, &mut batch, run, now)?;
        }
        for failure in &delivered.failures {
            keep_failure(&mut self.tx, open, &mut batch, failure, now)?;
        }
        open.charge(&mut self.tx, open.ledger.completed - completed)?;
        open.pace.learn(batch.settled - before, delivered.seconds);
        let micros = std::time::Duration::try_from_secs_f64(delivered.seconds);
        let micros = micros.map_or(0, |spent| u64::try_from(spent.as_micros()).unwrap_or_default());
        open.ledger.cpu_micros = open.ledger.cpu_micros.saturating_add(micros);
        self.tx.put(BATCHES, &(work, token.job.2), &batch)?;
        open.batches.insert(number, batch);
        self.keep_work(work)
    }

    /// Notes that slices of a batch could not be fetched for the runner that has it: with each, why.
    ///
    /// # Errors
    /// Storage errors.
    pub fn slices_not_fetched(&mut self, token: Token, slices: &[(u64, String)]) -> Result<()> {
        let Some((group, index)) = self.memory.by_job.get(&token.job).copied() else {
            return Ok(());
        };
        let task = self.memory.groups.get(&group).and_then(|group| group.task(index));
        let lease = task.and_then(|task| task.state.lease());
        // It may have been taken away since.
        if lease.is_none_or(|lease| lease.fence != token.fence(lease.fence.runner)) {
            return Ok(());
        }
        self.take_slices(group, token, &Delivered::not_fetched(slices))
    }

    /// Follows a step of a batch's task: who has its slices, and whether it has ended.
    pub(super) fn follow_batch(&mut self, at: (GroupId, u32)) -> Result<()> {
        let Some(group) = self.memory.groups.get(&at.0) else { return Ok(()) };
        let GroupKey::Batch((context, work, number)) = group.key else { return Ok(()) };
        let Some(task) = group.task(at.1) else { return Ok(()) };
        let leased = task.state.lease().is_some();
        let ending = match &task.state {
            State::Finished => Some(Ending::Finished),
            State::Failed { error } => Some(Ending::Failed(error.clone())),
            State::GivenUp { .. } => Some(Ending::Dropped),
            _ => None,
        };
        let Some(open) = self.memory.works.get_mut(&work) else { return Ok(()) };
        let Some(mut batch) = open.batches.remove(&number) else { return Ok(()) };
        let Some(ending) = ending else {
            let changed = batch.leased != leased;
            if leased {
                open.ledger.lease(&mut batch);
            } else {
                open.ledger.release(&mut batch);
            }
            if changed {
                self.tx.put(BATCHES, &(work, number), &batch)?;
            }
            open.batches.insert(number, batch);
            return if changed { self.keep_work(work) } else { Ok(()) };
        };
        let now = self.now;
        end_batch(&mut self.tx, open, batch, &ending, now)?;
        self.tx.remove(BATCHES, &(work, number));
        self.forget_batch((context, work, number.wrapping_sub(REMEMBERED)))?;
        self.keep_work(work)
    }

    /// Removes what is left of the task of a batch that ended long ago.
    fn forget_batch(&mut self, (context, work, number): Triple) -> Result<()> {
        if self.memory.by_job.contains_key(&(context, work, number)) {
            return Ok(());
        }
        let Some(row) = self.tx.get(TASKS, &(context, work, number))? else { return Ok(()) };
        self.tx.remove(TASKS, &(context, work, number));
        for attempt in 1..row.attempt.map_or(0, |last| last.attempt) {
            self.tx.remove(ATTEMPTS, &(context, work, number, attempt));
        }
        Ok(())
    }
}

/// The run that a batch is.
pub(super) fn start(key: Triple, open: &OpenWork, batch: &Batch) -> Result<Start> {
    let slices = batch.open.len().saturating_mul(open.slice_millis).div_ceil(1_000);
    let spec = JobSpec {
        skill: Skill::Function(open.language),
        class: open.class,
        // Its slices are tried again, each for itself.
        retries: 0,
        timeout: u32::try_from(slices.saturating_add(SPARE_SECONDS)).unwrap_or(u32::MAX),
        held_back: false,
    };
    let plan = Plan::single(key.2, spec)?.into();
    Ok(Start {
        key: GroupKey::Batch(key),
        caller: key.1,
        env: std::sync::Arc::default(),
        prepared: Prepared { plan, history: History::default() },
        fail_fast: false,
        has_results: false,
        acknowledge_within: super::ACKNOWLEDGE_WITHIN,
        result_within: 0,
        due: None,
        message: None,
    })
}

/// Fills a batch with slices that are to be tried again.
fn take_again(tx: &mut Tx<'_>, open: &mut OpenWork, batch: &mut Batch, most: u64) -> Result<()> {
    let work = open.number;
    let rows = tx.page(SLICE_FAILURES, &(work, AGAIN), None, RETRIES)?;
    if rows.is_empty() {
        tracing::error!(work, again = open.ledger.again, "slices to be tried again are gone");
        open.ledger.again = 0;
    }
    for ((.., first), row) in rows {
        let room = most.saturating_sub(batch.open.len());
        if room == 0 || (row.alone && !batch.open.is_empty()) {
            break;
        }
        let last = row.last.min(first.saturating_add(room - 1));
        tx.remove(SLICE_FAILURES, &(work, AGAIN, first));
        open.ledger.retry(batch, first, last, row.attempts);
        let alone = row.alone;
        if last < row.last {
            tx.put(SLICE_FAILURES, &(work, AGAIN, last + 1), &row)?;
        }
        if alone {
            break;
        }
    }
    Ok(())
}

fn keep_results(
    tx: &mut Tx<'_>,
    open: &mut OpenWork,
    batch: &mut Batch,
    run: &Run,
    now: Millis,
) -> Result<()> {
    let Run { first, last, texts } = run;
    if open.ledger.finish(batch, *first, *last) {
        tx.put_encoded(RESULTS, &(open.number, *last), texts);
        return open.record(tx, now, WorkEvent::Results { first: *first, last: *last });
    }
    // Some of them came before, or are none of this batch: the others count.
    let row = texts.read(RESULTS)?;
    let wanted = row.numbered(*last).filter(|(number, _)| batch.open.contains(*number));
    for Run { first, last, texts } in runs(wanted)? {
        if open.ledger.finish(batch, first, last) {
            tx.put_encoded(RESULTS, &(open.number, last), &texts);
            open.record(tx, now, WorkEvent::Results { first, last })?;
        }
    }
    Ok(())
}

fn keep_failure(
    tx: &mut Tx<'_>,
    open: &mut OpenWork,
    batch: &mut Batch,
    failure: &Failure,
    now: Millis,
) -> Result<()> {
    let limit = open.attempts;
    let Some(verdict) = open.ledger.fail(batch, failure.number, limit) else { return Ok(()) };
    let (place, attempt) = match verdict {
        Verdict::Again(attempts) => (AGAIN, attempts),
        Verdict::Failed(attempts) => (FAILED, attempts),
        Verdict::Done => return Ok(()),
    };
    let Failure { number, name, message, alone } = failure.clone();
    let row = SliceFailureRow {
        last: number,
        attempts: attempt,
        name: name.clone(),
        message: message.clone(),
        alone,
    };
    tx.put(SLICE_FAILURES, &(open.number, place, number), &row)?;
    let last = place == FAILED;
    open.record(tx, now, WorkEvent::Error { number, attempt, last, name, message })
}

/// Does with the slices of which nothing has come what the end of their batch asks for.
fn end_batch(
    tx: &mut Tx<'_>,
    open: &mut OpenWork,
    mut batch: Batch,
    ending: &Ending,
    now: Millis,
) -> Result<()> {
    let error = match ending {
        Ending::Finished if batch.open.is_empty() => {
            open.pace.saw(batch.settled);
            None
        }
        // A runner may hand slices back, but not all of a batch for ever.
        Ending::Finished if batch.settled == 0 => Some("the runner left the slice out"),
        Ending::Finished | Ending::Dropped => None,
        Ending::Failed(error) => Some(error.as_str()),
    };
    // Slices are called one after another: the first of which nothing came is what the runner was
    // at. It is charged, and tried by itself; the others were only near it.
    if let (Some(error), Some(number)) = (error, batch.open.first()) {
        let (name, message) = ("RunnerError".to_owned(), error.to_owned());
        let failure = Failure { number, name, message, alone: true };
        keep_failure(tx, open, &mut batch, &failure, now)?;
    }
    if matches!(ending, Ending::Dropped) && open.ledger.cancelled {
        open.ledger.release(&mut batch);
        return Ok(());
    }
    for (first, last, attempts) in open.ledger.hand_back(&mut batch) {
        let (name, message) = (String::new(), String::new());
        let row = SliceFailureRow { last, attempts, name, message, alone: false };
        tx.put(SLICE_FAILURES, &(open.number, AGAIN, first), &row)?;
    }
    Ok(())
}
