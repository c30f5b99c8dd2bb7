//! What can be done with a single job: run, cancel, satisfy.

use super::groups::Start;
use super::memory::{GroupKey, Watched};
use super::plan::{History, Outside, Plan, Prepared, job_subject};
use super::turn::Turn;
use crate::model::Triple;
use crate::model::task::{Input, JobStatus};
use crate::store::{Draft, JOBS, JobRow, TASKS, TaskRow};
use crate::{Error, Result};

impl Turn<'_> {
    fn job(&self, key: Triple) -> Result<JobRow> {
        let (context, caller, id) = key;
        let not_found = || Error::NotFound { kind: "job", id: format!("{context}/{caller}/{id}") };
        self.get(JOBS, &key)?.ok_or_else(not_found)
    }

    /// Dispatches one stored job outside any flow.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when it is active, or something it depends on has
    /// not finished.
    pub fn run_job(&mut self, key: Triple) -> Result<()> {
        let job = self.job(key)?;
        let (context, caller, id) = key;
        for needed in &job.depends {
            let row = self.get(TASKS, &(context, caller, *needed))?;
            let status = row.map(|row| row.status);
            if status != Some(JobStatus::Finished) {
                let state = status.map_or("never run", JobStatus::as_str);
                let reason = format!("job {needed}, which it depends on, has not finished");
                return Err(Error::conflict(state, reason));
            }
        }
        if let Some(status) = self.active_status(key) {
            return Err(Error::conflict(status.as_str(), "the job is active already"));
        }
        let plan = Plan::new(caller, &[(id, job)], Outside::Ignore)?;
        let row = self.get(TASKS, &key)?;
        let history: History = row.map(|row| (0, row)).into_iter().collect();
        let prepared = Prepared { plan: plan.into(), history: History::default() };
        let start = Start {
            key: GroupKey::Job(key),
            caller,
            env: std::sync::Arc::default(),
            prepared,
            fail_fast: false,
            has_results: false,
            acknowledge_within: super::ACKNOWLEDGE_WITHIN,
            result_within: 0,
            due: None,
            message: None,
        };
        let group = self.start_group(start)?;
        self.begin_tasks(group, history, false)
    }

    fn active_status(&self, key: Triple) -> Option<JobStatus> {
        let (group, index) = self.active_task(key)?;
        self.memory.groups.get(&group)?.status(index)
    }

    /// Ends a job in error, whatever it is doing; one that has ended stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn cancel_job(&mut self, key: Triple, reason: &str) -> Result<()> {
        if let Some(at) = self.active_task(key) {
            return self.advance(at, Input::GiveUp { reason: reason.to_owned() }, None);
        }
        let job = self.job(key)?;
        let held_back = !job.depends.is_empty() || !job.prerequisites.is_empty();
        let last = self.get(TASKS, &key)?;
        let from = last.as_ref().map_or(JobStatus::fresh(held_back), |row| row.status);
        if from.is_ended() {
            return Ok(());
        }
        let row = TaskRow {
            status: JobStatus::Error,
            updated_at: self.now,
            reason: Some(reason.to_owned()),
            ..last.unwrap_or_else(|| TaskRow::fresh(from, self.now))
        };
        self.tx.put(TASKS, &key, &row)?;
        let to = JobStatus::Error.as_str();
        let data = serde_json::json!({ "from": from.as_str(), "to": to, "reason": reason });
        self.emit(Draft {
            kind: "job.status",
            context_id: Some(key.0),
            subject: job_subject(key),
            group: None,
            data: data.to_string(),
        });
        self.definition_changed(key.0);
        self.touch();
        self.watched_ended(Watched::Job(key), false)
    }

    /// Opens a gate of a job, also before it runs.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Params`] when the job has no such prerequisite.
    pub fn satisfy_job(&mut self, key: Triple, prerequisite: &str) -> Result<()> {
        let job = self.job(key)?;
        let place = job.prerequisites.iter().position(|text| text == prerequisite);
        let Some(place) = place.and_then(|place| u32::try_from(place).ok()) else {
            return Err(Error::params("prerequisite", "one of the job's prerequisites"));
        };
        if let Some(at) = self.active_task(key) {
            return self.satisfy_active(at, &job, place);
        }
        let held_back = !job.depends.is_empty() || !job.prerequisites.is_empty();
        let last = self.get(TASKS, &key)?;
        let mut row = last.unwrap_or_else(|| TaskRow::fresh(JobStatus::fresh(held_back), self.now));
        if row.status.is_ended() || row.satisfied.contains(&place) {
            return Ok(());
        }
        row.satisfied.push(place);
        row.updated_at = self.now;
        self.tx.put(TASKS, &key, &row)?;
        self.definition_changed(key.0);
        Ok(())
    }

    fn satisfy_active(
        &mut self,
        at: (super::memory::GroupId, u32),
        job: &JobRow,
        place: u32,
    ) -> Result<()> {
        self.touch();
        let Some(group) = self.memory.groups.get_mut(&at.0) else { return Ok(()) };
        let plan = std::sync::Arc::clone(&group.plan);
        let extra = group.extras.entry(at.1).or_default();
        if !extra.satisfied.contains(&place) {
            extra.satisfied.push(place);
        }
        // The gate that this prerequisite became: the plan's list leaves out what stands twice.
        let text = job.prerequisites.get(super::plan::position(place));
        let meant = text.and_then(|text| crate::model::gate::parse_one(text).ok().flatten());
        let gate = plan.gates(at.1).iter().position(|gate| match (meant, gate) {
            (Some(meant), gate) => meant == *gate,
            (None, crate::model::gate::Gate::Plain(first)) => {
                u32::try_from(*first).is_ok_and(|first| first == place)
            }
            (None, _) => false,
        });
        match gate.and_then(|gate| u32::try_from(gate).ok()) {
            Some(gate) => {
                self.open_gate(at, gate)?;
                self.write_task_if_active(at)
            }
            None => Ok(()),
        }
    }

    fn write_task_if_active(&mut self, at: (super::memory::GroupId, u32)) -> Result<()> {
        let status = self.memory.groups.get(&at.0).and_then(|group| group.status(at.1));
        match status {
            Some(status) if !status.is_ended() => self.write_task(at, None),
            _ => Ok(()),
        }
    }
}

impl TaskRow {
    /// The row of a job that nothing has happened to yet.
    pub fn fresh(status: JobStatus, now: crate::model::Millis) -> Self {
        Self {
            status,
            updated_at: now,
            attempt: None,
            failures: 0,
            losses: 0,
            not_before: None,
            satisfied: Vec::new(),
            result: None,
            reason: None,
            log_lines: 0,
        }
    }
}
