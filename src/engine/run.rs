//! The loop of the engine's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::mpsc::error::TrySendError;

use super::inbox::Inbox;
use super::memory::Memory;
use super::turn::{Held, Live, Turn};
use super::version::{StagedVersions, Versions};
use super::{Command, Committed, Reply};
use crate::model::Millis;
use crate::model::task::JobStatus;
use crate::store::{Store, StoreError};

/// Batches on their way to disk before the next one waits and grows.
const IN_FLIGHT: u64 = 2;
/// Commands that share one batch at most.
const GROUP: usize = 1_024;
/// Rows and events that share one batch, about.
const ROWS: usize = 50_000;
/// Pause after a batch failed that nobody waits for, or the active work could not be read, in
/// milliseconds.
const RETRY_PAUSE: Millis = 500;
/// How often the store is told the time when events are forgotten by age, in milliseconds.
const CLOCK: Millis = 1_000;

/// What the engine counts of its memory, for metrics.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Tasks that are ready and have no slot.
    pub ready: AtomicU64,
    /// Tasks of active runs by status: dispatched, waiting, started.
    pub tasks: [AtomicU64; 3],
    /// Active runs.
    pub groups: AtomicU64,
    /// Attached runners.
    pub runners: AtomicU64,
}

/// Everything that the thread needs.
pub(super) struct Run {
    pub(super) store: Arc<Store>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) versions: Versions,
    pub(super) live: broadcast::Sender<Arc<Live>>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) now: fn() -> Millis,
    pub(super) grace: Millis,
    /// Whether events are forgotten by age.
    pub(super) ages: bool,
}

/// What has to be done once a batch is durable, or has failed.
struct Afterwards {
    replies: Vec<Reply>,
    held: Vec<Held>,
    lines: Vec<Live>,
    changed: Vec<(usize, u64)>,
    batch: u64,
}

impl Run {
    pub(super) fn run(self) {
        let durable = Arc::new(AtomicU64::new(0));
        let mut batch = 0;
        let mut turn = self.first_turn();
        let mut commands: Vec<Command> = Vec::new();
        // After a failure nobody asked about, the next try waits.
        let mut quiet_until = 0;
        let mut last = 0;
        loop {
            let open = self.inbox.take(&mut commands, self.patience(&turn, quiet_until));
            if self.store.has_failed() || turn.poisoned {
                turn = self.start_over(turn, &durable);
                durable.store(batch, Ordering::Release);
                quiet_until = (self.now)().saturating_add(RETRY_PAUSE);
                if turn.poisoned {
                    if !open {
                        break;
                    }
                    // What cannot be read now is not read again at once; until then nothing can be
                    // done anyway.
                    std::thread::sleep(Duration::from_millis(RETRY_PAUSE));
                }
            }
            last = turn.set_clock((self.now)(), last);
            quiet_until = quiet_until.min(last.saturating_add(RETRY_PAUSE));
            turn.batch = batch + 1;
            turn.durable = durable.load(Ordering::Acquire);
            self.store.tick(turn.now);
            for command in commands.drain(..) {
                let reply = command(&mut turn);
                turn.replies.push(reply);
            }
            turn.fire_timers();
            turn.dispatch();
            if turn.poisoned {
                continue;
            }
            send(&mut turn.immediate, &self.inbox);
            self.count(&turn.memory);
            let waiting = batch - turn.durable;
            let large = turn.replies.len() >= GROUP || turn.tx.len() >= ROWS;
            if turn.has_nothing_to_store() {
                if waiting == 0 {
                    turn.answer();
                } else if !turn.replies.is_empty() && waiting < IN_FLIGHT {
                    // What was said depends on batches that are on their way: it goes after them.
                    batch += 1;
                    turn = self.submit(turn, batch, &durable);
                }
                if !open && turn.replies.is_empty() {
                    break;
                }
            } else if (waiting < IN_FLIGHT || large || !open)
                && (!turn.replies.is_empty() || turn.now >= quiet_until)
            {
                batch += 1;
                turn = self.submit(turn, batch, &durable);
            }
        }
    }

    /// How long to wait for commands.
    fn patience(&self, turn: &Turn<'_>, quiet_until: Millis) -> Option<Duration> {
        if turn.poisoned {
            return Some(Duration::ZERO);
        }
        let next = turn.memory.timers.next();
        let again = (quiet_until > turn.now).then_some(quiet_until);
        let clock = self.ages.then(|| turn.now.saturating_add(CLOCK));
        let until = [next, again, clock].into_iter().flatten().min()?;
        Some(Duration::from_millis(until.saturating_sub((self.now)())))
    }

