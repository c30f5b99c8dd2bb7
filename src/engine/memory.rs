//! What is kept in memory: active groups, attached runners, deadlines. Nothing of what has ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::classes::Classes;
use super::plan::{Plan, position};
use super::queue::{Place, ReadyTasks};
use super::sessions::Session;
use super::timers::Timers;
use super::token::Token;
use super::works::OpenWork;
use crate::model::flow::Tally;
use crate::model::task::{JobStatus, Task};
use crate::model::{Millis, Triple};
use crate::store::{AttemptRow, MessageRunRow};

/// Names a run for as long as it is active; never used twice in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupId(pub(super) u64);

/// What a run is a run of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum GroupKey {
    /// A flow, by context and id.
    Flow(u32, u32),
    /// A message with jobs.
    Message(Triple),
    /// One job, by itself.
    Job(Triple),
    /// A batch of slices: compute group, open job, number of the batch.
    Batch(Triple),
}

impl GroupKey {
    pub(super) const fn context(self) -> u32 {
        match self {
            Self::Flow(context, _)
            | Self::Message((context, ..))
            | Self::Job((context, ..))
            | Self::Batch((context, ..)) => context,
        }
    }

    /// Its row in the table of active groups.
    pub(super) const fn row(self) -> (u32, u8, u32, u32) {
        match self {
            Self::Flow(context, id) => (context, 0, 0, id),
            Self::Message((context, caller, id)) => (context, 1, caller, id),
            Self::Job((context, caller, id)) => (context, 2, caller, id),
            Self::Batch((context, work, batch)) => (context, 4, work, batch),
        }
    }

    /// The reverse.
    pub(super) const fn from_row((context, kind, caller, id): (u32, u8, u32, u32)) -> Option<Self> {
        match kind {
            0 => Some(Self::Flow(context, id)),
            1 => Some(Self::Message((context, caller, id))),
            2 => Some(Self::Job((context, caller, id))),
            4 => Some(Self::Batch((context, caller, id))),
            _ => None,
        }
    }

    /// The subject of its own events, unless it is a job by itself.
    pub(super) fn subject(self) -> Option<String> {
        match self {
            Self::Flow(context, id) => Some(format!("flow/{context}/{id}")),
            Self::Message((context, caller, id)) => {
                Some(format!("message/{context}/{caller}/{id}"))
            }
            Self::Job(_) | Self::Batch(_) => None,
        }
    }

    pub(super) const fn is_batch(self) -> bool {
        matches!(self, Self::Batch(_))
    }
}

/// An active run.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    pub(super) caller: u32,
    /// The environment that its jobs share.
    pub(super) env: Arc<BTreeMap<String, String>>,
    pub(super) plan: Arc<Plan>,
    /// By index.
    pub(super) tasks: Vec<Task>,
    /// Of tasks that have more to remember than where they stand.
    pub(super) extras: FxHashMap<u32, Extra>,
    pub(super) tally: Tally,
    pub(super) fail_fast: bool,
    /// All of it has been given up.
    pub(super) given_up: bool,
    /// It was read from the state: of its leases, a crash may have forgotten some.
    pub(super) loaded: bool,
    pub(super) has_results: bool,
    pub(super) started_at: Millis,
    pub(super) subject: Option<String>,
    /// Why it ends in error, once it is known that it will.
    pub(super) reason: Option<String>,
    /// Time to acknowledge an attempt; 0 is unbounded.
    pub(super) acknowledge_within: Millis,
    /// Time for an attempt to end, besides the job's own; 0 is unbounded.
    pub(super) result_within: Millis,
    /// When the whole group is given up.
    pub(super) due: Option<Millis>,
    /// Of a message that a client stored.
    pub(super) message: Option<MessageRunRow>,
}

/// What is remembered of a task besides where it stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Extra {
    /// The last attempt.
    pub(super) attempt: Option<AttemptRow>,
    /// Plain gates that were satisfied, as positions in the job's prerequisites.
    pub(super) satisfied: Vec<u32>,
    /// Closed gates, as positions in the plan's list.
    pub(super) closed: Vec<u32>,
    /// Log lines stored so far.
    pub(super) log_lines: u32,
}

impl Group {
    pub(super) fn context(&self) -> u32 {
        self.key.context()
    }

    pub(super) fn task(&self, index: u32) -> Option<&Task> {
        self.tasks.get(position(index))
    }

