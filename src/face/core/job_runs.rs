//! `job.*`: running single jobs: run, cancel, satisfy, explain.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::JobStatus;
use super::flow_runs::read_reason;
use super::job::{self, Job};
use crate::app::Cx;
use crate::engine::Turn;
use crate::method::{Access, Def, Method, Spec, Verb};
use crate::model::Triple;
use crate::store::{JOBS, TASKS};
use crate::{Code, Result};

/// This namespace's methods on running jobs.
pub const METHODS: &[Def] =
    &[Def::call::<Run>(), Def::call::<Cancel>(), Def::call::<Satisfy>(), Def::call::<Explain>()];

/// Dispatches one stored job outside any flow; what it depends on must have finished.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "JobRunParams")]
pub struct Run {
    /// The context it belongs to.
    pub context_id: u32,
    /// The actor that asked for it.
    pub caller_id: u32,
    /// The job.
    pub id: u32,
}

impl Method for Run {
    type Output = Job;
    const SPEC: Spec = Spec::new("job.run", Access::Executor)
        .rest(Verb::Post, "/jobs/{context_id}/{caller_id}/{id}/run", 200)
        .errors(&[Code::NotFound, Code::Conflict, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Job> {
        let key = (self.context_id, self.caller_id, self.id);
        let change = move |turn: &mut Turn<'_>| {
            turn.run_job(key)?;
            turn.draw_consequences()?;
            stored(turn, key)
        };
        cx.app.engine.change(change).await
    }
}

/// Cancels a job, whatever it is doing; on one that has ended it changes nothing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "JobCancelParams")]
pub struct Cancel {
    /// The context it belongs to.
    pub context_id: u32,
    /// The actor that asked for it.
    pub caller_id: u32,
    /// The job.
    pub id: u32,
    /// Why; `cancelled` when left out.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Method for Cancel {
    type Output = Job;
    const SPEC: Spec = Spec::new("job.cancel", Access::Executor)
        .rest(Verb::Post, "/jobs/{context_id}/{caller_id}/{id}/cancel", 200)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Job> {
        let key = (self.context_id, self.caller_id, self.id);
        let reason = read_reason(self.reason)?;
        let change = move |turn: &mut Turn<'_>| {
            turn.cancel_job(key, &reason)?;
            turn.draw_consequences()?;
            stored(turn, key)
        };
        cx.app.engine.change(change).await
    }
}

/// Opens a gate of a job, also before it runs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "JobSatisfyParams")]
pub struct Satisfy {
    /// The context it belongs to.
    pub context_id: u32,
    /// The actor that asked for it.
    pub caller_id: u32,
    /// The job.
    pub id: u32,
    /// One of the job's prerequisites, as it stands there.
    pub prerequisite: String,
}

impl Method for Satisfy {
    type Output = Job;
    const SPEC: Spec = Spec::new("job.satisfy", Access::Executor)
        .rest(Verb::Post, "/jobs/{context_id}/{caller_id}/{id}/satisfy", 200)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Job> {
        let key = (self.context_id, self.caller_id, self.id);
        let change = move |turn: &mut Turn<'_>| {
            turn.satisfy_job(key, &self.prerequisite)?;
            turn.draw_consequences()?;
            stored(turn, key)
        };
        cx.app.engine.change(change).await
    }
}

fn stored(turn: &Turn<'_>, key: Triple) -> Result<Job> {
    let row = turn.get(JOBS, &key)?.ok_or_else(|| job::not_found(key))?;
    let task = turn.get(TASKS, &key)?;
    Ok(Job::new(key, row, task.as_ref()))
}

/// Says why a job is still waiting.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "JobExplainParams")]
pub struct Explain {
    /// The context it belongs to.
    pub context_id: u32,
    /// The actor that asked for it.
    pub caller_id: u32,
    /// The job.
    pub id: u32,
}

/// Where a job stands, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobExplanation {
    /// Where it stands.
    pub status: JobStatus,
    /// What it waits for, at most 100 things; empty when it does not wait.
    pub waiting_for: Vec<JobWait>,
}

/// One thing that a job waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobWait {
    /// `job` (one it depends on has not finished), `gate` (one is closed), `backoff` (until the
    /// next attempt), `runner` (none executes its language), `slot` (all are busy),
    /// `acknowledgement` (a runner has it and has not begun) or `start` (nothing has started it).
    pub kind: String,
    /// In words.
    pub detail: String,
}

impl Method for Explain {
    type Output = JobExplanation;
    const SPEC: Spec = Spec::new("job.explain", Access::Reader)
        .rest(Verb::Get, "/jobs/{context_id}/{caller_id}/{id}/explain", 200)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<JobExplanation> {
        let key = (self.context_id, self.caller_id, self.id);
        let found = cx.app.engine.change(move |turn| turn.explain_job(key)).await?;
        let waits = found.waiting_for.into_iter();
        Ok(JobExplanation {
            status: found.status.into(),
            waiting_for: waits
                .map(|reason| JobWait { kind: reason.kind.to_owned(), detail: reason.detail })
                .collect(),
        })
    }
}
