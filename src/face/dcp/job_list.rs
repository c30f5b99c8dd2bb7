//! `dcp.job.list` and `dcp.job.count`: the jobs of an identity.

use std::ops::ControlFlow::{Break, Continue};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::identity::identity;
use super::job_id::ledger;
use super::job_params::{query, query_text, whole};
use super::job_status::seconds;
use super::refuse;
use super::secret::Secret;
use super::style::STYLE;
use crate::app::{App, Cx};
use crate::face::core::aside::{aside, far_aside};
use crate::method::{Access, Def, Method, RestRequest, Spec, Verb};
use crate::model::address::Address;
use crate::model::work::WorkStatus;
use crate::store::{WORKS, WORKS_OF};
use crate::{Code, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[Def::call::<List>(), Def::call::<Count>()];

/// Words of the mirrored system that no job of ours ever stands at.
const FOREIGN: [&str; 2] = ["estimation", "finished"];
/// Most jobs in one answer; the next ones come with `before`.
const MOST: u64 = 100_000;

/// Lists the caller's jobs, the newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobListParams")]
pub struct List {
    /// Only jobs that stand so: a word, or a list of them.
    #[serde(default)]
    #[schemars(with = "Option<super::job_result::Ranges>")]
    pub status: Option<Value>,
    /// Most jobs, up to 100000.
    #[serde(default)]
    #[schemars(with = "Option<u64>")]
    pub limit: Option<Value>,
    /// Only jobs older than this one, or than this time in Unix seconds.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub before: Option<Value>,
    /// Credentials, where they are not in the `Authorization` header: its text.
    #[serde(default)]
    pub auth: Option<Secret>,
}

/// A job in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobEntry")]
pub struct JobEntry {
    /// The job.
    #[serde(rename = "jobId")]
    pub job_id: String,
    /// The same.
    pub address: String,
    /// How it stands.
    pub status: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its link.
    pub link: String,
    /// Slices submitted so far.
    #[serde(rename = "totalSlices")]
    pub total_slices: u64,
    /// Slices with a result.
    #[serde(rename = "completedSlices")]
    pub completed_slices: u64,
    /// Slices that runners have now.
    #[serde(rename = "activeSlices")]
    pub active_slices: u64,
    /// When it was deployed, Unix seconds.
    #[serde(rename = "createdAt")]
    pub created_at: u64,
}

/// Where a list begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// After this key.
    Made(u64),
    /// With the first job that is older.
    Seconds(u64),
}

