//! Runs of several jobs: how they start, wait on gates, are given up and end.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::memory::{Extra, Group, GroupId, GroupKey, Watched, Watcher};
use super::plan::{Plan, Prepared, position};
use super::timers::Timer;
use super::turn::Turn;
use crate::model::Millis;
use crate::model::flow::{FlowStatus, Tally};
use crate::model::gate::Gate;
use crate::model::message::Progress;
use crate::model::task::{Input, JobStatus, State, Task};
use crate::store::{ACTIVE, Draft, FLOW_RUNS, FlowRunRow, MessageRunRow, TASKS, TaskRow};
use crate::{Error, Result};

/// A run to be.
pub(super) struct Start {
    pub(super) key: GroupKey,
    pub(super) caller: u32,
    /// The environment that its jobs share.
    pub(super) env: Arc<BTreeMap<String, String>>,
    pub(super) prepared: Prepared,
    pub(super) fail_fast: bool,
    /// Some job that stays as it is has left a result.
    pub(super) has_results: bool,
    /// Time to acknowledge an attempt; 0 is unbounded.
    pub(super) acknowledge_within: Millis,
    /// Time for an attempt to end, besides the job's own; 0 is unbounded.
    pub(super) result_within: Millis,
    /// When the whole group is given up.
    pub(super) due: Option<Millis>,
    pub(super) message: Option<MessageRunRow>,
}

/// What a closed gate is, seen from now.
enum Standing {
    Open,
    Closed,
    Failed(String),
}

