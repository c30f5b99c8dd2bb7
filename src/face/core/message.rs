//! `message.*`: what carries jobs to runners and words to readers.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::aside::aside;
use super::job::{Job, JobCreate};
use super::message_kind::MessageKind;
use super::page::{Cut, Page};
use super::{
    Deleted, MessageFormatType, MessageStatus, TransportStatus, bounds, context,
    context_must_agree, context_must_exist, job, seconds, tell,
};
use crate::app::Cx;
use crate::engine::Turn;
use crate::method::{Access, Def, Method, Spec, Verb};
use crate::model::Triple;
use crate::model::message::MessageStatus as Status;
use crate::store::{CONTEXTS, MESSAGE_RUNS, MESSAGES, MessageRow, MessageRunRow, Store, TASKS};
use crate::{Code, Error, Result};

/// This namespace's methods on stored messages.
pub const METHODS: &[Def] =
    &[Def::call::<Create>(), Def::call::<Load>(), Def::call::<List>(), Def::call::<Delete>()];

/// Most jobs of one message.
const JOBS: usize = 10_000;

/// Creates a message in a context, or replaces the one of that caller and id.
///
/// The jobs in it are stored as jobs of its caller and dispatched at once; one without jobs is for
/// those who subscribed to the context's messages. A replaced message keeps its `created_at`; one
/// that is being delivered is not replaced, and no job of it may be active.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MessageCreateParams")]
pub struct Create {
    /// The context it belongs to.
    pub context_id: u32,
    /// The message.
    pub message: MessageCreate,
}

/// A message as its creator describes it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MessageCreate {
    /// Chosen by the client, unique per caller.
    pub id: u32,
    /// The actor that sends it.
    pub caller_id: u32,
    /// The context it belongs to; must equal the one in the params.
    pub context_id: u32,
    /// Its text.
    pub message: String,
    /// What it is for: a script type, or one of `Job`, `Chat` and `Mail`.
    pub message_type: MessageKind,
    /// The format of its text.
    pub message_format_type: MessageFormatType,
    /// Bound on the whole message, seconds; 0 is none.
    pub timeout: u32,
    /// Bound on the acknowledgement by a runner, seconds; 0 is none.
    pub timeout_ack: u32,
    /// Bound on the result of each job, seconds; 0 is none.
    pub timeout_result: u32,
    /// Its jobs, which must be of the same caller and context.
    pub job: Vec<JobCreate>,
    /// Log lines to begin with.
    #[serde(default)]
    pub logs: Vec<String>,
}

impl MessageCreate {
    /// Checks what can be checked without looking at what is stored.
    ///
    /// # Errors
    /// [`Error::Params`] naming the field, [`Error::Limit`] for lists that are too long.
    pub fn check(&self, context_id: u32) -> Result<()> {
        context_must_agree(context_id, self.context_id, "message.context_id")?;
        bounds::count("message.job", self.job.len(), JOBS)?;
        bounds::count("message.logs", self.logs.len(), bounds::ENTRIES)?;
        let mut ids = BTreeSet::new();
        for (at, job) in self.job.iter().enumerate() {
            let field = format!("message.job[{at}]");
            job.check(context_id, &field)?;
            if job.caller_id != self.caller_id {
                let reason = format!("must equal the message's caller_id, {}", self.caller_id);
                return Err(Error::params(format!("{field}.caller_id"), reason));
            }
            if !ids.insert(job.id) {
                return Err(Error::params(format!("{field}.id"), "each job once"));
            }
        }
        Ok(())
    }
}

impl Method for Create {
    type Output = Message;
    const SPEC: Spec = Spec::new("message.create", Access::Admin)
        .rest(Verb::Post, "/messages/{context_id}", 200)
        .errors(&[
            Code::NotFound,
            Code::Conflict,
            Code::LimitReached,
            Code::StorageError,
            Code::DagCycleDetected,
        ])
        .single();

    async fn call(self, cx: Cx) -> Result<Message> {
        let Self { context_id, message } = self;
        message.check(context_id)?;
        let change = move |turn: &mut Turn<'_>| {
            context_must_exist(turn, context_id)?;
            let message = store(turn, message)?;
            turn.definition_changed(context_id);
            Ok(message)
        };
        cx.app.engine.change(change).await
    }
}

