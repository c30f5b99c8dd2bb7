//! `flow.*`: running flows: submit, start, cancel, retry.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aside::far_aside;
use super::flow::{self, Flow, FlowCreate};
use super::job::{self, Fresh, JobCreate};
use super::{bounds, context_must_exist, members};
use crate::app::{App, Cx};
use crate::engine::{Prepared, Rerun, Turn};
use crate::method::{Access, Def, Method, Spec, Verb};
use crate::model::Millis;
use crate::store::{
    FLOW_RUNS, FLOWS, FlowRow, FlowRunRow, IDEMPOTENCY, IDEMPOTENCY_AGE, IdempotencyRow, JOBS,
    JobRow, TASKS,
};
use crate::{Code, Error, Result};

/// This namespace's methods on running flows.
pub const METHODS: &[Def] =
    &[Def::call::<Submit>(), Def::call::<Start>(), Def::call::<Cancel>(), Def::call::<Retry>()];

/// Flows of at most so many jobs are read by the engine itself; larger ones before it is asked.
const SMALL: usize = 256;
/// How often a large flow that keeps changing is read again before the engine reads it.
const READS: usize = 3;
/// Longest idempotency key, bytes.
const KEY: usize = 256;

/// Stores jobs and a flow of them and starts it, all at once or not at all.
///
/// The same idempotency key within the context again answers with the first flow and starts
/// nothing; the same key with another request is a conflict. Keys are kept for 24 hours at least.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FlowSubmitParams")]
pub struct Submit {
    /// The context they belong to.
    pub context_id: u32,
    /// The flow.
    pub flow: FlowCreate,
    /// Jobs of the flow, of the same caller; jobs that are stored already may be left out.
    pub jobs: Vec<JobCreate>,
    /// Stop everything at the first job that fails for good; false when left out.
    #[serde(default)]
    pub fail_fast: Option<bool>,
    /// Any text of 1 to 256 bytes that tells this request from others.
    #[serde(default)]
    pub idempotency_key: Option<String>,
}

impl Method for Submit {
    type Output = Flow;
    const SPEC: Spec = Spec::new("flow.submit", Access::Admin)
        .rest(Verb::Post, "/flows/{context_id}/submit", 200)
        .errors(&[
            Code::NotFound,
            Code::Conflict,
            Code::LimitReached,
            Code::DagMissingDependency,
            Code::DagCycleDetected,
            Code::StorageError,
        ]);

    async fn call(self, cx: Cx) -> Result<Flow> {
        let now = (cx.app.now)();
        let submission = if self.jobs.len() <= SMALL {
            Submission::read(self, now)?
        } else {
            far_aside(move || Submission::read(self, now)).await?
        };
        let (flow, run) = cx.app.engine.change(move |turn| submission.carry_out(turn)).await?;
        answer(&cx.app, flow, run).await
    }
}

/// A checked submission, with everything computed that can be before the engine is asked.
struct Submission {
    flow: FlowCreate,
    jobs: Vec<Fresh>,
    /// Unless some jobs of the flow are not in the submission.
    prepared: Option<Prepared>,
    fail_fast: bool,
    idempotency: Option<([u8; 16], [u8; 32])>,
}

type Stored = (FlowRow, Option<FlowRunRow>);

impl Submission {
    fn read(submit: Submit, now: Millis) -> Result<Self> {
        let Submit { context_id, flow, jobs, fail_fast, idempotency_key } = submit;
        flow.check(context_id)?;
        bounds::count("jobs", jobs.len(), bounds::IDS)?;
        let wanted: BTreeSet<u32> = flow.jobs.iter().copied().collect();
        let mut given = BTreeSet::new();
        for (at, job) in jobs.iter().enumerate() {
            job.check(context_id, &format!("jobs[{at}]"))?;
            let wrong = |field: &str, reason: String| {
                Err(Error::params(format!("jobs[{at}].{field}"), reason))
            };
            if job.caller_id != flow.caller_id {
                return wrong("caller_id", format!("must be the flow's, {}", flow.caller_id));
            }
            if !wanted.contains(&job.id) {
                return wrong("id", "must be one of flow.jobs".to_owned());
            }
            if !given.insert(job.id) {
                return wrong("id", "must be given once".to_owned());
            }
        }
        let idempotency =
            idempotency_key.map(|key| digests(&key, &flow, &jobs, fail_fast)).transpose()?;
        let prepared = if given.len() == wanted.len() {
            let rows: Vec<(u32, JobRow)> =
                jobs.iter().map(|job| (job.id, job.outline(now))).collect();
            Some(Prepared::new(flow.caller_id, &rows, [])?)
        } else {
            None
        };
        let jobs = jobs.into_iter().map(|job| Fresh::of(job, now)).collect::<Result<Vec<_>>>()?;
        let fail_fast = fail_fast.unwrap_or_default();
        Ok(Self { flow, jobs, prepared, fail_fast, idempotency })
    }

