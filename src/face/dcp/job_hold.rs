//! `dcp.job.hold` and `dcp.job.release`: an operator stops a job for a while.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::style::STYLE;
use super::{job_id, refuse};
use crate::app::Cx;
use crate::engine::Turn;
use crate::method::{Access, Def, Method, Spec};
use crate::store::WORKS;
use crate::{Code, Error, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[Def::call::<Hold>(), Def::call::<Release>()];

/// Holds a job of whomever: nothing more of it is started until it is released.
///
/// What runners have in hand they end. Its status is `paused`; it still takes slices.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobHoldParams")]
pub struct Hold {
    /// The job: `0x` and 40 hexadecimal digits.
    #[serde(rename = "jobId")]
    #[schemars(with = "String")]
    pub job_id: Option<Value>,
}

/// Lets a job that is held go on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobReleaseParams")]
pub struct Release {
    /// The job: `0x` and 40 hexadecimal digits.
    #[serde(rename = "jobId")]
    #[schemars(with = "String")]
    pub job_id: Option<Value>,
}

/// How a job stands after that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobHeld")]
pub struct Held {
    /// The job.
    #[serde(rename = "jobId")]
    pub job_id: String,
    /// Its status.
    pub status: String,
}

impl Method for Hold {
    type Output = Held;
    const SPEC: Spec = Spec::new("dcp.job.hold", Access::Operator).style(&STYLE).errors(&[
        Code::NotFound,
        Code::Conflict,
        Code::StorageError,
    ]);

    async fn call(self, cx: Cx) -> Result<Held> {
        set(&cx, self.job_id.as_ref(), true).await
    }
}

impl Method for Release {
    type Output = Held;
    const SPEC: Spec = Spec::new("dcp.job.release", Access::Operator).style(&STYLE).errors(&[
        Code::NotFound,
        Code::Conflict,
        Code::StorageError,
    ]);

    async fn call(self, cx: Cx) -> Result<Held> {
        set(&cx, self.job_id.as_ref(), false).await
    }
}

async fn set(cx: &Cx, job_id: Option<&Value>, held: bool) -> Result<Held> {
    let id = job_id::read(job_id)?;
    let row = cx.app.store.get(WORKS, &id)?;
    let row = row.ok_or_else(|| refuse(404, format!("there is no job {id}")))?;
    let change = move |turn: &mut Turn<'_>| turn.hold_work(&row, held);
    let status = cx.app.engine.change(change).await.map_err(|err| match err {
        Error::Conflict { reason, .. } => refuse(409, reason),
        err => err,
    })?;
    Ok(Held { job_id: id.to_string(), status: status.as_str().to_owned() })
}
