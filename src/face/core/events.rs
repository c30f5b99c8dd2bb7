//! `events.*`: the event log as it is.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::aside::aside;
use super::{bounds, page};
use crate::access::{Role, Roles};
use crate::app::{Caller, Cx};
use crate::method::{Access, Def, Items, Method, Spec, Subscription, Verb, feed};
use crate::model::Millis;
use crate::model::event::{self as model, Filter};
use crate::store::Store;
use crate::{Code, Error, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[Def::call::<List>(), Def::open::<Subscribe>()];

/// Events that one call looks at, however few of them pass its filter.
const LOOKED_AT: usize = 20_000;
/// Events read at once.
const READ: usize = 500;
/// Bytes after which a page ends early; one event may exceed it.
const PAGE_BYTES: usize = 4 << 20;
/// Most kinds in one filter.
const KINDS: usize = 100;

/// Something that happened.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Position in the log, from 1, without gaps; log lines of jobs have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When it was committed, Unix milliseconds.
    pub at: Millis,
    /// What the change is called, such as `job.status`.
    pub kind: String,
    /// The context it belongs to; absent for actors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_id: Option<u32>,
    /// What it is about, as a path such as `job/1/42/3`.
    pub subject: String,
    /// What happened: the object for `created` and `updated`, `from` and `to` for `status`.
    #[schemars(with = "serde_json::Value")]
    pub data: Box<RawValue>,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        let head = |event: &Self| (event.seq, event.at, event.context_id);
        head(self) == head(other)
            && self.kind == other.kind
            && self.subject == other.subject
            && self.data.get() == other.data.get()
    }
}

/// Lists events in the order of the log.
///
/// Events older than what is kept are gone. An actor is shown those of contexts that it may read.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EventsListParams")]
pub struct List {
    /// Only events after this number; from the oldest held when left out.
    #[serde(default)]
    pub since: Option<u64>,
    /// Only this context's.
    #[serde(default)]
    pub context_id: Option<u32>,
    /// Only these kinds, exactly or by a prefix that ends in `*`.
    #[serde(default)]
    pub kinds: Option<Vec<String>>,
    /// Only this subject and what lies below it.
    #[serde(default)]
    pub subject: Option<String>,
    /// Most events on the page, 1 to 1000; 100 when left out.
    #[serde(default)]
    #[schemars(range(min = 1, max = super::page::MAX_LIMIT))]
    pub limit: Option<u32>,
}

/// A page of the event log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventPage {
    /// The events, in order; with a filter there may be fewer than asked for, even none, before
    /// the end.
    pub items: Vec<Event>,
    /// The number of the last event of the log; 0 when there was none.
    pub latest: u64,
    /// The number of the oldest event held; `latest + 1` when none is.
    pub oldest: u64,
    /// The `since` of the next page; absent when there was nothing left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

