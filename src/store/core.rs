//! What the threads of a store share.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::batch::{Changes, Position};
use super::blob::Blobs;
use super::journal::Journal;
use super::log::Log;
use super::segment::Segments;
use super::state::State;
use super::table::{BLOB, PLAIN};
use super::watch::Watchers;
use super::{Key, Options, Row, StoreError, Table, apply};

/// Folder of the state.
pub(super) const STATE: &str = "state";
/// Folder of the journal.
pub(super) const JOURNAL: &str = "journal";
/// Folder of large values.
pub(super) const BLOBS: &str = "blobs";
/// Changes that sled does not have may take this much memory; then commits wait for it.
const PENDING_BYTES: u64 = 32 << 20;
/// Disk space that is left alone, so that sled has room for what the journal has taken.
const RESERVE_BYTES: u64 = 4 << 20;

/// What the threads of a store share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) dir: PathBuf,
    pub(super) state: State,
    pub(super) journal: Box<dyn Journal>,
    pub(super) blobs: Blobs,
    pub(super) log: Log,
    pub(super) pipeline: Pipeline,
    pub(super) background: Background,
    /// Batches after this one are being backed up.
    pub(super) pinned: Mutex<Option<u64>>,
    /// Who is told of changes of some tables.
    pub(super) watchers: Watchers,
    /// Held by what reads all rows and large values: one backup, or the search for unused files.
    pub(super) archiving: Mutex<()>,
}

impl Core {
    /// Opens what is in a data directory that is locked, and brings the state to where the
    /// journal is.
    pub(super) fn open(
        options: &Options,
        wrap: impl FnOnce(Segments) -> Box<dyn Journal>,
    ) -> Result<Self, StoreError> {
        let dir = options.dir.clone();
        let state = State::open(&dir.join(STATE), options.cache_bytes)?;
        let journal = Segments::open(&dir.join(JOURNAL), state.position())?;
        let (first, last) = (journal.first(), journal.last());
        if last < state.position() {
            let reason = "the journal ends before the state does";
            return Err(StoreError::Damaged { path: dir.join(JOURNAL), offset: 0, reason });
        }
        let core = Self {
            blobs: Blobs::open(&dir.join(BLOBS))?,
            log: Log::new(options, first, last),
            dir,
            state,
            journal: wrap(journal),
            pipeline: Pipeline::new(last),
            background: Background::default(),
            pinned: Mutex::new(None),
            watchers: Watchers::default(),
            archiving: Mutex::new(()),
        };
        apply::catch_up(&core)?;
        Ok(core)
    }

    /// Decodes a stored value.
    pub(super) fn decode<K: Key, V: Row>(
        &self,
        table: Table<K, V>,
        stored: &[u8],
    ) -> Result<V, StoreError> {
        match stored.split_first() {
            Some((&PLAIN, bytes)) => table.decode(bytes),
            Some((&BLOB, reference)) => table.decode(&self.blobs.load(reference)?),
            Some(_) | None => {
                let reason = "unknown kind of value".to_owned();
                Err(StoreError::Value { table: table.name(), reason })
            }
        }
    }

    /// Waits until there is memory for more changes, and checks that there is disk space for them.
    pub(super) fn make_room(&self) -> Result<(), Arc<StoreError>> {
        loop {
            let pending = self.state.pending_bytes();
            if pending < PENDING_BYTES {
                return self.check_space(pending).map_err(Arc::new);
            }
            self.background.wait_for_room()?;
        }
    }

    /// Checks that there is disk space for what is in memory, and some more.
    pub(super) fn check_space(&self, pending: u64) -> Result<(), StoreError> {
        let stat = nix::sys::statvfs::statvfs(&self.dir)
            .map_err(|err| StoreError::Io { what: "asking for free space", source: err.into() })?;
        let free = stat.blocks_available().saturating_mul(stat.fragment_size());
        if free >= RESERVE_BYTES + 2 * pending {
            return Ok(());
        }
        let source = std::io::ErrorKind::StorageFull.into();
        Err(StoreError::Io { what: "keeping some disk space free", source })
    }
}

/// Batches on their way from the engine to the journal.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    line: Mutex<Line>,
    drained: Condvar,
}

#[derive(Debug, Default)]
struct Line {
    /// How far the journal is when all of them succeed.
    end: Position,
    durable: Position,
    in_flight: VecDeque<(u64, Arc<Changes>)>,
    pending: usize,
    failure: Option<Arc<StoreError>>,
}

