//! One TCP connection: who is on it, and how much of it is under way.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use futures_util::task::AtomicWaker;
use hyper::HeaderMap;
use jsonrpsee::server::Extensions;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, watch};

use super::rate::Place;
use super::room::Held;
use super::{Shared, guard, identity};
use crate::access::{Seen, Visitor};
use crate::app::{Caller, Cx};
use crate::{Error, Result};

/// Bytes of large messages of one connection that are being answered, from which on it has to wait.
const HOLDING: usize = 64 << 20;

/// Which of the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Http,
    Ws,
}

/// One TCP connection, for as long as anything of it lives.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) port: Port,
    /// Where the other end is.
    pub(super) peer: IpAddr,
    /// Where this end is.
    pub(super) local: IpAddr,
    /// Unique while the process lives.
    pub(super) connection: u64,
    pub(super) killed: watch::Receiver<()>,
    pub(super) flow: Flow,
    /// Subscriptions whose ids are on their way to the reader, and which cannot be ended before
    /// that is over.
    pub(super) accepting: watch::Sender<u32>,
    /// Ends the connection at once.
    pub(super) cut: Notify,
    pub(super) _permit: OwnedSemaphorePermit,
    pub(super) _place: Place,
    pub(super) _alive: mpsc::Sender<()>,
}

impl Link {
    /// The connection that a call came by.
    pub(super) fn of(extensions: &Extensions) -> Option<&Arc<Self>> {
        extensions.get()
    }

    /// Who sends these headers over this connection; `marks` are what is known of the page that
    /// had them sent.
    pub(super) fn visitor(&self, headers: &HeaderMap, marks: &Extensions) -> Arc<Visitor> {
        let app = &self.shared.app;
        let visitor = identity::of(headers, self.peer, &app.keeper, (app.now)());
        let visitor = if self.port == Port::Ws { visitor.lasting() } else { visitor };
        let elsewhere = guard::is_foreign(marks) || guard::is_passed_on(headers);
        Arc::new(if elsewhere { visitor.from_elsewhere() } else { visitor })
    }

    /// What a call of that visitor by this connection sees.
    pub(super) fn cx(&self, visitor: &Arc<Visitor>) -> Cx {
        Cx::of(Arc::clone(&self.shared.app), Arc::clone(visitor), self.connection)
    }

    /// The same for a call with its extensions, which hold both.
    pub(super) fn cx_of(extensions: &Extensions) -> Result<Cx> {
        let found = Self::of(extensions).zip(extensions.get::<Arc<Visitor>>());
        let (link, visitor) =
            found.ok_or_else(|| Error::Bug("a call without a connection".to_owned()))?;
        let Some(seen) = extensions.get::<Seen>() else { return Ok(link.cx(visitor)) };
        let (app, visitor) = (Arc::clone(&link.shared.app), Arc::clone(visitor));
        Ok(Cx::by(app, visitor, seen.clone(), link.connection))
    }

    /// Waits until every subscription that the reader knows of can be ended.
    pub(super) async fn accepted(&self) {
        // The sender lives as long as this does.
        let _ = self.accepting.subscribe().wait_for(|accepting| *accepting == 0).await;
    }

    /// Takes one of a caller's turns.
    ///
    /// # Errors
    /// [`TooOften`](crate::Error::TooOften) when there is none.
    pub(super) fn take_turn(&self, caller: Caller) -> Result<()> {
        let turn = self.shared.rates.take(caller, self.peer);
        if turn.is_err() {
            self.shared.app.metrics.calls_limited.inc();
        }
        turn
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.app.metrics.connections.dec();
    }
}

/// How much of a connection is under way: messages in, bytes out.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// From now on what is read are WebSocket frames.
    upgraded: AtomicBool,
    /// Messages that have been read and not been answered.
    busy: AtomicU32,
    /// The socket takes nothing at the moment.
    blocked: AtomicBool,
    /// Room that these messages take, as long as any of them is being answered.
    held: Mutex<Vec<Held>>,
    /// How much that is, bytes.
    holding: AtomicUsize,
    /// Bytes that the socket has taken.
    written: AtomicU64,
    /// Who waits for all that to get better.
    reader: AtomicWaker,
}

impl Flow {
    pub(super) fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Release);
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Acquire)
    }

    /// A message goes to be answered.
    pub(super) fn begin(&self) {
        self.busy.fetch_add(1, Ordering::AcqRel);
    }

    /// Keeps the room of a message that has begun until all have been answered: which of them a
    /// call is of is not known any more.
    pub(super) fn keep(&self, held: Held) {
        if held.bytes() > 0 {
            let mut all = self.held.lock();
            self.holding.fetch_add(held.bytes(), Ordering::AcqRel);
            all.push(held);
        }
    }

    /// One has been answered.
    fn end(&self) {
        let less = |busy: u32| busy.checked_sub(1);
        // What came with the handshake was never counted.
        let before = self.busy.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        if before == Ok(1) && self.holding.load(Ordering::Acquire) > 0 {
            let mut all = self.held.lock();
            self.holding.store(0, Ordering::Release);
            all.clear();
        }
        self.reader.wake();
    }

    /// Whether nothing more should be read, for now; wakes `waker` when that may have changed.
    pub(super) fn is_full(&self, most: u32, waker: &std::task::Waker) -> bool {
        let full = || {
            self.busy.load(Ordering::Acquire) >= most
                || self.blocked.load(Ordering::Acquire)
                || self.holding.load(Ordering::Acquire) >= HOLDING
        };
        full() && {
            self.reader.register(waker);
            full()
        }
    }

    /// The socket has taken so many bytes.
    pub(super) fn took(&self, bytes: usize) {
        self.written.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        if self.blocked.swap(false, Ordering::AcqRel) {
            self.reader.wake();
        }
    }

    /// The socket takes nothing.
    pub(super) fn block(&self) {
        self.blocked.store(true, Ordering::Release);
    }

    /// Whether the socket took nothing when it was last asked to.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// Bytes that the socket has taken so far: how a slow reader is told from one that is stuck.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// A message being answered; dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Slot(Arc<Link>);

impl Slot {
    pub(super) fn of(extensions: &Extensions) -> Option<Self> {
        Link::of(extensions).cloned().map(Self)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.flow.end();
    }
}
