//! Commits: appends what has queued up at once, applies it, publishes it, replies.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::StoreError;
use super::batch::Batch;
use super::core::Core;

/// Batches appended together.
const GROUP: usize = 16;
/// Changes in memory that are worth writing to sled at once, bytes.
const URGENT_BYTES: u64 = 8 << 20;

/// Told what became of a batch.
pub(super) type Done = Box<dyn FnOnce(Result<(), Arc<StoreError>>) + Send>;

/// A batch on its way.
pub(super) struct Submission {
    pub(super) batch: Batch,
    pub(super) done: Done,
}

/// What was committed at once, for metrics.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    /// Batches written together.
    pub batches: usize,
    /// Rows they changed.
    pub changes: usize,
    /// Events they logged.
    pub events: usize,
    /// From the first look at them until they were durable and visible.
    pub took: Duration,
    /// Whether it worked.
    pub ok: bool,
}

/// The journal's thread: runs until the queue is closed.
pub(super) fn run(
    core: &Core,
    queue: &Receiver<Submission>,
    observe: &(dyn Fn(Committed) + Send + Sync),
) {
    while let Ok(first) = queue.recv() {
        let mut round = vec![first];
        while round.len() < GROUP {
            let Ok(next) = queue.try_recv() else { break };
            round.push(next);
        }
        carry_out(core, round, observe);
    }
}

/// Commits what was submitted together, on the thread that calls.
pub(super) fn carry_out(
    core: &Core,
    round: Vec<Submission>,
    observe: &(dyn Fn(Committed) + Send + Sync),
) {
    let started = instant();
    let (mut batches, replies): (Vec<Batch>, Vec<Done>) =
        round.into_iter().map(|submission| (submission.batch, submission.done)).unzip();
    let outcome = commit(core, &mut batches);
    observe(Committed {
        batches: batches.len(),
        changes: batches.iter().map(|batch| batch.changes.len()).sum(),
        events: batches.iter().map(|batch| batch.events.len()).sum(),
        took: started.elapsed(),
        ok: outcome.is_ok(),
    });
    for done in replies {
        let outcome = outcome.clone();
        if catch_unwind(AssertUnwindSafe(|| done(outcome))).is_err() {
            tracing::error!("the reply to a commit panicked");
        }
        core.pipeline.leave();
    }
}

fn commit(core: &Core, batches: &mut [Batch]) -> Result<(), Arc<StoreError>> {
    let outcome = match core.pipeline.failure() {
        Some(cause) => Err(cause),
        None => catch_unwind(AssertUnwindSafe(|| append(core, batches)))
            .unwrap_or_else(|_| Err(Arc::new(StoreError::Panicked("appending a batch")))),
    };
    if let Err(cause) = &outcome {
        core.pipeline.fail(cause);
    }
    outcome
}

fn append(core: &Core, batches: &mut [Batch]) -> Result<(), Arc<StoreError>> {
    core.make_room()?;
    let _writing = core.blobs.spill(batches)?;
    core.journal.append(batches)?;
    let Some(last) = batches.last() else { return Ok(()) };
    let waiting = core.state.apply(batches.iter().map(|b| (&*b.changes, b.position())));
    core.pipeline.advance(last.position());
    core.background.notify(waiting >= URGENT_BYTES);
    core.watchers.tell(core, batches);
    core.log.publish(batches.iter());
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "measures how long a commit takes, decides nothing")]
fn instant() -> Instant {
    Instant::now()
}
