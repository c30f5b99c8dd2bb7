//! One WebSocket: frames in, answers and notifications out, all in one task.
//!
//! What is ready is gathered and written at once. While the socket takes nothing, nothing more is
//! read, run or pulled from subscriptions, so a peer that does not read costs no memory.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, SelectAll, StreamExt};
use futures_util::{Sink, SinkExt};
use hyper::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::envelope::failure;
use super::listen::{Link, stopped};
use super::metered::Metered;
use super::push::{Opened, Subscriptions};
use super::rpc::{self, Outcome};
use crate::Error;

/// A ping goes out this often; a peer that is silent for three of them is gone.
const PING: Duration = Duration::from_secs(25);
/// Bytes gathered before they are written.
const BURST: usize = 16 << 10;
/// Messages above this are written in pieces of this size, so that no buffer grows with them.
const PIECE: usize = 64 << 10;
/// The read buffer that every connection keeps.
const READ_BUFFER: usize = 4 << 10;
/// Frames read, and rounds made, before other tasks have their turn.
const TURNS: usize = 32;
/// How much longer a socket without subscriptions may take nothing: it may come back for its last
/// notifications.
const LAST_CHANCE: Duration = Duration::from_secs(30);
/// How long a peer may take to say good-bye, and how much it may still send meanwhile.
const FAREWELL: (Duration, usize) = (Duration::from_secs(5), 64 << 20);

/// The connection is over.
struct Ended;
type Step<T = ()> = Result<T, Ended>;

/// Where the connection is in its life.
enum Phase {
    Open,
    /// The coordinator stops: nothing new is read, what runs may finish.
    Winding,
    /// Close has been sent: what still comes is thrown away.
    Closing {
        until: Pin<Box<Sleep>>,
        left: usize,
    },
}

/// A socket that takes nothing.
struct Stall {
    timer: Pin<Box<Sleep>>,
    written: u64,
    /// The subscriptions have been ended for it.
    told: bool,
}

/// Serves an upgraded connection until it ends.
pub(super) async fn serve(link: Arc<Link>, io: TokioIo<Upgraded>) {
    let mut killed = link.killed.clone();
    let socket = Socket::new(link, io).await;
    tokio::select! {
        () = socket => {}
        _ = killed.changed() => {}
    }
}

struct Socket {
    link: Arc<Link>,
    ws: WebSocketStream<Metered>,
    subscriptions: Arc<Subscriptions>,
    calls: FuturesUnordered<BoxFuture<'static, Outcome>>,
    feeds: SelectAll<Opened>,
    /// Last notifications of subscriptions that have been ended.
    last_words: VecDeque<String>,
    /// What is left of a message that is written in pieces.
    rest: Bytes,
    /// Something has been handed to `ws` that may not have been written.
    unwritten: bool,
    stall: Option<Stall>,
    ping: Interval,
    heard: Instant,
    stopping: BoxFuture<'static, ()>,
    phase: Phase,
}

