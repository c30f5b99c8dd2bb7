//! `api_key.*`: keys by which programs act as an actor.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::aside::aside;
use super::page::{Cut, Page};
use super::token::Revoked;
use super::{actor, bounds, tell};
use crate::access::{Kind, Means, Secret, short};
use crate::app::{Caller, Cx};
use crate::engine::Turn;
use crate::method::{Access, Def, Method, Spec, Verb};
use crate::model::Millis;
use crate::store::{ACTORS, API_KEYS, ApiKeyRow};
use crate::{Code, Error, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[Def::call::<Create>(), Def::call::<List>(), Def::call::<Revoke>()];

/// Keys of one actor.
const KEYS: usize = 100;

/// Creates an API key: whoever shows it as `Authorization: Bearer` acts as the actor.
///
/// It is shown this once; only its digest is kept. A key cannot create keys.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ApiKeyCreateParams")]
pub struct Create {
    /// What to call it: letters, digits, `.`, `_` and `-`, at most 64 of them.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// The actor; the caller when left out.
    #[serde(default)]
    pub actor_id: Option<u32>,
    /// Seconds after which it ends; never when left out.
    #[serde(default)]
    pub expires_in: Option<u32>,
}

/// A key that was just created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreatedApiKey")]
pub struct Created {
    /// Whose it is.
    pub actor_id: u32,
    /// What it is called.
    pub name: String,
    /// The key; it is not shown again.
    pub key: String,
    /// When it was created, Unix milliseconds.
    pub created_at: Millis,
    /// When it ends, Unix milliseconds; absent when it does not by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Millis>,
}

/// The actor whose keys a call is about: actors have to do with their own only.
fn owner(cx: &Cx, named: Option<u32>) -> Result<u32> {
    match (cx.caller, named) {
        (Caller::Actor(own), named) if named.is_none_or(|named| named == own) => Ok(own),
        (Caller::Operator, Some(named)) => Ok(named),
        (Caller::Operator, None) => Err(Error::params("actor_id", "required")),
        _ => Err(Error::Forbidden("to be that actor")),
    }
}

impl Method for Create {
    type Output = Created;
    const SPEC: Spec = Spec::new("api_key.create", Access::Member)
        .rest(Verb::Post, "/api-keys", 200)
        .errors(&[Code::NotFound, Code::Conflict, Code::LimitReached, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Created> {
        let actor_id = owner(&cx, self.actor_id)?;
        if cx.grant.as_ref().is_some_and(|grant| grant.means == Means::ApiKey) {
            return Err(Error::Forbidden("a session"));
        }
        bounds::name("name", &self.name)?;
        let secret = Secret::random(Kind::ApiKey)?;
        let (name, digest) = (self.name, secret.digest());
        let lifetime = self.expires_in.map(|seconds| Millis::from(seconds) * 1_000);
        let change = move |turn: &mut Turn<'_>| {
            turn.get(ACTORS, &actor_id)?.ok_or_else(|| actor::not_found(actor_id))?;
            let known = turn.page(API_KEYS, &actor_id, None, KEYS)?;
            bounds::count("keys of the actor", known.len() + 1, KEYS)?;
            if known.iter().any(|(_, row)| row.name == name) {
                return Err(Error::conflict("taken", "the actor has a key of that name"));
            }
            let created_at = turn.now;
            let expires_at = lifetime.map(|lifetime| created_at.saturating_add(lifetime));
            let row = ApiKeyRow { name: name.clone(), digest, created_at, expires_at };
            turn.put(API_KEYS, &(actor_id, short(&digest)), &row)?;
            let data = json!({ "name": name, "expires_at": expires_at });
            tell(turn, "api_key.created", None, subject(actor_id, &name), &data)?;
            Ok((name, created_at, expires_at))
        };
        let (name, created_at, expires_at) = cx.app.engine.change(change).await?;
        Ok(Created { actor_id, name, key: secret.reveal().to_owned(), created_at, expires_at })
    }
}

/// Lists API keys, without the keys themselves; an actor's own, and the operator all.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ApiKeyListParams")]
pub struct List {
    /// Only this actor's.
    #[serde(default)]
    pub actor_id: Option<u32>,
    /// Go on after this page's end: the `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most objects on the page, 1 to 1000; 100 when left out.
    #[serde(default)]
    #[schemars(range(min = 1, max = super::page::MAX_LIMIT))]
    pub limit: Option<u32>,
}

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApiKey {
    /// Whose it is.
    pub actor_id: u32,
    /// What it is called.
    pub name: String,
    /// When it was created, Unix milliseconds.
    pub created_at: Millis,
    /// When it ends, Unix milliseconds; absent when it does not by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Millis>,
}

impl Method for List {
    type Output = Page<ApiKey>;
    const SPEC: Spec = Spec::new("api_key.list", Access::Member)
        .rest(Verb::Get, "/api-keys", 200)
        .errors(&[Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Page<ApiKey>> {
        let everybody = cx.caller == Caller::Operator && self.actor_id.is_none();
        let owner = if everybody { None } else { Some(owner(&cx, self.actor_id)?) };
        let (cursor, limit) = (self.cursor, self.limit);
        let view = |(actor_id, _): &(u32, [u8; 16]), row: ApiKeyRow| {
            let ApiKeyRow { name, created_at, expires_at, .. } = row;
            Ok(Some((ApiKey { actor_id: *actor_id, name, created_at, expires_at }, 128)))
        };
        aside(move || {
            let store = &cx.app.store;
            match owner {
                None => {
                    Cut::new(&(), cursor.as_deref(), limit)?.collect(store, API_KEYS, &(), view)
                }
                Some(actor) => Cut::new(&actor, cursor.as_deref(), limit)?
                    .collect(store, API_KEYS, &actor, view),
            }
        })
        .await
    }
}

/// Revokes an API key, at once.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ApiKeyRevokeParams")]
pub struct Revoke {
    /// What it is called.
    pub name: String,
    /// Whose it is; the caller's when left out.
    #[serde(default)]
    pub actor_id: Option<u32>,
}

impl Method for Revoke {
    type Output = Revoked;
    const SPEC: Spec = Spec::new("api_key.revoke", Access::Member)
        .rest(Verb::Delete, "/api-keys/{name}", 200)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Revoked> {
        let (actor_id, name) = (owner(&cx, self.actor_id)?, self.name);
        let change = move |turn: &mut Turn<'_>| {
            let known = turn.page(API_KEYS, &actor_id, None, KEYS)?;
            let found = known.iter().find(|(_, row)| row.name == name);
            let missing = || Error::NotFound { kind: "API key", id: format!("{actor_id}/{name}") };
            let (key, _) = found.ok_or_else(missing)?;
            turn.remove(API_KEYS, key);
            let data = json!({ "name": name });
            tell(turn, "api_key.revoked", None, subject(actor_id, &name), &data)?;
            Ok(Revoked { revoked: true })
        };
        cx.app.engine.change(change).await
    }
}

fn subject(actor: u32, name: &str) -> String {
    format!("api_key/{actor}/{name}")
}
