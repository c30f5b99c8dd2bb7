//! `context.*`: tenants.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::aside::aside;
use super::auth::end_sessions_of_runners;
use super::page::{Cut, Page};
use super::sweep::{anything_below, remove_below};
use super::{Deleted, bounds, seconds, tell};
use crate::app::{Caller, Cx};
use crate::engine::Turn;
use crate::method::{Access, Def, Method, Spec, Verb};
use crate::model::slices::{GROUPS, is_group};
use crate::store::{
    ATTEMPTS, CONTEXTS, ContextRow, FLOW_RUNS, FLOWS, IDEMPOTENCY, IDEMPOTENCY_AGE, JOBS, LOGS,
    MESSAGE_RUNS, MESSAGES, RUNNERS, TASKS,
};
use crate::{Code, Error, Result};

/// This namespace's methods.
pub const METHODS: &[Def] =
    &[Def::call::<Create>(), Def::call::<Load>(), Def::call::<List>(), Def::call::<Delete>()];

/// Creates a context, or replaces the one of that id.
///
/// The operator creates contexts; their admins may replace them. What lies in a replaced context
/// stays; its `created_at` is kept. The actors need not exist.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ContextCreateParams")]
pub struct Create {
    /// The context.
    pub context: ContextCreate,
}

/// A context as its creator describes it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ContextCreate {
    /// Chosen by the client.
    pub id: u32,
    /// Actors that may change everything in it.
    pub admins: Vec<u32>,
    /// Actors that may read it.
    pub readers: Vec<u32>,
    /// Actors that may run its jobs and report on them.
    pub executors: Vec<u32>,
}

impl Method for Create {
    type Output = Context;
    const SPEC: Spec = Spec::new("context.create", Access::Admin)
        .scope("context.id")
        .rest(Verb::Post, "/contexts", 200)
        .errors(&[Code::LimitReached, Code::StorageError])
        .single();

    async fn call(self, cx: Cx) -> Result<Context> {
        let ContextCreate { id, admins, readers, executors } = self.context;
        if is_group(id) {
            let (first, last) = (GROUPS.start(), GROUPS.end());
            let reason = format!("must be none of {first} to {last}, which are compute groups");
            return Err(Error::params("context.id", reason));
        }
        bounds::count("context.admins", admins.len(), bounds::ENTRIES)?;
        bounds::count("context.readers", readers.len(), bounds::ENTRIES)?;
        bounds::count("context.executors", executors.len(), bounds::ENTRIES)?;
        let may_create = cx.caller == Caller::Operator;
        let change = move |turn: &mut Turn<'_>| {
            let now = turn.now;
            let before = turn.get(CONTEXTS, &id)?;
            if before.is_none() && !may_create {
                return Err(Error::Forbidden("the operator"));
            }
            let kind = if before.is_some() { "context.updated" } else { "context.created" };
            let created_at = before.map_or(now, |row| row.created_at);
            let row = ContextRow { admins, readers, executors, created_at, updated_at: now };
            turn.put(CONTEXTS, &id, &row)?;
            let context = Context::new(id, row);
            tell(turn, kind, Some(id), subject(id), &context)?;
            Ok(context)
        };
        cx.app.engine.change(change).await
    }
}

/// Loads a context.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ContextLoadParams")]
pub struct Load {
    /// The context.
    pub id: u32,
}

impl Method for Load {
    type Output = Context;
    const SPEC: Spec = Spec::new("context.load", Access::Reader)
        .scope("id")
        .rest(Verb::Get, "/contexts/{id}", 200)
        .errors(&[Code::NotFound, Code::StorageError])
        .single();

    async fn call(self, cx: Cx) -> Result<Context> {
        let row = cx.app.store.get(CONTEXTS, &self.id)?.ok_or_else(|| not_found(self.id))?;
        Ok(Context::new(self.id, row))
    }
}

/// Lists contexts in ascending order of ids; to an actor only those that name it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ContextListParams")]
pub struct List {
    /// Go on after this page's end: the `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most objects on the page, 1 to 1000; 100 when left out.
    #[serde(default)]
    #[schemars(range(min = 1, max = super::page::MAX_LIMIT))]
    pub limit: Option<u32>,
}

