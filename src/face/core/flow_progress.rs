//! `flow.status`: how far a flow is.

use std::ops::ControlFlow;

use minicbor::{Decode, Encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aside::far_aside;
use super::{FlowStatus, flow, job, members};
use crate::app::Cx;
use crate::method::{Access, Def, Method, Spec, Verb};
use crate::model::Millis;
use crate::model::flow::FlowStatus as Stands;
use crate::model::task::JobStatus;
use crate::store::{FLOW_RUNS, FLOWS, JOBS, Store, TASKS};
use crate::{Code, Result};

/// This namespace's methods on progress.
pub const METHODS: &[Def] = &[Def::call::<Status>()];

/// Says how far a flow is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FlowStatusParams")]
pub struct Status {
    /// The context it belongs to.
    pub context_id: u32,
    /// The flow.
    pub id: u32,
}

/// How far a flow is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowProgress {
    /// The flow.
    pub flow_id: u32,
    /// Where it stands.
    pub status: FlowStatus,
    /// Its jobs, each counted once.
    pub total: u64,
    /// Those that are `Finished` or in `Error`.
    pub done: u64,
    /// Its jobs by where they stand; those that do not exist are in none of the counts.
    pub jobs: JobCounts,
    /// When its last run began, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Millis>,
    /// When its last run ended, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Millis>,
}

/// Numbers of jobs by where they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct JobCounts {
    /// May be given to a runner, or have been and did not begin.
    pub dispatched: u64,
    /// Something holds them back.
    pub waiting_for_prerequisites: u64,
    /// A runner works on them.
    pub started: u64,
    /// Ended badly, or were cancelled.
    pub error: u64,
    /// Ended well.
    pub finished: u64,
}

impl JobCounts {
    /// All of them.
    pub(super) fn all(&self) -> u64 {
        let waiting = self.dispatched + self.waiting_for_prerequisites;
        waiting + self.started + self.error + self.finished
    }

    /// Counts one more.
    pub(super) fn add(&mut self, status: JobStatus) {
        let count = match status {
            JobStatus::Dispatched => &mut self.dispatched,
            JobStatus::WaitingForPrerequisites => &mut self.waiting_for_prerequisites,
            JobStatus::Started => &mut self.started,
            JobStatus::Error => &mut self.error,
            JobStatus::Finished => &mut self.finished,
        };
        *count += 1;
    }
}

impl Method for Status {
    type Output = FlowProgress;
    const SPEC: Spec = Spec::new("flow.status", Access::Reader)
        .rest(Verb::Get, "/flows/{context_id}/{id}/status", 200)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<FlowProgress> {
        let key = (self.context_id, self.id);
        far_aside(move || {
            let store = &cx.app.store;
            let row = store.get(FLOWS, &key)?.ok_or_else(|| flow::not_found(key))?;
            let run = store.get(FLOW_RUNS, &key)?;
            let ids = members::distinct(&row.jobs);
            let mut jobs = JobCounts::default();
            let statuses = statuses(store, (key.0, row.caller_id), &ids)?;
            statuses.into_iter().flatten().for_each(|status| jobs.add(status));
            Ok(FlowProgress {
                flow_id: key.1,
                status: run.as_ref().map_or(Stands::Dispatched, |run| run.status).into(),
                total: u64::try_from(ids.len()).unwrap_or(u64::MAX),
                done: jobs.finished + jobs.error,
                jobs,
                started_at: run.as_ref().and_then(|run| run.started_at),
                finished_at: run.as_ref().and_then(|run| run.finished_at),
            })
        })
        .await
    }
}

/// What says how a fresh job stands.
#[derive(Debug, Encode, Decode)]
pub(super) struct Holds {
    #[n(6)]
    prerequisites: Vec<String>,
    #[n(7)]
    depends: Vec<u32>,
}

impl Holds {
    /// How the job stands while nothing has happened to it.
    pub(super) fn fresh(&self) -> JobStatus {
        job::fresh_status(&self.depends, &self.prerequisites)
    }
}

/// Where the work of a job stands.
#[derive(Debug, Encode, Decode)]
pub(super) struct Standing {
    #[n(0)]
    pub(super) status: JobStatus,
}

/// How each of the jobs stands, in the order of `ids`; nothing for one that does not exist.
pub(super) fn statuses(
    store: &Store,
    group: (u32, u32),
    ids: &[u32],
) -> Result<Vec<Option<JobStatus>>> {
    Ok(members::in_parts(ids, |ids| some_statuses(store, group, ids))?.concat())
}

fn some_statuses(store: &Store, group: (u32, u32), ids: &[u32]) -> Result<Vec<Option<JobStatus>>> {
    let mut statuses = Vec::with_capacity(ids.len());
    let mut fresh = Vec::new();
    members::each(store, TASKS.part::<Standing>(), group, ids, |id, task| {
        if task.is_none() {
            fresh.push((statuses.len(), id));
        }
        statuses.push(task.map(|task| task.status));
        ControlFlow::Continue(())
    })?;
    let fresh_ids: Vec<u32> = fresh.iter().map(|(_, id)| *id).collect();
    let mut places = fresh.iter().map(|(place, _)| *place);
    members::each(store, JOBS.part::<Holds>(), group, &fresh_ids, |_, job| {
        let status = job.map(|job| job.fresh());
        if let Some(slot) = places.next().and_then(|place| statuses.get_mut(place)) {
            *slot = status;
        }
        ControlFlow::Continue(())
    })?;
    Ok(statuses)
}
