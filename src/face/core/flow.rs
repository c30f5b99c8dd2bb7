//! `flow.*`: groups of jobs as their creators describe them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::aside::{aside, far_aside};
use super::page::{Cut, Page};
use super::{
    Deleted, FlowStatus, bounds, context, context_must_agree, context_must_exist, members, seconds,
    tell,
};
use crate::app::Cx;
use crate::engine::Turn;
use crate::method::{Access, Def, Method, Spec, Verb};
use crate::model::flow::FlowStatus as Status;
use crate::model::{Millis, distinct};
use crate::store::{CONTEXTS, FLOW_RUNS, FLOWS, FlowRow, FlowRunRow, Store};
use crate::{Code, Error, Result};

/// This namespace's methods on stored flows.
pub const METHODS: &[Def] =
    &[Def::call::<Create>(), Def::call::<Load>(), Def::call::<List>(), Def::call::<Delete>()];

/// Creates a flow in a context, or replaces the one of that id.
///
/// A replaced flow keeps its `created_at`; its status and result are as if it had never run. One
/// that is being executed is not replaced. Its jobs need not exist yet, and nothing starts: see
/// `flow.start`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FlowCreateParams")]
pub struct Create {
    /// The context it belongs to.
    pub context_id: u32,
    /// The flow.
    pub flow: FlowCreate,
}

/// A flow as its creator describes it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FlowCreate {
    /// Chosen by the client, unique within the context.
    pub id: u32,
    /// The actor whose jobs it groups.
    pub caller_id: u32,
    /// The context it belongs to; must equal the one in the params.
    pub context_id: u32,
    /// Its jobs; ids listed twice count once.
    pub jobs: Vec<u32>,
    /// Environment of all its jobs.
    #[serde(deserialize_with = "distinct::texts")]
    pub env_vars: BTreeMap<String, String>,
    /// A result to begin with, until the flow has finished.
    #[serde(default, deserialize_with = "distinct::texts")]
    pub result: BTreeMap<String, String>,
}

impl FlowCreate {
    /// Checks what can be checked without looking at what is stored.
    ///
    /// # Errors
    /// [`Error::Params`] naming the field, [`Error::Limit`] for lists that are too long.
    pub fn check(&self, context_id: u32) -> Result<()> {
        context_must_agree(context_id, self.context_id, "flow.context_id")?;
        bounds::count("flow.jobs", self.jobs.len(), bounds::IDS)?;
        bounds::environment("flow.env_vars", &self.env_vars)
    }

    fn into_row(self, created_at: Millis, updated_at: Millis) -> FlowRow {
        FlowRow {
            caller_id: self.caller_id,
            jobs: self.jobs,
            env_vars: self.env_vars,
            result: self.result,
            created_at,
            updated_at,
        }
    }
}

impl Method for Create {
    type Output = Flow;
    const SPEC: Spec = Spec::new("flow.create", Access::Admin)
        .rest(Verb::Post, "/flows/{context_id}", 200)
        .errors(&[Code::NotFound, Code::Conflict, Code::LimitReached, Code::StorageError])
        .single();

    async fn call(self, cx: Cx) -> Result<Flow> {
        let Self { context_id, flow } = self;
        flow.check(context_id)?;
        let change = move |turn: &mut Turn<'_>| {
            context_must_exist(turn, context_id)?;
            let flow = store(turn, flow)?;
            turn.definition_changed(context_id);
            Ok(flow)
        };
        cx.app.engine.change(change).await
    }
}

/// Stages a flow that was checked, new or in place of one that is not active, with its event.
///
/// # Errors
/// [`Error::Conflict`] when the flow of that id is active.
pub fn store(turn: &mut Turn<'_>, flow: FlowCreate) -> Result<Flow> {
    let (now, key) = (turn.now, (flow.context_id, flow.id));
    let before = turn.get(FLOWS, &key)?;
    let kind = if before.is_some() { "flow.updated" } else { "flow.created" };
    if before.is_some() {
        refuse_active(turn, key)?;
        turn.remove(FLOW_RUNS, &key);
    }
    let row = flow.into_row(before.map_or(now, |row| row.created_at), now);
    turn.put(FLOWS, &key, &row)?;
    let flow = Flow::new(key, row, None);
    tell(turn, kind, Some(key.0), subject(key), &flow)?;
    Ok(flow)
}

