//! The events of a job: what its rows say from a number on, woken by the log.

use std::collections::VecDeque;
use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::results::{self, Wanted};
use crate::app::{App, Cx};
use crate::engine::work_subject;
use crate::face::core::aside::aside;
use crate::method::Note;
use crate::model::Millis;
use crate::model::address::Address;
use crate::model::numbers::Numbers;
use crate::store::{
    Follower, Next, RESULTS, Store, TextsRow, WORK_EVENTS, WORK_RUNS, WorkEvent, WorkEventRow,
    WorkRow,
};
use crate::{Error, Result};

/// Rows of events, or bytes of them, that are read at once.
const PAGE: usize = 64;
const PAGE_BYTES: usize = 1 << 20;

/// Which events are wanted, besides those that are only told live.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) status: bool,
    pub(super) slices: bool,
    pub(super) result: bool,
    pub(super) error: bool,
    /// Only these slices, of results and errors.
    pub(super) numbers: Option<Numbers>,
}

impl Choice {
    fn admits(&self, number: u64) -> bool {
        self.numbers.as_ref().is_none_or(|numbers| numbers.contains(number))
    }
}

/// A wake-up call for each change of one job.
pub(super) struct Waker {
    app: Arc<App>,
    follower: Follower,
    subject: String,
}

impl Waker {
    pub(super) fn new(app: &Arc<App>, row: &WorkRow, id: Address) -> Result<Self> {
        let follower = app.store.follow(None)?;
        Ok(Self { app: Arc::clone(app), follower, subject: work_subject(row.owner, Some(id)) })
    }

    /// Waits for a change; `false` when the store is closed.
    pub(super) async fn woken(&mut self) -> bool {
        loop {
            match self.follower.next().await {
                Next::Events(page) => {
                    if page.iter().any(|event| event.subject == self.subject) {
                        return true;
                    }
                }
                // What the log has forgotten, the rows still have.
                Next::Lagged => match self.app.store.follow(None) {
                    Ok(follower) => {
                        self.follower = follower;
                        return true;
                    }
                    Err(_) => return false,
                },
                Next::Closed => return false,
            }
        }
    }
}

/// Waits until there is a result among the wanted slices, or for so long.
///
/// # Errors
/// Storage errors.
pub(super) async fn until_result(
    cx: &Cx,
    row: &WorkRow,
    wanted: &Wanted,
    wait: Duration,
) -> Result<()> {
    let run = cx.app.store.get(WORK_RUNS, &row.number)?;
    let Some(run) = run else { return Ok(()) };
    let mut waker = Waker::new(&cx.app, row, run.id)?;
    let mut stopping = cx.app.stopping.subscribe();
    let until = Instant::now() + wait;
    loop {
        let (app, number, wanted) = (Arc::clone(&cx.app), row.number, wanted.clone());
        let ended = aside(move || {
            let run = app.store.get(WORK_RUNS, &number)?;
            let cancelled = run.is_none_or(|run| run.ledger.cancelled);
            Ok(cancelled || results::any(&app.store, number, &wanted)?)
        });
        if ended.await? {
            return Ok(());
        }
        tokio::select! {
            woken = timeout_at(until, waker.woken()) => {
                if !matches!(woken, Ok(true)) {
                    return Ok(());
                }
            }
            _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
        }
    }
}

/// A subscriber's place among the events of a job.
pub(super) struct Place {
    pub(super) app: Arc<App>,
    pub(super) work: u32,
    /// The number of the last event that was passed.
    pub(super) seq: u64,
    pub(super) choice: Arc<Choice>,
    pub(super) waker: Waker,
    /// Read and not yet sent.
    pub(super) ready: VecDeque<Note>,
}