    fn carry_out(self, turn: &mut Turn<'_>) -> Result<((u32, u32), Stored)> {
        let Self { flow, jobs, prepared, fail_fast, idempotency } = self;
        let (context, key) = (flow.context_id, (flow.context_id, flow.id));
        context_must_exist(turn, context)?;
        if let Some((name, request)) = idempotency {
            if let Some(first) = turn.get(IDEMPOTENCY, &(context, name))? {
                return repeated(turn, context, &first, &request);
            }
            let now = turn.now;
            let row = IdempotencyRow { request, flow_id: flow.id, at: now };
            turn.put(IDEMPOTENCY, &(context, name), &row)?;
            turn.put(IDEMPOTENCY_AGE, &(now, context, name), &())?;
        }
        let mut replaced = Vec::new();
        for job in jobs {
            replaced.extend(job.store(turn)?.map(|job| (job.context_id, job.caller_id, job.id)));
        }
        flow::store(turn, flow)?;
        let prepared = match prepared {
            Some(mut prepared) => {
                for triple in replaced {
                    if let Some(row) = turn.get(TASKS, &triple)? {
                        prepared.remember(triple.2, row);
                    }
                }
                prepared
            }
            None => turn.prepare_flow(key)?,
        };
        turn.definition_changed(context);
        turn.start_flow(key, prepared, Rerun::All, Some(fail_fast))?;
        Ok((key, stored(turn, key)?))
    }
}

/// Digests of the key and of the request.
fn digests(
    key: &str,
    flow: &FlowCreate,
    jobs: &[JobCreate],
    fail_fast: Option<bool>,
) -> Result<([u8; 16], [u8; 32])> {
    if key.is_empty() || key.len() > KEY {
        return Err(Error::params("idempotency_key", format!("must be text of 1 to {KEY} bytes")));
    }
    let bug = |e: serde_json::Error| Error::Bug(e.to_string());
    let request = serde_json::to_vec(&(flow, jobs, fail_fast.unwrap_or_default())).map_err(bug)?;
    let mut name = [0; 16];
    blake3::Hasher::new().update(key.as_bytes()).finalize_xof().fill(&mut name);
    Ok((name, *blake3::hash(&request).as_bytes()))
}

/// Answers a submission that was made before.
fn repeated(
    turn: &Turn<'_>,
    context: u32,
    first: &IdempotencyRow,
    request: &[u8; 32],
) -> Result<((u32, u32), Stored)> {
    if first.request != *request {
        let reason = "the idempotency key was used with another request";
        return Err(Error::conflict("used", reason));
    }
    let key = (context, first.flow_id);
    Ok((key, stored(turn, key)?))
}

fn stored(turn: &Turn<'_>, key: (u32, u32)) -> Result<Stored> {
    let row = turn.get(FLOWS, &key)?.ok_or_else(|| flow::not_found(key))?;
    Ok((row, turn.get(FLOW_RUNS, &key)?))
}

async fn answer(app: &Arc<App>, key: (u32, u32), (row, run): Stored) -> Result<Flow> {
    if !flow::has_results(run.as_ref()) {
        return Ok(Flow::new(key, row, run.as_ref()));
    }
    let app = Arc::clone(app);
    far_aside(move || flow::with_results(&app.store, key, row, run.as_ref())).await
}

/// Starts a stored flow, or starts one that has ended from the beginning.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FlowStartParams")]
pub struct Start {
    /// The context it belongs to.
    pub context_id: u32,
    /// The flow.
    pub id: u32,
    /// Stop everything at the first job that fails for good; false when left out.
    #[serde(default)]
    pub fail_fast: Option<bool>,
}

impl Method for Start {
    type Output = Flow;
    const SPEC: Spec = Spec::new("flow.start", Access::Admin)
        .rest(Verb::Post, "/flows/{context_id}/{id}/start", 200)
        .errors(&[
            Code::NotFound,
            Code::Conflict,
            Code::DagMissingDependency,
            Code::DagCycleDetected,
            Code::StorageError,
        ]);

    async fn call(self, cx: Cx) -> Result<Flow> {
        let fail_fast = Some(self.fail_fast.unwrap_or_default());
        start(&cx.app, (self.context_id, self.id), Rerun::All, fail_fast).await
    }
}

/// Runs those jobs of a flow again that failed, and those that hung on them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FlowRetryParams")]
pub struct Retry {
    /// The context it belongs to.
    pub context_id: u32,
    /// The flow, which must have ended in error.
    pub id: u32,
}

