//! Typed tables, atomic batches and the event log, over a journal and sled.
//!
//! A batch goes from the engine ([`Store::begin`], [`Store::submit`]) to the journal's thread
//! ([`commit`]), which makes it durable, puts it in front of the state, publishes its events and
//! replies; a second thread ([`apply`]) brings it to sled. Readers see what is durable.

mod apply;
mod archive;
mod backup;
mod batch;
mod blob;
mod check;
mod commit;
mod core;
mod disk;
mod follow;
mod journal;
mod key;
mod lock;
mod log;
mod merge;
mod migrate;
mod rebuild;
mod record;
mod row;
mod row_access;
mod row_capability;
mod row_directory;
mod row_group;
mod row_identity;
mod row_webhook;
mod segment;
mod state;
mod table;
mod tx;
mod warm;
mod watch;
mod work;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

pub use backup::{BackedUp, restore};
pub use batch::{Batch, Logged, Position};
pub use check::{Report, check};
pub use commit::Committed;
pub use follow::{Follower, Next};
pub use journal::{Journal, Visit};
pub use key::{Key, KeyBytes};
use parking_lot::Mutex;
pub use rebuild::{compact, rebuild};
pub use row::*;
pub use row_access::{ApiKeyRow, SessionRow, TokenRow};
pub use row_capability::*;
pub use row_directory::*;
pub use row_group::ComputeGroupRow;
pub use row_identity::*;
pub use row_webhook::WebhookRow;
pub use table::*;
pub use tx::{Draft, Tx};
pub use work::*;

use self::commit::Submission;
use self::core::Core;
use self::segment::Segments;
use self::state::Walk;
use crate::Error;
use crate::model::Millis;

/// Batches that wait for the journal; then the engine waits.
const QUEUE: usize = 2;
/// Rows handed to a visitor between two looks at the state.
const SCAN_ROWS: usize = 256;

/// Storage failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state database failed.
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    /// A file could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A value does not decode: written by a newer version, or corrupt.
    #[error("table {table}: {reason}")]
    Value {
        /// Where.
        table: &'static str,
        /// Why.
        reason: String,
    },
    /// A batch before this one failed, or this one could not be finished.
    #[error("abandoned because a batch before it failed")]
    Abandoned,
    /// A key does not decode.
    #[error("table {0}: malformed key")]
    Key(&'static str),
    /// Another process has the data directory.
    #[error("another muster process uses {}", .0.display())]
    Locked(PathBuf),
    /// It was written by a newer version.
    #[error("the {what} has format {found}; this version of muster knows up to {known}")]
    Version {
        /// Which part.
        what: &'static str,
        /// Its format.
        found: u64,
        /// The newest one that is known.
        known: u64,
    },
    /// A directory has data in it, but it is not ours, or was not finished.
    #[error("{} is not a complete data directory of muster", .0.display())]
    Foreign(PathBuf),
    /// A directory that must be empty is not.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// A file is not what it was when it was written.
    #[error("{} is damaged at byte {offset}: {reason}", path.display())]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A batch is not the one that comes next, because someone else appended, or one failed.
    #[error("the batch is not the next one")]
    Superseded,
    /// A batch is no longer kept.
    #[error("the batch is no longer in the journal")]
    Forgotten,
    /// The state failed and has not been opened again yet.
    #[error("the state is being opened again")]
    Reopening,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A bug.
    #[error("{0} panicked")]
    Panicked(&'static str),
}

impl StoreError {
    fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// Where and how to keep the data.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory; created when it does not exist.
    pub dir: PathBuf,
    /// Memory for cached pages, bytes.
    pub cache_bytes: u64,
    /// Events kept at least; older ones go.
    pub events_keep: u64,
    /// Events older than this go, however few there are.
    pub events_keep_age: Option<Duration>,
}

impl Options {
    /// The defaults, in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), cache_bytes: 32 << 20, events_keep: 100_000, events_keep_age: None }
    }
}

/// An open data directory.
pub struct Store {
    core: Arc<Core>,
    queue: Mutex<Option<SyncSender<Submission>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    observer: Arc<OnceLock<Observer>>,
    _lock: File,
}

type Observer = Box<dyn Fn(Committed) + Send + Sync>;