impl Pipeline {
    pub(super) fn new(start: Position) -> Self {
        let line = Line { end: start, durable: start, ..Line::default() };
        Self { line: Mutex::new(line), drained: Condvar::new() }
    }

    /// What the next batch comes after, and the changes on their way, newest first.
    pub(super) fn begin(&self) -> (Position, Vec<Arc<Changes>>) {
        let line = self.line.lock();
        (line.end, line.in_flight.iter().rev().map(|(_, changes)| Arc::clone(changes)).collect())
    }

    /// Whether no batch is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.line.lock().pending == 0
    }

    /// A batch sets out.
    pub(super) fn enter(&self, position: Position, changes: &Arc<Changes>) {
        let mut line = self.line.lock();
        line.end = position;
        line.pending += 1;
        if !changes.is_empty() {
            line.in_flight.push_back((position.number, Arc::clone(changes)));
        }
    }

    /// Batches up to this one are durable and applied.
    pub(super) fn advance(&self, position: Position) {
        let mut line = self.line.lock();
        line.durable = position;
        while line.in_flight.front().is_some_and(|(number, _)| *number <= position.number) {
            line.in_flight.pop_front();
        }
    }

    /// A batch has arrived: its outcome is known, and was told.
    pub(super) fn leave(&self) {
        let mut line = self.line.lock();
        line.pending = line.pending.saturating_sub(1);
        if line.pending == 0 {
            self.drained.notify_all();
        }
    }

    /// What made a batch fail, if one did since the last [`Pipeline::recover`].
    pub(super) fn failure(&self) -> Option<Arc<StoreError>> {
        self.line.lock().failure.clone()
    }

    /// From now on every batch fails.
    pub(super) fn fail(&self, cause: &Arc<StoreError>) {
        self.line.lock().failure.get_or_insert_with(|| Arc::clone(cause));
    }

    /// Waits until nothing is on its way; the next batch starts from what is durable.
    pub(super) fn recover(&self) {
        let mut line = self.line.lock();
        while line.pending > 0 {
            self.drained.wait(&mut line);
        }
        line.end = line.durable;
        line.in_flight.clear();
        line.failure = None;
    }
}

/// How the other threads talk to the one that brings changes to sled.
#[derive(Debug, Default)]
pub(super) struct Background {
    flags: Mutex<Flags>,
    work: Condvar,
    room: Condvar,
}

#[derive(Debug, Default)]
struct Flags {
    dirty: bool,
    urgent: bool,
    stop: bool,
    stuck: Option<Arc<StoreError>>,
}

/// Why the background thread goes to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Changes,
    Idle,
    Stop,
}

impl Background {
    /// There is something to do, at once or in a while.
    pub(super) fn notify(&self, urgent: bool) {
        let mut flags = self.flags.lock();
        if !flags.dirty || (urgent && !flags.urgent) {
            flags.dirty = true;
            flags.urgent |= urgent;
            self.work.notify_all();
        }
    }

    pub(super) fn stop(&self) {
        self.flags.lock().stop = true;
        self.work.notify_all();
    }

    /// Waits for work: `linger` after the first change, so that more come together.
    pub(super) fn wait(&self, linger: Duration, idle: Option<Duration>) -> Reason {
        let mut flags = self.flags.lock();
        while !flags.dirty && !flags.stop {
            match idle {
                Some(idle) if self.work.wait_for(&mut flags, idle).timed_out() => {
                    return Reason::Idle;
                }
                Some(_) => {}
                None => self.work.wait(&mut flags),
            }
        }
        if !flags.urgent && !flags.stop {
            self.work.wait_while_for(&mut flags, |flags| !flags.urgent && !flags.stop, linger);
        }
        flags.dirty = false;
        flags.urgent = false;
        if flags.stop { Reason::Stop } else { Reason::Changes }
    }

    /// Tells whether sled takes changes, and those who wait for that.
    pub(super) fn report(&self, outcome: Result<(), Arc<StoreError>>) {
        self.flags.lock().stuck = outcome.err();
        self.room.notify_all();
    }

    fn wait_for_room(&self) -> Result<(), Arc<StoreError>> {
        let mut flags = self.flags.lock();
        flags.dirty = true;
        flags.urgent = true;
        self.work.notify_all();
        if let Some(err) = &flags.stuck {
            return Err(Arc::clone(err));
        }
        self.room.wait_for(&mut flags, Duration::from_millis(50));
        Ok(())
    }
}
