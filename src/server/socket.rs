//! The bytes of a connection: what hyper and jsonrpsee read and write.
//!
//! jsonrpsee starts whatever it reads, at once and without limit, and answers what is no request
//! before any middleware sees it. So what clients send over WebSocket passes here first: messages
//! above the limit are thrown away, malformed ones give way to a call that is answered with the
//! error, and nothing is read while enough is under way or while the socket takes no answers.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep, timeout};

use super::envelope;
use super::frames::{self, Frames, Piece};
use super::link::{Link, Port};
use super::rpc::PING;

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// Bytes made ready at once.
const READY: usize = 8 << 10;
/// How much longer than a slow reader may take until its subscriptions end the socket may take
/// nothing: it may come back for its last notifications.
pub(super) const LAST_CHANCE: Duration = Duration::from_secs(30);
/// How long a peer may take to say good-bye, and how much it may still send meanwhile.
const FAREWELL: (Duration, usize) = (Duration::from_secs(5), 64 << 20);
const PONG: u8 = 10;

/// A connection that knows what it reads, and ends when the server does.
pub(super) struct Socket {
    /// None only while it is being dropped.
    tcp: Option<TcpStream>,
    link: Arc<Link>,
    /// None once it has happened.
    killed: Option<BoxFuture<'static, ()>>,
    /// Runs while the socket takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
    /// Of a WebSocket.
    intake: Option<Box<Intake>>,
    /// There is nothing more to be read.
    ended: bool,
}

/// What clients have sent, on its way to jsonrpsee.
struct Intake {
    frames: Frames,
    /// Read and not looked at, from `taken` on.
    input: Vec<u8>,
    taken: usize,
    /// Checked and not handed on, from `given` on.
    ready: Vec<u8>,
    given: usize,
    /// Runs while nothing is read.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(tcp: TcpStream, link: Arc<Link>) -> Self {
        let mut killed = link.killed.clone();
        let killed = async move { drop(killed.changed().await) }.boxed();
        Self { tcp: Some(tcp), link, killed: Some(killed), stall: None, intake: None, ended: false }
    }

    fn tcp(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.tcp.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Reads from the network; nothing is read any more once the server has been killed.
    fn fetch(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.tcp()?.poll_read(cx, into) {
            Poll::Pending => self.watch_kill(cx).map(Ok),
            read @ Poll::Ready(_) => read,
        }
    }

    fn watch_kill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(killed) = &mut self.killed {
            ready!(killed.poll_unpin(cx));
            self.killed = None;
        }
        self.cut();
        Poll::Ready(())
    }

    /// Ends it in both directions, which wakes whoever still reads or writes.
    fn cut(&mut self) {
        self.ended = true;
        if let Some(tcp) = &self.tcp {
            let _ = SockRef::from(tcp).shutdown(std::net::Shutdown::Both);
        }
    }

    /// Makes checked messages ready; answers whether the connection goes on.
    fn refill(&mut self, cx: &mut Context<'_>, intake: &mut Intake) -> Poll<io::Result<bool>> {
        let most = self.link.shared.app.config.max_in_flight;
        loop {
            let full = intake.check(&self.link, most, cx)?;
            if !intake.ready.is_empty() {
                intake.pause = None;
                return Poll::Ready(Ok(true));
            }
            if full {
                // jsonrpsee would take what is not read for silence.
                let pause = intake.pause.get_or_insert_with(|| Box::pin(sleep(PING)));
                if pause.poll_unpin(cx).is_ready() {
                    intake.pause = None;
                    frames::put(&mut intake.ready, PONG, &[]);
                    return Poll::Ready(Ok(true));
                }
                ready!(self.watch_kill(cx));
                return Poll::Ready(Ok(false));
            }
            intake.pause = None;
            let mut space = [MaybeUninit::uninit(); CHUNK];
            let mut chunk = ReadBuf::uninit(&mut space);
            ready!(self.fetch(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                // Nobody hears what is still being written.
                self.cut();
                return Poll::Ready(Ok(false));
            }
            intake.input.extend_from_slice(chunk.filled());
        }
    }

    /// The socket takes nothing: for how long may it?
    fn stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.link.flow.block();
        let limit = self.link.shared.app.config.slow_reader_timeout + LAST_CHANCE;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(stall.poll_unpin(cx));
        tracing::debug!("the peer takes nothing");
        self.cut();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Pending => self.stalled(cx),
            Poll::Ready(Ok(bytes)) => {
                self.stall = None;
                self.link.flow.took(bytes);
                Poll::Ready(Ok(bytes))
            }
            failed @ Poll::Ready(_) => failed,
        }
    }
}