/// How large a store is, and how far.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// Disk space of the journal, bytes.
    pub journal_bytes: u64,
    /// Disk space of the state, bytes.
    pub state_bytes: u64,
    /// Disk space of large values, bytes.
    pub blob_bytes: u64,
    /// Memory of changes that are in the journal only, bytes.
    pub pending_bytes: u64,
    /// The oldest event held.
    pub oldest: u64,
    /// The last event.
    pub latest: u64,
    /// The last batch.
    pub batch: u64,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("dir", &self.core.dir).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens, or creates, the data directory.
    ///
    /// # Errors
    /// When another process has it, when it is damaged, or when it was written by a newer version.
    #[expect(clippy::needless_pass_by_value, reason = "they are the store's from here on")]
    pub fn open(options: Options) -> Result<Self, StoreError> {
        Self::open_with(&options, |journal| Box::new(journal))
    }

    fn open_with(
        options: &Options,
        wrap: impl FnOnce(Segments) -> Box<dyn Journal>,
    ) -> Result<Self, StoreError> {
        let lock = lock::take(&options.dir)?;
        migrate::prepare(&options.dir)?;
        rebuild::finish(&options.dir)?;
        let core = Arc::new(Core::open(options, wrap)?);
        let (sender, receiver) = sync_channel(QUEUE);
        let observer: Arc<OnceLock<Observer>> = Arc::default();
        let (journal, background) = (Arc::clone(&core), Arc::clone(&core));
        let told = Arc::clone(&observer);
        let threads = vec![
            spawn("journal", move || {
                commit::run(&journal, &receiver, &|committed| {
                    if let Some(observer) = told.get() {
                        observer(committed);
                    }
                });
            })?,
            spawn("state", move || apply::run(&background))?,
        ];
        Ok(Self {
            core,
            queue: Mutex::new(Some(sender)),
            threads: Mutex::new(threads),
            observer,
            _lock: lock,
        })
    }

    /// Reads one value.
    ///
    /// # Errors
    /// When it cannot be read or decoded.
    pub fn get<K: Key, V: Row>(
        &self,
        table: Table<K, V>,
        key: &K,
    ) -> Result<Option<V>, StoreError> {
        let found = self.core.state.get(&table.key(key))?;
        found.map(|bytes| self.core.decode(table, &bytes)).transpose()
    }

    /// Hands every row below `prefix` and after `after` to `visit`, in key order, until it breaks.
    ///
    /// `prefix` is the leading part of the table's key: `()` for the whole table, a context, …
    /// It is no snapshot: what is committed meanwhile may be seen or not.
    ///
    /// # Errors
    /// When a row cannot be read or decoded.
    pub fn scan<K: Key, V: Row, P: Key>(
        &self,
        table: Table<K, V>,
        prefix: &P,
        after: Option<&K>,
        visit: impl FnMut(K, V) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.walk(table, prefix, after, SCAN_ROWS, visit)
    }

    /// At most `limit` rows below `prefix` and after `after`, in key order.
    ///
    /// # Errors
    /// As [`Store::scan`].
    pub fn page<K: Key, V: Row, P: Key>(
        &self,
        table: Table<K, V>,
        prefix: &P,
        after: Option<&K>,
        limit: usize,
    ) -> Result<Vec<(K, V)>, StoreError> {
        let mut rows = Vec::new();
        if limit == 0 {
            return Ok(rows);
        }
        self.walk(table, prefix, after, limit, |key, value| {
            rows.push((key, value));
            if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(rows)
    }

    fn walk<K: Key, V: Row, P: Key>(
        &self,
        table: Table<K, V>,
        prefix: &P,
        after: Option<&K>,
        at_once: usize,
        mut visit: impl FnMut(K, V) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut walk = Walk::new(table.prefix(prefix), after.map(|key| table.key(key)));
        let mut found = Vec::new();
        loop {
            let more = self.core.state.rows(&[], &mut walk, at_once, &mut found)?;
            for (key, value) in found.drain(..) {
                let row = self.core.decode(table, &value)?;
                if visit(table.parse(key.as_slice())?, row).is_break() {
                    return Ok(());
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// The number of the last committed event; 0 when there was none.
    pub fn latest(&self) -> u64 {
        self.core.log.latest()
    }

    /// The number of the oldest event still held; `latest() + 1` when none is.
    pub fn oldest(&self) -> u64 {
        self.core.log.oldest()
    }

    /// At most `limit` events after `since`, whatever they are about; fewer when they are large.
    ///
    /// What is not among the latest is read from disk.
    ///
    /// # Errors
    /// [`Error::Gone`] when `since` is older than what is held, [`Error::Params`] when it is newer
    /// than the last event, [`Error::Store`] when the journal cannot be read.
    pub fn events(&self, since: u64, limit: usize) -> Result<Vec<Arc<Logged>>, Error> {
        match self.core.log.recent(since, limit)? {
            Some(events) => Ok(events),
            None => self.core.log.stored(&*self.core.journal, since, limit),
        }
    }

    /// A reader of the event log after `since`, or of what comes from now on.
    ///
    /// # Errors
    /// As [`Store::events`].
    pub fn follow(self: &Arc<Self>, since: Option<u64>) -> Result<Follower, Error> {
        let tip = self.core.log.subscribe();
        let since = since.unwrap_or_else(|| self.latest());
        self.core.log.recent(since, 0)?;
        Ok(Follower::new(Arc::clone(self), tip, since))
    }

    /// Tells the time, by which events become too old to be kept.
    ///
    /// Call it every few seconds when `events_keep_age` is set; each commit tells it as well.
    pub fn tick(&self, now: Millis) {
        self.core.log.tick(now);
        self.core.background.notify(false);
    }

    /// How large it is, and how far.
    ///
    /// # Errors
    /// When the disk cannot be asked.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        Ok(Stats {
            journal_bytes: self.core.journal.bytes(),
            state_bytes: self.core.state.disk_bytes()?,
            blob_bytes: self.core.blobs.bytes(),
            pending_bytes: self.core.state.pending_bytes(),
            oldest: self.oldest(),
            latest: self.latest(),
            batch: self.core.state.position().number,
        })
    }

    /// Has every commit from now on told to `observer`, on the thread that commits; only the first
    /// call counts.
    pub fn observe(&self, observer: impl Fn(Committed) + Send + Sync + 'static) {
        let _ = self.observer.set(Box::new(observer));
    }

    /// Has every change of a table's rows told to `told`, in the order of commits, on the thread
    /// that commits: reads see it already, and no reply and no event of it is out. None: removed.
    pub fn watch<K: Key + 'static, V: Row + 'static>(
        &self,
        table: Table<K, V>,
        told: impl Fn(K, Option<V>) + Send + Sync + 'static,
    ) {
        self.core.watchers.add(table, told);
    }

    /// Starts a batch that sees every batch submitted before it. Only the engine does.
    pub(crate) fn begin(&self) -> Tx<'_> {
        Tx::new(&self.core)
    }

    /// Hands a batch over to be made durable; an empty one is, too.
    ///
    /// `done` runs on the journal's thread once it is, or once it is known that it never will be;
    /// then every batch begun on top of it fails as well, and [`Store::recover`] must be called
    /// before the next [`Store::begin`]. Waits while too many batches are on their way.
    pub(crate) fn submit(
        &self,
        tx: Tx<'_>,
        done: impl FnOnce(Result<(), Arc<StoreError>>) + Send + 'static,
    ) {
        let queue = self.queue.lock().clone();
        let Some(queue) = queue else { return done(Err(Arc::new(StoreError::Closed))) };
        let batch = tx.finish();
        self.core.pipeline.enter(batch.position(), &batch.changes);
        if let Err(refused) = queue.send(Submission { batch, done: Box::new(done) }) {
            let cause = Arc::new(StoreError::Closed);
            self.core.pipeline.fail(&cause);
            (refused.0.done)(Err(cause));
            self.core.pipeline.leave();
        }
    }

    /// As [`Store::submit`], on this thread if no other batch is on its way: that saves the way to
    /// the journal's thread and back, and holds the caller up meanwhile.
    pub(crate) fn submit_here(
        &self,
        tx: Tx<'_>,
        done: impl FnOnce(Result<(), Arc<StoreError>>) + Send + 'static,
    ) {
        // Only the engine submits, so a pipeline that is idle stays so.
        if !self.core.pipeline.is_idle() || self.queue.lock().is_none() {
            return self.submit(tx, done);
        }
        let batch = tx.finish();
        self.core.pipeline.enter(batch.position(), &batch.changes);
        let round = vec![Submission { batch, done: Box::new(done) }];
        commit::carry_out(&self.core, round, &|committed| {
            if let Some(observer) = self.observer.get() {
                observer(committed);
            }
        });
    }

    /// Whether a batch failed since the last call of [`Store::recover`].
    pub(crate) fn has_failed(&self) -> bool {
        self.core.pipeline.failure().is_some()
    }

    /// Waits until no batch is on its way and forgets those that failed; the next one starts from
    /// what is durable.
    pub(crate) fn recover(&self) {
        self.core.pipeline.recover();
    }

    /// Waits for the batches on their way, brings everything to disk, and ends all followers.
    ///
    /// Reads go on working; batches submitted later fail. Dropping the store does the same.
    pub fn close(&self) {
        self.queue.lock().take();
        let threads = std::mem::take(&mut *self.threads.lock());
        let here = std::thread::current().id();
        for thread in threads {
            if thread.thread().name() == Some("state") {
                self.core.background.stop();
            }
            // A reply can hold the last handle of the store, and then this is the journal's thread.
            if thread.thread().id() != here && thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
        self.core.log.close();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(run).map_err(StoreError::io("starting a thread"))
}