impl Turn<'_> {
    /// Begins a run.
    ///
    /// # Errors
    /// [`Error::Conflict`] when one of its jobs is active already; nothing has changed then.
    pub(super) fn start_group(&mut self, start: Start) -> Result<GroupId> {
        let (context, caller) = (start.key.context(), start.caller);
        let plan = Arc::clone(&start.prepared.plan);
        for id in plan.dag.ids() {
            if self.job_is_active(context, caller, *id) {
                return Err(Error::conflict("active", format!("job {id} is active already")));
            }
        }
        self.touch();
        self.versions.bump(context);
        let id = self.memory.next_group();
        let key = start.key;
        self.install(id, start);
        self.tx.put(ACTIVE, &key.row(), &())?;
        Ok(id)
    }

    fn install(&mut self, id: GroupId, start: Start) {
        let key = start.key;
        if let Some(due) = start.due {
            self.memory.timers.set(due, Timer::Group(id));
        }
        *self.memory.per_context.entry(key.context()).or_default() += 1;
        self.memory.by_key.insert(key, id);
        let group = Group {
            key,
            caller: start.caller,
            env: start.env,
            tasks: Vec::with_capacity(start.prepared.plan.len()),
            plan: start.prepared.plan,
            extras: FxHashMap::default(),
            tally: Tally::default(),
            fail_fast: start.fail_fast,
            given_up: false,
            loaded: false,
            has_results: start.has_results,
            started_at: self.now,
            subject: key.subject(),
            reason: None,
            acknowledge_within: start.acknowledge_within,
            result_within: start.result_within,
            due: start.due,
            message: start.message,
        };
        self.memory.groups.insert(id, group);
    }

    /// Installs a run that was active before a restart.
    pub(super) fn install_loaded(&mut self, id: GroupId, start: Start, started_at: Millis) {
        self.install(id, start);
        if let Some(group) = self.memory.groups.get_mut(&id) {
            group.started_at = started_at;
            group.loaded = true;
        }
    }

    /// Finds which gates of a task are closed; `Some` reason when one never opens.
    ///
    /// `kept` says of every task of a run that is about to begin whether it stays as it is.
    pub(super) fn load_gates(
        &mut self,
        at: (GroupId, u32),
        plan: &Plan,
        kept: Option<&[bool]>,
        extra: &mut Extra,
    ) -> Result<Option<String>> {
        let mut doom = None;
        for (place, gate) in (0u32..).zip(plan.gates(at.1)) {
            let standing = if self.waits_for_this_run(at.0, *gate, kept) {
                Standing::Closed
            } else {
                self.standing(at, *gate, &extra.satisfied)?
            };
            match standing {
                Standing::Open => {}
                Standing::Closed => {
                    extra.closed.push(place);
                    self.watch(at, *gate, place);
                }
                Standing::Failed(reason) => {
                    extra.closed.push(place);
                    doom = Some(reason);
                }
            }
        }
        Ok(doom)
    }

    /// Whether a gate names a job that the run which is about to begin runs again.
    fn waits_for_this_run(&self, id: GroupId, gate: Gate, kept: Option<&[bool]>) -> bool {
        let (Gate::Job(caller, job), Some(kept)) = (gate, kept) else { return false };
        let group = self.memory.groups.get(&id).filter(|group| group.caller == caller);
        let index = group.and_then(|group| group.plan.dag.index_of(job));
        index.is_some_and(|index| !kept.get(position(index)).copied().unwrap_or_default())
    }

    /// Brings every task of a new run to where it starts, and lets those go that nothing holds.
    pub(super) fn begin_tasks(
        &mut self,
        id: GroupId,
        mut history: FxHashMap<u32, TaskRow>,
        keep_finished: bool,
    ) -> Result<()> {
        let Some(group) = self.memory.groups.get(&id) else { return Ok(()) };
        let plan = Arc::clone(&group.plan);
        let kept: Vec<bool> = plan
            .indexes()
            .map(|index| {
                let row = history.get(&index);
                keep_finished && row.is_some_and(|row| row.status == JobStatus::Finished)
            })
            .collect();
        let is_kept = |index: u32| kept.get(position(index)).copied().unwrap_or_default();
        let mut doomed = Vec::new();
        let mut ready = Vec::new();
        for index in plan.indexes() {
            let row = history.remove(&index);
            if is_kept(index) {
                self.keep((id, index), row);
                continue;
            }
            let open = plan.dag.parents(index).iter().filter(|parent| !is_kept(**parent)).count();
            let dependencies = u32::try_from(open).unwrap_or(u32::MAX);
            match self.begin_task((id, index), &plan, &kept, dependencies, row)? {
                Begun::Ready => ready.push(index),
                Begun::Waiting => {}
                Begun::Doomed(reason) => doomed.push((index, reason)),
            }
        }
        for index in ready {
            self.queue((id, index), 0);
        }
        for (index, reason) in doomed {
            if self.is_waiting((id, index)) {
                self.advance((id, index), Input::GiveUp { reason }, None)?;
            }
        }
        self.draw_consequences()?;
        let ended = self.memory.groups.get(&id).and_then(|group| group.tally.outcome());
        ended.map_or(Ok(()), |outcome| self.end_group(id, outcome))
    }

    fn keep(&mut self, at: (GroupId, u32), row: Option<TaskRow>) {
        let Some(group) = self.memory.groups.get_mut(&at.0) else { return };
        let attempts = row.and_then(|row| row.attempt).map_or(0, |attempt| attempt.attempt);
        let task = Task { state: State::Finished, ..Task::new(0, 0, attempts) };
        group.tasks.push(task);
        group.tally.add(JobStatus::Finished);
        if let Some(job) = group.job(at.1) {
            self.memory.by_job.insert(job, at);
        }
    }

    fn is_waiting(&self, at: (GroupId, u32)) -> bool {
        let status = self.memory.groups.get(&at.0).and_then(|group| group.status(at.1));
        status.is_some_and(|status| !status.is_ended())
    }

    fn begin_task(
        &mut self,
        at: (GroupId, u32),
        plan: &Plan,
        kept: &[bool],
        dependencies: u32,
        row: Option<TaskRow>,
    ) -> Result<Begun> {
        let fresh = plan.spec(at.1).map_or(JobStatus::Dispatched, super::plan::JobSpec::fresh);
        let before = row.as_ref().map_or(fresh, |row| row.status);
        let mut extra = Extra::default();
        let mut attempts = 0;
        let had_row = row.is_some();
        if let Some(row) = row {
            attempts = row.attempt.as_ref().map_or(0, |attempt| attempt.attempt);
            extra.attempt = row.attempt;
            extra.log_lines = row.log_lines;
            // A rerun closes plain gates again; an early satisfaction counts.
            if !row.status.is_ended() {
                extra.satisfied = row.satisfied;
            }
        }
        let doom = self.load_gates(at, plan, Some(kept), &mut extra)?;
        let gates = u32::try_from(extra.closed.len()).unwrap_or(u32::MAX);
        let task = Task::new(dependencies, gates, attempts);
        let status = JobStatus::from(&task.state);
        self.memory.tally.add(status);
        let Some(group) = self.memory.groups.get_mut(&at.0) else { return Ok(Begun::Waiting) };
        group.tasks.push(task);
        group.tally.add(status);
        if had_row || gates > 0 {
            group.extras.insert(at.1, extra);
        }
        let job = group.job(at.1);
        if let Some(job) = job {
            self.memory.by_job.insert(job, at);
        }
        if had_row || status != before {
            self.write_task(at, None)?;
        }
        if let (Some(job), true) = (job, status != before) {
            self.emit_begin(at.0, job, before, status);
        }
        Ok(match (doom, status) {
            (Some(reason), _) => Begun::Doomed(reason),
            (None, JobStatus::Dispatched) => Begun::Ready,
            _ => Begun::Waiting,
        })
    }

    fn emit_begin(
        &mut self,
        id: GroupId,
        job: crate::model::Triple,
        from: JobStatus,
        to: JobStatus,
    ) {
        let group = self.memory.groups.get(&id);
        let mut data = serde_json::json!({ "from": from.as_str(), "to": to.as_str() });
        if let (Some(GroupKey::Flow(_, flow)), Some(data)) =
            (group.map(|group| group.key), data.as_object_mut())
        {
            data.insert("flow_id".to_owned(), flow.into());
        }
        let draft = Draft {
            kind: "job.status",
            context_id: Some(job.0),
            subject: super::plan::job_subject(job),
            group: group.and_then(|group| group.subject.clone()),
            data: data.to_string(),
        };
        self.emit(draft);
    }

    /// Whether a gate is open by now.
    fn standing(&self, at: (GroupId, u32), gate: Gate, satisfied: &[u32]) -> Result<Standing> {
        let Some(group) = self.memory.groups.get(&at.0) else { return Ok(Standing::Closed) };
        let context = group.context();
        Ok(match gate {
            Gate::Plain(place) => {
                let place = u32::try_from(place).unwrap_or(u32::MAX);
                if satisfied.contains(&place) { Standing::Open } else { Standing::Closed }
            }
            Gate::After(time) if time <= self.now => Standing::Open,
            Gate::After(_) => Standing::Closed,
            Gate::Flow(flow) if self.flow_is_active(context, flow) => Standing::Closed,
            Gate::Flow(flow) => match self.tx.get(FLOW_RUNS, &(context, flow))?.map(|r| r.status) {
                Some(FlowStatus::Finished) => Standing::Open,
                Some(FlowStatus::Error) => {
                    Standing::Failed(failed_gate(Watched::Flow(context, flow)))
                }
                Some(FlowStatus::Dispatched | FlowStatus::Started) | None => Standing::Closed,
            },
            Gate::Job(caller, job) => {
                let job = (context, caller, job);
                if self.active_task(job).is_some() {
                    return Ok(Standing::Closed);
                }
                match self.tx.get(TASKS, &job)?.map(|row| row.status) {
                    Some(JobStatus::Finished) => Standing::Open,
                    Some(JobStatus::Error) => Standing::Failed(failed_gate(Watched::Job(job))),
                    _ => Standing::Closed,
                }
            }
        })
    }

    pub(super) fn watch(&mut self, at: (GroupId, u32), gate: Gate, place: u32) {
        let Some(group) = self.memory.groups.get(&at.0) else { return };
        let context = group.context();
        let watcher = Watcher { group: at.0, index: at.1, gate: place };
        match gate {
            Gate::Plain(_) => {}
            Gate::After(time) => self.memory.timers.set(time, Timer::Gate(at.0, at.1, place)),
            Gate::Flow(flow) => {
                self.memory.watchers.entry(Watched::Flow(context, flow)).or_default().push(watcher);
            }
            Gate::Job(caller, job) => {
                let watched = Watched::Job((context, caller, job));
                self.memory.watchers.entry(watched).or_default().push(watcher);
            }
        }
    }

    /// Stops waiting for a gate.
    pub(super) fn unwatch(&mut self, at: (GroupId, u32), plan: &Plan, place: u32) {
        let Some(gate) = plan.gates(at.1).get(position(place)) else { return };
        let Some(group) = self.memory.groups.get(&at.0) else { return };
        let context = group.context();
        let watched = match *gate {
            Gate::Plain(_) => return,
            Gate::After(time) => {
                return self.memory.timers.clear(time, Timer::Gate(at.0, at.1, place));
            }
            Gate::Flow(flow) => Watched::Flow(context, flow),
            Gate::Job(caller, job) => Watched::Job((context, caller, job)),
        };
        if let Some(watchers) = self.memory.watchers.get_mut(&watched) {
            watchers.retain(|watcher| {
                (watcher.group, watcher.index, watcher.gate) != (at.0, at.1, place)
            });
            if watchers.is_empty() {
                self.memory.watchers.remove(&watched);
            }
        }
    }

    /// Opens a closed gate of a task; one that is open stays open.
    pub(super) fn open_gate(&mut self, at: (GroupId, u32), place: u32) -> Result<()> {
        let Some(group) = self.memory.groups.get_mut(&at.0) else { return Ok(()) };
        let plan = Arc::clone(&group.plan);
        let Some(extra) = group.extras.get_mut(&at.1) else { return Ok(()) };
        let Some(found) = extra.closed.iter().position(|closed| *closed == place) else {
            return Ok(());
        };
        extra.closed.swap_remove(found);
        self.unwatch(at, &plan, place);
        self.advance(at, Input::GateOpened, None)
    }

    /// Opens the gates that waited for this end, or gives up the tasks behind them.
    pub(super) fn watched_ended(&mut self, watched: Watched, well: bool) -> Result<()> {
        for watcher in self.memory.watchers.remove(&watched).unwrap_or_default() {
            let at = (watcher.group, watcher.index);
            if well {
                self.open_gate(at, watcher.gate)?;
            } else if self.is_waiting(at) {
                self.advance(at, Input::GiveUp { reason: failed_gate(watched) }, None)?;
            }
        }
        Ok(())
    }

    /// Gives up every task of a group that has not ended.
    pub(super) fn give_up_all(&mut self, id: GroupId, reason: &str) -> Result<()> {
        let Some(group) = self.memory.groups.get_mut(&id) else { return Ok(()) };
        // Each end that this brings may ask for it again.
        if std::mem::replace(&mut group.given_up, true) {
            return Ok(());
        }
        let indexes = group.plan.indexes();
        for index in indexes {
            if self.is_waiting((id, index)) {
                let reason = reason.to_owned();
                self.advance((id, index), Input::GiveUp { reason }, None)?;
            }
        }
        Ok(())
    }

    /// A whole message has taken too long.
    pub(super) fn group_due(&mut self, id: GroupId) -> Result<()> {
        if let Some(group) = self.memory.groups.get_mut(&id) {
            group.reason = Some("the message timed out".to_owned());
        }
        self.give_up_all(id, "the message timed out")
    }

    /// Ends a run all of whose tasks have.
    pub(super) fn end_group(&mut self, id: GroupId, outcome: FlowStatus) -> Result<()> {
        let well = outcome == FlowStatus::Finished;
        self.progress_message(id, Progress::Ended(well))?;
        let Some(group) = self.memory.groups.remove(&id) else { return Ok(()) };
        let context = group.context();
        self.memory.by_key.remove(&group.key);
        for job in group.plan.dag.ids() {
            let job = (context, group.caller, *job);
            if self.memory.by_job.get(&job).is_some_and(|at| at.0 == id) {
                self.memory.by_job.remove(&job);
            }
        }
        let class = group.plan.spec(0).map(|spec| spec.class).unwrap_or_default();
        self.memory.ready.remove_group(context, class, id);
        if let Some(due) = group.due {
            self.memory.timers.clear(due, Timer::Group(id));
        }
        if let Some(active) = self.memory.per_context.get_mut(&context) {
            *active -= 1;
            if *active == 0 {
                self.memory.per_context.remove(&context);
            }
        }
        self.tx.remove(ACTIVE, &group.key.row());
        if let GroupKey::Flow(_, flow) = group.key {
            self.end_flow(&group, flow, outcome)?;
            self.watched_ended(Watched::Flow(context, flow), well)?;
        }
        Ok(())
    }

    fn end_flow(&mut self, group: &Group, flow: u32, outcome: FlowStatus) -> Result<()> {
        let key = (group.context(), flow);
        let failed = outcome == FlowStatus::Error;
        let reason = group.reason.clone().filter(|_| failed);
        let row = FlowRunRow {
            status: outcome,
            started_at: Some(group.started_at),
            finished_at: Some(self.now),
            updated_at: self.now,
            fail_fast: group.fail_fast,
            reason: reason.clone(),
            has_results: group.has_results,
        };
        self.tx.put(FLOW_RUNS, &key, &row)?;
        self.emit_flow(key, FlowStatus::Started, outcome, reason.as_deref());
        Ok(())
    }

    pub(super) fn emit_flow(
        &mut self,
        (context, flow): (u32, u32),
        from: FlowStatus,
        to: FlowStatus,
        reason: Option<&str>,
    ) {
        let mut data = serde_json::json!({ "from": from.as_str(), "to": to.as_str() });
        if let (Some(reason), Some(data)) = (reason, data.as_object_mut()) {
            data.insert("reason".to_owned(), reason.into());
        }
        self.emit(Draft {
            kind: "flow.status",
            context_id: Some(context),
            subject: format!("flow/{context}/{flow}"),
            group: None,
            data: data.to_string(),
        });
    }
}

/// How a task of a new run begins.
enum Begun {
    Ready,
    Waiting,
    Doomed(String),
}

fn failed_gate(watched: Watched) -> String {
    match watched {
        Watched::Flow(_, flow) => format!("prerequisite flow:{flow} ended in error"),
        Watched::Job((_, caller, job)) => format!("prerequisite job:{caller}/{job} ended in error"),
    }
}