impl Intake {
    fn new(link: &Link) -> Self {
        let limit = link.shared.app.config.max_body_bytes;
        Self {
            frames: Frames::new(usize::try_from(limit).unwrap_or(usize::MAX)),
            input: Vec::new(),
            taken: 0,
            ready: Vec::new(),
            given: 0,
            pause: None,
        }
    }

    /// Looks at what has been read; answers whether there is too much under way to go on.
    fn check(&mut self, link: &Link, most: u32, cx: &Context<'_>) -> io::Result<bool> {
        let mut full = link.flow.is_full(most, cx.waker());
        while !full && self.ready.len() < READY {
            let mut rest = self.input.get(self.taken..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let piece = self.frames.next(&mut rest);
            self.taken = self.input.len() - rest.len();
            if let Some(piece) = piece? {
                self.pass(link, &piece);
                full = link.flow.is_full(most, cx.waker());
            }
        }
        if self.taken == self.input.len() {
            // An idle connection keeps no buffer.
            (self.input, self.taken) = (Vec::new(), 0);
        }
        Ok(full)
    }

    fn pass(&mut self, link: &Link, piece: &Piece) {
        let config = &link.shared.app.config;
        let message = match piece {
            Piece::Control(opcode, payload) => {
                return frames::put(&mut self.ready, *opcode, payload);
            }
            // What has not been begun before a stop is not begun any more.
            _ if *link.shared.app.stopping.borrow() => return,
            Piece::Message(message) => envelope::admitted(message, config.max_batch),
            Piece::TooLarge => {
                let what = "bytes in a message".to_owned();
                let error = crate::Error::Limit { what, limit: config.max_body_bytes.into() };
                envelope::refusal("null", &error.into()).into_bytes().into()
            }
        };
        link.flow.begin();
        frames::put_text(&mut self.ready, &message);
    }

    fn give(&mut self, out: &mut ReadBuf<'_>) {
        let rest = self.ready.get(self.given..).unwrap_or_default();
        let now = rest.get(..out.remaining()).unwrap_or(rest);
        out.put_slice(now);
        self.given += now.len();
        if self.given == self.ready.len() {
            (self.ready, self.given) = (Vec::new(), 0);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(tcp) = self.tcp.take().filter(|_| self.intake.is_some() && !self.ended) else {
            return;
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(see_off(tcp, Arc::clone(&self.link)));
        }
    }
}

/// Throws away what still comes, so that what was sent last is not lost to a reset.
async fn see_off(mut tcp: TcpStream, link: Arc<Link>) {
    let (within, mut left) = FAREWELL;
    let mut killed = link.killed.clone();
    let drained = async {
        let mut sink = Vec::with_capacity(4 << 10);
        let _ = tcp.shutdown().await;
        while left > 0 && tcp.read_buf(&mut sink).await.is_ok_and(|read| read > 0) {
            left = left.saturating_sub(sink.len());
            sink.clear();
        }
    };
    tokio::select! {
        _ = timeout(within, drained) => {}
        _ = killed.changed() => {}
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.link.port == Port::Http || !this.link.flow.is_upgraded() {
            return this.fetch(cx, out);
        }
        let mut intake = this.intake.take().unwrap_or_else(|| Box::new(Intake::new(&this.link)));
        let refilled = match intake.ready.is_empty() {
            true => this.refill(cx, &mut intake),
            false => Poll::Ready(Ok(true)),
        };
        if let Poll::Ready(Ok(true)) = refilled {
            intake.give(out);
        }
        this.intake = Some(intake);
        refilled.map_ok(|_| ())
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = this.tcp()?.poll_write(cx, bytes);
        this.wrote(cx, wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = this.tcp()?.poll_write_vectored(cx, parts);
        this.wrote(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_shutdown(cx)
    }
}
