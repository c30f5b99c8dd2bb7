//! The event log as readers see it: how far it goes, what is still held, and the latest in memory.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::batch::{Batch, Logged, Position};
use super::journal::Journal;
use super::{Options, StoreError};
use crate::Error;
use crate::model::Millis;

/// Events held in memory, so that live subscribers never read the disk.
const RING_EVENTS: usize = 32_768;
/// Memory they may take, bytes, about.
const RING_BYTES: usize = 16 << 20;
/// Memory that one page of events may take, bytes, about; a larger event is a page of its own.
const PAGE_BYTES: usize = 512 << 10;

/// Followers that are woken one by one.
const MANY: usize = 64;

/// The end of the log, which followers wait for.
#[derive(Clone, Debug)]
pub(super) struct Tip {
    pub(super) latest: u64,
    /// The last event, for the many who have seen all before it.
    pub(super) newest: Option<Arc<Logged>>,
    pub(super) closed: bool,
}

/// What readers of the log share.
#[derive(Debug)]
pub(super) struct Log {
    ring: RwLock<Ring>,
    tip: Arc<watch::Sender<Tip>>,
    herald: Herald,
    keep: u64,
    keep_age: Option<Millis>,
    clock: AtomicU64,
    /// Events before this one went for other reasons than their number.
    floor: AtomicU64,
}

/// Wakes the followers.
///
/// To wake a task from outside of its runtime costs several times what it costs from within. So
/// where there are many, one task of the runtime wakes the others.
#[derive(Debug, Default)]
struct Herald {
    runtime: OnceLock<Handle>,
    /// It is about to.
    called: Arc<AtomicBool>,
}

impl Herald {
    /// Followers live on the runtime that they were made on.
    fn learn_runtime(&self) {
        if self.runtime.get().is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            let _ = self.runtime.set(runtime);
        }
    }

    /// The log goes up to `newest`, from now on for whoever looks, and soon for whoever waits.
    fn tell(&self, tip: &Arc<watch::Sender<Tip>>, newest: &Arc<Logged>) {
        let many = self.runtime.get().filter(|_| tip.receiver_count() > MANY);
        tip.send_if_modified(|tip| {
            tip.latest = newest.seq;
            tip.newest = Some(Arc::clone(newest));
            many.is_none()
        });
        let Some(runtime) = many else { return };
        if !self.called.swap(true, Ordering::AcqRel) {
            let (tip, called) = (Arc::clone(tip), Arc::clone(&self.called));
            runtime.spawn(async move {
                called.store(false, Ordering::Release);
                tip.send_modify(|_| ());
            });
        }
    }
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Arc<Logged>>,
    bytes: usize,
    latest: u64,
}

impl Log {
    /// The log of a journal that goes from `first` to `last`.
    pub(super) fn new(options: &Options, first: Position, last: Position) -> Self {
        let keep_age = options.events_keep_age.map(|age| u64::try_from(age.as_millis()));
        Self {
            ring: RwLock::new(Ring { events: VecDeque::new(), bytes: 0, latest: last.seq }),
            tip: Arc::new(watch::Sender::new(Tip {
                latest: last.seq,
                newest: None,
                closed: false,
            })),
            herald: Herald::default(),
            keep: options.events_keep.max(1),
            keep_age: keep_age.map(|age| age.unwrap_or(Millis::MAX)),
            clock: AtomicU64::new(0),
            floor: AtomicU64::new(first.seq + 1),
        }
    }

    pub(super) fn latest(&self) -> u64 {
        self.tip.borrow().latest
    }

    pub(super) fn oldest(&self) -> u64 {
        self.oldest_at(self.latest())
    }

