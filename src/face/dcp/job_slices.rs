//! `dcp.job.add_slices`: more slices for an open job.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::job_id::{captured, own_job};
use super::job_params::shape;
use super::secret::Secret;
use super::style::LARGE;
use super::{refuse, slice_texts};
use crate::app::Cx;
use crate::engine::{Slices, Turn};
use crate::face::core::aside::aside;
use crate::method::{Access, Def, Method, RestRequest, Spec, Verb};
use crate::{Code, Error, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[Def::call::<AddSlices>()];

/// Longest JSON text of an id, bytes: each of its characters may be escaped.
const ID: usize = 256;

/// Adds slices to a job, all of them or none.
///
/// Over REST also as `application/x-ndjson`, one slice to a line.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobAddSlicesParams")]
pub struct AddSlices {
    /// The job: `0x` and 40 hexadecimal digits.
    #[serde(rename = "jobId")]
    #[schemars(with = "String")]
    pub job_id: Option<Box<RawValue>>,
    /// The slices: an array of any JSON.
    #[serde(default, rename = "sliceData")]
    #[schemars(with = "Option<Vec<Value>>")]
    pub slice_data: Option<Box<RawValue>>,
    /// The same.
    #[serde(default)]
    #[schemars(with = "Option<Vec<Value>>")]
    pub slices: Option<Box<RawValue>>,
    /// Credentials, where they are not in the `Authorization` header: its text.
    #[serde(default)]
    pub auth: Option<Secret>,
    /// The body of a REST request, unread, and whether it has one slice to a line.
    #[serde(skip)]
    pub body: Option<(Bytes, bool)>,
}

/// Slices that were added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpSlicesAdded")]
pub struct Added {
    /// The job.
    #[serde(rename = "jobId")]
    pub job_id: String,
    /// How many were added.
    #[serde(rename = "addedSlices")]
    pub added_slices: u64,
    /// How many the job has now.
    #[serde(rename = "totalSlices")]
    pub total_slices: u64,
    /// The number of the last one; 0 when there is none.
    #[serde(rename = "lastSliceNumber")]
    pub last_slice_number: u64,
}

impl Method for AddSlices {
    type Output = Added;
    const SPEC: Spec = Spec::new("dcp.job.add_slices", Access::Anyone)
        .rest(Verb::Post, "/api/v0/job/{jobId}/slices", 201)
        .also(&["/api/job/{jobId}/slices"])
        .style(&LARGE)
        .errors(&[
            Code::Unauthenticated,
            Code::Forbidden,
            Code::NotFound,
            Code::Conflict,
            Code::LimitReached,
            Code::StorageError,
        ]);

    async fn call(self, cx: Cx) -> Result<Added> {
        let job_id = self.job_id.as_deref().map(id_of);
        let (id, row) = own_job(&cx, self.auth.as_ref(), job_id.as_ref()).await?;
        let slices = aside(move || self.read()).await?;
        let added = slices.len();
        let change = move |turn: &mut Turn<'_>| turn.add_slices(&row, &slices);
        let total = cx.app.engine.change(change).await.map_err(|err| match err {
            Error::Conflict { reason, .. } => refuse(409, reason),
            err => err,
        })?;
        Ok(Added {
            job_id: id.to_string(),
            added_slices: added,
            total_slices: total,
            last_slice_number: total,
        })
    }

    fn from_rest(request: &RestRequest<'_>) -> Option<Result<Self>> {
        let lines = slice_texts::is_lines(request.media_type);
        Some(Ok(Self {
            job_id: captured(request, "jobId").and_then(|id| to_raw_value(&id).ok()),
            body: Some((request.body.clone(), lines)),
            ..Self::default()
        }))
    }
}

/// What is given for an id, if it is short enough to be one.
fn id_of(text: &RawValue) -> Value {
    let short = Some(text.get()).filter(|text| text.len() <= ID);
    short.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Bool(false))
}

impl AddSlices {
    fn read(&self) -> Result<Slices> {
        #[derive(Deserialize)]
        struct Body<'b> {
            #[serde(borrow, rename = "sliceData")]
            slice_data: Option<&'b RawValue>,
            #[serde(borrow)]
            slices: Option<&'b RawValue>,
        }
        let Some((bytes, lines)) = &self.body else {
            let slices = self.slice_data.as_deref().or(self.slices.as_deref());
            return slice_texts::of_array("sliceData", slices);
        };
        let text = std::str::from_utf8(bytes)
            .map_err(|_| refuse(400, "the body must be a JSON object in UTF-8"))?;
        if *lines {
            return slice_texts::of_lines(text);
        }
        let wrong = |what: &str| refuse(400, format!("the body must be a JSON object: {what}"));
        if !text.trim_ascii_start().starts_with('{') {
            return Err(wrong("it is of another type"));
        }
        let body: Body<'_> = serde_json::from_str(text).map_err(|err| wrong(&shape(&err)))?;
        slice_texts::of_array("sliceData", body.slice_data.or(body.slices))
    }
}