impl Method for Retry {
    type Output = Flow;
    const SPEC: Spec = Spec::new("flow.retry", Access::Admin)
        .rest(Verb::Post, "/flows/{context_id}/{id}/retry", 200)
        .errors(&[
            Code::NotFound,
            Code::Conflict,
            Code::DagMissingDependency,
            Code::DagCycleDetected,
            Code::StorageError,
        ]);

    async fn call(self, cx: Cx) -> Result<Flow> {
        start(&cx.app, (self.context_id, self.id), Rerun::Unfinished, None).await
    }
}

async fn start(
    app: &Arc<App>,
    key: (u32, u32),
    rerun: Rerun,
    fail_fast: Option<bool>,
) -> Result<Flow> {
    let row = app.store.get(FLOWS, &key)?.ok_or_else(|| flow::not_found(key))?;
    let mut started = None;
    if row.jobs.len() > SMALL {
        for _ in 0..READS {
            let version = app.engine.version(key.0);
            let reader = Arc::clone(app);
            let prepared = far_aside(move || prepare(&reader, key)).await?;
            let change = move |turn: &mut Turn<'_>| {
                if !turn.is_at(key.0, version) {
                    return Ok(None);
                }
                turn.start_flow(key, prepared, rerun, fail_fast)?;
                stored(turn, key).map(Some)
            };
            started = app.engine.change(change).await?;
            if started.is_some() {
                break;
            }
        }
    }
    let started = match started {
        Some(started) => started,
        None => {
            let change = move |turn: &mut Turn<'_>| {
                let prepared = turn.prepare_flow(key)?;
                turn.start_flow(key, prepared, rerun, fail_fast)?;
                stored(turn, key)
            };
            app.engine.change(change).await?
        }
    };
    answer(app, key, started).await
}

/// Reads a large flow outside the engine.
fn prepare(app: &App, key: (u32, u32)) -> Result<Prepared> {
    let flow = app.store.get(FLOWS, &key)?.ok_or_else(|| flow::not_found(key))?;
    let (group, ids) = ((key.0, flow.caller_id), members::distinct(&flow.jobs));
    let mut jobs = Vec::with_capacity(ids.len());
    let mut missing = None;
    members::each(&app.store, JOBS, group, &ids, |id, row| match row {
        Some(row) => {
            jobs.push((id, row.slim()));
            ControlFlow::Continue(())
        }
        None => {
            missing = Some(id);
            ControlFlow::Break(())
        }
    })?;
    if let Some(id) = missing {
        return Err(job::not_found((group.0, group.1, id)));
    }
    let mut rows = Vec::new();
    members::each(&app.store, TASKS, group, &ids, |id, row| {
        rows.extend(row.map(|row| (id, row)));
        ControlFlow::Continue(())
    })?;
    Prepared::new(flow.caller_id, &jobs, rows)
}

impl JobCreate {
    /// Its row without what a plan does not need.
    fn outline(&self, now: Millis) -> JobRow {
        JobRow {
            script: String::new(),
            language: self.script_type.into(),
            timeout: self.timeout,
            retries: self.retries,
            env_vars: std::collections::BTreeMap::new(),
            result: std::collections::BTreeMap::new(),
            prerequisites: self.prerequisites.clone(),
            depends: self.depends.clone(),
            created_at: now,
            updated_at: now,
        }
    }
}

impl JobRow {
    /// Without what a plan does not need, so that many are small.
    fn slim(&self) -> Self {
        Self {
            script: String::new(),
            env_vars: std::collections::BTreeMap::new(),
            result: std::collections::BTreeMap::new(),
            prerequisites: self.prerequisites.clone(),
            depends: self.depends.clone(),
            ..*self
        }
    }
}

/// Cancels a flow and everything in it that has not ended.
///
/// On one that has ended it changes nothing; one that was never started is ended by it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FlowCancelParams")]
pub struct Cancel {
    /// The context it belongs to.
    pub context_id: u32,
    /// The flow.
    pub id: u32,
    /// Why; `cancelled` when left out.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Method for Cancel {
    type Output = Flow;
    const SPEC: Spec = Spec::new("flow.cancel", Access::Admin)
        .rest(Verb::Post, "/flows/{context_id}/{id}/cancel", 200)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Flow> {
        let key = (self.context_id, self.id);
        let reason = read_reason(self.reason)?;
        let change = move |turn: &mut Turn<'_>| {
            turn.cancel_flow(key, &reason)?;
            turn.draw_consequences()?;
            stored(turn, key)
        };
        let stored = cx.app.engine.change(change).await?;
        answer(&cx.app, key, stored).await
    }
}

/// The reason of a cancellation.
pub(super) fn read_reason(reason: Option<String>) -> Result<String> {
    let reason = reason.filter(|text| !text.is_empty()).unwrap_or_else(|| "cancelled".to_owned());
    bounds::length(|| "reason".to_owned(), &reason, bounds::SHORT_TEXT)?;
    Ok(reason)
}
