//! Messages that clients stored: their jobs go to runners, their transport is followed.

use std::sync::Arc;

use super::groups::Start;
use super::memory::{GroupId, GroupKey};
use super::plan::{History, Outside, Plan, Prepared};
use super::turn::Turn;
use crate::model::Triple;
use crate::model::message::{MessageStatus, Progress, TransportStatus, step};
use crate::store::{Draft, JOBS, MESSAGE_RUNS, MESSAGES, MessageRunRow, TASKS};
use crate::{Error, Result};

/// Log lines that a message keeps.
const LOG_LINES: usize = 1_000;

impl Turn<'_> {
    /// Gives the jobs of a stored message, which must not be active, to runners.
    ///
    /// The message and its jobs have been staged before.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when one of its jobs is active;
    /// [`Error::Cycle`] when its jobs depend on each other in a circle.
    pub fn deliver_message(&mut self, context: u32, caller: u32, id: u32) -> Result<()> {
        let key = (context, caller, id);
        let not_found = |kind, id: u32| {
            move || Error::NotFound { kind, id: format!("{context}/{caller}/{id}") }
        };
        let message = self.get(MESSAGES, &key)?.ok_or_else(not_found("message", id))?;
        let mut jobs = Vec::with_capacity(message.jobs.len());
        for job in &message.jobs {
            let row = self.get(JOBS, &(context, caller, *job))?;
            jobs.push((*job, row.ok_or_else(not_found("job", *job))?));
        }
        let plan = Arc::new(Plan::new(caller, &jobs, Outside::Wait)?);
        let mut history = History::default();
        for (index, job) in plan.indexes().zip(plan.dag.ids()) {
            if let Some(row) = self.get(TASKS, &(context, caller, *job))? {
                history.insert(index, row);
            }
        }
        let seconds = |seconds: u32| u64::from(seconds) * 1_000;
        let run = MessageRunRow {
            status: MessageStatus::Dispatched,
            transport: TransportStatus::Queued,
            started_at: self.now,
            updated_at: self.now,
            logs: Vec::new(),
            reason: None,
        };
        let due = (message.timeout > 0).then(|| self.now.saturating_add(seconds(message.timeout)));
        let start = Start {
            key: GroupKey::Message(key),
            caller,
            env: Arc::default(),
            prepared: Prepared { plan, history: History::default() },
            fail_fast: false,
            has_results: false,
            acknowledge_within: seconds(message.timeout_ack),
            result_within: seconds(message.timeout_result),
            due,
            message: Some(run.clone()),
        };
        let group = self.start_group(start)?;
        self.tx.put(MESSAGE_RUNS, &key, &run)?;
        self.begin_tasks(group, history, false)
    }

    /// Notes that a message was written to a runner's socket.
    ///
    /// # Errors
    /// Storage errors.
    pub fn message_sent(&mut self, key: Triple) -> Result<()> {
        match self.memory.by_key.get(&GroupKey::Message(key)).copied() {
            Some(group) => self.progress_message(group, Progress::Sent),
            None => Ok(()),
        }
    }

    /// Moves the message of a group on, if the group is one.
    pub(super) fn progress_message(&mut self, id: GroupId, progress: Progress) -> Result<()> {
        let now = self.now;
        let Some(group) = self.memory.groups.get_mut(&id) else { return Ok(()) };
        let (GroupKey::Message(key), Some(run)) = (group.key, group.message.as_mut()) else {
            return Ok(());
        };
        let (status, transport) = step(run.status, run.transport, progress);
        if (status, transport) == (run.status, run.transport) {
            return Ok(());
        }
        let from = std::mem::replace(&mut run.status, status);
        run.transport = transport;
        run.updated_at = now;
        if status == MessageStatus::Error {
            run.reason.clone_from(&group.reason);
        }
        let row = run.clone();
        self.touch();
        self.tx.put(MESSAGE_RUNS, &key, &row)?;
        if from != status {
            self.emit_message(key, from, &row);
        }
        Ok(())
    }

    fn emit_message(
        &mut self,
        (context, caller, id): Triple,
        from: MessageStatus,
        row: &MessageRunRow,
    ) {
        let mut data = serde_json::json!({
            "from": from.as_str(),
            "to": row.status.as_str(),
            "transport_status": row.transport.as_str(),
        });
        if let (Some(reason), Some(data)) = (&row.reason, data.as_object_mut()) {
            data.insert("reason".to_owned(), reason.as_str().into());
        }
        self.emit(Draft {
            kind: "message.status",
            context_id: Some(context),
            subject: format!("message/{context}/{caller}/{id}"),
            group: None,
            data: data.to_string(),
        });
    }

    /// Appends log lines of a job to the message that carries it, if a client stored that.
    pub(super) fn log_to_message(&mut self, id: GroupId, lines: &[String]) -> Result<()> {
        let now = self.now;
        let Some(group) = self.memory.groups.get_mut(&id) else { return Ok(()) };
        let (GroupKey::Message(key), Some(run)) = (group.key, group.message.as_mut()) else {
            return Ok(());
        };
        let room = LOG_LINES.saturating_sub(run.logs.len());
        if room == 0 || lines.is_empty() {
            return Ok(());
        }
        run.logs.extend(lines.iter().take(room).cloned());
        run.updated_at = now;
        let row = run.clone();
        self.touch();
        self.tx.put(MESSAGE_RUNS, &key, &row)?;
        Ok(())
    }
}
