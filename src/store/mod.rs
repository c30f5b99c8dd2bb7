//! Typed tables, atomic batches and the event log; only this folder names sled.
//!
//! INTERIM in-process implementation with the final interface.

mod key;
mod table;
mod tx;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use key::Key;
use parking_lot::RwLock;
pub use table::*;
use tokio::sync::watch;
pub use tx::{Draft, Tx};

use crate::Error;
use crate::model::event::Event;

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
        Self { dir: dir.into(), cache_bytes: 64 << 20, events_keep: 100_000, events_keep_age: None }
    }
}

/// An open data directory.
#[derive(Debug)]
pub struct Store {
    tree: sled::Tree,
    events: RwLock<Vec<Arc<Event>>>,
    latest: watch::Sender<u64>,
}

impl Store {
    /// Opens, or creates, the data directory.
    ///
    /// # Errors
    /// When another process has it, when it is damaged, or when it was written by a newer version.
    pub fn open(options: Options) -> Result<Self, StoreError> {
        let db = sled::Config::new().path(options.dir.join("state")).open()?;
        let tree = db.open_tree("muster")?;
        Ok(Self { tree, events: RwLock::default(), latest: watch::Sender::new(0) })
    }

    /// Reads one value.
    pub fn get<K: Key, V: Row>(
        &self,
        table: Table<K, V>,
        key: &K,
    ) -> Result<Option<V>, StoreError> {
        self.tree.get(table.key(key))?.map(|bytes| table.decode(&bytes)).transpose()
    }

    /// Hands every row below `prefix` and after `after` to `visit`, in key order, until it breaks.
    ///
    /// `prefix` is the leading part of the table's key: `()` for the whole table, a context, …
    pub fn scan<K: Key, V: Row, P: Key>(
        &self,
        table: Table<K, V>,
        prefix: &P,
        after: Option<&K>,
        mut visit: impl FnMut(K, V) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut low = vec![table.tag()];
        prefix.encode(&mut low);
        let start = match after {
            Some(key) => std::ops::Bound::Excluded(table.key(key)),
            None => std::ops::Bound::Included(low.clone()),
        };
        for row in self.tree.range((start, std::ops::Bound::Unbounded)) {
            let (key, value) = row?;
            if !key.starts_with(&low) {
                break;
            }
            if visit(table.parse(&key)?, table.decode(&value)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// At most `limit` rows below `prefix` and after `after`, in key order.
    pub fn page<K: Key, V: Row, P: Key>(
        &self,
        table: Table<K, V>,
        prefix: &P,
        after: Option<&K>,
        limit: usize,
    ) -> Result<Vec<(K, V)>, StoreError> {
        let mut rows = Vec::new();
        self.scan(table, prefix, after, |key, value| {
            if rows.len() < limit {
                rows.push((key, value));
            }
            if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(rows)
    }

    /// The number of the last committed event; 0 when there was none.
    pub fn latest(&self) -> u64 {
        *self.latest.borrow()
    }

    /// The number of the oldest event still held; `latest() + 1` when none is.
    pub fn oldest(&self) -> u64 {
        1
    }

    /// At most `limit` events after `since`, whatever they are about.
    ///
    /// # Errors
    /// [`Error::Gone`] when `since` is older than what is held, [`Error::Params`] when it is newer
    /// than the last event.
    pub fn events(&self, since: u64, limit: usize) -> Result<Vec<Arc<Event>>, Error> {
        if since > self.latest() {
            return Err(Error::params("since", "at most the latest event"));
        }
        let skip = usize::try_from(since).unwrap_or(usize::MAX);
        Ok(self.events.read().iter().skip(skip).take(limit).map(Arc::clone).collect())
    }

    /// A reader of the event log after `since`, or of what comes from now on.
    ///
    /// # Errors
    /// As [`Store::events`].
    pub fn follow(self: &Arc<Self>, since: Option<u64>) -> Result<Follower, Error> {
        let since = since.unwrap_or_else(|| self.latest());
        self.events(since, 0)?;
        Ok(Follower { store: Arc::clone(self), latest: self.latest.subscribe(), since })
    }

    /// Starts a batch that sees every batch submitted before it. Only the engine does.
    pub(crate) fn begin(&self) -> Tx<'_> {
        Tx::new(&self.tree, self.latest())
    }

    /// Hands a batch over to be made durable.
    ///
    /// `done` runs on the journal's thread once it is, or once it is known that it never will be;
    /// then every batch begun on top of it fails as well, and [`Store::recover`] must be called
    /// before the next [`Store::begin`]. Waits while too many batches are on their way.
    pub(crate) fn submit(
        &self,
        tx: Tx<'_>,
        done: impl FnOnce(Result<(), Arc<StoreError>>) + Send + 'static,
    ) {
        let (batch, events) = tx.finish();
        let applied = self.tree.apply_batch(batch).map_err(|e| Arc::new(StoreError::from(e)));
        let seq = events.last().map(|e| e.seq);
        self.events.write().extend(events.into_iter().map(Arc::new));
        if let Some(seq) = seq {
            self.latest.send_replace(seq);
        }
        done(applied);
    }

    /// Whether a batch failed since the last call of [`Store::recover`].
    pub(crate) fn has_failed(&self) -> bool {
        false
    }

    /// Forgets failed batches; the next one starts from what is durable.
    pub(crate) fn recover(&self) {}
}

/// A position in the event log.
#[derive(Debug)]
pub struct Follower {
    store: Arc<Store>,
    latest: watch::Receiver<u64>,
    since: u64,
}

/// What a follower finds next.
#[derive(Debug)]
pub enum Next {
    /// Events, in order, at least one.
    Events(Vec<Arc<Event>>),
    /// Its position has fallen out of the log.
    Lagged,
    /// The store was closed.
    Closed,
}

impl Follower {
    /// Waits for the next page of events.
    ///
    /// A follower is a cursor that is woken by each commit: it misses nothing, sees nothing twice,
    /// and costs no memory while it is slow. Cancel safe.
    pub async fn next(&mut self) -> Next {
        loop {
            match self.store.events(self.since, 256) {
                Ok(page) => {
                    if let Some(last) = page.last() {
                        self.since = last.seq;
                        return Next::Events(page);
                    }
                }
                Err(_) => return Next::Lagged,
            }
            if self.latest.changed().await.is_err() {
                return Next::Closed;
            }
        }
    }

    /// The number of the last event it has passed.
    pub fn position(&self) -> u64 {
        self.since
    }
}
