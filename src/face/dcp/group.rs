//! `dcp.group.*`: compute groups, which operators set up and runners and jobs join.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::account::check_name;
use super::refuse;
use super::secret::Secret;
use super::style::STYLE;
use crate::access::{JoinProof, Kind};
use crate::app::Cx;
use crate::engine::Turn;
use crate::face::core::aside::{aside, computed_aside};
use crate::face::core::compute_group::PUBLIC_KEY;
use crate::method::{Access, Def, Method, Spec};
use crate::model::Millis;
use crate::model::demand::PUBLIC;
use crate::store::{COMPUTE_GROUPS, ComputeGroupRow, Draft};
use crate::{Code, Error, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[Def::call::<Create>(), Def::call::<List>(), Def::call::<Remove>()];

/// Most groups.
const MOST: usize = 1_000;
/// Longest secret, bytes.
const SECRET: usize = 1_024;

/// Creates a compute group, or gives one another secret.
///
/// Runners attach to it, and jobs are deployed to it, by its key and secret. Those that have joined
/// stay when the secret changes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpGroupCreateParams")]
pub struct Create {
    /// The group's key: 1 to 128 bytes.
    #[serde(rename = "joinKey")]
    pub join_key: String,
    /// Its secret, up to 1024 bytes; a random one is made when it is left out.
    #[serde(default, rename = "joinSecret")]
    pub join_secret: Option<Secret>,
}

/// A compute group that was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpGroupCreated")]
pub struct Created {
    /// Its key.
    #[serde(rename = "joinKey")]
    pub join_key: String,
    /// Its secret, where it was made here; it is not shown again.
    #[serde(rename = "joinSecret", default, skip_serializing_if = "Option::is_none")]
    pub join_secret: Option<Secret>,
}

impl Method for Create {
    type Output = Created;
    const SPEC: Spec = Spec::new("dcp.group.create", Access::Operator)
        .style(&STYLE)
        .errors(&[Code::LimitReached, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Created> {
        let Self { join_key, join_secret } = self;
        check_name("joinKey", &join_key)?;
        if join_key == PUBLIC_KEY {
            return Err(refuse(400, "joinKey: the public group is there already"));
        }
        if join_secret.as_ref().is_some_and(|secret| secret.len() > SECRET) {
            return Err(refuse(400, format!("joinSecret: at most {SECRET} bytes")));
        }
        let made = match &join_secret {
            Some(_) => None,
            None => {
                let random = crate::access::Secret::random(Kind::Group)?;
                Some(Secret::new(random.reveal().to_owned()))
            }
        };
        let secret = join_secret.as_ref().or(made.as_ref()).map_or("", |secret| &**secret);
        let secret = crate::access::Secret::new(secret);
        let JoinProof { salt, derived } = computed_aside(move || JoinProof::of(&secret)).await?;
        let key = join_key.clone();
        let change = move |turn: &mut Turn<'_>| {
            let known = turn.page(COMPUTE_GROUPS, &(), None, MOST)?;
            let before = known.iter().find(|(known, _)| *known == key).map(|(_, row)| row);
            if before.is_none() && known.len() >= MOST {
                return Err(refuse(429, format!("there are at most {MOST} groups")));
            }
            let taken = |number: u32| known.iter().any(|(_, row)| row.number == number);
            let mut numbers = std::iter::repeat_with(|| fastrand::u32(PUBLIC + 1..));
            let number = before.map(|row| row.number).or_else(|| numbers.find(|n| !taken(*n)));
            let number = number.ok_or_else(|| Error::Bug("no number is free".to_owned()))?;
            let created_at = before.map_or(turn.now, |row| row.created_at);
            let kind = if before.is_some() { "group.updated" } else { "group.created" };
            let row = ComputeGroupRow { number, salt, derived, created_at, updated_at: turn.now };
            turn.put(COMPUTE_GROUPS, &key, &row)?;
            tell(turn, kind, &key);
            Ok(())
        };
        cx.app.engine.change(change).await?;
        Ok(Created { join_key, join_secret: made })
    }
}

/// Lists compute groups by key, without their secrets; the public one is not among them.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpGroupListParams")]
pub struct List {}

/// A compute group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpGroup")]
pub struct GroupView {
    /// Its key.
    #[serde(rename = "joinKey")]
    pub join_key: String,
    /// When it was created, Unix milliseconds.
    #[serde(rename = "createdAt")]
    pub created_at: Millis,
    /// When its secret was last set, Unix milliseconds.
    #[serde(rename = "updatedAt")]
    pub updated_at: Millis,
}

impl Method for List {
    type Output = Vec<GroupView>;
    const SPEC: Spec =
        Spec::new("dcp.group.list", Access::Operator).style(&STYLE).errors(&[Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Vec<GroupView>> {
        let rows = aside(move || Ok(cx.app.store.page(COMPUTE_GROUPS, &(), None, MOST)?)).await?;
        let group = |(join_key, row): (String, ComputeGroupRow)| GroupView {
            join_key,
            created_at: row.created_at,
            updated_at: row.updated_at,
        };
        Ok(rows.into_iter().map(group).collect())
    }
}

/// Removes a compute group.
///
/// Its runners get nothing more of it; jobs that only it could serve wait for ever.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpGroupRemoveParams")]
pub struct Remove {
    /// The group's key.
    #[serde(rename = "joinKey")]
    pub join_key: String,
}

/// The answer of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpGroupRemoved")]
pub struct Removed {
    /// Always true.
    pub removed: bool,
}

impl Method for Remove {
    type Output = Removed;
    const SPEC: Spec = Spec::new("dcp.group.remove", Access::Operator)
        .style(&STYLE)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Removed> {
        let key = self.join_key;
        check_name("joinKey", &key)?;
        let change = move |turn: &mut Turn<'_>| {
            let row = turn.get(COMPUTE_GROUPS, &key)?;
            let row = row.ok_or_else(|| refuse(404, "joinKey: there is no such group"))?;
            turn.remove(COMPUTE_GROUPS, &key);
            turn.group_removed(row.number);
            tell(turn, "group.removed", &key);
            Ok(Removed { removed: true })
        };
        cx.app.engine.change(change).await
    }
}

fn tell(turn: &mut Turn<'_>, kind: &'static str, key: &str) {
    let data = json!({ "joinKey": key }).to_string();
    let subject = format!("dcp/group/{key}");
    turn.emit(Draft { kind, context_id: None, subject, group: None, data });
}