/// Stages a message that was checked, with its jobs and events, and has its jobs delivered.
fn store(turn: &mut Turn<'_>, message: MessageCreate) -> Result<Message> {
    let (now, key) = (turn.now, (message.context_id, message.caller_id, message.id));
    let before = turn.get(MESSAGES, &key)?;
    let kind = if before.is_some() { "message.updated" } else { "message.created" };
    if before.is_some() {
        refuse_active(turn, key)?;
        turn.remove(MESSAGE_RUNS, &key);
    }
    let row = MessageRow {
        message: message.message,
        message_type: message.message_type.as_str().to_owned(),
        message_format_type: message.message_format_type.as_str().to_owned(),
        timeout: message.timeout,
        timeout_ack: message.timeout_ack,
        timeout_result: message.timeout_result,
        jobs: message.job.iter().map(|job| job.id).collect(),
        logs: message.logs,
        created_at: before.map_or(now, |row| row.created_at),
        updated_at: now,
    };
    turn.put(MESSAGES, &key, &row)?;
    let mut jobs = Vec::with_capacity(message.job.len());
    for described in message.job {
        jobs.push(job::store(turn, described)?);
    }
    let message = Message::new(key, row, None, jobs)?;
    tell(turn, kind, Some(key.0), subject(key), &message)?;
    if message.job.is_empty() {
        return Ok(message);
    }
    turn.deliver_message(key.0, key.1, key.2)?;
    under_way(turn, key, message)
}

/// The message as it stands once it was handed over.
fn under_way(turn: &Turn<'_>, key: Triple, mut message: Message) -> Result<Message> {
    for job in &mut message.job {
        if let Some(task) = turn.get(TASKS, &(key.0, key.1, job.id))? {
            job.status = task.status.into();
        }
    }
    if let Some(run) = turn.get(MESSAGE_RUNS, &key)? {
        message.stands(key, &run);
    }
    Ok(message)
}

fn refuse_active(turn: &Turn<'_>, key: Triple) -> Result<()> {
    if !turn.message_is_active(key.0, key.1, key.2) {
        return Ok(());
    }
    let run = turn.get(MESSAGE_RUNS, &key)?;
    let state = MessageStatus::from(run.map_or(Status::Dispatched, |run| run.status));
    Err(Error::conflict(state.as_str(), format!("message {} is being delivered", key.2)))
}

/// Loads a message with its jobs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MessageLoadParams")]
pub struct Load {
    /// The context it belongs to.
    pub context_id: u32,
    /// The actor that sent it.
    pub caller_id: u32,
    /// The message.
    pub id: u32,
}

impl Method for Load {
    type Output = Message;
    const SPEC: Spec = Spec::new("message.load", Access::Reader)
        .rest(Verb::Get, "/messages/{context_id}/{caller_id}/{id}", 200)
        .errors(&[Code::NotFound, Code::StorageError])
        .single();

    async fn call(self, cx: Cx) -> Result<Message> {
        let key = (self.context_id, self.caller_id, self.id);
        let row = cx.app.store.get(MESSAGES, &key)?.ok_or_else(|| not_found(key))?;
        if row.jobs.len() < 10 {
            return with_jobs(&cx.app.store, key, row);
        }
        aside(move || with_jobs(&cx.app.store, key, row)).await
    }
}

/// The object of a message with those of its jobs that still exist.
fn with_jobs(store: &Store, key: Triple, row: MessageRow) -> Result<Message> {
    let run = store.get(MESSAGE_RUNS, &key)?;
    let mut jobs = Vec::with_capacity(row.jobs.len());
    for id in &row.jobs {
        jobs.extend(job::load(store, (key.0, key.1, *id))?);
    }
    Message::new(key, row, run.as_ref(), jobs)
}

/// Lists the messages of a context in ascending order of callers and ids.
///
/// With a filter, a page may end before it is full: go on as long as there is a `next`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MessageListParams")]
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
    pub status: Option<MessageStatus>,
    /// Only those of this actor.
    #[serde(default)]
    pub caller_id: Option<u32>,
}

impl Method for List {
    type Output = Page<Message>;
    const SPEC: Spec = Spec::new("message.list", Access::Reader)
        .rest(Verb::Get, "/messages/{context_id}", 200)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Page<Message>> {
        aside(move || {
            let (store, context_id) = (&cx.app.store, self.context_id);
            store.get(CONTEXTS, &context_id)?.ok_or_else(|| context::not_found(context_id))?;
            let view = |key: &Triple, row: MessageRow| {
                if let Some(wanted) = self.status {
                    let run = store.get(MESSAGE_RUNS, key)?;
                    let stands = run.map_or(Status::Dispatched, |run| run.status);
                    if wanted != MessageStatus::from(stands) {
                        return Ok(None);
                    }
                }
                let message = with_jobs(store, *key, row)?;
                let size = size(&message);
                Ok(Some((message, size)))
            };
            let cursor = self.cursor.as_deref();
            match self.caller_id {
                Some(caller) => {
                    let prefix = (context_id, caller);
                    Cut::new(&prefix, cursor, self.limit)?.collect(store, MESSAGES, &prefix, view)
                }
                None => Cut::new(&context_id, cursor, self.limit)?.collect(
                    store,
                    MESSAGES,
                    &context_id,
                    view,
                ),
            }
        })
        .await
    }
}