    fn oldest_at(&self, latest: u64) -> u64 {
        (latest.saturating_sub(self.keep) + 1).max(self.floor.load(Ordering::Acquire))
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Tip> {
        self.herald.learn_runtime();
        self.tip.subscribe()
    }

    /// Tells the followers that nothing will come any more.
    pub(super) fn close(&self) {
        self.tip.send_modify(|tip| tip.closed = true);
    }

    /// Makes committed events visible and wakes the followers once.
    pub(super) fn publish<'b>(&self, batches: impl Iterator<Item = &'b Batch>) {
        let mut ring = self.ring.write();
        let mut newest = None;
        for event in batches.flat_map(|batch| &batch.events) {
            ring.bytes += event.weight();
            ring.latest = event.seq;
            ring.events.push_back(Arc::clone(event));
            newest = Some(Arc::clone(event));
        }
        let Some(newest) = newest else { return };
        while ring.events.len() > RING_EVENTS || ring.bytes > RING_BYTES {
            let Some(event) = ring.events.pop_front() else { break };
            ring.bytes = ring.bytes.saturating_sub(event.weight());
        }
        drop(ring);
        self.clock.store(newest.at, Ordering::Release);
        self.herald.tell(&self.tip, &newest);
    }

    /// At most `limit` events after `since` when they are in memory; else the disk has them.
    ///
    /// # Errors
    /// When `since` is out of range.
    pub(super) fn recent(
        &self,
        since: u64,
        limit: usize,
    ) -> Result<Option<Vec<Arc<Logged>>>, Error> {
        let ring = self.ring.read();
        if since > ring.latest {
            return Err(Error::params("since", format!("at most {}", ring.latest)));
        }
        let oldest = self.oldest_at(ring.latest);
        if since + 1 < oldest {
            return Err(Error::Gone { oldest });
        }
        if since == ring.latest || limit == 0 {
            return Ok(Some(vec![]));
        }
        let held = u64::try_from(ring.events.len()).unwrap_or(u64::MAX);
        let Some(skip) = (since + held).checked_sub(ring.latest) else { return Ok(None) };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let mut page = Page::new(limit);
        for event in ring.events.range(skip.min(ring.events.len())..) {
            if page.push(Arc::clone(event)).is_break() {
                break;
            }
        }
        Ok(Some(page.events))
    }

    /// The same from the disk.
    pub(super) fn stored(
        &self,
        journal: &dyn Journal,
        since: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Logged>>, Error> {
        let mut page = Page::new(limit);
        let read = journal.read_events(since, &mut |batch| {
            batch
                .events
                .into_iter()
                .filter(|event| event.seq > since)
                .try_for_each(|event| page.push(event))
        });
        match read {
            Ok(()) if page.events.first().is_some_and(|e| e.seq == since + 1) => Ok(page.events),
            // It went while it was looked for.
            Ok(()) | Err(StoreError::Forgotten) => {
                Err(Error::Gone { oldest: self.oldest().max(since + 2) })
            }
            Err(err) => Err(err.into()),
        }
    }

    /// Sets the clock that ages are measured by, also back: what was logged while it was wrong must
    /// not make everything after that old from the beginning.
    pub(super) fn tick(&self, now: Millis) {
        self.clock.store(now, Ordering::Release);
    }

    /// Lets go of events that are too old. Reads each of them once.
    pub(super) fn expire(&self, journal: &dyn Journal) -> Result<(), Error> {
        let Some(age) = self.keep_age else { return Ok(()) };
        let until = self.clock.load(Ordering::Acquire).saturating_sub(age);
        loop {
            let since = self.oldest() - 1;
            let page = match self.recent(since, 1_024) {
                Ok(Some(page)) => page,
                Ok(None) => self.stored(journal, since, 1_024)?,
                Err(Error::Gone { .. }) => continue,
                Err(err) => return Err(err),
            };
            let old = page.iter().take_while(|event| event.at < until).last();
            if let Some(event) = old {
                self.floor.fetch_max(event.seq + 1, Ordering::AcqRel);
            }
            if old.map(|event| event.seq) != page.last().map(|event| event.seq) || page.is_empty() {
                return Ok(());
            }
        }
    }
}

/// A page in the making, bounded by number and size.
struct Page {
    events: Vec<Arc<Logged>>,
    limit: usize,
    bytes: usize,
}

impl Page {
    fn new(limit: usize) -> Self {
        Self { events: Vec::new(), limit, bytes: 0 }
    }

    fn push(&mut self, event: Arc<Logged>) -> ControlFlow<()> {
        if self.events.len() >= self.limit || self.bytes >= PAGE_BYTES {
            return ControlFlow::Break(());
        }
        self.bytes += event.weight();
        self.events.push(event);
        ControlFlow::Continue(())
    }
}
