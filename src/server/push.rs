//! What an open subscription sends, and how it ends.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::stream::{BoxStream, StreamExt};
use jsonrpsee::core::server::SendTimeoutError;
use jsonrpsee::server::{PendingSubscriptionSink, SubscriptionMessage, SubscriptionSink};
use jsonrpsee::types::{ErrorObjectOwned, Params, SubscriptionId};
use serde_json::value::{RawValue, to_raw_value};

use super::link::Link;
use super::socket::LAST_CHANCE;
use crate::alarm::Alarm;
use crate::app::Cx;
use crate::method::{Entry, Items, LastWords, Note};

/// Opens a subscription and sends what it has to say until it, its reader or the server ends.
pub(super) async fn serve(
    entry: &'static Entry,
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    link: Arc<Link>,
    cx: Cx,
) {
    // Opened before it is accepted: what happens from now on is not missed.
    let items = match entry.open(cx, params.as_str().unwrap_or_default()).await {
        Ok(items) => items,
        Err(err) => return pending.reject(ErrorObjectOwned::from(err)).await,
    };
    let Items { notes, position, winds_down, last_words, .. } = items;
    let winding = winds_down.then(|| Winding::new(&link));
    let counted = Counted::new(Arc::clone(&link));
    let accepting = Accepting::new(&link);
    let accepted = pending.accept().await;
    drop(accepting);
    let Ok(sink) = accepted else { return };
    let push = Push { link: &link, id: sink.subscription_id(), sink, last: position };
    let (push, lagged) = push.run(notes).await;
    if lagged {
        link.shared.app.metrics.subscriptions_lagged.inc();
        drop((counted, winding));
        push.last_words(last_words.as_ref()).await;
        return;
    }
    // Its place is free again once it is not counted any more.
    drop(push);
    drop((counted, winding));
}

struct Push<'a> {
    link: &'a Link,
    id: SubscriptionId<'static>,
    /// The one owner: dropping it ends the subscription.
    sink: SubscriptionSink,
    /// The last position sent, or that it started from; none where there are no positions.
    last: Option<u64>,
}

/// Why a notification was not sent.
enum Unsent {
    Closed,
    /// The socket takes nothing.
    Slow,
}

impl Push<'_> {
    /// Sends until there is nothing more to be sent; whether the reader has lost its place.
    async fn run(mut self, mut notes: BoxStream<'static, Note>) -> (Self, bool) {
        let lagged = self.forward(&mut notes).await;
        let lagged = lagged && self.last.is_some();
        (self, lagged)
    }

    async fn forward(&mut self, notes: &mut BoxStream<'static, Note>) -> bool {
        let mut last = self.last;
        let lagged = {
            // One future for all of the time: to wait anew for each notification costs more than
            // the notification.
            let closed = pin!(self.sink.closed());
            let mut closed = Alarm::new(closed);
            loop {
                let note = tokio::select! {
                    biased;
                    note = notes.next() => note,
                    () = &mut closed => break false,
                };
                let (seq, sent) = match &note {
                    Some(Note::Item(json)) => (None, self.send(json).await),
                    Some(Note::Placed { position, json }) => {
                        (Some(*position), self.send(json).await)
                    }
                    Some(Note::Event(event)) => (Some(event.seq), self.send(event.raw()).await),
                    Some(Note::Lagged) => break true,
                    None => break false,
                };
                match sent {
                    Ok(()) => last = seq.or(last),
                    Err(Unsent::Closed) => break false,
                    Err(Unsent::Slow) => break true,
                }
            }
        };
        self.last = last;
        lagged
    }

    /// Hands a notification to the socket, which may take its time but not stand still.
    async fn send(&self, result: &RawValue) -> Result<(), Unsent> {
        let Some(message) = self.notification(result) else { return Ok(()) };
        // There is nearly always room, and then no timer is needed.
        match self.sink.send(message).now_or_never() {
            Some(Ok(())) => return Ok(()),
            Some(Err(_)) => return Err(Unsent::Closed),
            None => {}
        }
        let Some(mut message) = self.notification(result) else { return Ok(()) };
        let limit = self.link.shared.app.config.slow_reader_timeout;
        loop {
            let written = self.link.flow.written();
            match self.sink.send_timeout(message, limit).await {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Closed(_)) => return Err(Unsent::Closed),
                Err(SendTimeoutError::Timeout(unsent)) if self.link.flow.written() != written => {
                    message = unsent;
                }
                Err(SendTimeoutError::Timeout(_)) => return Err(Unsent::Slow),
            }
        }
    }

    /// A whole notification, written once.
    fn notification(&self, result: &RawValue) -> Option<SubscriptionMessage> {
        let id = match &self.id {
            SubscriptionId::Num(number) => SubscriptionId::Num(*number),
            SubscriptionId::Str(text) => SubscriptionId::Str(Cow::Borrowed(text)),
        };
        let message = SubscriptionMessage::new(self.sink.method_name(), id, &result);
        message.inspect_err(|err| tracing::error!(%err, "a notification was not written")).ok()
    }

    /// Tells a reader that is too slow where it stands, should it come back in time.
    async fn last_words(self, words: Option<&LastWords>) {
        let Some(last) = self.last else { return };
        let text = match words {
            Some(words) => words(last),
            None => to_raw_value(&serde_json::json!({ "lagged": { "last_seq": last } })).ok(),
        };
        let Some(text) = text else { return };
        let Some(message) = self.notification(&text) else { return };
        let limit = self.link.shared.app.config.slow_reader_timeout + LAST_CHANCE;
        // A socket that takes nothing for so long is closed.
        let _ = self.sink.send_timeout(message, limit).await;
    }
}

/// Counts an open subscription.
pub(super) struct Counted(Arc<Link>);

impl Counted {
    pub(super) fn new(link: Arc<Link>) -> Self {
        link.shared.app.metrics.subscriptions.inc();
        Self(link)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.shared.app.metrics.subscriptions.dec();
    }
}

/// Counts a subscription that is being accepted.
struct Accepting<'a>(&'a Link);

impl<'a> Accepting<'a> {
    fn new(link: &'a Link) -> Self {
        link.accepting.send_modify(|accepting| *accepting += 1);
        Self(link)
    }
}

impl Drop for Accepting<'_> {
    fn drop(&mut self) {
        self.0.accepting.send_modify(|accepting| *accepting = accepting.saturating_sub(1));
    }
}

/// Counts a subscription that a stop waits for.
struct Winding<'a>(&'a Link);

impl<'a> Winding<'a> {
    fn new(link: &'a Link) -> Self {
        link.shared.winding.send_modify(|open| *open += 1);
        Self(link)
    }
}

impl Drop for Winding<'_> {
    fn drop(&mut self) {
        self.0.shared.winding.send_modify(|open| *open = open.saturating_sub(1));
    }
}
