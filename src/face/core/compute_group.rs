//! Compute groups, found by who knows their keys and secrets.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aside::computed_aside;
use crate::access::{JoinProof, Secret};
use crate::app::Cx;
use crate::model::demand::PUBLIC;
use crate::store::{COMPUTE_GROUPS, ComputeGroupRow};
use crate::{Error, Result};

/// The key of the group that is open to all; its secret is empty.
pub(in crate::face) const PUBLIC_KEY: &str = "public";
/// Most groups that one job or one runner names.
pub(in crate::face) const MOST_JOINED: usize = 16;

/// A compute group, and the secret that opens it.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct JoinGroup {
    /// The group's key; `public` is the group that is open to all.
    #[serde(rename = "joinKey")]
    pub join_key: String,
    /// Its secret; empty when left out.
    #[serde(default, rename = "joinSecret")]
    pub join_secret: String,
}

/// Without the secret.
impl std::fmt::Debug for JoinGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinGroup").field("join_key", &self.join_key).finish_non_exhaustive()
    }
}

/// Why a group was not joined.
#[derive(Debug)]
pub(in crate::face) enum NotJoined {
    /// There is no group of this key.
    Unknown(String),
    /// It has another secret.
    Wrong,
    /// Something else.
    Failed(Error),
}

/// The numbers of these groups, ascending, each once.
pub(in crate::face) async fn join(cx: &Cx, groups: Vec<JoinGroup>) -> Result<Vec<u32>, NotJoined> {
    let mut numbers = Vec::with_capacity(groups.len());
    let mut proofs = Vec::new();
    for JoinGroup { join_key, join_secret } in groups {
        if join_key == PUBLIC_KEY {
            if !join_secret.is_empty() {
                return Err(NotJoined::Wrong);
            }
            numbers.push(PUBLIC);
            continue;
        }
        // Keys of groups are without it, and keys of rows must be.
        if join_key.contains('\0') {
            return Err(NotJoined::Unknown(join_key));
        }
        let row = cx.app.store.get(COMPUTE_GROUPS, &join_key);
        let row = row.map_err(|err| NotJoined::Failed(err.into()))?;
        let ComputeGroupRow { number, salt, derived, .. } =
            row.ok_or(NotJoined::Unknown(join_key))?;
        numbers.push(number);
        proofs.push((JoinProof { salt, derived }, Secret::new(join_secret)));
    }
    if !proofs.is_empty() {
        // As few at once as this runs, and no more, are let in beside a wrong one.
        let (app, from) = (Arc::clone(&cx.app), cx.visitor.from());
        let fit = move || {
            app.keeper.may_guess(from)?;
            let fit = proofs.iter().all(|(proof, secret)| proof.fits(secret));
            if !fit {
                app.keeper.guessed_wrong(from);
            }
            Ok(fit)
        };
        if !computed_aside(fit).await.map_err(NotJoined::Failed)? {
            return Err(NotJoined::Wrong);
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}
