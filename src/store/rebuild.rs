//! A fresh sled directory in place of a broken or bloated one.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::Path;

use super::backup::load;
use super::batch::{Changes, Position};
use super::blob::Blobs;
use super::core::{BLOBS, Core, JOURNAL, STATE};
use super::journal::Journal;
use super::segment::Segments;
use super::state::State;
use super::{Options, StoreError, apply, lock, migrate};

const NEW: &str = "state.new";
const OLD: &str = "state.old";
/// Rows copied at once.
const ROWS: usize = 4_096;

/// Copies the state of a data directory that nobody has open into a fresh one, which is smaller,
/// and removes large values that nothing refers to. Returns the disk space before and after, bytes.
///
/// # Errors
/// When it is in use, or something cannot be read or written; then it is as it was before.
pub fn compact(dir: &Path) -> Result<(u64, u64), StoreError> {
    migrate::must_be_one(dir)?;
    let _lock = lock::take(dir)?;
    migrate::prepare(dir)?;
    finish(dir)?;
    let options = Options::new(dir);
    let core = Core::open(&options, |journal| Box::new(journal))?;
    while core.state.settle()? {}
    apply::checkpoint(&core)?;
    apply::collect(&core)?;
    let before = core.state.disk_bytes()? + core.blobs.bytes();
    let new = fresh(dir, options.cache_bytes)?;
    let mut rows = Changes::new();
    core.state.each(|key, value| {
        rows.insert(key.clone(), Some(value.into()));
        if rows.len() < ROWS { Ok(()) } else { flush(&new, &mut rows, Position::default()) }
    })?;
    flush(&new, &mut rows, core.state.position())?;
    new.sync()?;
    let after = new.disk_bytes()? + core.blobs.bytes();
    drop((core, new));
    swap(dir)?;
    Ok((before, after))
}

/// Builds the state of a data directory that nobody has open anew, from a backup and the batches
/// after it in the journal, or from the journal alone when that goes back to the first batch.
/// What is in the old state does not matter. Returns how far the new one is.
///
/// # Errors
/// [`StoreError::Forgotten`] when batches between the two are missing, or when something cannot
/// be read or written; then the directory is as it was before.
pub fn rebuild(dir: &Path, backup: Option<&Path>) -> Result<Position, StoreError> {
    migrate::must_be_one(dir)?;
    let _lock = lock::take(dir)?;
    migrate::prepare(dir)?;
    finish(dir)?;
    let blobs = Blobs::open(&dir.join(BLOBS))?;
    let state = fresh(dir, Options::new(dir).cache_bytes)?;
    let start = match backup {
        Some(file) => load(file, &state, &blobs, |_| Ok(()))?,
        None => Position::default(),
    };
    let journal = Segments::open(&dir.join(JOURNAL), start)?;
    let last = journal.last();
    if last < start {
        return Err(StoreError::Forgotten);
    }
    let (mut failed, mut expected) = (Ok(()), start.number);
    journal.read(start.number, &mut |batch| {
        expected += 1;
        failed = if batch.number == expected {
            let rows = batch.changes.iter().map(|(key, value)| (key, value.as_deref()));
            state.write(rows, batch.position())
        } else {
            Err(StoreError::Forgotten)
        };
        if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failed?;
    state.sync()?;
    drop(state);
    swap(dir)?;
    Ok(last)
}

fn flush(state: &State, rows: &mut Changes, position: Position) -> Result<(), StoreError> {
    state.write(rows.iter().map(|(key, value)| (key, value.as_deref())), position)?;
    rows.clear();
    Ok(())
}

fn fresh(dir: &Path, cache_bytes: u64) -> Result<State, StoreError> {
    remove(&dir.join(NEW))?;
    State::open(&dir.join(NEW), cache_bytes)
}

/// Puts the new state in the place of the old one. [`finish`] completes what a crash interrupts.
fn swap(dir: &Path) -> Result<(), StoreError> {
    let rename = || {
        if dir.join(STATE).exists() {
            fs::rename(dir.join(STATE), dir.join(OLD))?;
        }
        fs::rename(dir.join(NEW), dir.join(STATE))?;
        File::open(dir)?.sync_all()
    };
    rename().map_err(StoreError::io("replacing the state"))?;
    remove(&dir.join(OLD))
}

/// Tidies up after an interrupted replacement of the state.
pub(super) fn finish(dir: &Path) -> Result<(), StoreError> {
    if !dir.join(STATE).exists() && dir.join(OLD).exists() {
        let back = fs::rename(dir.join(OLD), dir.join(STATE));
        back.map_err(StoreError::io("putting the old state back"))?;
    }
    remove(&dir.join(NEW))?;
    remove(&dir.join(OLD))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::Io { what: "removing an old state", source: err })
        }
        _ => Ok(()),
    }
}