fn refuse_active(turn: &Turn<'_>, key: (u32, u32)) -> Result<()> {
    if !turn.flow_is_active(key.0, key.1) {
        return Ok(());
    }
    let run = turn.get(FLOW_RUNS, &key)?;
    let state = FlowStatus::from(run.map_or(Status::Dispatched, |run| run.status));
    Err(Error::conflict(state.as_str(), format!("flow {} is being executed", key.1)))
}

/// Loads a flow.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FlowLoadParams")]
pub struct Load {
    /// The context it belongs to.
    pub context_id: u32,
    /// The flow.
    pub id: u32,
}

impl Method for Load {
    type Output = Flow;
    const SPEC: Spec = Spec::new("flow.load", Access::Reader)
        .rest(Verb::Get, "/flows/{context_id}/{id}", 200)
        .errors(&[Code::NotFound, Code::StorageError])
        .single();

    async fn call(self, cx: Cx) -> Result<Flow> {
        let key = (self.context_id, self.id);
        let (row, run) = rows(&cx.app.store, key)?.ok_or_else(|| not_found(key))?;
        if !has_results(run.as_ref()) {
            return Ok(Flow::new(key, row, run.as_ref()));
        }
        far_aside(move || with_results(&cx.app.store, key, row, run.as_ref())).await
    }
}

/// Reads what is stored of a flow, if it exists.
fn rows(store: &Store, key: (u32, u32)) -> Result<Option<(FlowRow, Option<FlowRunRow>)>> {
    let Some(row) = store.get(FLOWS, &key)? else { return Ok(None) };
    Ok(Some((row, store.get(FLOW_RUNS, &key)?)))
}

/// Whether the flow's result has to be collected from its jobs.
pub(super) fn has_results(run: Option<&FlowRunRow>) -> bool {
    run.is_some_and(|run| run.status == Status::Finished && run.has_results)
}

/// The object of a flow, with the results of its jobs if it has finished; takes time for many
/// jobs.
pub fn with_results(
    store: &Store,
    key: (u32, u32),
    row: FlowRow,
    run: Option<&FlowRunRow>,
) -> Result<Flow> {
    let wanted = has_results(run);
    let results = if wanted {
        members::results(store, (key.0, row.caller_id), &members::distinct(&row.jobs))?
    } else {
        BTreeMap::new()
    };
    let mut flow = Flow::new(key, row, run);
    if wanted {
        flow.result = results;
    }
    Ok(flow)
}

/// Lists the flows of a context in ascending order of ids.
///
/// With a filter, a page may end before it is full: go on as long as there is a `next`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FlowListParams")]
pub struct List {
    /// The context they belong to.
    pub context_id: u32,
    /// Go on after this page's end: the `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most objects on the page, 1 to 1000; 100 when left out.
    #[serde(default)]
    #[schemars(range(min = 1, max = super::page::MAX_LIMIT))]
    pub limit: Option<u32>,
    /// Only those that stand so.
    #[serde(default)]
    pub status: Option<FlowStatus>,
    /// Only those of this actor.
    #[serde(default)]
    pub caller_id: Option<u32>,
}