impl Method for List {
    type Output = EventPage;
    const SPEC: Spec = Spec::new("events.list", Access::Member)
        .rest(Verb::Get, "/events", 200)
        .errors(&[Code::Gone, Code::LimitReached, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<EventPage> {
        let limit = page::limit(self.limit)?;
        let filter = filter(self.context_id, self.kinds, self.subject)?;
        aside(move || {
            let (store, roles) = (&cx.app.store, &cx.app.keeper.roles);
            let actor = actor_of(&cx);
            let view = |event: &model::Event| {
                let admitted = filter.admits(event) && may_see(roles, actor, event);
                admitted.then(|| wire(event)).transpose()
            };
            let (items, next) = collect(store, self.since, limit, view)?;
            Ok(EventPage { items, latest: store.latest(), oldest: store.oldest(), next })
        })
        .await
    }
}

/// The actor that is shown what it may read only.
fn actor_of(cx: &Cx) -> Option<u32> {
    match cx.caller {
        Caller::Actor(actor) => Some(actor),
        Caller::Operator | Caller::Anonymous | Caller::Runner(..) => None,
    }
}

/// Whether an actor may see an event: one of a context that it may read at this moment.
fn may_see(roles: &Roles, actor: Option<u32>, event: &model::Event) -> bool {
    let Some(actor) = actor else { return true };
    let Some(context) = event.context_id else { return false };
    roles.permit(actor, Role::Reader, context).unwrap_or_else(|err| {
        tracing::error!(%err, context, "a role cannot be read");
        false
    })
}

/// Reads the log after `since` until a page is full, `view` turning events into what is shown of
/// them; what is shown, and where the next page begins if there is one.
pub(super) fn collect<T>(
    store: &Store,
    since: Option<u64>,
    limit: usize,
    view: impl Fn(&model::Event) -> Result<Option<T>>,
) -> Result<(Vec<T>, Option<u64>)> {
    let oldest = || store.oldest().saturating_sub(1);
    let (mut at, mut items) = (since.unwrap_or_else(oldest), Vec::new());
    let (mut looked_at, mut bytes) = (0_usize, 0_usize);
    let more = 'pages: loop {
        let read = match store.events(at, READ) {
            // The oldest went between asking for its number and reading it.
            Err(Error::Gone { oldest }) if since.is_none() && looked_at == 0 => {
                at = oldest.saturating_sub(1);
                continue;
            }
            read => read?,
        };
        if read.is_empty() {
            break false;
        }
        for event in read {
            let full = items.len() == limit || bytes >= PAGE_BYTES || looked_at == LOOKED_AT;
            if full {
                break 'pages true;
            }
            looked_at += 1;
            at = event.seq;
            if let Some(item) = view(&event)? {
                bytes += event.data.len();
                items.push(item);
            }
        }
    };
    Ok((items, more.then_some(at)))
}

fn wire(event: &model::Event) -> Result<Event> {
    let data = RawValue::from_string(event.data.clone());
    Ok(Event {
        seq: Some(event.seq),
        at: event.at,
        kind: event.kind.to_string(),
        context_id: event.context_id,
        subject: event.subject.clone(),
        data: data.map_err(|err| Error::Bug(format!("event {}: {err}", event.seq)))?,
    })
}

fn filter(
    context_id: Option<u32>,
    kinds: Option<Vec<String>>,
    subject: Option<String>,
) -> Result<Filter> {
    if let Some(kinds) = &kinds {
        bounds::count("kinds", kinds.len(), KINDS)?;
    }
    Ok(Filter { context_id, kinds: kinds.map(Arc::from), subject, ..Filter::default() })
}

/// Follows the event log.
///
/// With `since` the events after it come first, then those that happen; nothing is missing,
/// nothing comes twice. An actor is shown those of contexts that it may read at that moment; when
/// it may not follow any more, the last notification is `{"ended": {"reason": …}}`. That of a reader that is too slow is `{"lagged": {"last_seq": n}}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EventsSubscribeParams")]
pub struct Subscribe {
    /// Only events after this number; only what happens from now on when left out.
    #[serde(default)]
    pub since: Option<u64>,
    /// Only this context's.
    #[serde(default)]
    pub context_id: Option<u32>,
    /// Only these kinds, exactly or by a prefix that ends in `*`.
    #[serde(default)]
    pub kinds: Option<Vec<String>>,
    /// Only this subject and what lies below it.
    #[serde(default)]
    pub subject: Option<String>,
}

impl Subscription for Subscribe {
    type Item = Event;
    const SPEC: Spec = Spec::new("events.subscribe", Access::Member)
        .rest(Verb::Get, "/events", 200)
        .push("events.event", "events.unsubscribe")
        .errors(&[Code::Gone, Code::LimitReached, Code::StorageError]);

    async fn open(self, cx: Cx) -> Result<Items> {
        let filter = filter(self.context_id, self.kinds, self.subject)?;
        let items = feed(&cx.app, self.since, filter)?;
        let Some(actor) = actor_of(&cx) else { return Ok(items) };
        let app = cx.app;
        Ok(items.retain(move |event| may_see(&app.keeper.roles, Some(actor), event)))
    }
}
