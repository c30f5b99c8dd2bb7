//! What a runner is told, read off the store when it is about to be sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;

use super::aside::aside;
use super::job::Job;
use super::message::Message;
use super::message_kind::MessageKind;
use super::{
    MessageFormatType, MessageStatus, TransportStatus, batch_parcel, batch_remote, seconds,
};
use crate::app::App;
use crate::engine::{Carrier, Given, GivenAttempt, Push};
use crate::model::Triple;
use crate::model::protocol::{Attempt, Carried, Inputs, Notification};
use crate::model::slices::is_group;
use crate::store::{JOBS, JobRow, MESSAGE_RUNS, MESSAGES, TASKS};
use crate::{Error, Result};

/// Time to acknowledge a message of the coordinator's own, seconds.
const ACKNOWLEDGE_WITHIN: u32 = 30;

/// Results of other jobs that are read where other connections wait for it.
const FEW_RESULTS: usize = 64;

/// What goes to a runner: whole messages, or batches of slices, whose message says but little.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Told {
    Core(Box<Notification<Message>>),
    Slices(Notification<Carried>),
}

/// What becomes of a push.
pub(super) enum Ready {
    /// The notification.
    Now(Told),
    /// The notification, or none, when its slices have been fetched.
    Later(BoxFuture<'static, Result<Option<Told>>>),
    /// All that it was to carry has been deleted since.
    Never,
}

/// Reads what a push carries.
pub(super) async fn prepared(app: &Arc<App>, push: Push) -> Result<Ready> {
    let told = match push {
        Push::Jobs(given) if is_group(given.context()) => {
            let store = Arc::clone(app);
            let mut parcel = aside(move || batch_parcel::batches(&store, &given)).await?;
            if !parcel.remote.is_empty() {
                let app = Arc::clone(app);
                return Ok(Ready::Later(Box::pin(async move {
                    batch_remote::fetch(&app, &mut parcel).await?;
                    Ok(parcel.notification().map(Told::Slices))
                })));
            }
            let told = parcel.notification().map(Told::Slices);
            return Ok(told.map_or(Ready::Never, Ready::Now));
        }
        Push::Jobs(given) => jobs(app, given).await?,
        Push::Cancel { tokens, reason } => Some(Notification::Cancel { tokens, reason }),
        Push::Detached { reason } => Some(Notification::Detached { reason }),
    };
    Ok(told.map_or(Ready::Never, |told| Ready::Now(Told::Core(Box::new(told)))))
}

/// Reads where it arrived what little most jobs need; one may depend on a hundred thousand others.
async fn jobs(app: &Arc<App>, given: Box<Given>) -> Result<Option<Notification<Message>>> {
    let mut rows = Vec::with_capacity(given.attempts.len());
    let mut results = 0;
    for one in &given.attempts {
        let row = app.store.get(JOBS, &one.token.job)?;
        results += row.as_ref().map_or(0, |row| row.depends.len());
        rows.push(row);
    }
    if results <= FEW_RESULTS {
        return parcel(app, &given, rows);
    }
    let app = Arc::clone(app);
    aside(move || parcel(&app, &given, rows)).await
}

/// What is deleted was cancelled before: it is left out, and the runner keeps the rest.
fn parcel(
    app: &Arc<App>,
    given: &Given,
    rows: Vec<Option<JobRow>>,
) -> Result<Option<Notification<Message>>> {
    let mut jobs = Vec::with_capacity(given.attempts.len());
    let mut attempts = Vec::with_capacity(given.attempts.len());
    for (one, row) in given.attempts.iter().zip(rows) {
        if let Some((job, attempt)) = row.map(|row| attempt(app, given, one, row)).transpose()? {
            jobs.push(job);
            attempts.push(attempt);
        }
    }
    if attempts.is_empty() {
        return Ok(None);
    }
    let message = match given.message {
        Carrier::Made { id, of } => made(app, id, of, jobs),
        Carrier::Stored(key) => {
            let Some(row) = app.store.get(MESSAGES, &key)? else { return Ok(None) };
            sent(app, key);
            let run = app.store.get(MESSAGE_RUNS, &key)?;
            let mut message = Message::new(key, row, run.as_ref(), jobs)?;
            // What is stored catches up beside the sending; whoever reads this has been sent it.
            if message.transport_status == Some(TransportStatus::Queued) {
                message.transport_status = Some(TransportStatus::Sent);
            }
            message
        }
    };
    Ok(Some(Notification::Jobs { message, attempts }))
}

fn attempt(app: &App, given: &Given, one: &GivenAttempt, row: JobRow) -> Result<(Job, Attempt)> {
    let key = one.token.job;
    let env_vars = if given.env.is_empty() {
        row.env_vars.clone()
    } else {
        let mut env_vars = BTreeMap::clone(&given.env);
        env_vars.extend(row.env_vars.iter().map(|(name, value)| (name.clone(), value.clone())));
        env_vars
    };
    let mut inputs = Inputs::new();
    for needed in &row.depends {
        inputs.insert(*needed, left(app, (key.0, key.1, *needed))?);
    }
    let attempt = Attempt {
        caller_id: key.1,
        job_id: key.2,
        flow_id: given.flow,
        attempt: one.token.attempt,
        token: one.token.to_string(),
        deadline_at: one.deadline_at,
        env_vars,
        inputs,
        slices: None,
    };
    // The attempt that this carries may be further than the stored task, which is not looked at:
    // it says where the job will be, and an attempt begins without a result.
    let mut job = Job::new(key, row, None);
    job.status = super::JobStatus::Dispatched;
    job.updated_at = job.updated_at.max(seconds((app.now)()));
    Ok((job, attempt))
}

/// What a job that another depends on has left.
fn left(app: &App, key: Triple) -> Result<BTreeMap<String, String>> {
    let row = app.store.get(TASKS, &key)?;
    let text = row.and_then(|row| row.result);
    let Some(text) = text else { return Ok(BTreeMap::new()) };
    serde_json::from_str(&text).map_err(|e| Error::Bug(e.to_string()))
}

/// The message that the coordinator makes for jobs that no client put into one.
fn made(app: &App, id: u32, (context_id, caller_id): (u32, u32), jobs: Vec<Job>) -> Message {
    let now = seconds((app.now)());
    let script_type = jobs.first().map_or(super::ScriptType::Osis, |job| job.script_type);
    Message {
        id,
        caller_id,
        context_id,
        message: String::new(),
        message_type: MessageKind::Script(script_type),
        message_format_type: MessageFormatType::Text,
        timeout: 0,
        timeout_ack: ACKNOWLEDGE_WITHIN,
        timeout_result: 0,
        job: jobs,
        logs: Vec::new(),
        created_at: now,
        updated_at: now,
        status: MessageStatus::Dispatched,
        transport_id: None,
        transport_status: Some(TransportStatus::Sent),
    }
}

/// Notes beside the sending that a stored message is on its way.
fn sent(app: &Arc<App>, key: Triple) {
    let app = Arc::clone(app);
    tokio::spawn(async move {
        if let Err(err) = app.engine.change(move |turn| turn.message_sent(key)).await {
            tracing::debug!(error = %err, "could not note that a message was sent");
        }
    });
}
