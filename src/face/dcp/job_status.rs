//! `dcp.job.*`: how jobs stand, and the end of one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::job_id::{captured, ledger, own_job};
use super::job_params::{members, query_text};
use super::refuse;
use super::secret::Secret;
use super::style::STYLE;
use crate::app::Cx;
use crate::engine::Turn;
use crate::method::{Access, Def, Method, RestRequest, Spec, Verb};
use crate::model::Millis;
use crate::model::address::Address;
use crate::model::work::Ledger;
use crate::store::WorkRow;
use crate::{Code, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[Def::call::<Status>(), Def::call::<Cancel>()];

/// Says how a job stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobStatusParams")]
pub struct Status {
    /// The job: `0x` and 40 hexadecimal digits.
    #[serde(rename = "jobId")]
    #[schemars(with = "String")]
    pub job_id: Option<Value>,
    /// Credentials, where they are not in the `Authorization` header: its text.
    #[serde(default)]
    pub auth: Option<Secret>,
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobStatus")]
pub struct StatusView {
    /// The job.
    #[serde(rename = "jobId")]
    pub job_id: String,
    /// The same.
    pub address: String,
    /// `cancelled`, `paused`, `completed`, `corrupted`, `new` or `running`.
    pub status: String,
    /// Slices submitted so far.
    #[serde(rename = "totalSlices")]
    pub total_slices: u64,
    /// Slices that runners have now.
    #[serde(rename = "activeSlices")]
    pub active_slices: u64,
    /// Slices with a result.
    #[serde(rename = "completedSlices")]
    pub completed_slices: u64,
    /// Slices that have failed for good.
    #[serde(rename = "failedSlices")]
    pub failed_slices: u64,
    /// Processor time of attempts that have ended, seconds.
    #[serde(rename = "totalCPUTime")]
    pub total_cpu_time: f64,
    /// Always 0.
    #[serde(rename = "totalGPUTime")]
    pub total_gpu_time: f64,
    /// What listings show.
    pub public: PublicView,
    /// When it was deployed, Unix seconds.
    #[serde(rename = "createdAt")]
    pub created_at: u64,
    /// Why it was cancelled.
    #[serde(rename = "cancelReason", default, skip_serializing_if = "Option::is_none")]
    pub cancel_reason: Option<String>,
}

/// What listings show of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpPublic")]
pub struct PublicView {
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its link.
    pub link: String,
}

impl StatusView {
    fn new(id: Address, row: WorkRow, ledger: Ledger) -> Self {
        let WorkRow { name, description, link, created_at, .. } = row;
        let spent = std::time::Duration::from_micros(ledger.cpu_micros);
        Self {
            job_id: id.to_string(),
            address: id.to_string(),
            status: ledger.status().as_str().to_owned(),
            total_slices: ledger.total,
            active_slices: ledger.active,
            completed_slices: ledger.completed,
            failed_slices: ledger.failed,
            total_cpu_time: spent.as_secs_f64(),
            total_gpu_time: 0.0,
            public: PublicView { name, description, link },
            created_at: seconds(created_at),
            cancel_reason: ledger.reason.filter(|_| ledger.cancelled),
        }
    }
}

/// Unix seconds.
pub(super) const fn seconds(at: Millis) -> u64 {
    at / 1_000
}

impl Method for Status {
    type Output = StatusView;
    const SPEC: Spec = Spec::new("dcp.job.status", Access::Anyone)
        .rest(Verb::Get, "/api/v0/job/{jobId}", 200)
        .also(&["/api/v0/job/{jobId}/status", "/api/job/{jobId}", "/api/job/{jobId}/status"])
        .style(&STYLE)
        .errors(&[
            Code::Unauthenticated,
            Code::Forbidden,
            Code::NotFound,
            Code::LimitReached,
            Code::StorageError,
        ]);

    async fn call(self, cx: Cx) -> Result<StatusView> {
        let (id, row) = own_job(&cx, self.auth.as_ref(), self.job_id.as_ref()).await?;
        let ledger = ledger(&cx.app, row.number)?;
        Ok(StatusView::new(id, row, ledger))
    }

    fn from_rest(request: &RestRequest<'_>) -> Option<Result<Self>> {
        Some(Ok(Self { job_id: captured(request, "jobId"), auth: None }))
    }
}

/// Cancels a job: nothing more is started, what runs is abandoned, results stay.
///
/// On one that was cancelled before it changes nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobCancelParams")]
pub struct Cancel {
    /// The job: `0x` and 40 hexadecimal digits.
    #[serde(rename = "jobId")]
    #[schemars(with = "String")]
    pub job_id: Option<Value>,
    /// Why; told with its status.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub reason: Option<Value>,
    /// Credentials, where they are not in the `Authorization` header: its text.
    #[serde(default)]
    pub auth: Option<Secret>,
}

/// A job that was cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobCancelled")]
pub struct Cancelled {
    /// The job.
    #[serde(rename = "jobId")]
    pub job_id: String,
    /// Always `cancelled`.
    pub status: String,
}

/// Longest reason, bytes.
const REASON: usize = 64 << 10;

impl Method for Cancel {
    type Output = Cancelled;
    const SPEC: Spec = Spec::new("dcp.job.cancel", Access::Anyone)
        .rest(Verb::Delete, "/api/v0/job/{jobId}", 204)
        .also(&["/api/job/{jobId}"])
        .style(&STYLE)
        .errors(&[
            Code::Unauthenticated,
            Code::Forbidden,
            Code::NotFound,
            Code::LimitReached,
            Code::StorageError,
        ]);

    async fn call(self, cx: Cx) -> Result<Cancelled> {
        let (id, row) = own_job(&cx, self.auth.as_ref(), self.job_id.as_ref()).await?;
        let reason = match self.reason {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.len() <= REASON => Some(text),
            Some(Value::String(_)) => {
                return Err(refuse(400, format!("reason: at most {REASON} bytes")));
            }
            Some(_) => return Err(refuse(400, "reason: must be text")),
        };
        let change = move |turn: &mut Turn<'_>| turn.cancel_work(&row, reason.as_deref());
        cx.app.engine.change(change).await?;
        Ok(Cancelled { job_id: id.to_string(), status: "cancelled".to_owned() })
    }

    fn from_rest(request: &RestRequest<'_>) -> Option<Result<Self>> {
        Some(members(&request.body).map(|mut members| {
            let reason = members.remove("reason").filter(|reason| !reason.is_null());
            Self {
                job_id: captured(request, "jobId"),
                reason: reason.or_else(|| query_text(request, "reason")),
                auth: None,
            }
        }))
    }
}
