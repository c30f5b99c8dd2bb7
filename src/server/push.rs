//! The subscriptions of one connection: their ids, their number, and what they send.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::{AbortHandle, Abortable, BoxStream, Stream};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::app::App;
use crate::method::{Items, Note, Push};
use crate::{Error, Result};

/// Letters and digits of a subscription id: unique on its connection, and no small number that
/// could be taken for another's.
const LETTERS: usize = 16;

/// The subscriptions of one connection.
#[derive(Debug)]
pub(super) struct Subscriptions {
    app: Arc<App>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Places taken, those that are being opened included.
    taken: u32,
    by_id: FxHashMap<Arc<str>, (&'static str, AbortHandle)>,
}

/// A place among the subscriptions of a connection; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    all: Arc<Subscriptions>,
    id: Arc<str>,
}

impl Subscriptions {
    pub(super) fn new(app: Arc<App>) -> Arc<Self> {
        Arc::new(Self { app, open: Mutex::default() })
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`Error::Limit`] when there is none left.
    pub(super) fn reserve(self: &Arc<Self>) -> Result<Place> {
        let limit = self.app.config.max_subscriptions;
        let mut open = self.open.lock();
        if open.taken >= limit {
            let what = "subscriptions of one connection".to_owned();
            return Err(Error::Limit { what, limit: limit.into() });
        }
        open.taken += 1;
        self.app.metrics.subscriptions.inc();
        Ok(Place { all: Arc::clone(self), id: random_id() })
    }

    /// Ends a subscription of a namespace; answers whether there was one.
    pub(super) fn close(&self, id: &str, namespace: &str) -> bool {
        let mut open = self.open.lock();
        if open.by_id.get(id).is_none_or(|(unsubscribe, _)| *unsubscribe != namespace) {
            return false;
        }
        let closed = open.by_id.remove(id);
        drop(open);
        if let Some((_, handle)) = &closed {
            handle.abort();
        }
        closed.is_some()
    }
}

impl Place {
    /// Fills the place.
    pub(super) fn open(self, push: Push, items: Items) -> Opened {
        let (handle, registration) = AbortHandle::new_pair();
        let id = Arc::clone(&self.id);
        self.all.open.lock().by_id.insert(Arc::clone(&id), (push.unsubscribe, handle));
        let Items { notes, position, winds_down } = items;
        let lead = format!(
            r#"{{"jsonrpc":"2.0","method":"{}","params":{{"subscription":"{id}","result":"#,
            push.notification
        );
        Opened {
            id,
            winds_down,
            last: position,
            lead,
            notes: Some(Abortable::new(notes, registration)),
            _place: self,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.all.open.lock();
        open.taken = open.taken.saturating_sub(1);
        open.by_id.remove(&self.id);
        self.all.app.metrics.subscriptions.dec();
    }
}

/// An open subscription, as a stream of ready notifications.
pub(super) struct Opened {
    pub(super) id: Arc<str>,
    pub(super) winds_down: bool,
    /// The last position sent, or that it started from; none where there are no positions.
    last: Option<u64>,
    /// A notification up to its result.
    lead: String,
    /// None once it has ended.
    notes: Option<Abortable<BoxStream<'static, Note>>>,
    _place: Place,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Opened {
    fn notification(&self, result: &str) -> String {
        let mut text = String::with_capacity(self.lead.len() + result.len() + 2);
        text.push_str(&self.lead);
        text.push_str(result);
        text.push_str("}}");
        text
    }

    /// What a reader that is too slow is told last.
    pub(super) fn lagged(&self) -> Option<String> {
        let last = self.last?;
        self._place.all.app.metrics.subscriptions_lagged.inc();
        Some(self.notification(&format!(r#"{{"lagged":{{"last_seq":{last}}}}}"#)))
    }
}

impl Stream for Opened {
    type Item = String;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<String>> {
        let Some(notes) = self.notes.as_mut() else { return Poll::Ready(None) };
        let note = match Pin::new(notes).poll_next(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(note) => note,
        };
        Poll::Ready(match note {
            Some(Note::Item(json)) => Some(self.notification(json.get())),
            Some(Note::Event { seq, json }) => {
                self.last = Some(seq);
                Some(self.notification(&json))
            }
            Some(Note::Lagged) => {
                self.notes = None;
                self.lagged()
            }
            None => {
                self.notes = None;
                None
            }
        })
    }
}

fn random_id() -> Arc<str> {
    std::iter::repeat_with(fastrand::alphanumeric).take(LETTERS).collect::<String>().into()
}
