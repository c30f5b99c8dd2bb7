//! Stores a step, logs its events, follows its consequences.

use std::fmt::Write;
use std::sync::Arc;

use super::memory::{Extra, GroupId, GroupKey, Watched};
use super::plan::{job_subject, position};
use super::queue::Ready;
use super::sessions::Push;
use super::timers::Timer;
use super::token::Token;
use super::turn::Turn;
use crate::model::message::Progress;
use crate::model::task::{
    AttemptState, Effects, Input, JobStatus, Lease, Policy, Refusal, State, Task,
};
use crate::model::{Millis, Triple};
use crate::store::{ATTEMPTS, AttemptRow, Draft, TASKS, TaskRow};
use crate::{Error, Result};

/// The end of a task, whose consequences are still to be drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    pub(super) group: GroupId,
    pub(super) index: u32,
    pub(super) job: Triple,
    pub(super) well: bool,
    /// The job that failed first, when this end is only a consequence of that.
    pub(super) root: u32,
}

/// What a step leads to besides the new state.
struct Step {
    job: Triple,
    before: State,
    from: JobStatus,
    to: JobStatus,
    effects: Effects,
}

impl Turn<'_> {
    /// Steps one task: the only way in which an active task changes.
    ///
    /// `result` is the JSON text of what the attempt left, kept if the task ends by this.
    ///
    /// # Errors
    /// [`Error::Stale`] and [`Error::Conflict`] before anything has changed, storage errors.
    pub(super) fn advance(
        &mut self,
        at: (GroupId, u32),
        input: Input,
        result: Option<&str>,
    ) -> Result<()> {
        self.advance_for(at, input, result, None)
    }

    /// As [`Turn::advance`], for a task that ends because the job `root` failed.
    pub(super) fn advance_for(
        &mut self,
        at: (GroupId, u32),
        input: Input,
        result: Option<&str>,
        root: Option<u32>,
    ) -> Result<()> {
        let began = matches!(input, Input::Start(_));
        let acknowledged = matches!(input, Input::Acknowledge(_));
        let counted = matches!(input, Input::DependencyFinished);
        let step = self.step(at, input)?;
        self.keep_attempt(at, &step)?;
        // How many it still waits for is read off the others' rows: where each of a thousand waits
        // for each of another thousand, that is a million rows less.
        if !(counted && step.from == step.to) {
            self.write_task(at, result)?;
        }
        self.tell(at, &step);
        self.follow(at, &step, root);
        self.follow_batch(at)?;
        if acknowledged {
            self.progress_message(at.0, Progress::Acknowledged)?;
        }
        if began || step.effects.settled == Some(true) {
            self.progress_message(at.0, Progress::Began)?;
        }
        if step.to.is_ended() {
            self.forget(at);
        }
        Ok(())
    }

    /// Drops what was remembered of a task that has ended; its row has it all.
    fn forget(&mut self, at: (GroupId, u32)) {
        let Some(group) = self.memory.groups.get_mut(&at.0) else { return };
        if let Some(task) = group.tasks.get_mut(position(at.1))
            && let State::Failed { error: text } | State::GivenUp { reason: text } = &mut task.state
        {
            *text = String::new();
        }
        let plan = Arc::clone(&group.plan);
        let closed = group.extras.remove(&at.1).map(|extra| extra.closed).unwrap_or_default();
        for gate in closed {
            self.unwatch(at, &plan, gate);
        }
    }

    /// Computes and installs the new state.
    fn step(&mut self, at: (GroupId, u32), input: Input) -> Result<Step> {
        let now = self.now;
        let group = self.memory.groups.get_mut(&at.0).ok_or(Error::Stale)?;
        let job = group.job(at.1).ok_or(Error::Stale)?;
        let retries = group.plan.spec(at.1).map_or(0, |spec| spec.retries);
        let task = group.tasks.get_mut(position(at.1)).ok_or(Error::Stale)?;
        let stepped = task.step(input, &Policy::core(retries), now, fastrand::u32(..));
        let (next, effects) = stepped.map_err(|refusal| match refusal {
            Refusal::Stale => Error::Stale,
            Refusal::State { state, .. } => Error::conflict(state, refusal.to_string()),
        })?;
        let (from, to) = (JobStatus::from(&task.state), JobStatus::from(&next.state));
        let before = std::mem::replace(task, next).state;
        group.tally.shift(from, to);
        self.memory.tally.shift(from, to);
        self.touch();
        Ok(Step { job, before, from, to, effects })
    }

    /// Keeps the record of the attempt that the step began, moved on or ended, and its deadlines.
    fn keep_attempt(&mut self, at: (GroupId, u32), step: &Step) -> Result<()> {
        let now = self.now;
        let Some(group) = self.memory.groups.get_mut(&at.0) else { return Ok(()) };
        let lease = group.task(at.1).and_then(|task| task.state.lease()).copied();
        let within = group.acknowledge_within;
        let bound = group.bound(at.1);
        let (before, after) = (step.before.lease(), lease);
        let new = before.is_none() && after.is_some();
        let mut previous = None;
        if new || after.is_some() || step.effects.ended.is_some() {
            let extra = group.extras.entry(at.1).or_default();
            if let (true, Some(lease)) = (new, lease) {
                previous = extra.attempt.replace(AttemptRow {
                    attempt: lease.fence.attempt,
                    runner_id: lease.fence.runner,
                    nonce: lease.fence.nonce,
                    state: AttemptState::Leased,
                    leased_at: lease.leased_at,
                    acknowledged: false,
                    started_at: None,
                    ended_at: None,
                    error: None,
                    withdrawn: None,
                });
            }
            if let Some(attempt) = &mut extra.attempt {
                if let Some(lease) = lease {
                    attempt.acknowledged = lease.acknowledged;
                    if lease.started_at > 0 {
                        attempt.started_at = Some(lease.started_at);
                        attempt.state = AttemptState::Running;
                    }
                }
                if let Some((state, error)) = &step.effects.ended {
                    attempt.state = *state;
                    attempt.error.clone_from(error);
                    attempt.ended_at = Some(now);
                    attempt.withdrawn = step.effects.revoked.is_some().then_some(true);
                    if *state == AttemptState::Finished && attempt.started_at.is_none() {
                        attempt.started_at = Some(now);
                    }
                }
            }
        }
        if let Some(previous) = previous {
            let (context, caller, id) = step.job;
            let key = (context, caller, id);
            self.tx.put(ATTEMPTS, &(key.0, key.1, key.2, previous.attempt), &previous)?;
        }
        let timers = Deadlines { at, within, bound };
        self.keep_deadlines(timers, before, after.as_ref());
        Ok(())
    }

    pub(super) fn keep_deadlines(
        &mut self,
        of: Deadlines,
        before: Option<&Lease>,
        after: Option<&Lease>,
    ) {
        let timers = &mut self.memory.timers;
        let (group, index) = of.at;
        let due = |lease: &Lease| {
            let waits = (of.within > 0 && !lease.acknowledged)
                .then(|| lease.leased_at.saturating_add(of.within));
            let ends = of.bound.map(|bound| lease.leased_at.saturating_add(bound));
            (waits, ends)
        };
        let old = before.map(|lease| (lease.fence.attempt, due(lease)));
        let new = after.map(|lease| (lease.fence.attempt, due(lease)));
        if old == new {
            return;
        }
        if let Some((attempt, (waits, ends))) = old {
            waits.inspect(|at| timers.clear(*at, Timer::Acknowledgement(group, index, attempt)));
            ends.inspect(|at| timers.clear(*at, Timer::Attempt(group, index, attempt)));
        }
        if let Some((attempt, (waits, ends))) = new {
            waits.inspect(|at| timers.set(*at, Timer::Acknowledgement(group, index, attempt)));
            ends.inspect(|at| timers.set(*at, Timer::Attempt(group, index, attempt)));
        }
    }

    /// Stores how a task stands.
    pub(super) fn write_task(&mut self, at: (GroupId, u32), result: Option<&str>) -> Result<()> {
        let now = self.now;
        let Some(group) = self.memory.groups.get_mut(&at.0) else { return Ok(()) };
        let (Some(job), Some(task)) = (group.job(at.1), group.task(at.1)) else { return Ok(()) };
        let extra = group.extras.get(&at.1);
        let row = row_of(task, extra, result, now);
        if row.status == JobStatus::Finished && row.result.is_some() {
            group.has_results = true;
        }
        self.tx.put(TASKS, &job, &row)?;
        Ok(())
    }

    /// Logs the change of status, if it is one.
    fn tell(&mut self, at: (GroupId, u32), step: &Step) {
        let group = self.memory.groups.get(&at.0);
        // What is told of a batch is what has come of its slices.
        if step.from == step.to || group.is_some_and(|group| group.key.is_batch()) {
            return;
        }
        // A runner may report the end without the begin; subscribers see both.
        let skipped = step.from == JobStatus::Dispatched
            && step.before.lease().is_some()
            && (step.to == JobStatus::Finished
                || matches!(step.effects.ended, Some((AttemptState::Error, _))));
        if skipped {
            self.emit_status(at, step, step.from, JobStatus::Started, None);
            self.emit_status(at, step, JobStatus::Started, step.to, reason_of(step));
        } else {
            self.emit_status(at, step, step.from, step.to, reason_of(step));
        }
    }

    fn emit_status(
        &mut self,
        at: (GroupId, u32),
        step: &Step,
        from: JobStatus,
        to: JobStatus,
        reason: Option<&str>,
    ) {
        let Some(group) = self.memory.groups.get(&at.0) else { return };
        let lease = step.before.lease().or_else(|| group.task(at.1)?.state.lease());
        let mut data = String::with_capacity(96);
        let _ = write!(data, r#"{{"from":"{}","to":"{}""#, from.as_str(), to.as_str());
        if let Some(lease) = lease {
            let (attempt, runner) = (lease.fence.attempt, lease.fence.runner);
            let _ = write!(data, r#","attempt":{attempt},"runner_id":{runner}"#);
        }
        if let GroupKey::Flow(_, flow) = group.key {
            let _ = write!(data, r#","flow_id":{flow}"#);
        }
        let reason = reason.or_else(|| match group.task(at.1).map(|task| &task.state) {
            Some(State::Failed { error }) => Some(error.as_str()),
            Some(State::GivenUp { reason }) => Some(reason.as_str()),
            _ => None,
        });
        if let Some(reason) = reason.filter(|_| to != JobStatus::Started) {
            let _ = write!(data, r#","reason":{}"#, serde_json::Value::from(reason));
        }
        data.push('}');
        let draft = Draft {
            kind: "job.status",
            context_id: Some(step.job.0),
            subject: job_subject(step.job),
            group: group.subject.clone(),
            data,
        };
        self.emit(draft);
    }

    /// Draws what follows within the memory: slots, queues, deadlines.
    fn follow(&mut self, at: (GroupId, u32), step: &Step, root: Option<u32>) {
        let now = self.now;
        let after = self.memory.groups.get(&at.0).and_then(|group| group.task(at.1));
        let leased = after.and_then(|task| task.state.lease()).copied();
        match (step.before.lease(), leased) {
            (Some(lease), None) => {
                let runner = (step.job.0, lease.fence.runner);
                if step.effects.revoked.is_some() {
                    let reason = reason_of(step).unwrap_or("withdrawn").to_owned();
                    let tokens = vec![Token::new(step.job, lease.fence).to_string()];
                    self.hold_push(runner, Push::Cancel { tokens, reason });
                }
                self.free_slot(runner, step.job);
            }
            (None, Some(lease)) => {
                let runner = (step.job.0, lease.fence.runner);
                let known = self.memory.runners.entry(runner).or_default();
                self.memory.leased += usize::from(known.in_hand.insert(step.job));
                if known.session.is_none() && known.grace_until.is_none() {
                    let until = now.saturating_add(self.grace);
                    known.grace_until = Some(until);
                    self.memory.timers.set(until, Timer::Grace(runner.0, runner.1));
                }
            }
            _ => {}
        }
        if let Some(from) = step.effects.queued {
            self.queue(at, from);
        }
        if let Some(well) = step.effects.settled {
            if let State::Ready { not_before } = step.before
                && not_before > 0
            {
                self.memory.timers.clear(not_before, Timer::Ready(at.0, at.1));
            }
            let root = root.unwrap_or(step.job.2);
            self.settled.push(Settled { group: at.0, index: at.1, job: step.job, well, root });
        }
    }

    /// Puts a task into the line of ready ones, now or when its back-off is over.
    pub(super) fn queue(&mut self, at: (GroupId, u32), from: Millis) {
        if from > self.now {
            self.memory.timers.set(from, Timer::Ready(at.0, at.1));
            return;
        }
        let Some(group) = self.memory.groups.get(&at.0) else { return };
        let Some(spec) = group.plan.spec(at.1) else { return };
        let (context, skill, class) = (group.context(), spec.skill, spec.class);
        let ready = Ready { group: at.0, index: at.1, batch: self.batch };
        self.memory.ready.push((context, skill, class), ready);
        self.mark(context);
    }

    pub(super) fn back_off_over(&mut self, at: (GroupId, u32)) {
        let ready = self.memory.groups.get(&at.0).and_then(|group| group.task(at.1));
        if ready.is_some_and(|task| matches!(task.state, State::Ready { .. })) {
            self.queue(at, 0);
        }
    }

    /// An attempt has taken too long.
    pub(super) fn attempt_due(&mut self, at: (GroupId, u32), attempt: u32) -> Result<()> {
        let Some(group) = self.memory.groups.get(&at.0) else { return Ok(()) };
        let lease = group.task(at.1).and_then(|task| task.state.lease());
        if lease.is_none_or(|lease| lease.fence.attempt != attempt) {
            return Ok(());
        }
        let seconds = group.bound(at.1).unwrap_or_default() / 1_000;
        let error = format!("timed out after {seconds} s");
        let result = serde_json::json!({ "error": error }).to_string();
        self.advance(at, Input::TimeOut { error }, Some(&result))
    }

    /// Draws the consequences of every end so far, and of the ends that they bring.
    ///
    /// Happens by itself after a change; one that reads what it brought about asks for it before.
    ///
    /// # Errors
    /// Storage errors.
    pub fn draw_consequences(&mut self) -> Result<()> {
        while let Some(settled) = self.settled.pop() {
            self.settle(settled)?;
        }
        Ok(())
    }

    fn settle(&mut self, settled: Settled) -> Result<()> {
        let Settled { group: id, index, job, well, root } = settled;
        self.watched_ended(Watched::Job(job), well)?;
        let Some(group) = self.memory.groups.get_mut(&id) else { return Ok(()) };
        if !well && group.reason.is_none() {
            group.reason = Some(format!("job {root} failed"));
        }
        let plan = Arc::clone(&group.plan);
        let fail_fast = group.fail_fast && !well;
        for child in plan.dag.children(index) {
            let at = (id, *child);
            let waiting = self.memory.groups.get(&id).and_then(|group| group.task(*child));
            if waiting.is_none_or(|task| task.state.is_terminal()) {
                continue;
            }
            if well {
                self.advance(at, Input::DependencyFinished, None)?;
            } else {
                let reason = format!("job {root}, which it depends on, failed");
                self.advance_for(at, Input::GiveUp { reason }, None, Some(root))?;
            }
        }
        if fail_fast {
            self.give_up_all(id, &format!("fail_fast: job {root} failed"))?;
        }
        let ended = self.memory.groups.get(&id).and_then(|group| group.tally.outcome());
        match ended {
            Some(outcome) => self.end_group(id, outcome),
            None => Ok(()),
        }
    }
}

/// Which deadlines a task is kept to.
#[derive(Clone, Copy)]
pub(super) struct Deadlines {
    pub(super) at: (GroupId, u32),
    pub(super) within: Millis,
    pub(super) bound: Option<Millis>,
}

fn reason_of(step: &Step) -> Option<&str> {
    step.effects.ended.as_ref().and_then(|(_, error)| error.as_deref())
}

/// The row of an active task.
fn row_of(task: &Task, extra: Option<&Extra>, result: Option<&str>, now: Millis) -> TaskRow {
    let reason = match &task.state {
        State::GivenUp { reason } => Some(reason.clone()),
        _ => None,
    };
    let result = match &task.state {
        State::Finished | State::Failed { .. } => result,
        _ => None,
    };
    // A failure always says why, also when no report carried it.
    let result = match (&task.state, result) {
        (State::Failed { error }, None) => Some(serde_json::json!({ "error": error }).to_string()),
        (_, result) => result.map(str::to_owned),
    };
    TaskRow {
        status: JobStatus::from(&task.state),
        updated_at: now,
        attempt: extra.and_then(|extra| extra.attempt.clone()),
        failures: task.failures,
        losses: task.losses,
        not_before: match task.state {
            State::Ready { not_before } if not_before > 0 => Some(not_before),
            _ => None,
        },
        satisfied: extra.map(|extra| extra.satisfied.clone()).unwrap_or_default(),
        result,
        reason,
        log_lines: extra.map_or(0, |extra| extra.log_lines),
    }
}
