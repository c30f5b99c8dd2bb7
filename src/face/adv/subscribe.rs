//! `adv.subscribe`: the feed as it grows, a view of the event log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::stream::{BoxStream, StreamExt, unfold};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::NodeAdvertisement;
use super::accept::{ACCEPTED, EXPIRED, ROW};
use super::cursor::Cursor;
use super::list::{Place, Walk};
use crate::app::{App, Cx};
use crate::face::core::aside::aside;
use crate::identity::public::raw_of_node_id;
use crate::method::{Access, Def, Items, Note, Spec, Subscription, feed};
use crate::model::event::Filter;
use crate::store::{DIRECTORY, DirectoryRow, Logged, NODES, StatementRow};
use crate::{Code, Error, Result};

/// This method.
pub const METHODS: &[Def] = &[Def::open::<Subscribe>()];
/// Rows of the backlog that are held at once.
const AT_ONCE: usize = 32;

/// Follows the directory.
///
/// With `since` everything comes first that the feed holds after that cursor, then what happens:
/// nothing is missing, nothing comes twice. The last event of a subscriber that is too slow is
/// `lagged`, with the cursor from which to go on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AdvSubscribeParams")]
pub struct Subscribe {
    /// Only what came after this cursor; only what comes from now on when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only this federation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federation: Option<String>,
}

/// What a follower of the directory is told.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "AdvEvent")]
pub struct DirectoryEvent {
    /// `advertisement`, `expired`, `reset` or `lagged`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where in the feed this is; absent in `reset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// What was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertisement: Option<NodeAdvertisement>,
    /// The node whose advertisement has expired.
    #[serde(default, rename = "node/id", skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// The number of that advertisement.
    #[serde(default, rename = "sequence/no", skip_serializing_if = "Option::is_none")]
    pub sequence_no: Option<u64>,
    /// When it expired, as it said.
    #[serde(default, rename = "expires-at", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

impl Subscription for Subscribe {
    type Item = DirectoryEvent;
    const SPEC: Spec = Spec::new("adv.subscribe", Access::Anyone)
        .push("adv.event", "adv.unsubscribe")
        .errors(&[Code::InvalidParams, Code::StorageError]);

    async fn open(self, cx: Cx) -> Result<Items> {
        let app = cx.app;
        // Where a subscriber stands that was told nothing: not later than its place in the log.
        let before = counted(&app)?;
        let kinds = Some(Arc::from(["adv.*".to_owned()]));
        let live = feed(&app, None, Filter { kinds, ..Filter::default() })?;
        let mut follower = Follower {
            live: live.notes,
            told: before.position,
            backlog: None,
            ready: VecDeque::new(),
            federation: self.federation,
            lagged: false,
            app: Arc::clone(&app),
        };
        // Empty means from the oldest on, as in the feed.
        if let Some(since) = &self.since {
            let until = counted(&app)?;
            let place = Place::of(Some(since), &until).map_err(|refused| refused.error(None))?;
            if place.reset {
                follower.ready.push_back(Note::Item(raw(&json!({ "type": "reset" }))?));
            }
            follower.told = place.position;
            let federation = follower.federation.clone();
            follower.backlog = Some(Walk::new(place.position, until.position, federation));
        }
        let position = follower.told;
        let notes = unfold(follower, |mut follower| async {
            let note = follower.next().await?;
            Some((note, follower))
        });
        let words = move |position| {
            let cursor = Cursor { born: counted(&app).ok()?.born, position };
            raw(&json!({ "type": "lagged", "cursor": cursor.to_string() })).ok()
        };
        Ok(Items::notes(position, notes).last_words(words))
    }
}

fn counted(app: &App) -> Result<DirectoryRow> {
    Ok(app.store.get(DIRECTORY, &ROW)?.unwrap_or_default())
}

fn raw(value: &impl Serialize) -> Result<Box<RawValue>> {
    to_raw_value(value).map_err(|err| Error::Bug(err.to_string()))
}

/// One subscriber.
struct Follower {
    app: Arc<App>,
    live: BoxStream<'static, Note>,
    /// Everything up to this position was told, or is not wanted.
    told: u64,
    /// What the feed holds and is told first.
    backlog: Option<Walk>,
    ready: VecDeque<Note>,
    federation: Option<String>,
    lagged: bool,
}

/// The data of an event of ours in the log.
#[derive(Deserialize)]
struct Data<'a> {
    position: u64,
    federation: Option<String>,
    #[serde(borrow)]
    event: &'a RawValue,
}