impl Method for List {
    type Output = Page<Flow>;
    const SPEC: Spec = Spec::new("flow.list", Access::Reader)
        .rest(Verb::Get, "/flows/{context_id}", 200)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Page<Flow>> {
        let context_id = self.context_id;
        let cut = Cut::new(&context_id, self.cursor.as_deref(), self.limit)?;
        aside(move || {
            let store = &cx.app.store;
            store.get(CONTEXTS, &context_id)?.ok_or_else(|| context::not_found(context_id))?;
            cut.collect(store, FLOWS, &context_id, |key, row: FlowRow| {
                let run = store.get(FLOW_RUNS, key)?;
                let stands = run.as_ref().map_or(Status::Dispatched, |run| run.status);
                if self.status.is_some_and(|wanted| wanted != FlowStatus::from(stands))
                    || self.caller_id.is_some_and(|wanted| wanted != row.caller_id)
                {
                    return Ok(None);
                }
                // The reads that collecting takes count too, as if they were bytes.
                let reads = if has_results(run.as_ref()) { row.jobs.len() * 256 } else { 0 };
                let flow = with_results(store, *key, row, run.as_ref())?;
                let size = size(&flow) + reads;
                Ok(Some((flow, size)))
            })
        })
        .await
    }
}

/// Roughly, bytes on the wire.
fn size(flow: &Flow) -> usize {
    let pairs = flow.env_vars.iter().chain(&flow.result);
    256 + flow.jobs.len() * 8 + pairs.map(|(name, value)| name.len() + value.len()).sum::<usize>()
}

/// Deletes a flow, unless it is active; its jobs stay.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FlowDeleteParams")]
pub struct Delete {
    /// The context it belongs to.
    pub context_id: u32,
    /// The flow.
    pub id: u32,
}

impl Method for Delete {
    type Output = Deleted;
    const SPEC: Spec = Spec::new("flow.delete", Access::Admin)
        .rest(Verb::Delete, "/flows/{context_id}/{id}", 200)
        .errors(&[Code::NotFound, Code::Conflict, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Deleted> {
        let key = (self.context_id, self.id);
        let change = move |turn: &mut Turn<'_>| {
            turn.get(FLOWS, &key)?.ok_or_else(|| not_found(key))?;
            refuse_active(turn, key)?;
            turn.remove(FLOWS, &key);
            turn.remove(FLOW_RUNS, &key);
            turn.definition_changed(key.0);
            tell(turn, "flow.deleted", Some(key.0), subject(key), &json!({ "id": key.1 }))?;
            Ok(Deleted::DONE)
        };
        cx.app.engine.change(change).await
    }
}

/// A group of jobs that depend on each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flow {
    /// Chosen by the client, unique within the context.
    pub id: u32,
    /// The actor whose jobs it groups.
    pub caller_id: u32,
    /// The context it belongs to.
    pub context_id: u32,
    /// Its jobs, as the client listed them.
    pub jobs: Vec<u32>,
    /// Environment of all its jobs.
    pub env_vars: BTreeMap<String, String>,
    /// Once it has finished, the results of its jobs under `<job id>.<key>`; `reason` says why it
    /// ended in error.
    pub result: BTreeMap<String, String>,
    /// When it was first created, Unix seconds.
    pub created_at: i64,
    /// When it, or how it stands, last changed, Unix seconds.
    pub updated_at: i64,
    /// Where it stands.
    pub status: FlowStatus,
}

impl Flow {
    /// The object of a definition and of how its last run stands; without the results of its
    /// jobs.
    pub fn new((context_id, id): (u32, u32), row: FlowRow, run: Option<&FlowRunRow>) -> Self {
        let mut result = row.result;
        if let Some(reason) = run.and_then(|run| run.reason.as_ref()) {
            result.insert("reason".to_owned(), reason.clone());
        }
        let updated_at = run.map_or(row.updated_at, |run| row.updated_at.max(run.updated_at));
        Self {
            id,
            caller_id: row.caller_id,
            context_id,
            jobs: row.jobs,
            env_vars: row.env_vars,
            result,
            created_at: seconds(row.created_at),
            updated_at: seconds(updated_at),
            status: run.map_or(Status::Dispatched, |run| run.status).into(),
        }
    }
}

/// The subject of a flow's events.
pub fn subject((context, id): (u32, u32)) -> String {
    format!("flow/{context}/{id}")
}

/// What is answered when a flow does not exist.
pub fn not_found((context, id): (u32, u32)) -> Error {
    Error::NotFound { kind: "flow", id: format!("{context}/{id}") }
}
