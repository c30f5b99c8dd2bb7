//! How the memory is rebuilt from the state: after a restart, and after a batch that failed.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::groups::Start;
use super::memory::{Extra, GroupId, GroupKey, Memory};
use super::plan::{History, Outside, Plan, Prepared, position};
use super::sessions::{Push, Session};
use super::timers::Timer;
use super::token::Token;
use super::turn::{Held, Turn};
use super::works::ACTIVE_WORK;
use crate::model::flow::FlowStatus;
use crate::model::task::{AttemptState, Fence, Input, JobStatus, Lease, Policy, State, Task};
use crate::model::{Millis, Triple};
use crate::store::{
    ACTIVE, FLOW_RUNS, FLOWS, JOBS, JobRow, MESSAGE_RUNS, MESSAGES, StoreError, TASKS, TaskRow,
};
use crate::{Error, Result};

/// Active groups read at once.
const PAGE: usize = 1_000;

/// Jobs by id.
type Defined = Vec<(u32, JobRow)>;
/// What earlier runs left of some of them.
type Left = Vec<(u32, TaskRow)>;

/// An attachment that outlives the memory, and what its runner had in hand.
pub(super) struct Survivor {
    runner: (u32, u32),
    session: Session,
    in_hand: Vec<Token>,
}

impl Memory {
    /// Takes the attachments out of a memory that is to be forgotten, when what runners were told up
    /// to the batch `durable` is all they were told, and nothing of `unsent`.
    ///
    /// Nothing is said of attempts that a runner has not heard of: it would never speak of them.
    pub(super) fn survivors(&mut self, durable: u64, unsent: &[Held]) -> Vec<Survivor> {
        let unsent: FxHashSet<Token> = unsent.iter().flat_map(|held| held.push.tokens()).collect();
        let runners = std::mem::take(&mut self.runners);
        let mut survivors = Vec::new();
        for (runner, known) in runners {
            let Some(session) = known.session else { continue };
            let tokens = known.in_hand.iter().filter_map(|job| {
                let (group, index) = self.by_job.get(job)?;
                let lease = self.groups.get(group)?.task(*index)?.state.lease()?;
                let token = Token::new(*job, lease.fence);
                let later = known.untold.iter().any(|(batch, of)| *of == token && *batch > durable);
                (!later && !unsent.contains(&token)).then_some(token)
            });
            survivors.push(Survivor { runner, session, in_hand: tokens.collect() });
        }
        survivors
    }
}