impl Follower {
    async fn next(&mut self) -> Option<Note> {
        loop {
            if let Some(note) = self.ready.pop_front() {
                return Some(note);
            }
            if self.lagged {
                return None;
            }
            let noted = match self.backlog.take() {
                Some(walk) => self.look_back(walk).await,
                None => match self.live.next().await? {
                    Note::Event(event) => self.translate(&event),
                    Note::Lagged => Ok(Some(Note::Lagged)),
                    Note::Item(_) | Note::Placed { .. } => Ok(None),
                },
            };
            match noted {
                Ok(note) => {
                    self.lagged = matches!(note, Some(Note::Lagged));
                    self.ready.extend(note);
                }
                Err(err) => {
                    tracing::error!(error = %err, "a follower of the directory was ended");
                    return Some(Note::Lagged)
                        .filter(|_| !std::mem::replace(&mut self.lagged, true));
                }
            }
        }
    }

    /// Takes some of the backlog.
    async fn look_back(&mut self, mut walk: Walk) -> Result<Option<Note>> {
        let app = Arc::clone(&self.app);
        let (mut walk, rows) = aside(move || {
            let rows = walk.next(&app.store, AT_ONCE)?;
            Ok((walk, rows))
        })
        .await?;
        let directory = counted(&self.app)?;
        if let Some(rows) = rows {
            let now = (self.app.now)();
            for (position, row) in rows.into_iter().filter(|(_, row)| row.expires_at > now) {
                let json = advertisement(Cursor { born: directory.born, position }, &row)?;
                self.ready.push_back(Note::Placed { position, json });
            }
            self.backlog = Some(walk);
            return Ok(None);
        }
        self.told = walk.until();
        // What was accepted meanwhile waits in the log. When that is much, the feed is shorter.
        if directory.position.saturating_sub(self.told) > self.most_behind() / 2 {
            walk.extend(directory.position);
            self.backlog = Some(walk);
        }
        Ok(None)
    }

    /// What a subscriber is told of an event, if anything.
    fn translate(&mut self, event: &Logged) -> Result<Option<Note>> {
        let data: Data<'_> = serde_json::from_str(&event.data)
            .map_err(|err| Error::Bug(format!("event {}: {err}", event.seq)))?;
        let wanted = self.federation.is_none() || self.federation == data.federation;
        let before = self.told;
        self.told = before.max(data.position);
        match &*event.kind {
            ACCEPTED if data.position > before => {
                let latest = self.app.directory.latest.load(Ordering::Acquire);
                if latest.saturating_sub(data.position) > self.most_behind() {
                    self.told = before;
                    return Ok(Some(Note::Lagged));
                }
                Ok(wanted
                    .then(|| Note::Placed { position: data.position, json: data.event.to_owned() }))
            }
            EXPIRED if wanted && data.position >= before => {
                Ok(Some(Note::Placed { position: data.position, json: data.event.to_owned() }))
            }
            EXPIRED if wanted && !self.knows_newer(&event.subject)? => {
                // It expired while the backlog was told, which has gone further since.
                let born = counted(&self.app)?.born;
                let mut told: DirectoryEvent = serde_json::from_str(data.event.get())
                    .map_err(|err| Error::Bug(format!("event {}: {err}", event.seq)))?;
                told.cursor = Some(Cursor { born, position: before }.to_string());
                Ok(Some(Note::Placed { position: before, json: raw(&told)? }))
            }
            _ => Ok(None),
        }
    }

    /// Whether the backlog told of a later statement of the node than the one that expired.
    fn knows_newer(&self, subject: &str) -> Result<bool> {
        let Some(key) = subject.strip_prefix("adv/").and_then(raw_of_node_id) else {
            return Ok(false);
        };
        let node = self.app.store.get(NODES, &key)?;
        Ok(node.and_then(|node| node.position).is_some_and(|position| position <= self.told))
    }

    fn most_behind(&self) -> u64 {
        self.app.config.directory.push_queue.into()
    }
}

/// An entry of the feed as an event.
fn advertisement(cursor: Cursor, row: &StatementRow) -> Result<Box<RawValue>> {
    let text = &row.text;
    let event = format!(r#"{{"type":"advertisement","cursor":"{cursor}","advertisement":{text}}}"#);
    RawValue::from_string(event).map_err(|err| Error::Bug(err.to_string()))
}