/// Roughly, bytes on the wire.
fn size(message: &Message) -> usize {
    let jobs = message.job.iter().map(|job| 512 + job.script.len()).sum::<usize>();
    256 + message.message.len() + jobs + message.logs.iter().map(String::len).sum::<usize>()
}

/// Deletes a message, unless it is being delivered; its jobs stay.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MessageDeleteParams")]
pub struct Delete {
    /// The context it belongs to.
    pub context_id: u32,
    /// The actor that sent it.
    pub caller_id: u32,
    /// The message.
    pub id: u32,
}

impl Method for Delete {
    type Output = Deleted;
    const SPEC: Spec = Spec::new("message.delete", Access::Admin)
        .rest(Verb::Delete, "/messages/{context_id}/{caller_id}/{id}", 200)
        .errors(&[Code::NotFound, Code::Conflict, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Deleted> {
        let key = (self.context_id, self.caller_id, self.id);
        let change = move |turn: &mut Turn<'_>| {
            turn.get(MESSAGES, &key)?.ok_or_else(|| not_found(key))?;
            refuse_active(turn, key)?;
            turn.remove(MESSAGES, &key);
            turn.remove(MESSAGE_RUNS, &key);
            turn.definition_changed(key.0);
            let data = json!({ "caller_id": key.1, "id": key.2 });
            tell(turn, "message.deleted", Some(key.0), subject(key), &data)?;
            Ok(Deleted::DONE)
        };
        cx.app.engine.change(change).await
    }
}

/// What carries jobs to runners and words to readers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Chosen by the client, unique per caller.
    pub id: u32,
    /// The actor that sent it.
    pub caller_id: u32,
    /// The context it belongs to.
    pub context_id: u32,
    /// Its text.
    pub message: String,
    /// What it is for: a script type, or one of `Job`, `Chat` and `Mail`, as the client wrote it.
    pub message_type: MessageKind,
    /// The format of its text.
    pub message_format_type: MessageFormatType,
    /// Bound on the whole message, seconds; 0 is none.
    pub timeout: u32,
    /// Bound on the acknowledgement by a runner, seconds; 0 is none.
    pub timeout_ack: u32,
    /// Bound on the result of each job, seconds; 0 is none.
    pub timeout_result: u32,
    /// Its jobs as they stand.
    pub job: Vec<Job>,
    /// Its log lines: those it was created with, then those that runners added.
    pub logs: Vec<String>,
    /// When it was first created, Unix seconds.
    pub created_at: i64,
    /// When it, or how it stands, last changed, Unix seconds.
    pub updated_at: i64,
    /// Where it stands.
    pub status: MessageStatus,
    /// What tells its delivery apart; absent while there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport_id: Option<String>,
    /// How far it got; absent while there was no delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport_status: Option<TransportStatus>,
}

impl Message {
    /// The object of a definition, of how its delivery stands, and of its jobs.
    ///
    /// # Errors
    /// [`Error::Bug`] when the row holds words that are not of the wire.
    pub fn new(
        (context_id, caller_id, id): Triple,
        row: MessageRow,
        run: Option<&MessageRunRow>,
        job: Vec<Job>,
    ) -> Result<Self> {
        let unknown = |word: &str| Error::Bug(format!("message {id} has the type {word}"));
        let kind = row.message_type.as_str();
        let format = row.message_format_type.as_str();
        let mut message = Self {
            id,
            caller_id,
            context_id,
            message_type: MessageKind::from_word(kind).ok_or_else(|| unknown(kind))?,
            message_format_type: MessageFormatType::from_word(format)
                .ok_or_else(|| unknown(format))?,
            message: row.message,
            timeout: row.timeout,
            timeout_ack: row.timeout_ack,
            timeout_result: row.timeout_result,
            job,
            logs: row.logs,
            created_at: seconds(row.created_at),
            updated_at: seconds(row.updated_at),
            status: MessageStatus::Dispatched,
            transport_id: None,
            transport_status: None,
        };
        if let Some(run) = run {
            message.stands((context_id, caller_id, id), run);
        }
        Ok(message)
    }

    fn stands(&mut self, (context_id, caller_id, id): Triple, run: &MessageRunRow) {
        self.logs.extend(run.logs.iter().cloned());
        self.updated_at = self.updated_at.max(seconds(run.updated_at));
        self.status = run.status.into();
        self.transport_id = Some(format!("{context_id}/{caller_id}/{id}"));
        self.transport_status = Some(run.transport.into());
    }
}

/// The subject of a message's events.
pub fn subject((context, caller, id): Triple) -> String {
    format!("message/{context}/{caller}/{id}")
}

/// What is answered when a message does not exist.
pub fn not_found((context, caller, id): Triple) -> Error {
    Error::NotFound { kind: "message", id: format!("{context}/{caller}/{id}") }
}
