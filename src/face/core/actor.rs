//! `actor.*`: security principals.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::aside::aside;
use super::auth::end_sessions;
use super::page::{Cut, Page};
use super::sweep::remove_below;
use super::{Deleted, IpAddr, bounds, seconds, tell};
use crate::app::{Caller, Cx};
use crate::engine::Turn;
use crate::method::{Access, Def, Method, Spec, Verb};
use crate::store::{ACTORS, API_KEYS, ActorRow};
use crate::{Code, Error, Result};

/// This namespace's methods.
pub const METHODS: &[Def] =
    &[Def::call::<Create>(), Def::call::<Load>(), Def::call::<List>(), Def::call::<Delete>()];

/// Creates an actor, or replaces the one of that id.
///
/// A replaced actor keeps its `created_at`; with another key its sessions end.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ActorCreateParams")]
pub struct Create {
    /// The actor.
    pub actor: ActorCreate,
}

/// An actor as its creator describes it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ActorCreate {
    /// Chosen by the client.
    pub id: u32,
    /// Its public key, 1 to 512 bytes; only a hexadecimal ed25519 key can sign in.
    pub pubkey: String,
    /// Where it can be reached.
    pub address: Vec<IpAddr>,
}

impl Method for Create {
    type Output = Actor;
    const SPEC: Spec = Spec::new("actor.create", Access::Operator)
        .rest(Verb::Post, "/actors", 200)
        .errors(&[Code::NotFound, Code::LimitReached, Code::StorageError])
        .single();

    async fn call(self, cx: Cx) -> Result<Actor> {
        let ActorCreate { id, pubkey, address } = self.actor;
        bounds::pubkey("actor.pubkey", &pubkey)?;
        bounds::count("actor.address", address.len(), bounds::ENTRIES)?;
        for (at, text) in address.iter().enumerate() {
            bounds::address(|| format!("actor.address[{at}]"), text)?;
        }
        let address = address.into_iter().map(|text| text.0).collect();
        let change = move |turn: &mut Turn<'_>| {
            let now = turn.now;
            let before = turn.get(ACTORS, &id)?;
            if before.as_ref().is_some_and(|before| before.pubkey != pubkey) {
                end_sessions(turn, Caller::Actor(id))?;
            }
            let kind = if before.is_some() { "actor.updated" } else { "actor.created" };
            let created_at = before.map_or(now, |row| row.created_at);
            let row = ActorRow { pubkey, address, created_at, updated_at: now };
            turn.put(ACTORS, &id, &row)?;
            let actor = Actor::new(id, row);
            tell(turn, kind, None, subject(id), &actor)?;
            Ok(actor)
        };
        cx.app.engine.change(change).await
    }
}

/// Loads an actor; to an actor only itself.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ActorLoadParams")]
pub struct Load {
    /// The actor.
    pub id: u32,
}

impl Method for Load {
    type Output = Actor;
    const SPEC: Spec = Spec::new("actor.load", Access::Member)
        .rest(Verb::Get, "/actors/{id}", 200)
        .errors(&[Code::NotFound, Code::StorageError])
        .single();

    async fn call(self, cx: Cx) -> Result<Actor> {
        if !may_see(&cx, self.id) {
            return Err(not_found(self.id));
        }
        let row = cx.app.store.get(ACTORS, &self.id)?.ok_or_else(|| not_found(self.id))?;
        Ok(Actor::new(self.id, row))
    }
}

/// Lists actors in ascending order of ids; to an actor only itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ActorListParams")]
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
    type Output = Page<Actor>;
    const SPEC: Spec = Spec::new("actor.list", Access::Member)
        .rest(Verb::Get, "/actors", 200)
        .errors(&[Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Page<Actor>> {
        let cut = Cut::new(&(), self.cursor.as_deref(), self.limit)?;
        aside(move || {
            cut.collect(&cx.app.store, ACTORS, &(), |id, row| {
                if !may_see(&cx, *id) {
                    return Ok(None);
                }
                let size = row.pubkey.len() + row.address.len() * 16;
                Ok(Some((Actor::new(*id, row), size)))
            })
        })
        .await
    }
}

/// Deletes an actor, and with it its sessions and API keys.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ActorDeleteParams")]
pub struct Delete {
    /// The actor.
    pub id: u32,
}

impl Method for Delete {
    type Output = Deleted;
    const SPEC: Spec = Spec::new("actor.delete", Access::Operator)
        .rest(Verb::Delete, "/actors/{id}", 200)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Deleted> {
        let id = self.id;
        let change = move |turn: &mut Turn<'_>| {
            turn.get(ACTORS, &id)?.ok_or_else(|| not_found(id))?;
            turn.remove(ACTORS, &id);
            end_sessions(turn, Caller::Actor(id))?;
            remove_below(turn, API_KEYS, &id)?;
            tell(turn, "actor.deleted", None, subject(id), &json!({ "id": id }))?;
            Ok(Deleted::DONE)
        };
        cx.app.engine.change(change).await
    }
}

/// A security principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Actor {
    /// Chosen by the client.
    pub id: u32,
    /// Its public key as the client wrote it.
    pub pubkey: String,
    /// Where it can be reached, as the client wrote it.
    pub address: Vec<IpAddr>,
    /// When it was first created, Unix seconds.
    pub created_at: i64,
    /// When it was last created or replaced, Unix seconds.
    pub updated_at: i64,
}

impl Actor {
    /// The object of a row.
    pub fn new(id: u32, row: ActorRow) -> Self {
        Self {
            id,
            pubkey: row.pubkey,
            address: row.address.into_iter().map(IpAddr).collect(),
            created_at: seconds(row.created_at),
            updated_at: seconds(row.updated_at),
        }
    }
}

/// Whether the caller may see an actor: the operator everyone, an actor itself.
fn may_see(cx: &Cx, id: u32) -> bool {
    match cx.caller {
        Caller::Operator => true,
        Caller::Actor(own) => own == id,
        Caller::Anonymous | Caller::Runner(..) => false,
    }
}

fn subject(id: u32) -> String {
    format!("actor/{id}")
}

pub(super) fn not_found(id: u32) -> Error {
    Error::NotFound { kind: "actor", id: id.to_string() }
}