    pub(super) fn job(&self, index: u32) -> Option<Triple> {
        Some((self.context(), self.caller, self.plan.dag.id(index)?))
    }

    pub(super) fn status(&self, index: u32) -> Option<JobStatus> {
        self.task(index).map(|task| JobStatus::from(&task.state))
    }

    /// How long an attempt of this task may take, in milliseconds.
    pub(super) fn bound(&self, index: u32) -> Option<Millis> {
        let own = self.plan.spec(index).map_or(0, |spec| u64::from(spec.timeout) * 1_000);
        [own, self.result_within].into_iter().filter(|bound| *bound > 0).min()
    }

    /// When the attempt that was given out at `leased_at` is given up.
    pub(super) fn deadline(&self, index: u32, leased_at: Millis) -> Option<Millis> {
        let attempt = self.bound(index).map(|bound| leased_at.saturating_add(bound));
        [attempt, self.due].into_iter().flatten().min()
    }
}

/// Something whose end opens gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Watched {
    /// A flow, by context and id.
    Flow(u32, u32),
    /// A job.
    Job(Triple),
}

/// A task and the place of the gate in its plan's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watcher {
    pub(super) group: GroupId,
    pub(super) index: u32,
    pub(super) gate: u32,
}

/// A runner that is attached, or has work in hand.
#[derive(Debug, Default)]
pub(super) struct Runner {
    pub(super) session: Option<Session>,
    /// Jobs that it has attempts of.
    pub(super) in_hand: FxHashSet<Triple>,
    /// When its work goes to others, unless it comes back.
    pub(super) grace_until: Option<Millis>,
    /// Attempts that it is told of when the batch of this number is durable.
    pub(super) untold: Vec<(u64, Token)>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) groups: FxHashMap<GroupId, Group>,
    pub(super) by_key: FxHashMap<GroupKey, GroupId>,
    pub(super) by_job: FxHashMap<Triple, (GroupId, u32)>,
    /// Active groups per context.
    pub(super) per_context: FxHashMap<u32, u32>,
    pub(super) ready: ReadyTasks,
    pub(super) watchers: FxHashMap<Watched, Vec<Watcher>>,
    pub(super) runners: FxHashMap<(u32, u32), Runner>,
    /// Attached runners per context that may have a free slot, the next to be served first.
    pub(super) free: FxHashMap<u32, VecDeque<u32>>,
    pub(super) timers: Timers,
    /// Attempts that runners have in hand.
    pub(super) leased: usize,
    /// Attached runners.
    pub(super) attached: usize,
    /// Where the tasks of all active runs stand; only the statuses of active ones count.
    pub(super) tally: Tally,
    /// Contexts that were found to exist lately: nearly every change asks.
    pub(super) contexts: FxHashSet<u32>,
    /// Open jobs that have something to do, by number.
    pub(super) works: FxHashMap<u32, OpenWork>,
    /// What those of them ask of runners.
    pub(super) classes: Classes,
    /// Those of them from which batches can be cut, the next to be served first.
    pub(super) turns: FxHashMap<Place, VecDeque<u32>>,
    /// Slots of attached runners of compute groups.
    pub(super) slots: FxHashMap<Place, u64>,
    /// The last place in lists that was given to an open job.
    pub(super) works_made: u64,
    pub(super) groups_made: u64,
    pub(super) messages_made: u32,
    pub(super) sessions_made: u64,
}

impl Memory {
    pub(super) fn next_group(&mut self) -> GroupId {
        self.groups_made += 1;
        GroupId(self.groups_made)
    }

    /// Ids of the coordinator's own messages: from 2^31 up, so that they meet no client's.
    pub(super) fn next_message(&mut self) -> u32 {
        let id = (1 << 31) | (self.messages_made & 0x7fff_ffff);
        self.messages_made = self.messages_made.wrapping_add(1);
        id
    }

    /// Lets a runner be served again, if it is not waiting for that already.
    pub(super) fn offer(&mut self, context: u32, runner: u32) {
        let Some(known) = self.runners.get_mut(&(context, runner)) else { return };
        let in_hand = known.in_hand.len();
        let Some(session) = known.session.as_mut() else { return };
        if session.can_take(in_hand) && !session.offered {
            session.offered = true;
            self.free.entry(context).or_default().push_back(runner);
        }
    }
}