impl Method for List {
    type Output = Vec<JobEntry>;
    const SPEC: Spec = Spec::new("dcp.job.list", Access::Anyone)
        .rest(Verb::Get, "/api/v0/jobs", 200)
        .also(&["/api/jobs"])
        .style(&STYLE)
        .errors(&[Code::Unauthenticated, Code::LimitReached, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Vec<JobEntry>> {
        let owner = identity(&cx, self.auth.as_deref()).await?.address;
        let limit = whole("limit", self.limit.as_ref(), 1..=u64::MAX)?.unwrap_or(MOST).min(MOST);
        let wanted = statuses(self.status.as_ref())?;
        let before = before(&cx.app, owner, self.before.as_ref())?;
        let read = move || list(&cx.app, owner, wanted.as_deref(), before, limit);
        if limit <= 1_000 { aside(read).await } else { far_aside(read).await }
    }

    fn from_rest(request: &RestRequest<'_>) -> Option<Result<Self>> {
        let statuses: Vec<Value> =
            query(request, "status").into_iter().map(Value::String).collect();
        Some(Ok(Self {
            status: (!statuses.is_empty()).then_some(Value::Array(statuses)),
            limit: query_text(request, "limit"),
            before: query_text(request, "before"),
            auth: None,
        }))
    }
}

fn statuses(status: Option<&Value>) -> Result<Option<Vec<WorkStatus>>> {
    let all = || {
        let words: Vec<&str> = WorkStatus::ALL.iter().map(|status| status.as_str()).collect();
        refuse(400, format!("status: must be one of {}", words.join(", ")))
    };
    let words: Vec<&str> = match status {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(word)) => vec![word],
        Some(Value::Array(words)) => {
            words.iter().map(|word| word.as_str().ok_or_else(all)).collect::<Result<_>>()?
        }
        Some(_) => return Err(all()),
    };
    let mut wanted = Vec::new();
    for word in words {
        match WorkStatus::ALL.into_iter().find(|status| status.as_str() == word) {
            Some(status) => wanted.push(status),
            None if FOREIGN.contains(&word) => {}
            None => return Err(all()),
        }
    }
    Ok(Some(wanted))
}

fn before(app: &App, owner: Address, before: Option<&Value>) -> Result<Option<Before>> {
    let wrong = || refuse(400, "before: must be one of the jobs, or a time in Unix seconds");
    if let Some(Value::String(text)) = before
        && let Some(id) = Address::parse(text)
    {
        let row = app.store.get(WORKS, &id)?.filter(|row| row.owner == owner);
        return Ok(Some(Before::Made(row.ok_or_else(wrong)?.made)));
    }
    let seconds = whole("before", before, 0..=u64::MAX).map_err(|_| wrong())?;
    Ok(seconds.map(Before::Seconds))
}

fn list(
    app: &App,
    owner: Address,
    wanted: Option<&[WorkStatus]>,
    before: Option<Before>,
    limit: u64,
) -> Result<Vec<JobEntry>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut entries, mut failed) = (Vec::new(), None);
    let after = match before {
        Some(Before::Made(made)) => Some((owner, !made)),
        _ => None,
    };
    app.store.scan(WORKS_OF, &owner, after.as_ref(), |_, id| {
        match entry(app, id) {
            Ok(Some((status, entry))) => {
                let late = matches!(before, Some(Before::Seconds(at)) if entry.created_at >= at);
                if !late && wanted.is_none_or(|wanted| wanted.contains(&status)) {
                    entries.push(entry);
                }
            }
            Ok(None) => {}
            Err(err) => failed = Some(err),
        }
        if failed.is_some() || entries.len() >= limit { Break(()) } else { Continue(()) }
    })?;
    failed.map_or(Ok(entries), Err)
}

fn entry(app: &App, id: Address) -> Result<Option<(WorkStatus, JobEntry)>> {
    let Some(row) = app.store.get(WORKS, &id)? else { return Ok(None) };
    let ledger = ledger(app, row.number)?;
    let status = ledger.status();
    let entry = JobEntry {
        job_id: id.to_string(),
        address: id.to_string(),
        status: status.as_str().to_owned(),
        name: row.name,
        description: row.description,
        link: row.link,
        total_slices: ledger.total,
        completed_slices: ledger.completed,
        active_slices: ledger.active,
        created_at: seconds(row.created_at),
    };
    Ok(Some((status, entry)))
}

/// Counts the caller's jobs, however they stand.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobCountParams")]
pub struct Count {
    /// Credentials, where they are not in the `Authorization` header: its text.
    #[serde(default)]
    pub auth: Option<Secret>,
}

/// How many jobs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobCount")]
pub struct CountView {
    /// All of the identity.
    #[serde(rename = "jobCount")]
    pub job_count: u64,
}

impl Method for Count {
    type Output = CountView;
    const SPEC: Spec = Spec::new("dcp.job.count", Access::Anyone)
        .rest(Verb::Get, "/api/v0/jobs/count", 200)
        .also(&["/api/jobs/count"])
        .style(&STYLE)
        .errors(&[Code::Unauthenticated, Code::LimitReached, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<CountView> {
        let owner = identity(&cx, self.auth.as_deref()).await?.address;
        aside(move || {
            let mut job_count = 0;
            cx.app.store.scan(WORKS_OF, &owner, None, |_, _| {
                job_count += 1;
                Continue(())
            })?;
            Ok(CountView { job_count })
        })
        .await
    }

    fn from_rest(_: &RestRequest<'_>) -> Option<Result<Self>> {
        Some(Ok(Self::default()))
    }
}
