//! `runner.*`: what executes jobs, as its creator describes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::aside::aside;
use super::auth::end_sessions;
use super::page::{Cut, Page};
use super::{Deleted, IpAddr, bounds, context, context_must_exist, seconds, tell};
use crate::app::{Caller, Cx};
use crate::engine::Turn;
use crate::method::{Access, Def, Method, Spec, Verb};
use crate::model::slices::is_group;
use crate::store::{CONTEXTS, RUNNERS, RunnerRow};
use crate::{Code, Error, Result};

/// This namespace's methods on stored runners.
pub const METHODS: &[Def] =
    &[Def::call::<Create>(), Def::call::<Load>(), Def::call::<List>(), Def::call::<Delete>()];

/// Creates a runner in a context, or replaces the one of that id.
///
/// A replaced runner keeps its `created_at`, and stays attached if it is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RunnerCreateParams")]
pub struct Create {
    /// The context it serves.
    pub context_id: u32,
    /// The runner.
    pub runner: RunnerCreate,
}

/// A runner as its creator describes it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunnerCreate {
    /// Chosen by the client, unique within the context.
    pub id: u32,
    /// Its public key, 1 to 512 bytes; only a hexadecimal ed25519 key can sign in.
    pub pubkey: String,
    /// Where it can be reached.
    pub address: IpAddr,
    /// Its topic, up to 4096 bytes.
    pub topic: String,
    /// Whether the coordinator's built-in runner may serve it.
    pub local: bool,
}

impl Method for Create {
    type Output = Runner;
    const SPEC: Spec = Spec::new("runner.create", Access::Admin)
        .rest(Verb::Post, "/runners/{context_id}", 200)
        .errors(&[Code::NotFound, Code::StorageError])
        .single();

    async fn call(self, cx: Cx) -> Result<Runner> {
        let RunnerCreate { id, pubkey, address, topic, local } = self.runner;
        bounds::pubkey("runner.pubkey", &pubkey)?;
        bounds::address(|| "runner.address".to_owned(), &address)?;
        bounds::length(|| "runner.topic".to_owned(), &topic, bounds::SHORT_TEXT)?;
        let key = (self.context_id, id);
        let change = move |turn: &mut Turn<'_>| {
            // A compute group is there without being created.
            if !is_group(key.0) {
                context_must_exist(turn, key.0)?;
            }
            let now = turn.now;
            let before = turn.get(RUNNERS, &key)?;
            let other_key = before.as_ref().is_some_and(|before| before.pubkey != pubkey);
            let kind = if before.is_some() { "runner.updated" } else { "runner.created" };
            let created_at = before.map_or(now, |row| row.created_at);
            let address = address.0;
            let row = RunnerRow { pubkey, address, topic, local, created_at, updated_at: now };
            if other_key {
                end_sessions(turn, Caller::Runner(key.0, key.1))?;
            }
            turn.put(RUNNERS, &key, &row)?;
            turn.definition_changed(key.0);
            let runner = Runner::new(id, row);
            tell(turn, kind, Some(key.0), subject(key), &runner)?;
            Ok(runner)
        };
        cx.app.engine.change(change).await
    }
}

/// Loads a runner.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RunnerLoadParams")]
pub struct Load {
    /// The context it serves.
    pub context_id: u32,
    /// The runner.
    pub id: u32,
}

impl Method for Load {
    type Output = Runner;
    const SPEC: Spec = Spec::new("runner.load", Access::Reader)
        .rest(Verb::Get, "/runners/{context_id}/{id}", 200)
        .errors(&[Code::NotFound, Code::StorageError])
        .single();

    async fn call(self, cx: Cx) -> Result<Runner> {
        let key = (self.context_id, self.id);
        let row = cx.app.store.get(RUNNERS, &key)?.ok_or_else(|| not_found(key))?;
        Ok(Runner::new(self.id, row))
    }
}

/// Lists the runners of a context in ascending order of ids.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RunnerListParams")]
pub struct List {
    /// The context they serve.
    pub context_id: u32,
    /// Go on after this page's end: the `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most objects on the page, 1 to 1000; 100 when left out.
    #[serde(default)]
    #[schemars(range(min = 1, max = super::page::MAX_LIMIT))]
    pub limit: Option<u32>,
}

impl Method for List {
    type Output = Page<Runner>;
    const SPEC: Spec = Spec::new("runner.list", Access::Reader)
        .rest(Verb::Get, "/runners/{context_id}", 200)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Page<Runner>> {
        let context_id = self.context_id;
        let cut = Cut::new(&context_id, self.cursor.as_deref(), self.limit)?;
        aside(move || {
            let store = &cx.app.store;
            store.get(CONTEXTS, &context_id)?.ok_or_else(|| context::not_found(context_id))?;
            cut.collect(store, RUNNERS, &context_id, |(_, id), row| {
                let size = row.pubkey.len() + row.topic.len();
                Ok(Some((Runner::new(*id, row), size)))
            })
        })
        .await
    }
}

/// Deletes a runner, unless it is attached or has work in hand.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RunnerDeleteParams")]
pub struct Delete {
    /// The context it serves.
    pub context_id: u32,
    /// The runner.
    pub id: u32,
}

impl Method for Delete {
    type Output = Deleted;
    const SPEC: Spec = Spec::new("runner.delete", Access::Admin)
        .rest(Verb::Delete, "/runners/{context_id}/{id}", 200)
        .errors(&[Code::NotFound, Code::Conflict, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Deleted> {
        let key = (self.context_id, self.id);
        let change = move |turn: &mut Turn<'_>| {
            turn.get(RUNNERS, &key)?.ok_or_else(|| not_found(key))?;
            if turn.runner_is_busy(key.0, key.1) {
                return Err(Error::conflict("busy", "the runner has work in hand"));
            }
            turn.runner_deleted(key.0, key.1);
            end_sessions(turn, Caller::Runner(key.0, key.1))?;
            turn.remove(RUNNERS, &key);
            turn.definition_changed(key.0);
            let data = json!({ "id": key.1 });
            tell(turn, "runner.deleted", Some(key.0), subject(key), &data)?;
            Ok(Deleted::DONE)
        };
        cx.app.engine.change(change).await
    }
}

/// What executes jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Runner {
    /// Chosen by the client, unique within the context.
    pub id: u32,
    /// Its public key as the client wrote it.
    pub pubkey: String,
    /// Where it can be reached, as the client wrote it.
    pub address: IpAddr,
    /// Its topic.
    pub topic: String,
    /// Whether the coordinator's built-in runner may serve it.
    pub local: bool,
    /// When it was first created, Unix seconds.
    pub created_at: i64,
    /// When it was last created or replaced, Unix seconds.
    pub updated_at: i64,
}

impl Runner {
    /// The object of a row.
    pub fn new(id: u32, row: RunnerRow) -> Self {
        Self {
            id,
            pubkey: row.pubkey,
            address: IpAddr(row.address),
            topic: row.topic,
            local: row.local,
            created_at: seconds(row.created_at),
            updated_at: seconds(row.updated_at),
        }
    }
}

/// The subject of a runner's events.
pub fn subject((context, id): (u32, u32)) -> String {
    format!("runner/{context}/{id}")
}

/// What is answered when a runner does not exist.
pub fn not_found((context, id): (u32, u32)) -> Error {
    Error::NotFound { kind: "runner", id: format!("{context}/{id}") }
}
