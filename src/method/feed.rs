//! What a subscription sends, and subscriptions that are a filter over the event log.

use std::sync::Arc;

use futures_util::future::ready;
use futures_util::stream::{BoxStream, Stream, StreamExt, unfold};
use serde::Serialize;

use super::Json;
use super::entry::json;
use crate::Result;
use crate::access::Standing;
use crate::app::App;
use crate::model::event::Filter;
use crate::store::{Logged, Next};

/// What a subscription sends next.
#[derive(Clone, Debug)]
pub enum Note {
    /// An item that has no position in the log.
    Item(Json),
    /// An event; its text is rendered once for all who are told of it.
    Event(Arc<Logged>),
    /// An item at a position of its own, which is not that of an event.
    Placed {
        /// Where it is; what [`Items::last_words`] is given when nothing comes after it.
        position: u64,
        /// What is sent.
        json: Json,
    },
    /// The position has fallen out of the log: the server says so, as the last notification.
    Lagged,
}

/// What an open subscription sends; dropping it closes the subscription.
///
/// When it ends, so does the subscription; whatever is to be said last is its last item.
pub struct Items {
    pub(crate) notes: BoxStream<'static, Note>,
    /// Where in the log it starts; what a reader that is too slow is told when it was sent nothing.
    pub(crate) position: Option<u64>,
    /// Ends by itself when the coordinator stops, and wants what it says last to be sent.
    pub(crate) winds_down: bool,
    /// What is said last when whoever follows may not any more; its argument is the reason.
    farewell: fn(&str) -> Option<Note>,
    /// What a reader that is too slow is told last; in the words of the event log when left out.
    pub(crate) last_words: Option<LastWords>,
}

/// What a reader is told that was last sent this position.
pub(crate) type LastWords = Box<dyn Fn(u64) -> Option<Json> + Send + Sync>;

impl std::fmt::Debug for Items {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Items").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Items {
    /// Items without a position in the log.
    pub fn new<T: Serialize>(items: impl Stream<Item = T> + Send + 'static) -> Self {
        let notes = items.filter_map(|item| ready(json(&item).ok().map(Note::Item)));
        Self { notes: notes.boxed(), position: None, winds_down: false, last_words: None, farewell }
    }

    /// Events after `position`, and whatever else is to be sent between them.
    pub fn notes(position: u64, notes: impl Stream<Item = Note> + Send + 'static) -> Self {
        Self {
            notes: notes.boxed(),
            position: Some(position),
            winds_down: false,
            last_words: None,
            farewell,
        }
    }

    /// Says something of its own last when whoever follows may not any more, instead of
    /// `{"ended": {"reason": …}}`.
    #[must_use]
    pub fn farewell(mut self, words: fn(&str) -> Option<Note>) -> Self {
        self.farewell = words;
        self
    }

    /// Only events that `admit` admits, and whatever is no event.
    #[must_use]
    pub fn retain(mut self, admit: impl Fn(&Logged) -> bool + Send + 'static) -> Self {
        let passes = move |note: &Note| match note {
            Note::Event(event) => admit(event),
            Note::Item(_) | Note::Placed { .. } | Note::Lagged => true,
        };
        self.notes = self.notes.filter(move |note| ready(passes(note))).boxed();
        self
    }

    /// Ends when whoever follows may not any more.
    pub(super) fn watched(mut self, standing: Standing) -> Self {
        self.notes = standing.watch(self.notes, self.farewell);
        self
    }

    /// Words what a reader that is too slow is told last, given the position it was last sent.
    #[must_use]
    pub fn last_words(
        mut self,
        words: impl Fn(u64) -> Option<Json> + Send + Sync + 'static,
    ) -> Self {
        self.last_words = Some(Box::new(words));
        self
    }

    /// Says that they end by themselves when the coordinator stops
    /// ([`App::stopping`](crate::app::App::stopping)), so that a stop waits for them.
    #[must_use]
    pub fn winding_down(mut self) -> Self {
        self.winds_down = true;
        self
    }
}

fn farewell(reason: &str) -> Option<Note> {
    json(&serde_json::json!({ "ended": { "reason": reason } })).ok().map(Note::Item)
}

/// The events after `since`, or from now on, that `filter` admits.
///
/// The reader's place is taken before this returns: nothing that is committed later is missed.
///
/// # Errors
/// [`Error::Gone`](crate::Error::Gone) when `since` is older than what is held,
/// [`Error::Params`](crate::Error::Params) when it is newer than the last event.
pub fn feed(app: &Arc<App>, since: Option<u64>, filter: Filter) -> Result<Items> {
    let follower = app.store.follow(since)?;
    let position = follower.position();
    let notes = unfold(Some((follower, filter, Vec::new().into_iter())), |place| async {
        let (mut follower, filter, mut page) = place?;
        loop {
            // A slow reader holds references, not texts.
            if let Some(event) = page.find(|event: &Arc<Logged>| filter.admits(event)) {
                return Some((Note::Event(event), Some((follower, filter, page))));
            }
            page = match follower.next().await {
                Next::Events(page) => page.into_iter(),
                Next::Lagged => return Some((Note::Lagged, None)),
                Next::Closed => return None,
            };
        }
    });
    Ok(Items::notes(position, notes))
}
