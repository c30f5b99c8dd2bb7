//! `job.*`: jobs as their creators describe them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::aside::{Rendered, aside};
use super::page::{Cut, Page};
use super::sweep::remove_below;
use super::{
    Deleted, JobStatus, ScriptType, bounds, context, context_must_agree, context_must_exist,
    seconds, tell,
};
use crate::app::Cx;
use crate::engine::Turn;
use crate::method::{Access, Def, Json, Method, Spec, Verb};
use crate::model::task::JobStatus as Status;
use crate::model::{Millis, Triple, distinct, gate};
use crate::store::{ATTEMPTS, CONTEXTS, Draft, Encoded, JOBS, JobRow, LOGS, Store, TASKS, TaskRow};
use crate::{Code, Error, Result};

/// This namespace's methods on stored jobs.
pub const METHODS: &[Def] =
    &[Def::call::<Create>(), Def::call::<Load>(), Def::call::<List>(), Def::call::<Delete>()];

/// Creates a job in a context, or replaces the one of that caller and id.
///
/// A replaced job keeps its `created_at`; its status and result are as if it had never run, and
/// its attempts go on counting. One that is being executed is not replaced. Nothing starts: see
/// `job.run`, `flow.start` and `message.create`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "JobCreateParams")]
pub struct Create {
    /// The context it belongs to.
    pub context_id: u32,
    /// The job.
    pub job: JobCreate,
}

/// A job as its creator describes it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct JobCreate {
    /// Chosen by the client, unique per caller.
    pub id: u32,
    /// The actor that asks for it.
    pub caller_id: u32,
    /// The context it belongs to; must equal the one in the params.
    pub context_id: u32,
    /// What to run.
    pub script: String,
    /// Its language.
    pub script_type: ScriptType,
    /// Bound on one attempt, seconds; 0 is none.
    pub timeout: u32,
    /// Attempts after the first.
    pub retries: u8,
    /// Its environment, laid over its flow's.
    #[serde(deserialize_with = "distinct::texts")]
    pub env_vars: BTreeMap<String, String>,
    /// A result to begin with, until an attempt leaves one.
    #[serde(default, deserialize_with = "distinct::texts")]
    pub result: BTreeMap<String, String>,
    /// Gates that must all open before it is dispatched: plain names, `after:<RFC 3339 time>`,
    /// `flow:<id>`, `job:<caller_id>/<id>`.
    pub prerequisites: Vec<String>,
    /// Jobs of the same caller that must finish first.
    pub depends: Vec<u32>,
}

impl JobCreate {
    /// Checks what can be checked without looking at what is stored; `field` is its own path.
    ///
    /// # Errors
    /// [`Error::Params`] naming the field, [`Error::Limit`] for lists that are too long.
    pub fn check(&self, context_id: u32, field: &str) -> Result<()> {
        context_must_agree(context_id, self.context_id, &format!("{field}.context_id"))?;
        bounds::environment(&format!("{field}.env_vars"), &self.env_vars)?;
        bounds::count(&format!("{field}.depends"), self.depends.len(), bounds::IDS)?;
        let gates = &self.prerequisites;
        bounds::count(&format!("{field}.prerequisites"), gates.len(), bounds::ENTRIES)?;
        for (at, text) in gates.iter().enumerate() {
            let field = || format!("{field}.prerequisites[{at}]");
            bounds::length(field, text, bounds::SHORT_TEXT)?;
            gate::parse_one(text).map_err(|expected| Error::params(field(), expected))?;
        }
        Ok(())
    }

    pub(super) fn into_row(self, created_at: Millis, updated_at: Millis) -> JobRow {
        JobRow {
            script: self.script,
            language: self.script_type.into(),
            timeout: self.timeout,
            retries: self.retries,
            env_vars: self.env_vars,
            result: self.result,
            prerequisites: self.prerequisites,
            depends: self.depends,
            created_at,
            updated_at,
        }
    }
}

impl Method for Create {
    type Output = Rendered<Job>;
    const SPEC: Spec = Spec::new("job.create", Access::Admin)
        .rest(Verb::Post, "/jobs/{context_id}", 200)
        .errors(&[Code::NotFound, Code::Conflict, Code::LimitReached, Code::StorageError])
        .single();

    fn render(output: Rendered<Job>) -> Result<Json> {
        Ok(output.into_json())
    }