impl Socket {
    async fn new(link: Arc<Link>, io: TokioIo<Upgraded>) -> Self {
        let app = &link.shared.app;
        let largest = usize::try_from(app.config.max_body_bytes).unwrap_or(usize::MAX);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(BURST)
            .max_message_size(Some(largest))
            .max_frame_size(Some(largest));
        let ws =
            WebSocketStream::from_raw_socket(Metered::new(io), Role::Server, Some(config)).await;
        let mut ping = interval_at(Instant::now() + PING, PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stopping = stopped(app).boxed();
        Self {
            ws,
            subscriptions: Subscriptions::new(Arc::clone(app)),
            calls: FuturesUnordered::new(),
            feeds: SelectAll::new(),
            last_words: VecDeque::new(),
            rest: Bytes::new(),
            unwritten: false,
            stall: None,
            ping,
            heard: Instant::now(),
            stopping,
            phase: Phase::Open,
            link,
        }
    }

    /// Does what can be done now; whatever comes next wakes the task.
    fn advance(&mut self, cx: &mut Context<'_>) -> Step {
        self.notice_stop(cx);
        self.keep_alive(cx)?;
        for _ in 0..TURNS {
            if !self.write_out(cx)? {
                return self.watch_stall(cx);
            }
            self.stall = None;
            if matches!(self.phase, Phase::Closing { .. }) {
                return self.see_off(cx);
            }
            let gathered = self.gather(cx)?;
            let heard = self.listen(cx)?;
            if !(gathered || heard || self.unwritten) {
                if !(matches!(self.phase, Phase::Winding) && self.is_idle()) {
                    return Ok(());
                }
                self.close(CloseCode::Away, "the coordinator is stopping")?;
            }
        }
        // Other connections want their turn.
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.feeds.is_empty() && self.last_words.is_empty()
    }

    /// Whether as many calls run as may.
    fn is_full(&self) -> bool {
        let most = usize::try_from(self.link.shared.app.config.max_in_flight).unwrap_or(usize::MAX);
        self.calls.len() >= most.max(1)
    }

    fn notice_stop(&mut self, cx: &mut Context<'_>) {
        if !matches!(self.phase, Phase::Open) || self.stopping.poll_unpin(cx).is_pending() {
            return;
        }
        self.phase = Phase::Winding;
        for opened in std::mem::take(&mut self.feeds) {
            if opened.winds_down {
                self.feeds.push(opened);
            }
        }
    }

    fn keep_alive(&mut self, cx: &mut Context<'_>) -> Step {
        while self.ping.poll_tick(cx).is_ready() {
            // A socket that takes nothing is the stall's business, and a closed one nobody's.
            if self.unwritten || !self.rest.is_empty() || !matches!(self.phase, Phase::Open) {
                self.heard = Instant::now();
                continue;
            }
            if self.is_full() {
                // Nothing is read, so nothing is heard; a ping that cannot be written still tells.
                self.heard = Instant::now();
            }
            if self.heard.elapsed() > PING * 3 {
                tracing::debug!("the peer is silent");
                return Err(Ended);
            }
            self.send(Message::Ping(Bytes::new()))?;
        }
        Ok(())
    }

    /// Writes what has been gathered; answers whether all of it is on its way.
    fn write_out(&mut self, cx: &mut Context<'_>) -> Step<bool> {
        loop {
            if self.unwritten {
                match self.ws.poll_flush_unpin(cx) {
                    Poll::Ready(Ok(())) => self.unwritten = false,
                    Poll::Ready(Err(_)) => return Err(Ended),
                    Poll::Pending => return Ok(false),
                }
            }
            if self.rest.is_empty() {
                return Ok(true);
            }
            self.next_piece(OpCode::Data(Data::Continue))?;
        }
    }

    /// Ends the subscriptions of a socket that takes nothing for too long, then the socket.
    fn watch_stall(&mut self, cx: &mut Context<'_>) -> Step {
        let limit = self.link.shared.app.config.slow_reader_timeout;
        let written = self.ws.get_ref().written();
        let stall = self.stall.get_or_insert_with(|| Stall {
            timer: Box::pin(sleep(limit)),
            written,
            told: false,
        });
        if stall.written != written {
            stall.written = written;
            stall.timer.as_mut().reset(Instant::now() + limit);
        }
        while stall.timer.as_mut().poll(cx).is_ready() {
            if stall.told {
                tracing::debug!("the peer takes nothing");
                return Err(Ended);
            }
            stall.told = true;
            stall.timer.as_mut().reset(Instant::now() + limit + LAST_CHANCE);
            for opened in std::mem::take(&mut self.feeds) {
                self.last_words.extend(opened.lagged());
            }
        }
        Ok(())
    }

    /// Takes what is ready to be sent, up to a burst; answers whether there was anything.
    fn gather(&mut self, cx: &mut Context<'_>) -> Step<bool> {
        let mut bytes = 0;
        while bytes < BURST && self.rest.is_empty() {
            let text = if let Some(text) = self.last_words.pop_front() {
                text
            } else if let Poll::Ready(Some(outcome)) = self.calls.poll_next_unpin(cx) {
                // One that answers nothing counts too: it was something.
                bytes += 1 + self.deliver(outcome)?;
                continue;
            } else if let Poll::Ready(Some(text)) = self.feeds.poll_next_unpin(cx) {
                text
            } else {
                break;
            };
            bytes += text.len();
            self.say(text)?;
        }
        Ok(bytes > 0)
    }

    /// Reads frames and begins what they ask for; answers whether there were any.
    fn listen(&mut self, cx: &mut Context<'_>) -> Step<bool> {
        for turn in 0..TURNS {
            let may_read = matches!(self.phase, Phase::Open) && self.rest.is_empty();
            if !may_read || self.is_full() {
                return Ok(turn > 0);
            }
            let message = match self.ws.poll_next_unpin(cx) {
                Poll::Pending => return Ok(turn > 0),
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(Some(Err(WsError::Capacity(_)))) => {
                    self.refuse_size()?;
                    return Ok(true);
                }
                Poll::Ready(None | Some(Err(_))) => return Err(Ended),
            };
            self.heard = Instant::now();
            match message {
                Message::Text(text) => self.begin(text.into(), cx)?,
                Message::Binary(bytes) => self.begin(bytes, cx)?,
                // The library has queued the answer.
                Message::Ping(_) | Message::Close(_) => self.unwritten = true,
                Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        Ok(true)
    }

    /// Starts a request or a batch. Most are answered without ever waiting.
    fn begin(&mut self, message: Bytes, cx: &mut Context<'_>) -> Step {
        let (link, subscriptions) = (Arc::clone(&self.link), Arc::clone(&self.subscriptions));
        let run = async move { rpc::run(&link, &message, Some(&subscriptions)).await };
        let mut call = run.boxed();
        match call.poll_unpin(cx) {
            Poll::Ready(outcome) => drop(self.deliver(outcome)?),
            Poll::Pending => self.calls.push(call),
        }
        Ok(())
    }

    /// Sends an answer; a subscription begins after it.
    fn deliver(&mut self, outcome: Outcome) -> Step<usize> {
        let text = match outcome {
            Outcome::Silent => return Ok(0),
            Outcome::Text(text) => text,
            Outcome::Opened(text, opened) => {
                if !matches!(self.phase, Phase::Winding) || opened.winds_down {
                    self.feeds.push(opened);
                }
                text
            }
        };
        let bytes = text.len();
        self.say(text)?;
        Ok(bytes)
    }

    fn say(&mut self, text: String) -> Step {
        if text.len() <= PIECE && self.rest.is_empty() {
            return self.send(Message::text(text));
        }
        if !self.rest.is_empty() {
            // A message in pieces is on its way, and nothing may come between them.
            self.last_words.push_back(text);
            return Ok(());
        }
        self.rest = text.into();
        self.next_piece(OpCode::Data(Data::Text))
    }

    fn next_piece(&mut self, opcode: OpCode) -> Step {
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        let last = self.rest.is_empty();
        self.send(Message::Frame(Frame::message(piece, opcode, last)))
    }

    fn send(&mut self, message: Message) -> Step {
        self.unwritten = true;
        Pin::new(&mut self.ws).start_send(message).map_err(|_| Ended)
    }

    fn refuse_size(&mut self) -> Step {
        let limit = self.link.shared.app.config.max_body_bytes;
        let error = Error::Limit { what: "bytes in a message".to_owned(), limit: limit.into() };
        self.send(Message::text(failure("null", &error.into())))?;
        self.close(CloseCode::Size, "the message is too large")
    }

    fn close(&mut self, code: CloseCode, reason: &'static str) -> Step {
        self.feeds.clear();
        let (within, left) = FAREWELL;
        self.phase = Phase::Closing { until: Box::pin(sleep(within)), left };
        self.send(Message::Close(Some(CloseFrame { code, reason: reason.into() })))
    }

    /// Throws away what still comes, so that what was sent last is not lost to a reset.
    fn see_off(&mut self, cx: &mut Context<'_>) -> Step {
        let Phase::Closing { until, left } = &mut self.phase else { return Ok(()) };
        let mut sink = [0; 4096];
        loop {
            if until.as_mut().poll(cx).is_ready() {
                return Err(Ended);
            }
            let mut buffer = ReadBuf::new(&mut sink);
            match Pin::new(self.ws.get_mut()).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => return Err(Ended),
                Poll::Ready(Ok(())) => {
                    let got = buffer.filled().len();
                    *left = left.saturating_sub(got);
                    if got == 0 || *left == 0 {
                        return Err(Ended);
                    }
                }
            }
        }
    }
}

impl Future for Socket {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.get_mut().advance(cx) {
            Ok(()) => Poll::Pending,
            Err(Ended) => Poll::Ready(()),
        }
    }
}