impl Turn<'_> {
    /// Reads all active work, and lets attachments that outlived the last memory keep theirs.
    pub(super) fn load(&mut self, survivors: Vec<Survivor>) -> Result<()> {
        self.touch();
        let mut after = None;
        loop {
            let page = self.tx.page(ACTIVE, &(), after.as_ref(), PAGE)?;
            for (row, ()) in &page {
                let loaded = match GroupKey::from_row(*row) {
                    Some(GroupKey::Batch(key)) => self.load_batch(key),
                    Some(key) => self.load_group(key),
                    None if row.1 == ACTIVE_WORK => self.load_work(row.3),
                    None => Ok(()),
                };
                if let Err(err) = loaded {
                    if is_passing(&err) {
                        return Err(err);
                    }
                    // One group that cannot be read must not keep all others from running.
                    tracing::error!(error = %err, ?row, "an active group could not be read");
                }
            }
            match page.last() {
                Some((last, ())) if page.len() == PAGE => after = Some(*last),
                _ => break,
            }
        }
        for survivor in survivors {
            self.readmit(survivor)?;
        }
        let until = self.now.saturating_add(self.grace);
        for ((context, id), runner) in &mut self.memory.runners {
            if runner.session.is_none() && runner.grace_until.is_none() {
                runner.grace_until = Some(until);
                self.memory.timers.set(until, Timer::Grace(*context, *id));
            }
        }
        self.memory.timers.set(self.now, Timer::Housekeeping);
        self.draw_consequences()
    }

    fn readmit(&mut self, survivor: Survivor) -> Result<()> {
        let Survivor { runner, mut session, in_hand } = survivor;
        session.offered = false;
        self.memory.sessions_made = self.memory.sessions_made.max(session.id);
        self.memory.runners.entry(runner).or_default().session = Some(session);
        self.memory.attached += 1;
        self.memory.classify(runner);
        self.memory.count_slots(runner, true);
        let mut foreign = Vec::new();
        for token in in_hand {
            if !self.holds(token, runner.1) && !self.adopt(token, runner.1)? {
                foreign.push(token.to_string());
            }
        }
        if !foreign.is_empty() {
            let reason = "the attempt is not current any more".to_owned();
            self.hold_push(runner, Push::Cancel { tokens: foreign, reason });
        }
        self.memory.offer(runner.0, runner.1);
        self.mark(runner.0);
        Ok(())
    }

    fn load_group(&mut self, key: GroupKey) -> Result<()> {
        let context = key.context();
        let (caller, ids, outside) = match key {
            GroupKey::Flow(_, id) => {
                let flow = self.get(FLOWS, &(context, id))?.ok_or_else(|| gone("flow"))?;
                (flow.caller_id, flow.jobs, Outside::Refuse)
            }
            GroupKey::Message(key) => {
                let message = self.get(MESSAGES, &key)?.ok_or_else(|| gone("message"))?;
                (key.1, message.jobs, Outside::Wait)
            }
            GroupKey::Job((_, caller, id)) | GroupKey::Batch((_, caller, id)) => {
                (caller, vec![id], Outside::Ignore)
            }
        };
        let (jobs, rows) = self.read_jobs(context, caller, ids)?;
        let plan = Arc::new(Plan::new(caller, &jobs, outside)?);
        drop(jobs);
        let mut history = History::default();
        for (id, row) in rows {
            plan.dag.index_of(id).map(|index| history.insert(index, row));
        }
        let start = self.loaded_start(key, caller, plan, &history)?;
        let id = self.memory.next_group();
        let started_at = self.run_started_at(key)?;
        self.install_loaded(id, start, started_at);
        self.load_tasks(id, history)
    }

    /// Reads the jobs of a caller and what earlier runs left of them.
    ///
    /// # Errors
    /// [`Error::NotFound`] naming a job that does not exist.
    pub(super) fn read_jobs(
        &self,
        context: u32,
        caller: u32,
        ids: Vec<u32>,
    ) -> Result<(Defined, Left)> {
        let mut jobs = Vec::with_capacity(ids.len());
        let mut rows = Vec::new();
        for id in ids {
            let key = (context, caller, id);
            let not_found =
                || Error::NotFound { kind: "job", id: format!("{context}/{caller}/{id}") };
            jobs.push((id, self.get(JOBS, &key)?.ok_or_else(not_found)?));
            if let Some(row) = self.get(TASKS, &key)? {
                rows.push((id, row));
            }
        }
        Ok((jobs, rows))
    }

    /// Reads what [`Turn::start_flow`] needs, for flows that are small enough to do so here.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the flow or a job; [`Error::MissingDependency`]; [`Error::Cycle`].
    pub fn prepare_flow(&self, (context, id): (u32, u32)) -> Result<Prepared> {
        let not_found = || Error::NotFound { kind: "flow", id: format!("{context}/{id}") };
        let flow = self.get(FLOWS, &(context, id))?.ok_or_else(not_found)?;
        let (jobs, rows) = self.read_jobs(context, flow.caller_id, flow.jobs)?;
        Prepared::new(flow.caller_id, &jobs, rows)
    }

    fn loaded_start(
        &self,
        key: GroupKey,
        caller: u32,
        plan: Arc<Plan>,
        history: &History,
    ) -> Result<Start> {
        let seconds = |seconds: u32| u64::from(seconds) * 1_000;
        let mut start = Start {
            key,
            caller,
            env: Arc::default(),
            prepared: Prepared { plan, history: History::default() },
            fail_fast: false,
            has_results: history.values().any(|row| row.result.is_some()),
            acknowledge_within: super::ACKNOWLEDGE_WITHIN,
            result_within: 0,
            due: None,
            message: None,
        };
        match key {
            GroupKey::Flow(context, id) => {
                let flow = self.get(FLOWS, &(context, id))?.ok_or_else(|| gone("flow"))?;
                start.env = Arc::new(flow.env_vars);
                let run = self.get(FLOW_RUNS, &(context, id))?;
                start.fail_fast = run.is_some_and(|run| run.fail_fast);
            }
            GroupKey::Message(key) => {
                let message = self.get(MESSAGES, &key)?.ok_or_else(|| gone("message"))?;
                let run = self.get(MESSAGE_RUNS, &key)?.ok_or_else(|| gone("message run"))?;
                start.acknowledge_within = seconds(message.timeout_ack);
                start.result_within = seconds(message.timeout_result);
                start.due = (message.timeout > 0)
                    .then(|| run.started_at.min(self.now).saturating_add(seconds(message.timeout)));
                start.message = Some(run);
            }
            GroupKey::Job(_) | GroupKey::Batch(_) => {}
        }
        Ok(start)
    }

    fn run_started_at(&self, key: GroupKey) -> Result<Millis> {
        let GroupKey::Flow(context, id) = key else { return Ok(self.now) };
        let run = self.get(FLOW_RUNS, &(context, id))?;
        Ok(run.and_then(|run| run.started_at).unwrap_or(self.now))
    }

    /// Brings every task to where its row says it stands.
    pub(super) fn load_tasks(
        &mut self,
        id: GroupId,
        mut history: FxHashMap<u32, TaskRow>,
    ) -> Result<()> {
        let Some(group) = self.memory.groups.get(&id) else { return Ok(()) };
        let plan = Arc::clone(&group.plan);
        let failed =
            history.iter().find(|(_, r)| r.status == JobStatus::Error && r.reason.is_none());
        let reason =
            failed.and_then(|(index, _)| plan.dag.id(*index)).map(|id| format!("job {id} failed"));
        let statuses: Vec<Option<JobStatus>> =
            plan.indexes().map(|index| history.get(&index).map(|row| row.status)).collect();
        let finished = |index: u32| {
            statuses.get(position(index)).copied().flatten() == Some(JobStatus::Finished)
        };
        if let Some(group) = self.memory.groups.get_mut(&id) {
            group.reason = reason;
        }
        let mut doomed = Vec::new();
        for index in plan.indexes() {
            let open = plan.dag.parents(index).iter().filter(|parent| !finished(**parent)).count();
            let dependencies = u32::try_from(open).unwrap_or(u32::MAX);
            if let Some(reason) =
                self.load_task((id, index), &plan, dependencies, history.remove(&index))?
            {
                doomed.push((index, reason));
            }
        }
        for (index, reason) in doomed {
            self.advance((id, index), Input::GiveUp { reason }, None)?;
        }
        self.draw_consequences()?;
        // It may have ended between the end of its last task and that of its own.
        let ended = self.memory.groups.get(&id).and_then(|group| group.tally.outcome());
        ended.map_or(Ok(()), |outcome: FlowStatus| self.end_group(id, outcome))
    }

    /// Installs one task; `Some` reason when it has to be given up.
    fn load_task(
        &mut self,
        at: (GroupId, u32),
        plan: &Plan,
        dependencies: u32,
        row: Option<TaskRow>,
    ) -> Result<Option<String>> {
        let mut extra = Extra::default();
        let mut task = Task::new(dependencies, 0, 0);
        let mut not_before = 0;
        let mut held = None;
        let had_row = row.is_some();
        // What was let go once is not held back again, whatever has become of its gates since.
        let released = row.as_ref().is_some_and(|r| r.status == JobStatus::Dispatched);
        if let Some(row) = row {
            task.failures = row.failures;
            task.losses = row.losses;
            task.attempts = row.attempt.as_ref().map_or(0, |attempt| attempt.attempt);
            // A clock that was set back must not make a pause of seconds one of hours.
            let latest = self.now.saturating_add(Policy::core(0).cap);
            not_before = row.not_before.unwrap_or_default().min(latest);
            held = ended_or_leased(&row, self.now);
            extra.attempt = row.attempt;
            extra.satisfied = row.satisfied;
            extra.log_lines = row.log_lines;
        }
        let mut doom = None;
        if let Some(state) = held {
            task.state = state;
        } else if released {
            task.state = State::Ready { not_before };
        } else {
            doom = self.load_gates(at, plan, None, &mut extra)?;
            let gates = u32::try_from(extra.closed.len()).unwrap_or(u32::MAX);
            if dependencies > 0 || gates > 0 {
                task.state = State::Waiting { dependencies, gates };
            } else {
                task.state = State::Ready { not_before };
            }
        }
        self.install_task(at, task, (had_row || !extra.closed.is_empty()).then_some(extra));
        Ok(doom)
    }

    fn install_task(&mut self, at: (GroupId, u32), task: Task, extra: Option<Extra>) {
        let status = JobStatus::from(&task.state);
        self.memory.tally.add(status);
        let Some(group) = self.memory.groups.get_mut(&at.0) else { return };
        let lease = task.state.lease().copied();
        let ready = match task.state {
            State::Ready { not_before } => Some(not_before),
            _ => None,
        };
        let ended = task.state.is_terminal();
        group.tasks.push(task);
        group.tally.add(status);
        if let (Some(extra), false) = (extra, ended) {
            group.extras.insert(at.1, extra);
        }
        let Some(job) = group.job(at.1) else { return };
        self.memory.by_job.insert(job, at);
        if let Some(lease) = lease {
            self.load_lease(at, job, &lease);
        }
        if let Some(from) = ready {
            self.queue(at, from);
        }
    }

    fn load_lease(&mut self, at: (GroupId, u32), job: Triple, lease: &Lease) {
        let runner = self.memory.runners.entry((job.0, lease.fence.runner)).or_default();
        self.memory.leased += usize::from(runner.in_hand.insert(job));
        let Some(group) = self.memory.groups.get(&at.0) else { return };
        let (within, bound) = (group.acknowledge_within, group.bound(at.1));
        self.keep_deadlines(super::apply::Deadlines { at, within, bound }, None, Some(lease));
    }
}

