//! Why a task is still waiting.

use super::memory::{Group, GroupId};
use super::plan::position;
use super::turn::Turn;
use crate::Result;
use crate::model::Triple;
use crate::model::gate::Gate;
use crate::model::task::{JobStatus, State};
use crate::store::{JOBS, TASKS};

/// Reasons listed at most.
const REASONS: usize = 100;

/// Where a job stands, and what it waits for.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Where it stands.
    pub status: JobStatus,
    /// What it waits for; empty when it does not wait.
    pub waiting_for: Vec<Reason>,
}

/// One thing that a job waits for.
#[derive(Clone, Debug)]
pub struct Reason {
    /// `job`, `gate`, `backoff`, `runner`, `slot`, `acknowledgement` or `start`.
    pub kind: &'static str,
    /// In words.
    pub detail: String,
}

impl Turn<'_> {
    /// Says what a job waits for.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`].
    pub fn explain_job(&mut self, key: Triple) -> Result<Explanation> {
        let (context, caller, id) = key;
        let job = self.get(JOBS, &key)?;
        if let Some(at) = self.active_task(key)
            && let Some(group) = self.memory.groups.get(&at.0)
            && let Some(status) = group.status(at.1)
        {
            let gates = job.map(|job| job.prerequisites).unwrap_or_default();
            let mut waiting_for = self.reasons(at, group, &gates);
            waiting_for.truncate(REASONS);
            return Ok(Explanation { status, waiting_for });
        }
        let job = job.ok_or_else(|| crate::Error::NotFound {
            kind: "job",
            id: format!("{context}/{caller}/{id}"),
        })?;
        let held_back = !job.depends.is_empty() || !job.prerequisites.is_empty();
        let row = self.get(TASKS, &key)?;
        let status = row.map_or(JobStatus::fresh(held_back), |row| row.status);
        let waiting_for = if status.is_ended() {
            Vec::new()
        } else {
            let detail = "nothing has started it yet: a flow, a message or job.run does".to_owned();
            vec![Reason { kind: "start", detail }]
        };
        Ok(Explanation { status, waiting_for })
    }

    fn reasons(&self, at: (GroupId, u32), group: &Group, gates: &[String]) -> Vec<Reason> {
        let Some(task) = group.task(at.1) else { return Vec::new() };
        match &task.state {
            State::Waiting { .. } => waiting(group, at.1, gates),
            State::Ready { not_before } if *not_before > self.now => {
                let detail = format!("backing off until {not_before} (Unix milliseconds)");
                vec![Reason { kind: "backoff", detail }]
            }
            State::Ready { .. } => vec![self.no_slot(group, at.1)],
            State::Leased(lease) => {
                let runner = lease.fence.runner;
                let detail = format!("runner {runner} has it and has not begun");
                vec![Reason { kind: "acknowledgement", detail }]
            }
            _ => Vec::new(),
        }
    }

    fn no_slot(&self, group: &Group, index: u32) -> Reason {
        let context = group.context();
        let Some(spec) = group.plan.spec(index) else {
            return Reason { kind: "runner", detail: String::new() };
        };
        let able = self.memory.runners.iter().filter(|((of, _), known)| {
            let session = known.session.as_ref();
            *of == context && session.is_some_and(|s| s.usable.contains(spec.skill) && !s.draining)
        });
        let (mut runners, mut slots, mut silent) = (0_u64, 0_u64, 0_u64);
        for session in able.filter_map(|(_, known)| known.session.as_ref()) {
            if session.silent {
                silent += 1;
            } else {
                runners += 1;
                slots += u64::from(session.slots);
            }
        }
        let language = spec.skill.as_str();
        if runners == 0 && silent > 0 {
            let detail = format!(
                "{silent} runners that execute {language} are attached, but did not acknowledge \
                 what they were given and have not been heard of since"
            );
            Reason { kind: "runner", detail }
        } else if runners == 0 {
            let detail =
                format!("no runner of context {context} that executes {language} is attached");
            Reason { kind: "runner", detail }
        } else {
            let detail =
                format!("all {slots} slots of {runners} runners that execute {language} are busy");
            Reason { kind: "slot", detail }
        }
    }
}

/// `names` are the gates as the job's definition has them.
fn waiting(group: &Group, index: u32, names: &[String]) -> Vec<Reason> {
    let parents = group.plan.dag.parents(index).iter().filter_map(|parent| {
        let status = group.status(*parent)?;
        let id = group.plan.dag.id(*parent)?;
        let detail = format!("job {id} has not finished, it is {}", status.as_str());
        (status != JobStatus::Finished).then_some(Reason { kind: "job", detail })
    });
    let closed = group.extras.get(&index).map(|extra| extra.closed.as_slice()).unwrap_or_default();
    let gates = closed.iter().filter_map(|place| {
        let gate = group.plan.gates(index).get(position(*place))?;
        let name = names.get(position(*place)).map(String::as_str).unwrap_or_default();
        let detail = match gate {
            Gate::Plain(_) => format!("{name:?} is not satisfied"),
            Gate::After(time) => format!("{name}, which is {time} in Unix milliseconds"),
            Gate::Flow(_) | Gate::Job(..) => format!("{name} has not finished"),
        };
        Some(Reason { kind: "gate", detail })
    });
    parents.take(REASONS).chain(gates).collect()
}