    async fn call(self, cx: Cx) -> Result<Rendered<Job>> {
        let Self { context_id, job } = self;
        job.check(context_id, "job")?;
        // All that can be done outside the engine is, so that one text is the event and the answer.
        let fresh = Fresh::of(job, (cx.app.now)())?;
        let created = fresh.created.clone();
        let change = move |turn: &mut Turn<'_>| {
            context_must_exist(turn, context_id)?;
            let replaced = fresh.store(turn)?;
            turn.definition_changed(context_id);
            Ok(replaced)
        };
        match cx.app.engine.change(change).await? {
            None => Rendered::of_text(created),
            Some(job) => Rendered::new(&job),
        }
    }
}

/// A job with what is stored and told of it if none of its id exists, made outside the engine.
#[derive(Debug)]
pub(super) struct Fresh {
    key: Triple,
    row: Encoded<JobRow>,
    subject: String,
    created: String,
}

impl Fresh {
    pub(super) fn of(described: JobCreate, now: Millis) -> Result<Self> {
        let key = (described.context_id, described.caller_id, described.id);
        let row = described.into_row(now, now);
        let encoded = JOBS.encoded(&row)?;
        let created = serde_json::to_string(&Job::new(key, row, None))
            .map_err(|e| Error::Bug(e.to_string()))?;
        Ok(Self { key, row: encoded, subject: subject(key), created })
    }

    /// Stages the job; the one it has become when it replaces one.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the job of that id is active.
    pub(super) fn store(self, turn: &mut Turn<'_>) -> Result<Option<Job>> {
        let Self { key, row, subject, created } = self;
        if turn.has(JOBS, &key)? {
            return store_row(turn, key, row.read(JOBS)?).map(Some);
        }
        turn.put_encoded(JOBS, &key, &row);
        let context_id = Some(key.0);
        turn.emit(Draft { kind: "job.created", context_id, subject, group: None, data: created });
        Ok(None)
    }
}

/// Stages a job that was checked, new or in place of one that is not active, with its event.
///
/// # Errors
/// [`Error::Conflict`] when the job of that id is active.
pub fn store(turn: &mut Turn<'_>, job: JobCreate) -> Result<Job> {
    let (now, key) = (turn.now, (job.context_id, job.caller_id, job.id));
    store_row(turn, key, job.into_row(now, now))
}

fn store_row(turn: &mut Turn<'_>, key: Triple, mut row: JobRow) -> Result<Job> {
    let now = turn.now;
    let before = turn.get(JOBS, &key)?;
    let kind = if before.is_some() { "job.updated" } else { "job.created" };
    row.created_at = before.as_ref().map_or(now, |row| row.created_at);
    row.updated_at = now;
    // A job that is new has nothing behind it: what is deleted takes its work along.
    let mut task = None;
    if let Some(before) = before {
        let old = turn.get(TASKS, &key)?;
        refuse_active(turn, key, &before, old.as_ref())?;
        task = old.and_then(|old| renewed(old, &before, &row, now));
        match &task {
            Some(task) => turn.put(TASKS, &key, task)?,
            None => turn.remove(TASKS, &key),
        }
    }
    turn.put(JOBS, &key, &row)?;
    let job = Job::new(key, row, task.as_ref());
    tell(turn, kind, Some(key.0), subject(key), &job)?;
    Ok(job)
}

/// What is left of the work of a job that is replaced: its last attempt and its log, which go on
/// counting, and the gates that were opened early, if it still has them and has not run since.
fn renewed(task: TaskRow, before: &JobRow, row: &JobRow, now: Millis) -> Option<TaskRow> {
    let ended = matches!(task.status, Status::Error | Status::Finished);
    let keep_gates = !ended && before.prerequisites == row.prerequisites;
    let satisfied = if keep_gates { task.satisfied } else { Vec::new() };
    let remains = task.attempt.is_some() || task.log_lines > 0 || !satisfied.is_empty();
    remains.then(|| TaskRow {
        status: fresh(row),
        updated_at: now,
        attempt: task.attempt,
        failures: 0,
        losses: 0,
        not_before: None,
        satisfied,
        result: None,
        reason: None,
        log_lines: task.log_lines,
    })
}