    fn first_turn(&self) -> Turn<'_> {
        let versions = StagedVersions::new(self.versions.clone());
        self.fresh_turn(versions, Vec::new())
    }

    /// A turn whose memory is read from the state.
    fn fresh_turn(
        &self,
        versions: StagedVersions,
        survivors: Vec<super::load::Survivor>,
    ) -> Turn<'_> {
        let mut turn =
            Turn::begin(&self.store, Memory::default(), versions, self.live.clone(), self.grace);
        turn.now = (self.now)();
        if let Err(err) = turn.attempt(|turn| turn.load(survivors)) {
            tracing::error!(error = %err, "the active work could not be read");
        }
        turn
    }

    /// Forgets a turn that cannot be committed, and with it everything in memory.
    fn start_over<'a>(&'a self, turn: Turn<'_>, durable: &AtomicU64) -> Turn<'a> {
        let Turn { tx, mut memory, mut versions, replies, immediate, poisoned, .. } = turn;
        drop(tx);
        let failed = Err(Arc::new(StoreError::Abandoned));
        for reply in replies {
            reply(&failed);
        }
        tracing::warn!(poisoned, "reading the active work anew");
        self.store.recover();
        versions.reset();
        let survivors = memory.survivors(durable.load(Ordering::Acquire), &immediate);
        let (groups, messages) = (memory.groups_made, memory.messages_made);
        let sessions = memory.sessions_made;
        let mut turn = self.fresh_turn(versions, survivors);
        turn.memory.groups_made = turn.memory.groups_made.max(groups);
        turn.memory.messages_made = messages;
        // Nobody who was attached by a number may end whoever comes later by that number.
        turn.memory.sessions_made = turn.memory.sessions_made.max(sessions);
        turn
    }

    /// Hands the batch over, and begins the next.
    fn submit<'a>(&'a self, turn: Turn<'_>, batch: u64, durable: &Arc<AtomicU64>) -> Turn<'a> {
        // One caller, or one runner with one attempt, waits for nothing but the disk: then the way
        // to another thread and back is most of what can be saved.
        let alone = turn.replies.len() <= 1 && turn.memory.leased <= 1 && self.inbox.len() == 0;
        let Turn { tx, memory, mut versions, replies, held, lines, .. } = turn;
        // What slices say on the way is kept nowhere, and is told before the results that follow it.
        let (said, lines): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| matches!(line, Live::Slice(_)));
        for note in said {
            let _ = self.live.send(Arc::new(note));
        }
        let changed = versions.take();
        let afterwards = Afterwards { replies, held, lines, changed, batch };
        let (durable, published) = (Arc::clone(durable), self.versions.clone());
        let (inbox, live) = (Arc::clone(&self.inbox), self.live.clone());
        let done = move |committed: Committed| {
            afterwards.carry_out(&committed, &durable, &published, &live, &inbox);
            inbox.poke();
        };
        if alone {
            self.store.submit_here(tx, done);
        } else {
            self.store.submit(tx, done);
        }
        Turn::begin(&self.store, memory, versions, self.live.clone(), self.grace)
    }

    fn count(&self, memory: &Memory) {
        let set = |gauge: &AtomicU64, value: usize| {
            gauge.store(u64::try_from(value).unwrap_or(u64::MAX), Ordering::Relaxed);
        };
        set(&self.gauges.ready, memory.ready.len());
        set(&self.gauges.groups, memory.groups.len());
        set(&self.gauges.runners, memory.attached);
        let active =
            [JobStatus::Dispatched, JobStatus::WaitingForPrerequisites, JobStatus::Started];
        for (gauge, status) in self.gauges.tasks.iter().zip(active) {
            gauge.store(u64::from(memory.tally.count(status)), Ordering::Relaxed);
        }
    }
}

impl Afterwards {
    fn carry_out(
        self,
        committed: &Committed,
        durable: &AtomicU64,
        published: &Versions,
        live: &broadcast::Sender<Arc<Live>>,
        inbox: &Arc<Inbox>,
    ) {
        if committed.is_ok() {
            durable.fetch_max(self.batch, Ordering::AcqRel);
            published.publish(&self.changed);
            let mut held = self.held;
            send(&mut held, inbox);
            for line in self.lines {
                let _ = live.send(Arc::new(line));
            }
        }
        for reply in self.replies {
            reply(committed);
        }
    }
}

/// Hands notifications to the sessions. One that has no room left takes nothing: it is ended, and
/// its runner gets what it has in hand again when it comes back.
fn send(pushes: &mut Vec<Held>, inbox: &Arc<Inbox>) {
    for Held { runner, session, pushes, push } in pushes.drain(..) {
        if let Err(TrySendError::Full(_)) = pushes.try_send(push) {
            tracing::warn!(?runner, "a runner takes nothing; its session ends");
            super::detach(inbox, runner, session);
        }
    }
}
