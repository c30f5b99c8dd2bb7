//! Subscriptions followed as server-sent events, over the HTTP port.
//!
//! The format is that of the HTML standard, section 9.2: `id` is the event's `seq`, so that a
//! reader that comes back says with `Last-Event-ID` where it was.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{BoxStream, Stream, StreamExt, unfold};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Response};
use tokio::time::{MissedTickBehavior, interval};

use super::http::{Answer, Body};
use super::link::Link;
use super::listen;
use super::push::Counted;
use crate::app::Cx;
use crate::method::{Entry, Items, LastWords, Note};
use crate::{Error, Result};

/// The body of a stream of events.
pub(super) type Events = StreamBody<Pin<Box<dyn Stream<Item = Chunk> + Send>>>;
type Chunk = Result<Frame<Bytes>, Infallible>;

/// After so long without an event a comment is sent, so that nobody on the way takes the
/// connection for dead.
const IDLE: Duration = Duration::from_secs(20);
/// How a reader that comes back says where it was.
const LAST_EVENT_ID: &str = "last-event-id";
/// Positions at which a socket is looked at while it may be standing still.
const LOOKS: u32 = 4;

/// Whether a request asks for events rather than for a page of them.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    let kinds = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = kinds.flat_map(|list| list.split(','));
    kinds.any(|kind| kind.trim().to_ascii_lowercase().starts_with("text/event-stream"))
}

/// Where a reader that comes back wants to go on, by its header.
///
/// # Errors
/// [`Error::Params`] when that is not the number of an event.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>> {
    let Some(value) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| Error::params("Last-Event-ID", "the number of an event"))
}

/// Opens a subscription and answers with what it sends, as long as it does.
///
/// # Errors
/// As [`Entry::open`].
pub(super) async fn answer(
    link: &Arc<Link>,
    cx: Cx,
    entry: &Entry,
    params: &str,
) -> Result<Answer> {
    let Items { notes, position, last_words, .. } = entry.open(cx, params).await?;
    let feed = Feed {
        notes,
        last: position,
        last_words,
        stopped: listen::stopped(&link.shared.app).boxed(),
        ended: false,
        _counted: Counted::new(Arc::clone(link)),
    };
    let alive = tokio::spawn(watch_reader(Arc::clone(link)));
    let guard = AbortOnDrop(alive.abort_handle());
    let chunks = unfold((feed, guard), |(mut feed, guard)| async {
        let text = feed.next().await?;
        Some((Ok(Frame::data(text)), (feed, guard)))
    });
    let chunks: Pin<Box<dyn Stream<Item = Chunk> + Send>> = Box::pin(chunks);
    let mut answer = Response::new(Body::Right(StreamBody::new(chunks)));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

/// What is sent to one reader.
struct Feed {
    notes: BoxStream<'static, Note>,
    /// The last position sent, or that it started from.
    last: Option<u64>,
    last_words: Option<LastWords>,
    stopped: BoxFuture<'static, ()>,
    ended: bool,
    _counted: Counted,
}

impl Feed {
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let note = tokio::select! {
            note = self.notes.next() => note?,
            () = &mut self.stopped => return None,
            () = tokio::time::sleep(IDLE) => return Some(Bytes::from_static(b":\n\n")),
        };
        Some(match note {
            Note::Item(json) => framed(None, None, json.get()),
            Note::Placed { position, json } => {
                self.last = Some(position);
                framed(Some(position), None, json.get())
            }
            Note::Event(event) => {
                self.last = Some(event.seq);
                framed(Some(event.seq), None, event.raw().get())
            }
            Note::Lagged => {
                self.ended = true;
                let last = self.last.unwrap_or_default();
                let words = self.last_words.as_ref().and_then(|words| words(last));
                let words = words.map(|words| words.get().to_owned());
                let text = words.unwrap_or_else(|| {
                    serde_json::json!({ "lagged": { "last_seq": last } }).to_string()
                });
                framed(None, Some("lagged"), &text)
            }
        })
    }
}

/// One event. A line end in the text would end its field, so that each line gets a field.
fn framed(id: Option<u64>, name: Option<&str>, text: &str) -> Bytes {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() + 40);
    // Writing to a string does not fail.
    if let Some(id) = id {
        let _ = writeln!(out, "id: {id}");
    }
    if let Some(name) = name {
        let _ = writeln!(out, "event: {name}");
    }
    for line in text.split(['\n', '\r']) {
        let _ = writeln!(out, "data: {line}");
    }
    out.push('\n');
    out.into()
}

/// Cuts the connection of a reader whose socket has taken nothing for too long.
///
/// The feed itself does not notice: it is not asked for more while the socket is full.
async fn watch_reader(link: Arc<Link>) {
    let limit = link.shared.app.config.slow_reader_timeout;
    let mut ticks = interval((limit / LOOKS).max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut written, mut still) = (link.flow.written(), 0);
    while still <= LOOKS {
        ticks.tick().await;
        let now = link.flow.written();
        still = if link.flow.is_blocked() && now == written { still + 1 } else { 0 };
        written = now;
    }
    link.shared.app.metrics.subscriptions_lagged.inc();
    link.cut.notify_one();
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_framed_as_the_standard_says() {
        assert_eq!(framed(Some(7), None, "{}"), "id: 7\ndata: {}\n\n");
        assert_eq!(framed(None, Some("lagged"), "1"), "event: lagged\ndata: 1\n\n");
        assert_eq!(framed(None, None, "{\n}"), "data: {\ndata: }\n\n");
    }

    #[test]
    fn only_numbers_say_where_to_go_on() {
        let mut headers = HeaderMap::new();
        assert_eq!(last_event_id(&headers).unwrap(), None);
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static("12"));
        assert_eq!(last_event_id(&headers).unwrap(), Some(12));
        for wrong in ["x", "-1", "1.5"] {
            headers.insert(LAST_EVENT_ID, HeaderValue::from_static(wrong));
            assert!(last_event_id(&headers).is_err(), "{wrong}");
        }
    }
}
