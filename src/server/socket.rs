//! The bytes of a connection: what hyper and jsonrpsee read and write.
//!
//! jsonrpsee starts whatever it reads, at once and without limit, and holds a socket that takes
//! nothing for as long as it lasts. So nothing is read here while enough is under way or while the
//! socket takes no answers, and a socket that takes nothing is cut.

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
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep, timeout};

use super::intake::Intake;
use super::link::{Link, Port};
use super::outgoing::Outgoing;
use super::rpc::PING;
use super::stream::Stream;

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// How much longer than a slow reader may take until its subscriptions end the socket may take
/// nothing: it may come back for its last notifications.
pub(super) const LAST_CHANCE: Duration = Duration::from_secs(30);
/// How long a peer may take to say good-bye, and how much it may still send meanwhile.
const FAREWELL: (Duration, usize) = (Duration::from_secs(5), 64 << 20);

/// A connection that knows what it reads, and ends when the server does.
pub(super) struct Socket {
    /// None only while it is being dropped.
    stream: Option<Stream>,
    link: Arc<Link>,
    /// None once it has happened.
    killed: Option<BoxFuture<'static, ()>>,
    /// Runs while the socket takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
    /// Of a WebSocket.
    intake: Option<Box<Intake>>,
    /// Of a WebSocket: what is to be written.
    outgoing: Outgoing,
    /// Runs while nothing is read.
    pause: Option<Pin<Box<Sleep>>>,
    /// There is nothing more to be read.
    ended: bool,
}

impl Socket {
    pub(super) fn new(stream: Stream, link: Arc<Link>) -> Self {
        let mut killed = link.killed.clone();
        let killed = async move { drop(killed.changed().await) }.boxed();
        Self {
            stream: Some(stream),
            link,
            killed: Some(killed),
            stall: None,
            intake: None,
            outgoing: Outgoing::default(),
            pause: None,
            ended: false,
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Reads from the network; nothing is read any more once the server has been killed.
    fn fetch(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.stream()?.poll_read(cx, into) {
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
        if let Some(stream) = &self.stream {
            let _ = SockRef::from(stream.tcp()).shutdown(std::net::Shutdown::Both);
        }
    }

    /// Makes checked messages ready; answers whether the connection goes on.
    fn refill(&mut self, cx: &mut Context<'_>, intake: &mut Intake) -> Poll<io::Result<bool>> {
        loop {
            let full = intake.check(&self.link, cx)?;
            if intake.is_ready() {
                self.pause = None;
                return Poll::Ready(Ok(true));
            }
            if full {
                ready!(self.wait(cx, intake));
                return Poll::Ready(Ok(!self.ended));
            }
            self.pause = None;
            let mut space = [MaybeUninit::uninit(); CHUNK];
            let mut chunk = ReadBuf::uninit(&mut space);
            ready!(self.fetch(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                // Nobody hears what is still being written.
                self.cut();
                return Poll::Ready(Ok(false));
            }
            intake.take(chunk.filled());
        }
    }

    /// Reads nothing, but notices the end.
    fn wait(&mut self, cx: &mut Context<'_>, intake: &mut Intake) -> Poll<()> {
        let mut space = [MaybeUninit::uninit()];
        let mut first = ReadBuf::uninit(&mut space);
        let peeked = self.stream.as_ref().map(|stream| stream.tcp().poll_peek(cx, &mut first));
        if matches!(peeked, None | Some(Poll::Ready(Ok(0) | Err(_)))) {
            self.cut();
            return Poll::Ready(());
        }
        // jsonrpsee would take what is not read for silence.
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(PING)));
        if pause.poll_unpin(cx).is_ready() {
            self.pause = None;
            intake.pong();
            return Poll::Ready(());
        }
        self.watch_kill(cx)
    }

    /// The socket takes nothing: for how long may it?
    fn stalled<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.link.flow.block();
        let limit = self.link.shared.app.config.slow_reader_timeout + LAST_CHANCE;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(stall.poll_unpin(cx));
        tracing::debug!("the peer takes nothing");
        self.cut();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Writes what is to be written.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let wrote = match &mut self.stream {
                Some(stream) => Pin::new(stream).poll_write(cx, self.outgoing.rest()),
                None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            };
            let bytes = ready!(self.wrote(cx, wrote))?;
            if bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.wrote(bytes);
        }
        // What is encrypted may still be on its way when all of it has been taken.
        ready!(self.stream()?.poll_flush(cx))?;
        self.outgoing.flushed();
        Poll::Ready(Ok(()))
    }

    /// The same for the task that writes, which must hear of it when the other one has done it.
    fn make_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let drained = self.drain(cx);
        if drained.is_pending() {
            self.outgoing.wait_for_room(cx);
        }
        drained
    }

    /// Takes bytes that are to be written with the next ones.
    fn collect(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = parts.iter().map(|part| part.len()).sum();
        if !self.outgoing.has_room(bytes) {
            ready!(self.make_room(cx))?;
        }
        for part in parts {
            self.outgoing.add(part);
        }
        Poll::Ready(Ok(bytes))
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

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take().filter(|_| self.intake.is_some() && !self.ended)
        else {
            return;
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(see_off(stream, Arc::clone(&self.link)));
        }
    }
}

/// Throws away what still comes, so that what was sent last is not lost to a reset.
async fn see_off(mut stream: Stream, link: Arc<Link>) {
    let (within, mut left) = FAREWELL;
    let mut killed = link.killed.clone();
    let drained = async {
        let mut sink = Vec::with_capacity(4 << 10);
        let _ = stream.shutdown().await;
        while left > 0 && stream.read_buf(&mut sink).await.is_ok_and(|read| read > 0) {
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
        f.debug_struct("Socket").field("stream", &self.stream).finish_non_exhaustive()
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
        if this.outgoing.is_due(cx)
            && let Poll::Ready(Err(err)) = this.drain(cx)
        {
            return Poll::Ready(Err(err));
        }
        let mut intake = this.intake.take().unwrap_or_else(|| Box::new(Intake::new(&this.link)));
        let refilled =
            if intake.is_ready() { Poll::Ready(Ok(true)) } else { this.refill(cx, &mut intake) };
        if let Poll::Ready(Ok(true)) = refilled {
            intake.give(out);
        }
        this.intake = Some(intake);
        if refilled.is_pending() {
            this.outgoing.wait(cx);
        }
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
        if this.intake.is_some() {
            return this.collect(cx, &[io::IoSlice::new(bytes)]);
        }
        let wrote = this.stream()?.poll_write(cx, bytes);
        this.wrote(cx, wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.intake.is_some() {
            return this.collect(cx, parts);
        }
        let wrote = this.stream()?.poll_write_vectored(cx, parts);
        this.wrote(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.outgoing.is_flushed() {
            return this.stream()?.poll_flush(cx);
        }
        if this.outgoing.hand_over() { Poll::Ready(Ok(())) } else { this.make_room(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.make_room(cx))?;
        match this.stream()?.poll_shutdown(cx) {
            // What says good-bye may have to wait for its turn.
            Poll::Pending => this.stalled(cx),
            shut @ Poll::Ready(_) => shut,
        }
    }
}
