//! Backup while running, and restore into an empty directory.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::Path;

use super::archive::{self, Item, Writer};
use super::batch::{Batch, Changes, Position};
use super::blob::Blobs;
use super::core::{BLOBS, Core, JOURNAL, STATE};
use super::journal::Journal;
use super::segment::Segments;
use super::state::State;
use super::{Options, Store, StoreError, lock, migrate};

/// Rows taken in at once; of batches for the journal, what is in them.
const ROWS: usize = 4_096;
/// Marks a directory that is being restored; nothing in it counts.
const UNFINISHED: &str = "restoring";

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// Size of the file, bytes.
    pub bytes: u64,
    /// The last event before it.
    pub seq: u64,
    /// The last batch in it.
    pub batch: u64,
}

impl Store {
    /// Writes everything as of one moment to `file`, while commits go on; blocks.
    ///
    /// The rows are read while they change; the batches committed meanwhile are added, and make
    /// the rows again what they are at the end. So are those before them whose events can still be
    /// asked for. An older file of the name is replaced at the end.
    ///
    /// # Errors
    /// When something cannot be read, or the file not be written; then it is not there.
    pub fn backup(&self, file: &Path) -> Result<BackedUp, StoreError> {
        let _archiving = self.core.archiving.lock();
        let start = {
            let mut pinned = self.core.pinned.lock();
            *pinned = Some(self.core.journal.first().number);
            self.core.state.position()
        };
        let outcome = write(&self.core, start, file);
        *self.core.pinned.lock() = None;
        outcome
    }
}

fn write(core: &Core, start: Position, file: &Path) -> Result<BackedUp, StoreError> {
    let mut writer = Writer::create(file)?;
    core.state.each(|key, value| writer.row(key, value))?;
    let end = core.state.position();
    let (oldest, mut failed) = (core.log.oldest(), Ok(()));
    core.journal.read(core.journal.first().number, &mut |batch| {
        failed = match batch.number {
            number if number > end.number => return ControlFlow::Break(()),
            number if number > start.number => writer.batch(&batch),
            _ if batch.position().seq < oldest => Ok(()),
            _ => writer.past(&batch),
        };
        if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failed?;
    for digest in std::mem::take(&mut writer.values) {
        writer.value(&core.blobs.read(&digest)?)?;
    }
    let bytes = writer.finish(end)?;
    Ok(BackedUp { bytes, seq: end.seq, batch: end.number })
}

/// Reads a backup into `dir`, which must be empty or not exist; blocks.
///
/// The file is checked as a whole before anything is written. Events that could be asked for when
/// it was made can be asked for again, and numbers go on after them.
///
/// # Errors
/// When the file is damaged or `dir` is not empty; then `dir` is as it was before.
pub fn restore(file: &Path, dir: &Path) -> Result<BackedUp, StoreError> {
    let end = archive::read(file, |_| Ok(()))?;
    let existed = dir.exists();
    let free = || match existed && !is_free(dir)? {
        true => Err(StoreError::NotEmpty(dir.to_owned())),
        false => Ok(()),
    };
    free()?;
    let lock = lock::take(dir)?;
    free()?;
    let outcome = fill(file, dir);
    if outcome.is_err() {
        let _ = clear(dir);
        if !existed {
            let _ = fs::remove_dir(dir);
        }
    }
    drop(lock);
    outcome?;
    let bytes = fs::metadata(file).map_err(StoreError::io("looking at the backup"))?.len();
    Ok(BackedUp { bytes, seq: end.seq, batch: end.number })
}

fn fill(file: &Path, dir: &Path) -> Result<(), StoreError> {
    let begin = || {
        for entry in fs::read_dir(dir)? {
            remove(&entry?.path(), &["lock", UNFINISHED])?;
        }
        File::create(dir.join(UNFINISHED))?.sync_all()
    };
    begin().map_err(StoreError::io("preparing the directory"))?;
    let options = Options::new(dir);
    let state = State::open(&dir.join(STATE), options.cache_bytes)?;
    let mut history = History { dir, journal: None, batches: vec![], size: 0 };
    load(file, &state, &Blobs::open(&dir.join(BLOBS))?, |batch| history.add(batch))?;
    history.append()?;
    drop((state, history));
    // Without a history, the journal begins where the backup ends.
    drop(Core::open(&options, |journal| Box::new(journal))?);
    migrate::stamp(dir)?;
    let finish = || {
        fs::remove_file(dir.join(UNFINISHED))?;
        File::open(dir)?.sync_all()
    };
    finish().map_err(StoreError::io("finishing the directory"))
}

/// Batches of a backup on their way to a new journal.
struct History<'d> {
    dir: &'d Path,
    /// None before the first batch says where it begins.
    journal: Option<Segments>,
    batches: Vec<Batch>,
    /// Changes and events in them, and they themselves.
    size: usize,
}

impl History<'_> {
    fn add(&mut self, batch: Batch) -> Result<(), StoreError> {
        if self.journal.is_none() {
            let before = Position { number: batch.number.saturating_sub(1), seq: batch.seq_before };
            self.journal = Some(Segments::open(&self.dir.join(JOURNAL), before)?);
        }
        self.size += 1 + batch.changes.len() + batch.events.len();
        self.batches.push(batch);
        if self.size < ROWS { Ok(()) } else { self.append() }
    }

    fn append(&mut self) -> Result<(), StoreError> {
        let batches = std::mem::take(&mut self.batches);
        self.size = 0;
        match &self.journal {
            Some(journal) if !batches.is_empty() => journal.append(&batches),
            _ => Ok(()),
        }
    }
}

/// Takes a backup into a new state and syncs it; returns how far it is. `keep` gets its batches.
pub(super) fn load(
    file: &Path,
    state: &State,
    blobs: &Blobs,
    mut keep: impl FnMut(Batch) -> Result<(), StoreError>,
) -> Result<Position, StoreError> {
    let mut rows = Changes::new();
    let flush = |rows: &mut Changes| {
        let done = state
            .write(rows.iter().map(|(key, value)| (key, value.as_deref())), Position::default());
        rows.clear();
        done
    };
    let end = archive::read(file, |item| match item {
        Item::Row(key, value) => {
            rows.insert(key, Some(value.into()));
            if rows.len() < ROWS { Ok(()) } else { flush(&mut rows) }
        }
        Item::Past(batch) => keep(*batch),
        Item::Batch(batch) => {
            flush(&mut rows)?;
            let rows = batch.changes.iter().map(|(key, value)| (key, value.as_deref()));
            state.write(rows, Position::default())?;
            keep(*batch)
        }
        Item::Value(bytes) => blobs.save(bytes).map(drop),
    })?;
    flush(&mut rows)?;
    state.write(std::iter::empty(), end)?;
    state.sync()?;
    Ok(end)
}

/// Whether nothing is lost when the directory is filled.
fn is_free(dir: &Path) -> Result<bool, StoreError> {
    let look = || {
        // A crash can bring the mark back after the directory was stamped, and has been used since.
        let unfinished = dir.join(UNFINISHED).exists() && !migrate::is_stamped(dir);
        let mut entries = fs::read_dir(dir)?;
        Ok(unfinished || entries.all(|entry| entry.is_ok_and(|e| e.file_name() == "lock")))
    };
    look().map_err(StoreError::io("looking into the directory"))
}

fn clear(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        remove(&entry?.path(), &[])?;
    }
    Ok(())
}

fn remove(path: &Path, except: &[&str]) -> std::io::Result<()> {
    if path.file_name().is_some_and(|name| except.iter().any(|except| name == *except)) {
        return Ok(());
    }
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
