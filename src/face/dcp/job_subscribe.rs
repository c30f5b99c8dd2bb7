//! `dcp.job.subscribe` and `dcp.jobs.subscribe`: jobs as they go on.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::Arc;

use futures_util::stream::{PollNext, Stream, StreamExt, once, select_with_strategy, unfold};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::identity::identity;
use super::job_id::{job_of, ledger};
use super::job_params::whole;
use super::job_watch::{Choice, Place, Waker};
use super::key_watch::while_good;
use super::secret::Secret;
use super::style::STYLE;
use super::{refuse, selection};
use crate::app::Cx;
use crate::engine::{Live, SliceNote, work_subject};
use crate::method::{Access, Def, Items, Note, Spec, Subscription, feed};
use crate::model::event::Filter;
use crate::model::numbers::Numbers;
use crate::{Code, Result};

/// This namespace's subscriptions.
pub const METHODS: &[Def] = &[Def::open::<JobSubscribe>(), Def::open::<JobsSubscribe>()];

/// Kinds of events that are kept, and of those that are only told live.
const DURABLE: [&str; 4] = ["status", "slices", "result", "error"];
const TRANSIENT: [&str; 3] = ["progress", "console", "emit"];
/// Of those that are only told live, how many may come before one that is kept.
const SAID_AT_ONCE: u32 = 64;

/// Follows a job.
///
/// With `since`, all that came after that number comes first; `since` 0 replays the whole job,
/// however old it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobSubscribeParams")]
pub struct JobSubscribe {
    /// The job: `0x` and 40 hexadecimal digits.
    #[serde(rename = "jobId")]
    #[schemars(with = "String")]
    pub job_id: Option<Value>,
    /// Only events after this number; only what happens from now on when left out.
    #[serde(default)]
    #[schemars(with = "Option<u64>")]
    pub since: Option<Value>,
    /// Kinds of events: `status`, `slices`, `result`, `error`, which is what comes when this is
    /// left out, and `progress`, `console`, `emit`, which have no number and are not kept.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub kinds: Option<Value>,
    /// Only results and errors of these slices: `3-7`, `5`, or a list of such.
    #[serde(default)]
    #[schemars(with = "Option<super::job_result::Ranges>")]
    pub range: Option<Value>,
    /// Credentials, where they are not in the `Authorization` header: its text.
    #[serde(default)]
    pub auth: Option<Secret>,
}

/// Something that happened to a job.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobEvent")]
pub struct JobEvent {
    /// Its number, from 1 without gaps; `progress`, `console` and `emit` have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When, Unix milliseconds.
    pub ts: u64,
    /// `status`, `slices`, `result`, `error`, `progress`, `console` or `emit`; the other members
    /// depend on it.
    pub kind: String,
    /// What belongs to the kind.
    #[serde(flatten)]
    pub members: serde_json::Map<String, Value>,
}

impl Subscription for JobSubscribe {
    type Item = JobEvent;
    const SPEC: Spec = Spec::new("dcp.job.subscribe", Access::Anyone)
        .push("dcp.job.event", "dcp.job.unsubscribe")
        .style(&STYLE)
        .errors(&[
            Code::Unauthenticated,
            Code::Forbidden,
            Code::NotFound,
            Code::LimitReached,
            Code::StorageError,
        ]);

    async fn open(self, cx: Cx) -> Result<Items> {
        let caller = identity(&cx, self.auth.as_deref()).await?;
        let (id, row) = job_of(&cx, caller.address, self.job_id.as_ref())?;
        let kinds = kinds(self.kinds.as_ref())?;
        let numbers = selection::read(self.range.as_ref(), None)?;
        let since = whole("since", self.since.as_ref(), 0..=u64::MAX)?;
        // In this order nothing falls between what is read and what wakes.
        let live = cx.app.engine.live_lines();
        let waker = Waker::new(&cx.app, &row, id)?;
        let latest = ledger(&cx.app, row.number)?.seq;
        let seq = since.unwrap_or(latest);
        if seq > latest {
            return Err(refuse(400, format!("since: at most {latest}")));
        }
        let is = |kind: &str| kinds.iter().any(|wanted| wanted == kind);
        let choice = Choice {
            status: is("status"),
            slices: is("slices"),
            result: is("result"),
            error: is("error"),
            numbers: numbers.clone(),
        };
        let (work, choice, ready) = (row.number, Arc::new(choice), VecDeque::new());
        let place = Place { app: Arc::clone(&cx.app), work, seq, choice, waker, ready };
        let events = unfold(place, |mut place| async { Some((place.next().await?, place)) });
        if !TRANSIENT.iter().any(|kind| is(kind)) {
            return Ok(while_good(&cx.app, &caller, Items::notes(seq, events)));
        }
        let told = move |live: Arc<Live>| {
            std::future::ready(match &*live {
                Live::Slice(note) if note.work == work => told(note, &kinds, numbers.as_ref()),
                Live::Slice(_) | Live::Line(_) => None,
            })
        };
        let events = events.map(Some).chain(once(std::future::ready(None)));
        let said = lines(live).filter_map(told).map(Some);
        // What a slice says comes before its result, but holds nothing up for long.
        let turn = |turns: &mut u32| {
            *turns = turns.wrapping_add(1);
            if turns.is_multiple_of(SAID_AT_ONCE) { PollNext::Left } else { PollNext::Right }
        };
        let mixed = select_with_strategy(events, said, turn);
        let mixed = mixed.take_while(|note| std::future::ready(note.is_some()));
        let items = Items::notes(seq, mixed.filter_map(std::future::ready));
        Ok(while_good(&cx.app, &caller, items))
    }
}