/// The state of a task that has ended, or that a runner has; `None` when it waits.
fn ended_or_leased(row: &TaskRow, now: Millis) -> Option<State> {
    match (row.status, &row.attempt) {
        (JobStatus::Finished, _) => Some(State::Finished),
        (JobStatus::Error, _) => Some(State::GivenUp { reason: String::new() }),
        (_, Some(attempt)) => {
            let lease = Lease {
                fence: Fence {
                    attempt: attempt.attempt,
                    runner: attempt.runner_id,
                    nonce: attempt.nonce,
                },
                leased_at: attempt.leased_at.min(now),
                acknowledged: attempt.acknowledged,
                started_at: attempt.started_at.unwrap_or_default(),
            };
            match attempt.state {
                AttemptState::Leased => Some(State::Leased(lease)),
                AttemptState::Running => Some(State::Running(lease)),
                _ => None,
            }
        }
        (_, None) => None,
    }
}

/// Whether the same can be read when it is tried again.
fn is_passing(err: &Error) -> bool {
    let Error::Store(err) = err else { return false };
    match &**err {
        StoreError::Sled(_) | StoreError::Reopening => true,
        StoreError::Io { source, .. } => source.kind() != std::io::ErrorKind::NotFound,
        _ => false,
    }
}

fn gone(what: &str) -> Error {
    Error::Bug(format!("the {what} of an active group is gone"))
}
