//! `dcp.job.result`: results by ranges of slices.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::job_id::{captured, own_job};
use super::job_params::{query, query_text, whole};
use super::results::{self, Wanted};
use super::secret::Secret;
use super::style::STYLE;
use super::{job_watch, selection};
use crate::app::Cx;
use crate::face::core::aside::{Rendered, aside, far_aside};
use crate::method::{Access, Def, Json, Method, RestRequest, Spec, Verb};
use crate::model::numbers::Numbers;
use crate::{Code, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[Def::call::<JobResult>()];

/// Longest wait for a result, seconds.
const MOST_WAIT: u64 = 60;
/// Slices up to which a read is a short one.
const SHORT: u64 = 20_000;

/// Loads results of a job, also while it runs and after it was cancelled.
///
/// Slices that have not ended are in neither list.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobResultParams")]
pub struct JobResult {
    /// The job: `0x` and 40 hexadecimal digits.
    #[serde(rename = "jobId")]
    #[schemars(with = "String")]
    pub job_id: Option<Value>,
    /// Which slices: `3-7`, `5`, or a list of such; all when left out.
    #[serde(default)]
    #[schemars(with = "Option<Ranges>")]
    pub range: Option<Value>,
    /// One slice.
    #[serde(default, rename = "sliceNumber")]
    #[schemars(with = "Option<u64>")]
    pub slice_number: Option<Value>,
    /// Most results; without bound when left out.
    #[serde(default)]
    #[schemars(with = "Option<u64>")]
    pub limit: Option<Value>,
    /// Only slices after this one: the last of the page before.
    #[serde(default, rename = "afterSlice")]
    #[schemars(with = "Option<u64>")]
    pub after_slice: Option<Value>,
    /// Wait until there is a result among these slices, but no longer than this, up to 60 seconds.
    #[serde(default)]
    #[schemars(with = "Option<f64>")]
    pub wait_s: Option<Value>,
    /// Without effect.
    #[serde(default, rename = "ignoreFetchFailure")]
    pub ignore_fetch_failure: Option<Value>,
    /// Credentials, where they are not in the `Authorization` header: its text.
    #[serde(default)]
    pub auth: Option<Secret>,
}

/// One range, or several.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpRanges")]
#[serde(untagged)]
pub enum Ranges {
    /// One.
    One(String),
    /// Their union counts.
    Many(Vec<String>),
}

/// Results of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobResult")]
pub struct ResultView {
    /// Slices submitted so far, of the whole job.
    #[serde(rename = "totalSlices")]
    pub total_slices: u64,
    /// Slices with a result, of the whole job.
    #[serde(rename = "completedSlices")]
    pub completed_slices: u64,
    /// Slices that runners have now.
    #[serde(rename = "activeSlices")]
    pub active_slices: u64,
    /// Results of the selection, ascending.
    pub results: Vec<SliceResult>,
    /// Failed slices of the selection, ascending.
    pub errors: Vec<SliceError>,
}

/// The result of a slice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpSliceResult")]
pub struct SliceResult {
    /// The slice.
    #[serde(rename = "sliceNumber")]
    pub slice_number: u64,
    /// What the function returned.
    pub value: Value,
}

/// A slice that has failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpSliceError")]
pub struct SliceError {
    /// The slice.
    #[serde(rename = "sliceNumber")]
    pub slice_number: u64,
    /// Attempts at it.
    pub attempts: u32,
    /// The name of the last error.
    pub name: String,
    /// What was wrong.
    pub message: String,
}

impl Method for JobResult {
    type Output = Rendered<ResultView>;
    const SPEC: Spec = Spec::new("dcp.job.result", Access::Anyone)
        .rest(Verb::Get, "/api/v0/job/{jobId}/result", 200)
        .also(&[
            "/api/v0/job/{jobId}/result/{sliceNumber}",
            "/api/job/{jobId}/result",
            "/api/job/{jobId}/result/{sliceNumber}",
        ])
        .style(&STYLE)
        .errors(&[
            Code::Unauthenticated,
            Code::Forbidden,
            Code::NotFound,
            Code::LimitReached,
            Code::StorageError,
        ]);

    async fn call(self, cx: Cx) -> Result<Rendered<ResultView>> {
        let (_, row) = own_job(&cx, self.auth.as_ref(), self.job_id.as_ref()).await?;
        let numbers = selection::read(self.range.as_ref(), self.slice_number.as_ref())?;
        let after = whole("afterSlice", self.after_slice.as_ref(), 0..=u64::MAX)?;
        let limit = whole("limit", self.limit.as_ref(), 1..=u64::MAX)?;
        let wait = wait(self.wait_s.as_ref())?;
        let numbers = numbers.unwrap_or_else(|| Numbers::run(1, u64::MAX));
        let wanted = Wanted { numbers, after: after.unwrap_or_default(), limit };
        if let Some(wait) = wait {
            job_watch::until_result(&cx, &row, &wanted, wait).await?;
        }
        let short = wanted.numbers.len().min(limit.unwrap_or(u64::MAX)) <= SHORT;
        let read = move || results::render(&cx.app, row.number, &wanted);
        if short { aside(read).await } else { far_aside(read).await }
    }

    fn render(output: Self::Output) -> Result<Json> {
        Ok(output.into_json())
    }

    fn from_rest(request: &RestRequest<'_>) -> Option<Result<Self>> {
        let ranges = query(request, "range").into_iter().map(Value::String).collect();
        Some(Ok(Self {
            job_id: captured(request, "jobId"),
            range: Some(Value::Array(ranges)),
            slice_number: captured(request, "sliceNumber"),
            limit: query_text(request, "limit"),
            after_slice: query_text(request, "afterSlice"),
            wait_s: query_text(request, "wait_s"),
            ..Self::default()
        }))
    }
}

/// Seconds to wait, in JSON or as text.
fn wait(value: Option<&Value>) -> Result<Option<Duration>> {
    let seconds = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    let wrong = || super::refuse(400, format!("wait_s: must be a number from 0 to {MOST_WAIT}"));
    let wait = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    wait.filter(|wait| *wait <= Duration::from_secs(MOST_WAIT)).map(Some).ok_or_else(wrong)
}