fn kinds(kinds: Option<&Value>) -> Result<Vec<String>> {
    let known = |word: &str| DURABLE.contains(&word) || TRANSIENT.contains(&word);
    let wrong = || {
        let words = [&DURABLE[..], &TRANSIENT[..]].concat().join(", ");
        refuse(400, format!("kinds: must be a list of {words}"))
    };
    match kinds {
        None | Some(Value::Null) => Ok(DURABLE.map(str::to_owned).to_vec()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| {
                let word = item.as_str().filter(|word| known(word));
                word.map(str::to_owned).ok_or_else(wrong)
            })
            .collect(),
        Some(_) => Err(wrong()),
    }
}

/// What slices say as it is reported; a reader that is too slow misses some.
fn lines(live: Receiver<Arc<Live>>) -> impl Stream<Item = Arc<Live>> + Send {
    unfold(live, |mut live| async {
        loop {
            match live.recv().await {
                Ok(line) => return Some((line, live)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    })
}

fn told(note: &SliceNote, kinds: &[String], numbers: Option<&Numbers>) -> Option<Note> {
    let wanted = kinds.iter().any(|kind| kind == note.kind);
    let admitted = numbers.is_none_or(|numbers| numbers.contains(note.slice));
    if !wanted || !admitted {
        return None;
    }
    let SliceNote { slice, at, kind, members, .. } = note;
    let text = format!(r#"{{"ts":{at},"kind":"{kind}","sliceNumber":{slice},{members}}}"#);
    RawValue::from_string(text).ok().map(Note::Item)
}

/// Follows all jobs of the caller, from now on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobsSubscribeParams")]
pub struct JobsSubscribe {
    /// Credentials, where they are not in the `Authorization` header: its text.
    #[serde(default)]
    pub auth: Option<Secret>,
}

/// How a job of the caller stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobsEvent")]
pub struct JobsEvent {
    /// The job.
    #[serde(rename = "jobId")]
    pub job_id: String,
    /// How it stands.
    pub status: String,
    /// Slices submitted so far.
    #[serde(rename = "totalSlices")]
    pub total_slices: u64,
    /// Slices with a result.
    #[serde(rename = "completedSlices")]
    pub completed_slices: u64,
}

impl Subscription for JobsSubscribe {
    type Item = JobsEvent;
    const SPEC: Spec = Spec::new("dcp.jobs.subscribe", Access::Anyone)
        .push("dcp.jobs.event", "dcp.jobs.unsubscribe")
        .style(&STYLE)
        .errors(&[Code::Unauthenticated, Code::LimitReached, Code::StorageError]);

    async fn open(self, cx: Cx) -> Result<Items> {
        let caller = identity(&cx, self.auth.as_deref()).await?;
        let owner = caller.address;
        let filter = Filter {
            kinds: Some(Arc::from(["dcp.job".to_owned()])),
            subject: Some(work_subject(owner, None)),
            ..Filter::default()
        };
        let mut items = feed(&cx.app, None, filter)?;
        let told = |note: Note| {
            ready(match note {
                Note::Event(event) => serde_json::from_str::<JobsEvent>(&event.data)
                    .and_then(|item| serde_json::value::to_raw_value(&item))
                    .ok()
                    .map(|json| Note::Placed { position: event.seq, json }),
                note => Some(note),
            })
        };
        items.notes = items.notes.filter_map(told).boxed();
        Ok(while_good(&cx.app, &caller, items))
    }
}