fn refuse_active(turn: &Turn<'_>, key: Triple, row: &JobRow, task: Option<&TaskRow>) -> Result<()> {
    if !turn.job_is_active(key.0, key.1, key.2) {
        return Ok(());
    }
    let state = JobStatus::from(task.map_or_else(|| fresh(row), |task| task.status));
    Err(Error::conflict(state.as_str(), format!("job {} is being executed", key.2)))
}

/// Loads a job.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "JobLoadParams")]
pub struct Load {
    /// The context it belongs to.
    pub context_id: u32,
    /// The actor that asked for it.
    pub caller_id: u32,
    /// The job.
    pub id: u32,
}

impl Method for Load {
    type Output = Job;
    const SPEC: Spec = Spec::new("job.load", Access::Reader)
        .rest(Verb::Get, "/jobs/{context_id}/{caller_id}/{id}", 200)
        .errors(&[Code::NotFound, Code::StorageError])
        .single();

    async fn call(self, cx: Cx) -> Result<Job> {
        let key = (self.context_id, self.caller_id, self.id);
        load(&cx.app.store, key)?.ok_or_else(|| not_found(key))
    }
}

/// Reads a job, if it exists.
pub fn load(store: &Store, key: Triple) -> Result<Option<Job>> {
    let Some(row) = store.get(JOBS, &key)? else { return Ok(None) };
    let task = store.get(TASKS, &key)?;
    Ok(Some(Job::new(key, row, task.as_ref())))
}

/// Lists the jobs of a context in ascending order of callers and ids.
///
/// With a filter, a page may end before it is full: go on as long as there is a `next`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "JobListParams")]
pub struct List {
    /// The context they belong to.
    pub context_id: u32,
    /// Go on after this page's end: the `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Most objects on the page, 1 to 1000; 100 when left out.
    #[serde(default)]
    #[schemars(range(min = 1, max = super::page::MAX_LIMIT))]
    pub limit: Option<u32>,
    /// Only those that stand so.
    #[serde(default)]
    pub status: Option<JobStatus>,
    /// Only those of this actor.
    #[serde(default)]
    pub caller_id: Option<u32>,
}

impl Method for List {
    type Output = Page<Job>;
    const SPEC: Spec = Spec::new("job.list", Access::Reader)
        .rest(Verb::Get, "/jobs/{context_id}", 200)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Page<Job>> {
        aside(move || {
            let (store, context_id) = (&cx.app.store, self.context_id);
            store.get(CONTEXTS, &context_id)?.ok_or_else(|| context::not_found(context_id))?;
            let view = |key: &Triple, row: JobRow| {
                let task = store.get(TASKS, key)?;
                let stands = task.as_ref().map_or_else(|| fresh(&row), |task| task.status);
                if self.status.is_some_and(|wanted| wanted != JobStatus::from(stands)) {
                    return Ok(None);
                }
                let size = size(&row, task.as_ref());
                Ok(Some((Job::new(*key, row, task.as_ref()), size)))
            };
            let cursor = self.cursor.as_deref();
            match self.caller_id {
                Some(caller) => {
                    let prefix = (context_id, caller);
                    Cut::new(&prefix, cursor, self.limit)?.collect(store, JOBS, &prefix, view)
                }
                None => Cut::new(&context_id, cursor, self.limit)?.collect(
                    store,
                    JOBS,
                    &context_id,
                    view,
                ),
            }
        })
        .await
    }
}

/// Roughly, bytes on the wire.
fn size(row: &JobRow, task: Option<&TaskRow>) -> usize {
    let pairs = row.env_vars.iter().chain(&row.result);
    let texts = pairs.map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let gates = row.prerequisites.iter().map(String::len).sum::<usize>();
    let result = task.and_then(|task| task.result.as_ref()).map_or(0, String::len);
    256 + row.script.len() + texts + gates + row.depends.len() * 8 + result
}

/// Deletes a job with its attempts and its log, unless it is active.
///
/// Flows and messages that name it keep its id.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "JobDeleteParams")]
pub struct Delete {
    /// The context it belongs to.
    pub context_id: u32,
    /// The actor that asked for it.
    pub caller_id: u32,
    /// The job.
    pub id: u32,
}

