//! The loop of the engine's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::broadcast;

use super::inbox::Inbox;
use super::memory::Memory;
use super::turn::{Held, LiveLine, Turn};
use super::version::{StagedVersions, Versions};
use super::{Command, Committed, Reply};
use crate::model::Millis;
use crate::model::task::JobStatus;
use crate::store::{Store, StoreError};

/// Batches on their way to disk before the next one waits and grows.
const IN_FLIGHT: u64 = 2;
/// Commands that share one batch at most.
const GROUP: usize = 1_024;

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
    pub(super) live: broadcast::Sender<Arc<LiveLine>>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) now: fn() -> Millis,
    pub(super) grace: Millis,
}

/// What has to be done once a batch is durable, or has failed.
struct Afterwards {
    replies: Vec<Reply>,
    held: Vec<Held>,
    lines: Vec<LiveLine>,
    changed: Vec<(usize, u64)>,
    batch: u64,
}

impl Run {
    pub(super) fn run(self) {
        let durable = Arc::new(AtomicU64::new(0));
        let mut batch = 0;
        let mut turn = self.first_turn();
        let mut commands: Vec<Command> = Vec::new();
        loop {
            let open = self.inbox.take(&mut commands, self.patience(&turn));
            if self.store.has_failed() || turn.poisoned {
                turn = self.start_over(turn);
                durable.store(batch, Ordering::Release);
            }
            turn.now = (self.now)();
            turn.batch = batch + 1;
            turn.durable = durable.load(Ordering::Acquire);
            for command in commands.drain(..) {
                let reply = command(&mut turn);
                turn.replies.push(reply);
            }
            turn.fire_timers();
            turn.dispatch();
            if turn.poisoned {
                continue;
            }
            send(&mut turn.immediate);
            self.count(&turn.memory);
            let waiting = batch - turn.durable;
            let something = turn.staged || !turn.replies.is_empty();
            if something && (waiting < IN_FLIGHT || turn.replies.len() >= GROUP || !open) {
                batch += 1;
                turn = self.submit(turn, batch, &durable);
            } else if !open {
                break;
            }
        }
    }

    /// How long to wait for commands.
    fn patience(&self, turn: &Turn<'_>) -> Option<Duration> {
        if turn.poisoned {
            return Some(Duration::ZERO);
        }
        let next = turn.memory.timers.next()?;
        Some(Duration::from_millis(next.saturating_sub((self.now)())))
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
    fn start_over<'a>(&'a self, turn: Turn<'_>) -> Turn<'a> {
        let Turn { tx, mut memory, mut versions, replies, poisoned, .. } = turn;
        drop(tx);
        let failed = Err(Arc::new(StoreError::Abandoned));
        for reply in replies {
            reply(&failed);
        }
        tracing::warn!(poisoned, "reading the active work anew");
        self.store.recover();
        versions.reset();
        let survivors = memory.survivors();
        let (groups, messages) = (memory.groups_made, memory.messages_made);
        let mut turn = self.fresh_turn(versions, survivors);
        turn.memory.groups_made = turn.memory.groups_made.max(groups);
        turn.memory.messages_made = messages;
        turn
    }

    /// Hands the batch over, and begins the next.
    fn submit<'a>(&'a self, turn: Turn<'_>, batch: u64, durable: &Arc<AtomicU64>) -> Turn<'a> {
        let Turn { tx, memory, mut versions, replies, held, lines, .. } = turn;
        let changed = versions.take();
        let afterwards = Afterwards { replies, held, lines, changed, batch };
        let (durable, published) = (Arc::clone(durable), self.versions.clone());
        let (inbox, live) = (Arc::clone(&self.inbox), self.live.clone());
        self.store.submit(tx, move |committed| {
            afterwards.carry_out(&committed, &durable, &published, &live);
            inbox.poke();
        });
        Turn::begin(&self.store, memory, versions, self.live.clone(), self.grace)
    }

    fn count(&self, memory: &Memory) {
        let set = |gauge: &AtomicU64, value: usize| {
            gauge.store(u64::try_from(value).unwrap_or(u64::MAX), Ordering::Relaxed);
        };
        set(&self.gauges.ready, memory.ready.len());
        set(&self.gauges.groups, memory.groups.len());
        set(&self.gauges.runners, memory.runners.values().filter(|r| r.session.is_some()).count());
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
        live: &broadcast::Sender<Arc<LiveLine>>,
    ) {
        if committed.is_ok() {
            durable.fetch_max(self.batch, Ordering::AcqRel);
            published.publish(&self.changed);
            let mut held = self.held;
            send(&mut held);
            for line in self.lines {
                let _ = live.send(Arc::new(line));
            }
        }
        for reply in self.replies {
            reply(committed);
        }
    }
}

/// Hands notifications to the sessions; one that has no room left is stuck, and its connection is
/// given up when the receiver finds the channel closed.
fn send(pushes: &mut Vec<Held>) {
    for (session, push) in pushes.drain(..) {
        if session.try_send(push).is_err() {
            tracing::debug!("a runner's session is gone or full");
        }
    }
}