impl Method for List {
    type Output = Page<Context>;
    const SPEC: Spec = Spec::new("context.list", Access::Member)
        .rest(Verb::Get, "/contexts", 200)
        .errors(&[Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Page<Context>> {
        let cut = Cut::new(&(), self.cursor.as_deref(), self.limit)?;
        aside(move || {
            cut.collect(&cx.app.store, CONTEXTS, &(), |id, row| {
                if let Caller::Actor(actor) = cx.caller
                    && !row.names(actor)
                {
                    return Ok(None);
                }
                let size = (row.admins.len() + row.readers.len() + row.executors.len()) * 8;
                Ok(Some((Context::new(*id, row), size)))
            })
        })
        .await
    }
}

/// Deletes a context.
///
/// One that holds anything is deleted only with `force`, together with all that it holds: then
/// one `context.deleted` event stands for everything in it. While something in it runs, it cannot
/// be deleted at all.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ContextDeleteParams")]
pub struct Delete {
    /// The context.
    pub id: u32,
    /// Delete what it holds as well.
    #[serde(default)]
    pub force: Option<bool>,
}

impl Method for Delete {
    type Output = Deleted;
    const SPEC: Spec = Spec::new("context.delete", Access::Admin)
        .scope("id")
        .rest(Verb::Delete, "/contexts/{id}", 200)
        .errors(&[Code::NotFound, Code::Conflict, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Deleted> {
        let (id, force) = (self.id, self.force.unwrap_or_default());
        let change = move |turn: &mut Turn<'_>| {
            turn.get(CONTEXTS, &id)?.ok_or_else(|| not_found(id))?;
            if turn.context_is_active(id) {
                return Err(Error::conflict("active", "something in the context runs"));
            }
            if force {
                empty(turn, id)?;
            } else if holds_anything(turn, id)? {
                let reason = "the context holds objects; delete them, or use force";
                return Err(Error::conflict("not empty", reason));
            }
            turn.context_deleted(id);
            turn.remove(CONTEXTS, &id);
            turn.definition_changed(id);
            tell(turn, "context.deleted", Some(id), subject(id), &json!({ "id": id }))?;
            Ok(Deleted::DONE)
        };
        cx.app.engine.change(change).await
    }
}

fn holds_anything(turn: &Turn<'_>, id: u32) -> Result<bool> {
    Ok(anything_below(turn, RUNNERS, &id)?
        || anything_below(turn, FLOWS, &id)?
        || anything_below(turn, JOBS, &id)?
        || anything_below(turn, MESSAGES, &id)?)
}

/// Stages the removal of everything in the context; how its idempotency keys are indexed by age
/// stands in their rows.
fn empty(turn: &mut Turn<'_>, id: u32) -> Result<()> {
    let mut after = None;
    loop {
        let page = turn.page(IDEMPOTENCY, &id, after.as_ref(), 1_000)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        for ((context, digest), row) in page {
            turn.remove(IDEMPOTENCY_AGE, &(row.at, context, digest));
            turn.remove(IDEMPOTENCY, &(context, digest));
        }
    }
    end_sessions_of_runners(turn, id)?;
    remove_below(turn, RUNNERS, &id)?;
    remove_below(turn, FLOWS, &id)?;
    remove_below(turn, FLOW_RUNS, &id)?;
    remove_below(turn, JOBS, &id)?;
    remove_below(turn, TASKS, &id)?;
    remove_below(turn, ATTEMPTS, &id)?;
    remove_below(turn, LOGS, &id)?;
    remove_below(turn, MESSAGES, &id)?;
    remove_below(turn, MESSAGE_RUNS, &id)
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Context {
    /// Chosen by the client.
    pub id: u32,
    /// Actors that may change everything in it.
    pub admins: Vec<u32>,
    /// Actors that may read it.
    pub readers: Vec<u32>,
    /// Actors that may run its jobs and report on them.
    pub executors: Vec<u32>,
    /// When it was first created, Unix seconds.
    pub created_at: i64,
    /// When it was last created or replaced, Unix seconds.
    pub updated_at: i64,
}

impl Context {
    /// The object of a row.
    pub fn new(id: u32, row: ContextRow) -> Self {
        Self {
            id,
            admins: row.admins,
            readers: row.readers,
            executors: row.executors,
            created_at: seconds(row.created_at),
            updated_at: seconds(row.updated_at),
        }
    }
}

fn subject(id: u32) -> String {
    format!("context/{id}")
}

/// What is answered when a context does not exist.
pub(super) fn not_found(id: u32) -> Error {
    Error::NotFound { kind: "context", id: id.to_string() }
}
