//! One turn of the engine: the batch in the making, and what is to be said once it is durable.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustc_hash::FxHashSet;
use tokio::sync::{broadcast, mpsc};

use super::Reply;
use super::memory::{GroupId, GroupKey, Memory};
use super::sessions::Push;
use super::timers::Timer;
use super::version::StagedVersions;
use crate::model::{Millis, Triple};
use crate::store::{CONTEXTS, Draft, Store, Tx};

use crate::{Error, Result};

/// How many contexts are remembered to exist.
const CONTEXTS_REMEMBERED: usize = 10_000;

/// A log line of a job, for those who watch it now.
#[derive(Clone, Debug)]
pub struct LiveLine {
    /// The job.
    pub job: Triple,
    /// When it was reported.
    pub at: Millis,
    /// The attempt that wrote it.
    pub attempt: u32,
    /// Its stream, such as `stdout`.
    pub stream: String,
    /// The text.
    pub line: String,
}

/// What a slice said on the way, for those who watch its job now.
#[derive(Clone, Debug)]
pub struct SliceNote {
    /// The number of the open job.
    pub work: u32,
    /// The slice.
    pub slice: u64,
    /// When it was reported.
    pub at: Millis,
    /// `progress`, `console` or `emit`.
    pub kind: &'static str,
    /// The members that it has besides, as they stand within a JSON object.
    pub members: String,
}

/// What is told to those who watch now, and not kept for others.
#[derive(Clone, Debug)]
pub enum Live {
    /// A log line of a job.
    Line(LiveLine),
    /// What a slice said.
    Slice(SliceNote),
}

/// A notification on its way to an attached runner.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) runner: (u32, u32),
    pub(super) session: u64,
    pub(super) pushes: mpsc::Sender<Push>,
    pub(super) push: Push,
}

/// What a change works on: the batch in the making, and what is kept in memory of active work.
///
/// A change first checks everything and then acts: an error after it has touched the memory makes
/// the engine forget the whole turn and read its memory anew.
pub struct Turn<'s> {
    pub(super) tx: Tx<'s>,
    /// The time of this turn.
    pub now: Millis,
    pub(super) memory: Memory,
    pub(super) versions: StagedVersions,
    /// How long a lost runner may take to come back.
    pub(super) grace: Millis,
    /// The number of this turn's batch.
    pub(super) batch: u64,
    /// The number of the last batch that is known to be durable.
    pub(super) durable: u64,
    pub(super) replies: Vec<Reply>,
    /// Sent once this batch is durable.
    pub(super) held: Vec<Held>,
    /// Sent at the end of the turn.
    pub(super) immediate: Vec<Held>,
    /// Contexts in which a task became ready or a slot free.
    pub(super) marked: FxHashSet<u32>,
    /// Ends of tasks whose consequences are still to be drawn.
    pub(super) settled: Vec<super::apply::Settled>,
    /// Log lines for those who watch live, sent once this batch is durable.
    pub(super) lines: Vec<Live>,
    pub(super) live: broadcast::Sender<Arc<Live>>,
    /// The memory has changed since the last change began.
    touched: bool,
    /// A change failed half-way: nothing of this turn may be committed.
    pub(super) poisoned: bool,
}

impl std::fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { now, batch, durable, .. } = self;
        f.debug_struct("Turn")
            .field("now", now)
            .field("batch", batch)
            .field("durable", durable)
            .finish_non_exhaustive()
    }
}

impl<'s> Deref for Turn<'s> {
    type Target = Tx<'s>;
    fn deref(&self) -> &Tx<'s> {
        &self.tx
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.tx
    }
}

impl<'s> Turn<'s> {
    /// A turn over what is committed or on its way there.
    pub(super) fn begin(
        store: &'s Store,
        memory: Memory,
        versions: StagedVersions,
        live: broadcast::Sender<Arc<Live>>,
        grace: Millis,
    ) -> Self {
        Self {
            tx: store.begin(),
            now: 0,
            memory,
            versions,
            grace,
            batch: 0,
            durable: 0,
            replies: Vec::new(),
            held: Vec::new(),
            immediate: Vec::new(),
            marked: FxHashSet::default(),
            settled: Vec::new(),
            lines: Vec::new(),
            live,
            touched: false,
            poisoned: false,
        }
    }

    /// Runs a change; when it fails or panics, what it staged is taken back.
    pub(super) fn attempt<T>(&mut self, change: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.poisoned {
            return Err(Error::Unavailable("a change before this one failed half-way; try again"));
        }
        let mark = self.tx.mark();
        let (held, immediate, lines) = (self.held.len(), self.immediate.len(), self.lines.len());
        self.touched = false;
        let out = catch_unwind(AssertUnwindSafe(|| {
            let out = change(self)?;
            self.draw_consequences()?;
            Ok(out)
        }));
        let out = out.unwrap_or_else(|_| Err(Error::Bug("a change panicked".to_owned())));
        match &out {
            Ok(_) => {}
            Err(err) => {
                self.tx.rollback(mark);
                self.held.truncate(held);
                self.immediate.truncate(immediate);
                self.lines.truncate(lines);
                self.settled.clear();
                if self.touched {
                    tracing::error!(error = %err, "a change failed half-way; reading memory anew");
                    self.poisoned = true;
                }
            }
        }
        out
    }

