//! `audit.*`: who did what, from where, with which outcome.
//!
//! There is no second log: what is shown are the events that say on whose behalf they happened,
//! and those of refusals, which nothing else shows.

use futures_util::stream::StreamExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::aside::aside;
use super::{bounds, events, page};
use crate::access::REFUSED;
use crate::app::Cx;
use crate::method::{Access, Def, Items, Method, Note, Spec, Subscription, Verb, feed};
use crate::model::Millis;
use crate::model::event::{self, Filter};
use crate::{Code, Error, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[Def::call::<List>(), Def::open::<Subscribe>()];

/// A change or a refusal.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Position in the event log.
    pub seq: u64,
    /// When it was committed, Unix milliseconds.
    pub at: Millis,
    /// Who: `operator`, `actor/<id>`, `runner/<context>/<id>` or `anonymous`.
    pub who: String,
    /// What proved it, such as `session`, `token <name>` or `api_key <name>`; empty when nothing
    /// did.
    pub with: String,
    /// The address it came from; absent for what came from inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The method that was called.
    pub method: String,
    /// `changed` or `refused`.
    pub outcome: String,
    /// What the event is called.
    pub kind: String,
    /// The context it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_id: Option<u32>,
    /// What it is about.
    pub subject: String,
    /// What happened; of a refusal the error's `code` and `message`, how often it happened
    /// (`count`), and how many others are left out (`omitted`).
    #[schemars(with = "serde_json::Value")]
    pub data: Box<RawValue>,
}

impl PartialEq for AuditEntry {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq && self.who == other.who && self.data.get() == other.data.get()
    }
}

impl AuditEntry {
    fn of(event: &event::Event) -> Result<Option<Self>> {
        let Some(by) = &event.by else { return Ok(None) };
        let data = RawValue::from_string(event.data.clone());
        let outcome = if event.kind == REFUSED { "refused" } else { "changed" };
        Ok(Some(Self {
            seq: event.seq,
            at: event.at,
            who: by.who.to_string(),
            with: by.with.to_string(),
            from: by.from.map(|from| from.to_string()),
            method: by.method.to_string(),
            outcome: outcome.to_owned(),
            kind: event.kind.to_string(),
            context_id: event.context_id,
            subject: event.subject.clone(),
            data: data.map_err(|err| Error::Bug(format!("event {}: {err}", event.seq)))?,
        }))
    }
}

/// Lists changes and refusals in the order of the event log.
///
/// Those older than the events that are kept are gone.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AuditListParams")]
pub struct List {
    /// Only those after this number; from the oldest held when left out.
    #[serde(default)]
    pub since: Option<u64>,
    /// Only this one's: `operator`, `actor/<id>`, `runner/<context>/<id>` or `anonymous`.
    #[serde(default)]
    pub who: Option<String>,
    /// Only `changed` or `refused`.
    #[serde(default)]
    pub outcome: Option<String>,
    /// Only this context's.
    #[serde(default)]
    pub context_id: Option<u32>,
    /// Most entries on the page, 1 to 1000; 100 when left out.
    #[serde(default)]
    #[schemars(range(min = 1, max = super::page::MAX_LIMIT))]
    pub limit: Option<u32>,
}

/// A page of the audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditPage {
    /// The entries, in order; there may be fewer than asked for, even none, before the end.
    pub items: Vec<AuditEntry>,
    /// The number of the last event of the log; 0 when there was none.
    pub latest: u64,
    /// The number of the oldest event held; `latest + 1` when none is.
    pub oldest: u64,
    /// The `since` of the next page; absent when there was nothing left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Which entries are wanted.
#[derive(Debug)]
struct Wanted {
    who: Option<String>,
    refused: Option<bool>,
    context_id: Option<u32>,
}

impl Wanted {
    fn new(who: Option<String>, outcome: Option<&str>, context_id: Option<u32>) -> Result<Self> {
        if let Some(who) = &who {
            bounds::length(|| "who".to_owned(), who, bounds::SHORT_TEXT)?;
        }
        let refused = match outcome {
            None => None,
            Some("changed") => Some(false),
            Some("refused") => Some(true),
            Some(_) => return Err(Error::params("outcome", "changed or refused")),
        };
        Ok(Self { who, refused, context_id })
    }

    fn admits(&self, event: &event::Event) -> bool {
        let Some(by) = &event.by else { return false };
        self.who.as_deref().is_none_or(|who| *who == *by.who)
            && self.refused.is_none_or(|refused| refused == (event.kind == REFUSED))
            && self.context_id.is_none_or(|context| event.context_id == Some(context))
    }
}

impl Method for List {
    type Output = AuditPage;
    const SPEC: Spec = Spec::new("audit.list", Access::Operator)
        .rest(Verb::Get, "/audit", 200)
        .errors(&[Code::Gone, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<AuditPage> {
        let limit = page::limit(self.limit)?;
        let wanted = Wanted::new(self.who, self.outcome.as_deref(), self.context_id)?;
        let since = self.since;
        aside(move || {
            let store = &cx.app.store;
            let view = |event: &event::Event| {
                if wanted.admits(event) { AuditEntry::of(event) } else { Ok(None) }
            };
            let (items, next) = events::collect(store, since, limit, view)?;
            Ok(AuditPage { items, latest: store.latest(), oldest: store.oldest(), next })
        })
        .await
    }
}

/// Follows changes and refusals.
///
/// With `since` those after it come first, then those that happen; nothing is missing, nothing
/// comes twice. The last notification of a reader that is too slow is `{"lagged": {"last_seq": n}}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AuditSubscribeParams")]
pub struct Subscribe {
    /// Only those after this number; only what happens from now on when left out.
    #[serde(default)]
    pub since: Option<u64>,
    /// Only this one's.
    #[serde(default)]
    pub who: Option<String>,
    /// Only `changed` or `refused`.
    #[serde(default)]
    pub outcome: Option<String>,
    /// Only this context's.
    #[serde(default)]
    pub context_id: Option<u32>,
}

impl Subscription for Subscribe {
    type Item = AuditEntry;
    const SPEC: Spec = Spec::new("audit.subscribe", Access::Operator)
        .rest(Verb::Get, "/audit", 200)
        .push("audit.entry", "audit.unsubscribe")
        .errors(&[Code::Gone, Code::StorageError]);

    async fn open(self, cx: Cx) -> Result<Items> {
        let wanted = Wanted::new(self.who, self.outcome.as_deref(), self.context_id)?;
        let filter = Filter { with_audit: true, ..Filter::default() };
        let mut items =
            feed(&cx.app, self.since, filter)?.retain(move |event| wanted.admits(event));
        items.notes = items.notes.map(shown).boxed();
        Ok(items)
    }
}

/// An event as the audit shows it.
fn shown(note: Note) -> Note {
    let Note::Event(event) = &note else { return note };
    let entry = AuditEntry::of(event).and_then(|entry| {
        let text = to_raw_value(&entry);
        text.map_err(|err| Error::Bug(err.to_string()))
    });
    match entry {
        Ok(json) => Note::Placed { position: event.seq, json },
        Err(err) => {
            tracing::error!(error = %err, seq = event.seq, "an event cannot be shown");
            Note::Placed { position: event.seq, json: RawValue::NULL.to_owned() }
        }
    }
}