impl Place {
    /// The next event; none when there are no more.
    pub(super) async fn next(&mut self) -> Option<Note> {
        loop {
            if let Some(note) = self.ready.pop_front() {
                return Some(note);
            }
            let (app, work, seq) = (Arc::clone(&self.app), self.work, self.seq);
            let choice = Arc::clone(&self.choice);
            let read = aside(move || read(&app.store, work, seq, &choice)).await;
            let (notes, passed) = match read {
                Ok(read) => read,
                Err(err) => {
                    tracing::error!(error = %err, "the events of a job cannot be read");
                    return Some(Note::Lagged);
                }
            };
            self.ready.extend(notes);
            if passed > self.seq {
                self.seq = passed;
            } else if !self.waker.woken().await {
                return None;
            }
        }
    }
}

/// Reads the events after `seq`, and how far they go.
fn read(store: &Store, work: u32, seq: u64, choice: &Choice) -> Result<(Vec<Note>, u64)> {
    let mut reader = Reader { notes: Vec::new(), bytes: 0, since: seq, choice, failed: None };
    let (mut rows, mut passed) = (0, seq);
    // A row is found by its last event: the first one that does not end at or before `seq`.
    store.scan(WORK_EVENTS, &work, Some(&(work, seq)), |(_, last), row| {
        rows += 1;
        if let Err(err) = reader.row(store, work, last, &row) {
            reader.failed = Some(err);
            return Break(());
        }
        passed = last;
        if rows >= PAGE || reader.bytes >= PAGE_BYTES { Break(()) } else { Continue(()) }
    })?;
    match reader.failed {
        Some(err) => Err(err),
        None => Ok((reader.notes, passed)),
    }
}

/// The results that an event tells of, of slices in a row up to `last`.
///
/// # Errors
/// When they are gone; storage errors.
pub(super) fn results_told(store: &Store, work: u32, last: u64) -> Result<TextsRow> {
    let texts = store.get(RESULTS, &(work, last))?;
    texts.ok_or_else(|| Error::Bug("results that were told are gone".to_owned()))
}

struct Reader<'c> {
    notes: Vec<Note>,
    bytes: usize,
    since: u64,
    choice: &'c Choice,
    failed: Option<Error>,
}

impl Reader<'_> {
    fn row(&mut self, store: &Store, work: u32, last_seq: u64, row: &WorkEventRow) -> Result<()> {
        let at = row.at;
        match &row.what {
            WorkEvent::Status { status, reason } if self.choice.status => {
                let reason = reason.as_ref().map_or_else(String::new, |reason| {
                    format!(r#","reason":{}"#, Value::from(reason.as_str()))
                });
                let status = status.as_str();
                self.note(last_seq, at, &format!(r#""kind":"status","status":"{status}"{reason}"#))
            }
            WorkEvent::Slices { added, total } if self.choice.slices => {
                let members =
                    format!(r#""kind":"slices","addedSlices":{added},"totalSlices":{total}"#);
                self.note(last_seq, at, &members)
            }
            WorkEvent::Results { last, .. } if self.choice.result => {
                let texts = results_told(store, work, *last)?;
                let first_seq = texts.first(last_seq);
                for (seq, (number, text)) in (first_seq..).zip(texts.numbered(*last)) {
                    if seq > self.since && self.choice.admits(number) {
                        let members =
                            format!(r#""kind":"result","sliceNumber":{number},"value":{text}"#);
                        self.note(seq, at, &members)?;
                    }
                }
                Ok(())
            }
            WorkEvent::Error { number, attempt, last, name, message }
                if self.choice.error && self.choice.admits(*number) =>
            {
                let (name, message) = (Value::from(name.as_str()), Value::from(message.as_str()));
                let members = format!(
                    r#""kind":"error","sliceNumber":{number},"attempt":{attempt},"final":{last},"name":{name},"message":{message}"#
                );
                self.note(last_seq, at, &members)
            }
            _ => Ok(()),
        }
    }

    fn note(&mut self, seq: u64, at: Millis, members: &str) -> Result<()> {
        let text = format!(r#"{{"seq":{seq},"ts":{at},{members}}}"#);
        self.bytes += text.len();
        let json = RawValue::from_string(text).map_err(|err| Error::Bug(err.to_string()))?;
        self.notes.push(Note::Placed { position: seq, json });
        Ok(())
    }
}
