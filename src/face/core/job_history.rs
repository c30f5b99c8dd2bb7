//! `job.attempts`, `job.logs`: what has been tried, and what it said.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aside::aside;
use super::page::{Cut, Page};
use super::sweep::Any;
use super::{AttemptState, job};
use crate::app::Cx;
use crate::method::{Access, Def, Method, Spec, Verb};
use crate::model::{Millis, Triple};
use crate::store::{ATTEMPTS, AttemptRow, JOBS, LOGS, LogRow, Store, TASKS};
use crate::{Code, Result};

/// This namespace's methods on what jobs leave behind.
pub const METHODS: &[Def] = &[Def::call::<Attempts>(), Def::call::<Logs>()];

/// Attempts that are listed; older ones are left out.
const MOST_ATTEMPTS: usize = 1_000;

/// Lists the attempts of a job, oldest first; of very many, the last thousand.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "JobAttemptsParams")]
pub struct Attempts {
    /// The context it belongs to.
    pub context_id: u32,
    /// The actor that asked for it.
    pub caller_id: u32,
    /// The job.
    pub id: u32,
}

/// The attempts of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptList {
    /// The attempts, oldest first.
    pub items: Vec<Attempt>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// The runner that has, or had, it.
    pub runner_id: u32,
    /// How it stands.
    pub state: AttemptState,
    /// When work began, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Millis>,
    /// When it ended, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Millis>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<AttemptRow> for Attempt {
    fn from(row: AttemptRow) -> Self {
        Self {
            attempt: row.attempt,
            runner_id: row.runner_id,
            state: row.state.into(),
            started_at: row.started_at,
            ended_at: row.ended_at,
            error: row.error,
        }
    }
}

impl Method for Attempts {
    type Output = AttemptList;
    const SPEC: Spec = Spec::new("job.attempts", Access::Reader)
        .rest(Verb::Get, "/jobs/{context_id}/{caller_id}/{id}/attempts", 200)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<AttemptList> {
        let key = (self.context_id, self.caller_id, self.id);
        aside(move || {
            let store = &cx.app.store;
            must_exist(store, key)?;
            let mut items = VecDeque::new();
            store.scan(ATTEMPTS, &key, None, |_, row| {
                items.push_back(Attempt::from(row));
                if items.len() >= MOST_ATTEMPTS {
                    items.pop_front();
                }
                ControlFlow::Continue(())
            })?;
            let last = store.get(TASKS, &key)?.and_then(|task| task.attempt);
            items.extend(last.map(Attempt::from));
            Ok(AttemptList { items: items.into() })
        })
        .await
    }
}

fn must_exist(store: &Store, key: Triple) -> Result<()> {
    store.get(JOBS.part::<Any>(), &key)?.map(drop).ok_or_else(|| job::not_found(key))
}

/// Lists the log lines of a job, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "JobLogsParams")]
pub struct Logs {
    /// The context it belongs to.
    pub context_id: u32,
    /// The actor that asked for it.
    pub caller_id: u32,
    /// The job.
    pub id: u32,
    /// Go on after this page's end: the `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most lines on the page, 1 to 1000; 100 when left out.
    #[serde(default)]
    #[schemars(range(min = 1, max = super::page::MAX_LIMIT))]
    pub limit: Option<u32>,
}

/// A log line of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// When it was reported, Unix milliseconds.
    pub at: Millis,
    /// The attempt that wrote it.
    pub attempt: u32,
    /// Its stream, such as `stdout`.
    pub stream: String,
    /// The text.
    pub line: String,
}

impl From<LogRow> for LogLine {
    fn from(row: LogRow) -> Self {
        Self { at: row.at, attempt: row.attempt, stream: row.stream, line: row.line }
    }
}

impl Method for Logs {
    type Output = Page<LogLine>;
    const SPEC: Spec = Spec::new("job.logs", Access::Reader)
        .rest(Verb::Get, "/jobs/{context_id}/{caller_id}/{id}/logs", 200)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Page<LogLine>> {
        let key = (self.context_id, self.caller_id, self.id);
        let cut = Cut::new(&key, self.cursor.as_deref(), self.limit)?;
        aside(move || {
            let store = &cx.app.store;
            must_exist(store, key)?;
            cut.collect(store, LOGS, &key, |_, row| {
                let size = 64 + row.stream.len() + row.line.len();
                Ok(Some((LogLine::from(row), size)))
            })
        })
        .await
    }
}