impl Method for Delete {
    type Output = Deleted;
    const SPEC: Spec = Spec::new("job.delete", Access::Admin)
        .rest(Verb::Delete, "/jobs/{context_id}/{caller_id}/{id}", 200)
        .errors(&[Code::NotFound, Code::Conflict, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Deleted> {
        let key = (self.context_id, self.caller_id, self.id);
        let change = move |turn: &mut Turn<'_>| {
            let row = turn.get(JOBS, &key)?.ok_or_else(|| not_found(key))?;
            let task = turn.get(TASKS, &key)?;
            refuse_active(turn, key, &row, task.as_ref())?;
            turn.remove(JOBS, &key);
            turn.remove(TASKS, &key);
            remove_below(turn, ATTEMPTS, &key)?;
            remove_below(turn, LOGS, &key)?;
            turn.definition_changed(key.0);
            let data = json!({ "caller_id": key.1, "id": key.2 });
            tell(turn, "job.deleted", Some(key.0), subject(key), &data)?;
            Ok(Deleted::DONE)
        };
        cx.app.engine.change(change).await
    }
}

/// A unit of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// Chosen by the client, unique per caller.
    pub id: u32,
    /// The actor that asked for it.
    pub caller_id: u32,
    /// The context it belongs to.
    pub context_id: u32,
    /// What to run.
    pub script: String,
    /// Its language.
    pub script_type: ScriptType,
    /// Bound on one attempt, seconds; 0 is none.
    pub timeout: u32,
    /// Attempts after the first.
    pub retries: u8,
    /// Its environment, laid over its flow's.
    pub env_vars: BTreeMap<String, String>,
    /// What its last attempt left; `error` says why it failed, `reason` why it was cancelled or
    /// given up.
    pub result: BTreeMap<String, String>,
    /// Gates that must all open before it is dispatched.
    pub prerequisites: Vec<String>,
    /// Jobs of the same caller that must finish first.
    pub depends: Vec<u32>,
    /// When it was first created, Unix seconds.
    pub created_at: i64,
    /// When it, or how it stands, last changed, Unix seconds.
    pub updated_at: i64,
    /// Where it stands.
    pub status: JobStatus,
}

impl Job {
    /// The object of a definition and of how its work stands.
    pub fn new((context_id, caller_id, id): Triple, row: JobRow, task: Option<&TaskRow>) -> Self {
        let status = task.map_or_else(|| fresh(&row), |task| task.status);
        let updated_at = task.map_or(row.updated_at, |task| row.updated_at.max(task.updated_at));
        let result = match task {
            Some(task) => result(row.result, task),
            None => row.result,
        };
        Self {
            id,
            caller_id,
            context_id,
            script: row.script,
            script_type: row.language.into(),
            timeout: row.timeout,
            retries: row.retries,
            env_vars: row.env_vars,
            result,
            prerequisites: row.prerequisites,
            depends: row.depends,
            created_at: seconds(row.created_at),
            updated_at: seconds(updated_at),
            status: status.into(),
        }
    }
}

/// What the work left, and what went wrong with it.
fn result(described: BTreeMap<String, String>, task: &TaskRow) -> BTreeMap<String, String> {
    let left = task.result.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let mut result: BTreeMap<String, String> = left.unwrap_or(described);
    if let Some(reason) = &task.reason {
        result.insert("reason".to_owned(), reason.clone());
    }
    // The last attempt's text is this run's only if an attempt of this run has failed.
    let failed = task.status == Status::Error && (task.failures > 0 || task.reason.is_none());
    let error = task.attempt.as_ref().and_then(|last| last.error.as_ref()).filter(|_| failed);
    if let Some(error) = error {
        result.insert("error".to_owned(), error.clone());
    }
    result
}

/// How a job stands to which nothing has happened.
pub fn fresh(row: &JobRow) -> Status {
    fresh_status(&row.depends, &row.prerequisites)
}

/// The same from what may hold it back.
pub(super) fn fresh_status(depends: &[u32], prerequisites: &[String]) -> Status {
    if depends.is_empty() && prerequisites.is_empty() {
        Status::Dispatched
    } else {
        Status::WaitingForPrerequisites
    }
}

/// The subject of a job's events.
pub fn subject((context, caller, id): Triple) -> String {
    format!("job/{context}/{caller}/{id}")
}

/// What is answered when a job does not exist.
pub fn not_found((context, caller, id): Triple) -> Error {
    Error::NotFound { kind: "job", id: format!("{context}/{caller}/{id}") }
}
