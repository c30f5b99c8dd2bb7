//! The thread behind the journal's: brings changes to sled, syncs it, lets old journal files go.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::StoreError;
use super::batch::Position;
use super::blob;
use super::core::{Core, Reason};

/// How long changes stay in memory, where later ones to the same rows replace them.
const LINGER: Duration = Duration::from_secs(1);
/// Without changes for this long, sled is synced.
const IDLE: Duration = Duration::from_secs(10);
/// Sled is synced at the latest after so many rounds of changes …
const ROUNDS: u32 = 30;
/// … and when the journal has grown so much, which bounds what a restart must replay.
const JOURNAL_BYTES: u64 = 32 << 20;
/// Large values written that are worth looking for unused ones.
const COLLECT_BYTES: u64 = 64 << 20;
/// Changes written to sled at once while catching up, bytes.
const CATCH_UP_BYTES: u64 = 8 << 20;

/// Runs until it is told to stop.
pub(super) fn run(core: &Core) {
    let mut work = Work { core, unsynced: 0, journal_bytes: core.journal.bytes() };
    let mut failed = false;
    loop {
        let reason = core.background.wait(LINGER, (work.unsynced > 0).then_some(IDLE));
        let round = AssertUnwindSafe(|| work.round(reason));
        let outcome = catch_unwind(round).unwrap_or(Err(StoreError::Panicked("writing to sled")));
        if let Err(err) = &outcome
            && !failed
        {
            tracing::error!(%err, "the state could not be written; it is tried every second");
        }
        failed = outcome.is_err();
        core.background.report(outcome.map_err(Arc::new));
        if reason == Reason::Stop {
            return;
        }
        if failed {
            work.retry();
        }
    }
}

struct Work<'c> {
    core: &'c Core,
    unsynced: u32,
    journal_bytes: u64,
}

impl Work<'_> {
    fn round(&mut self, reason: Reason) -> Result<(), StoreError> {
        while self.core.state.settle()? {
            self.unsynced += 1;
            self.core.background.report(Ok(()));
            if reason != Reason::Stop {
                break;
            }
        }
        if self.core.state.stored() < self.core.state.position() {
            // What was left from a failed round went first.
            self.core.background.notify(false);
        }
        if let Err(err) = self.core.log.expire(&*self.core.journal) {
            tracing::error!(%err, "old events could not be looked for");
        }
        let grown = self.core.journal.bytes().saturating_sub(self.journal_bytes);
        let due = self.unsynced >= ROUNDS || grown >= JOURNAL_BYTES || reason != Reason::Changes;
        if due && self.unsynced > 0 {
            checkpoint(self.core)?;
            let blobs = &self.core.blobs;
            if blobs.written() >= COLLECT_BYTES.max(blobs.bytes() / 2) {
                collect(self.core)?;
            }
            self.unsynced = 0;
            self.journal_bytes = self.core.journal.bytes();
        }
        Ok(())
    }

    fn retry(&mut self) {
        self.unsynced += 1;
        let again = AssertUnwindSafe(|| reopen(self.core));
        let outcome = catch_unwind(again).unwrap_or(Err(StoreError::Panicked("reopening sled")));
        if let Err(err) = &outcome {
            tracing::debug!(%err, "the state could not be opened again");
        }
        self.core.background.report(outcome.map_err(Arc::new));
        // What was frozen still is; the next round begins with it.
        self.core.background.notify(false);
    }
}

/// Opens sled again, which stays failed once it has, and brings it back to where it was.
pub(super) fn reopen(core: &Core) -> Result<(), StoreError> {
    // Until there is room to write, the failed one can at least be read.
    core.check_space(core.state.pending_bytes())?;
    core.state.reopen(|disk, from, until| {
        let mut failed = Ok(());
        core.journal.read(from.number, &mut |batch| {
            let rows = batch.changes.iter().map(|(key, value)| (key, value.as_deref()));
            failed = disk.write(rows, batch.position());
            if failed.is_ok() && batch.number < until.number {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        failed
    })
}

/// Makes the state durable; then the journal is needed for nothing but events, and backups.
pub(super) fn checkpoint(core: &Core) -> Result<(), StoreError> {
    let stored = core.state.sync()?;
    let seq = core.log.oldest().saturating_sub(1);
    let pinned = core.pinned.lock();
    let number = pinned.map_or(stored.number, |pinned| pinned.min(stored.number));
    core.journal.forget(Position { number, seq })
}

/// Removes the files of large values that no row refers to any more, unless a backup reads them.
pub(super) fn collect(core: &Core) -> Result<(), StoreError> {
    let Some(_archiving) = core.archiving.try_lock() else { return Ok(()) };
    core.blobs.collect(|mark| {
        core.state.each(|_, value| {
            if let Some(digest) = blob::reference(value) {
                mark(digest);
            }
            Ok(())
        })
    })
}

/// Brings the state to where the journal is, after opening.
pub(super) fn catch_up(core: &Core) -> Result<(), StoreError> {
    let from = core.state.position();
    if core.journal.last() == from {
        return Ok(());
    }
    let mut failed = Ok(());
    core.journal.read(from.number, &mut |batch| {
        let waiting = core.state.apply(std::iter::once((&*batch.changes, batch.position())));
        if waiting >= CATCH_UP_BYTES {
            failed = core.state.settle().map(drop);
        }
        if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failed
}