    /// Whether there is no reason to write to disk.
    pub(super) fn has_nothing_to_store(&self) -> bool {
        self.tx.is_empty() && self.held.is_empty() && self.lines.is_empty()
    }

    /// Answers what needs no commit.
    pub(super) fn answer(&mut self) {
        for reply in self.replies.drain(..) {
            reply(&Ok(()));
        }
    }

    /// Says that the memory is about to change.
    pub(super) fn touch(&mut self) {
        self.touched = true;
    }

    /// Says that tasks of the context may find slots.
    pub(super) fn mark(&mut self, context: u32) {
        self.marked.insert(context);
    }

    /// Tells an attached runner something once this batch is durable.
    pub(super) fn hold_push(&mut self, runner: (u32, u32), push: Push) {
        let known = self.memory.runners.get_mut(&runner);
        if let Some(session) = known.and_then(|known| known.session.as_mut()) {
            session.held_for = self.batch;
            let (session, pushes) = (session.id, session.pushes.clone());
            self.held.push(Held { runner, session, pushes, push });
        }
    }

    /// Appends an event to the log.
    pub fn emit(&mut self, draft: Draft) {
        let now = self.now;
        self.tx.emit(now, draft);
    }

    pub(super) fn emit_runner(
        &mut self,
        (context, id): (u32, u32),
        kind: &'static str,
        reason: &str,
    ) {
        let data = if reason.is_empty() {
            serde_json::json!({ "runner_id": id })
        } else {
            serde_json::json!({ "runner_id": id, "reason": reason })
        };
        self.emit(Draft {
            kind,
            context_id: Some(context),
            subject: format!("runner/{context}/{id}"),
            group: None,
            data: data.to_string(),
        });
    }

    /// Whether the job is part of a run that has not ended, also when the job itself has.
    ///
    /// Its run still needs how it ended and what it left, also after a restart.
    pub fn job_is_active(&self, context: u32, caller: u32, id: u32) -> bool {
        self.memory.by_job.contains_key(&(context, caller, id))
    }

    /// Where a job stands in a run that has not ended; `None` also when the job itself has.
    pub(super) fn active_task(&self, job: Triple) -> Option<(GroupId, u32)> {
        let at = self.memory.by_job.get(&job).copied()?;
        let status = self.memory.groups.get(&at.0)?.status(at.1)?;
        (!status.is_ended()).then_some(at)
    }

    /// Whether the flow has a run that has not ended.
    pub fn flow_is_active(&self, context: u32, id: u32) -> bool {
        self.memory.by_key.contains_key(&GroupKey::Flow(context, id))
    }

    /// Whether the message is being delivered.
    pub fn message_is_active(&self, context: u32, caller: u32, id: u32) -> bool {
        self.memory.by_key.contains_key(&GroupKey::Message((context, caller, id)))
    }

    /// Whether the context exists.
    ///
    /// # Errors
    /// Storage errors.
    pub fn context_exists(&mut self, context: u32) -> Result<bool> {
        if self.memory.contexts.contains(&context) {
            return Ok(true);
        }
        let exists = self.tx.has(CONTEXTS, &context)?;
        if exists {
            if self.memory.contexts.len() >= CONTEXTS_REMEMBERED {
                self.memory.contexts.clear();
            }
            self.memory.contexts.insert(context);
        }
        Ok(exists)
    }

    /// Whether anything in the context is active.
    pub fn context_is_active(&self, context: u32) -> bool {
        self.memory.per_context.contains_key(&context)
    }

    /// Tells the engine that a definition in the context was created, replaced or deleted.
    pub fn definition_changed(&mut self, context: u32) {
        self.versions.bump(context);
    }

    /// Whether nothing in the context has changed since `version` was read off the engine.
    pub fn is_at(&self, context: u32, version: u64) -> bool {
        self.versions.staged(context) == version
    }

    /// Carries out everything that is due.
    pub(super) fn fire_timers(&mut self) {
        while let Some(timer) = self.memory.timers.pop_due(self.now) {
            let done = self.attempt(|turn| {
                turn.touch();
                turn.fire(timer)
            });
            if let Err(err) = done {
                tracing::error!(error = %err, ?timer, "a deadline could not be carried out");
                break;
            }
        }
    }

    fn fire(&mut self, timer: Timer) -> Result<()> {
        match timer {
            Timer::Ready(group, index) => {
                self.back_off_over((group, index));
                Ok(())
            }
            Timer::Acknowledgement(group, index, attempt) => {
                self.acknowledgement_due((group, index), attempt)
            }
            Timer::Attempt(group, index, attempt) => self.attempt_due((group, index), attempt),
            Timer::Gate(group, index, gate) => self.open_gate((group, index), gate),
            Timer::Group(group) => self.group_due(group),
            Timer::Grace(context, runner) => self.grace_over((context, runner)),
            Timer::Housekeeping => self.forget_old_keys(),
        }
    }
}
