//! `flow.subscribe`, `job.subscribe`, `message.subscribe`: the event log with the filter filled in.

use std::future::ready;
use std::sync::Arc;

use futures_util::stream::{Stream, StreamExt, once, select, unfold};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::to_raw_value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::events::Event;
use super::{flow, job};
use crate::app::Cx;
use crate::engine::{Live, LiveLine};
use crate::method::{Access, Def, Items, Note, Spec, Subscription, Verb, feed};
use crate::model::Triple;
use crate::model::event::Filter;
use crate::{Code, Result};

/// The subscriptions of these namespaces.
pub const METHODS: &[Def] = &[Def::open::<Flow>(), Def::open::<Job>(), Def::open::<Message>()];

/// Follows a flow: its own events and the status events of its jobs.
///
/// The flow need not exist yet.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FlowSubscribeParams")]
pub struct Flow {
    /// The context it belongs to.
    pub context_id: u32,
    /// The flow.
    pub id: u32,
    /// Only events after this number; only what happens from now on when left out.
    #[serde(default)]
    pub since: Option<u64>,
}

impl Subscription for Flow {
    type Item = Event;
    const SPEC: Spec = Spec::new("flow.subscribe", Access::Reader)
        .rest(Verb::Get, "/flows/{context_id}/{id}/events", 200)
        .push("flow.event", "flow.unsubscribe")
        .errors(&[Code::Gone, Code::StorageError]);

    async fn open(self, cx: Cx) -> Result<Items> {
        let filter = Filter {
            context_id: Some(self.context_id),
            kinds: Some(Arc::from(["flow.*".to_owned(), "job.status".to_owned()])),
            subject: Some(flow::subject((self.context_id, self.id))),
            with_group: true,
            ..Filter::default()
        };
        feed(&cx.app, self.since, filter)
    }
}

/// Follows a job.
///
/// The job need not exist yet.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "JobSubscribeParams")]
pub struct Job {
    /// The context it belongs to.
    pub context_id: u32,
    /// The actor that asked for it.
    pub caller_id: u32,
    /// The job.
    pub id: u32,
    /// Only events after this number; only what happens from now on when left out.
    #[serde(default)]
    pub since: Option<u64>,
    /// Also what its attempts print, as `job.log` events without `seq`, from now on.
    #[serde(default)]
    pub logs: Option<bool>,
}

impl Subscription for Job {
    type Item = Event;
    const SPEC: Spec = Spec::new("job.subscribe", Access::Reader)
        .rest(Verb::Get, "/jobs/{context_id}/{caller_id}/{id}/events", 200)
        .push("job.event", "job.unsubscribe")
        .errors(&[Code::Gone, Code::StorageError]);

    async fn open(self, cx: Cx) -> Result<Items> {
        let key = (self.context_id, self.caller_id, self.id);
        let filter = Filter {
            context_id: Some(self.context_id),
            subject: Some(job::subject(key)),
            ..Filter::default()
        };
        let items = feed(&cx.app, self.since, filter)?;
        if !self.logs.unwrap_or_default() {
            return Ok(items);
        }
        Ok(with_lines(items, key, lines(cx.app.engine.live_lines())))
    }
}

/// Every job's log lines as they are reported; a reader that is too slow misses some.
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

/// Mixes a job's log lines into its events; ends when the events end.
fn with_lines(
    mut items: Items,
    job: Triple,
    lines: impl Stream<Item = Arc<Live>> + Send + 'static,
) -> Items {
    let own = move |live: Arc<Live>| {
        ready(match &*live {
            Live::Line(line) if line.job == job => note(line),
            Live::Line(_) | Live::Slice(_) => None,
        })
    };
    let events = items.notes.map(Some).chain(once(ready(None)));
    let mixed = select(events, lines.filter_map(own).map(Some));
    items.notes = mixed.take_while(|note| ready(note.is_some())).filter_map(ready).boxed();
    items
}

/// A log line as an event that is not in the log.
fn note(line: &LiveLine) -> Option<Note> {
    let data = json!({ "attempt": line.attempt, "stream": line.stream, "line": line.line });
    let event = Event {
        seq: None,
        at: line.at,
        kind: "job.log".to_owned(),
        context_id: Some(line.job.0),
        subject: job::subject(line.job),
        data: to_raw_value(&data).ok()?,
    };
    to_raw_value(&event).ok().map(Note::Item)
}

/// Follows the messages of a context, such as those that are meant for people.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MessageSubscribeParams")]
pub struct Message {
    /// The context they belong to.
    pub context_id: u32,
    /// Only those of this actor.
    #[serde(default)]
    pub caller_id: Option<u32>,
    /// Only events after this number; only what happens from now on when left out.
    #[serde(default)]
    pub since: Option<u64>,
}

impl Subscription for Message {
    type Item = Event;
    const SPEC: Spec = Spec::new("message.subscribe", Access::Reader)
        .rest(Verb::Get, "/messages/{context_id}/events", 200)
        .push("message.event", "message.unsubscribe")
        .errors(&[Code::Gone, Code::StorageError]);

    async fn open(self, cx: Cx) -> Result<Items> {
        let context = self.context_id;
        let subject = match self.caller_id {
            Some(caller) => format!("message/{context}/{caller}"),
            None => format!("message/{context}"),
        };
        let filter =
            Filter { context_id: Some(context), subject: Some(subject), ..Filter::default() };
        feed(&cx.app, self.since, filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn log_lines_of_the_job_come_between_its_events() {
        let line = |id: u32, text: &str| {
            let (stream, line) = ("stdout".to_owned(), text.to_owned());
            Arc::new(Live::Line(LiveLine { job: (1, 42, id), at: 5, attempt: 2, stream, line }))
        };
        let lines = futures_util::stream::iter([line(3, "ours"), line(4, "of another")]);
        let events = Items::notes(0, futures_util::stream::iter([Note::Lagged]));
        let notes: Vec<Note> = with_lines(events, (1, 42, 3), lines).notes.collect().await;
        let texts: Vec<&str> = notes
            .iter()
            .filter_map(|note| match note {
                Note::Item(json) => Some(json.get()),
                Note::Event(_) | Note::Placed { .. } | Note::Lagged => None,
            })
            .collect();
        assert_eq!(
            texts,
            [
                r#"{"at":5,"kind":"job.log","context_id":1,"subject":"job/1/42/3","data":{"attempt":2,"stream":"stdout","line":"ours"}}"#
            ]
        );
        assert!(notes.iter().any(|note| matches!(note, Note::Lagged)));
    }
}
