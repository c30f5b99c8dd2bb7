//! The state that the batches add up to: sled, and in front of it what sled does not have yet.
//!
//! Committed changes go to an ordered map in memory first, and from there to sled in the
//! background, where a row that changed three times is written once. Nothing is lost with the
//! map: until sled has been synced, the journal has it all. Only this file, [`super::disk`],
//! [`super::warm`] and [`super::merge`] name sled.

use std::fs::{self, File};
use std::ops::{Bound, Deref};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::batch::{Changes, Position, Value};
use super::disk::Disk;
use super::merge::{Merge, Place};
use super::{KeyBytes, StoreError};

/// Rows read under one lock.
const PAGE: usize = 256;

/// Sled and the changes in front of it.
#[derive(Debug)]
pub(super) struct State {
    dir: PathBuf,
    cache_bytes: u64,
    layers: RwLock<Layers>,
    disk: RwLock<Option<Disk>>,
    /// How far sled is.
    stored: Mutex<Position>,
    /// Held by whoever brings changes to sled.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct Layers {
    active: Changes,
    active_bytes: u64,
    frozen: Option<Arc<Frozen>>,
    position: Position,
    /// Counts how often rows have left memory for sled: places in sled from before are outdated.
    moved: u64,
}

/// Changes on their way to sled.
#[derive(Debug)]
pub(super) struct Frozen {
    changes: Changes,
    bytes: u64,
    position: Position,
}

/// The bytes of a value, wherever they are.
#[derive(Debug)]
pub(super) enum Found {
    Memory(Value),
    Disk(sled::IVec),
    /// Put together from parts.
    Whole(Box<[u8]>),
}

impl Deref for Found {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Memory(value) => value,
            Self::Disk(value) => value,
            Self::Whole(value) => value,
        }
    }
}

/// A walk over the rows below a prefix, page by page.
pub(super) struct Walk {
    prefix: KeyBytes,
    /// The last key handed out, or the one to begin after.
    after: Option<KeyBytes>,
    /// Where it is in sled, as long as sled has got no rows from memory since.
    place: Option<(u64, Place)>,
    done: bool,
}

impl Walk {
    /// Over the rows below `prefix` and after `after`.
    pub(super) const fn new(prefix: KeyBytes, after: Option<KeyBytes>) -> Self {
        Self { prefix, after, place: None, done: false }
    }
}

impl State {
    /// Opens the state in `dir`; it is as far as [`State::position`] says.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let disk = Disk::open(dir, cache_bytes)?;
        let position = disk.position()?;
        let layers = Layers { position, ..Layers::default() };
        Ok(Self {
            dir: dir.to_owned(),
            cache_bytes,
            layers: RwLock::new(layers),
            disk: RwLock::new(Some(disk)),
            stored: Mutex::new(position),
            turn: Mutex::new(()),
        })
    }

    /// How far it is.
    pub(super) fn position(&self) -> Position {
        self.layers.read().position
    }

    /// How far sled is.
    pub(super) fn stored(&self) -> Position {
        *self.stored.lock()
    }

    /// Memory taken by changes that sled does not have, bytes, about.
    pub(super) fn pending_bytes(&self) -> u64 {
        let layers = self.layers.read();
        layers.active_bytes + layers.frozen.as_ref().map_or(0, |frozen| frozen.bytes)
    }

    /// Applies committed changes; returns the bytes that wait to be frozen.
    pub(super) fn apply<'c>(&self, batches: impl Iterator<Item = (&'c Changes, Position)>) -> u64 {
        let mut layers = self.layers.write();
        for (changes, position) in batches {
            for (key, value) in changes {
                layers.active_bytes += weight(value.as_ref());
                if let Some(old) = layers.active.insert(key.clone(), value.clone()) {
                    layers.active_bytes -= weight(old.as_ref());
                }
            }
            layers.position = position;
        }
        layers.active_bytes
    }

    /// Reads one value.
    pub(super) fn get(&self, key: &KeyBytes) -> Result<Option<Found>, StoreError> {
        let layers = self.layers.read();
        if let Some(value) = layers.active.get(key) {
            return Ok(value.clone().map(Found::Memory));
        }
        if let Some(value) = layers.frozen.as_ref().and_then(|frozen| frozen.changes.get(key)) {
            return Ok(value.clone().map(Found::Memory));
        }
        // What is not in memory now is in sled, and so is whatever replaces it later.
        drop(layers);
        self.disk()?.get(key.as_slice())
    }

    /// Appends the next rows of a walk to `out`, with what `above` puts over them.
    ///
    /// `above` is newest first. Tells whether there may be more.
    pub(super) fn rows(
        &self,
        above: &[&Changes],
        walk: &mut Walk,
        limit: usize,
        out: &mut Vec<(KeyBytes, Found)>,
    ) -> Result<bool, StoreError> {
        if walk.done {
            return Ok(false);
        }
        let layers = self.layers.read();
        let disk = self.disk()?;
        let start = match &walk.after {
            Some(key) => Bound::Excluded(key.as_slice()),
            None => Bound::Included(walk.prefix.as_slice()),
        };
        let place = match &mut walk.place {
            Some((moved, place)) if *moved == layers.moved => place,
            place => &mut place.insert((layers.moved, Place::new(&disk, start)?)).1,
        };
        let mut maps = above.to_vec();
        maps.push(&layers.active);
        maps.extend(layers.frozen.as_ref().map(|frozen| &frozen.changes));
        let mut merge = Merge::new(&maps, (&disk, place), &walk.prefix, start);
        for _ in 0..limit.min(PAGE) {
            match merge.next()? {
                Some((key, Some(value))) => out.push((key, value)),
                Some((_, None)) => {}
                None => {
                    walk.done = true;
                    walk.place = None;
                    return Ok(false);
                }
            }
        }
        if let Some(last) = merge.last {
            walk.after = Some(last);
        }
        Ok(true)
    }

    /// Hands every stored row, whatever its table, to `visit`, in key order.
    pub(super) fn each(
        &self,
        visit: impl FnMut(&KeyBytes, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.each_below(&KeyBytes::new(), visit)
    }

    /// The same for the rows below `prefix`.
    pub(super) fn each_below(
        &self,
        prefix: &KeyBytes,
        mut visit: impl FnMut(&KeyBytes, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (mut walk, mut found) = (Walk::new(prefix.clone(), None), Vec::new());
        loop {
            let more = self.rows(&[], &mut walk, PAGE, &mut found)?;
            for (key, value) in found.drain(..) {
                visit(&key, &value)?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn disk(&self) -> Result<Shared<'_>, StoreError> {
        RwLockReadGuard::try_map(self.disk.read(), Option::as_ref)
            .map_err(|_| StoreError::Reopening)
    }
}

type Shared<'a> = parking_lot::MappedRwLockReadGuard<'a, Disk>;

fn weight(value: Option<&Value>) -> u64 {
    u64::try_from(value.map_or(0, |value| value.len()) + 96).unwrap_or(u64::MAX)
}

/// The way of changes to sled; only the background thread of [`super::apply`] goes it.
impl State {
    /// Brings what is waiting to sled; tells whether there was anything.
    pub(super) fn settle(&self) -> Result<bool, StoreError> {
        let _turn = self.turn.lock();
        match self.freeze() {
            Some(frozen) => self.store(&frozen).map(|()| true),
            None => Ok(false),
        }
    }

    /// Takes what is waiting; reads go on seeing it.
    pub(super) fn freeze(&self) -> Option<Arc<Frozen>> {
        let mut layers = self.layers.write();
        if layers.frozen.is_none() && layers.position > self.stored() {
            layers.frozen = Some(Arc::new(Frozen {
                changes: std::mem::take(&mut layers.active),
                bytes: std::mem::take(&mut layers.active_bytes),
                position: layers.position,
            }));
        }
        layers.frozen.clone()
    }

    /// Writes what was frozen to sled, after which it is no longer needed in memory.
    fn store(&self, frozen: &Frozen) -> Result<(), StoreError> {
        let rows = frozen.changes.iter().map(|(key, value)| (key, value.as_deref()));
        self.write(rows, frozen.position)?;
        let done = {
            let mut layers = self.layers.write();
            layers.moved += 1;
            layers.frozen.take()
        };
        drop(done);
        Ok(())
    }

    /// Writes rows to sled in chunks; with the last one sled is at `position`.
    pub(super) fn write<'r>(
        &self,
        rows: impl Iterator<Item = (&'r KeyBytes, Option<&'r [u8]>)>,
        position: Position,
    ) -> Result<(), StoreError> {
        self.disk()?.write(rows, position)?;
        *self.stored.lock() = position;
        Ok(())
    }

    /// Makes what sled has durable; returns how far that is.
    pub(super) fn sync(&self) -> Result<Position, StoreError> {
        let position = self.stored();
        self.disk()?.flush()?;
        // Sled asks the system to write, but not the disk.
        sync_files(&self.dir).map_err(StoreError::io("syncing the state"))?;
        Ok(position)
    }

    /// As after a crash that lost all that sled had not synced.
    #[cfg(test)]
    pub(super) fn forget_for_test(&self) {
        let guard = self.disk.read();
        guard.as_ref().unwrap().lose_for_test(Position { number: 20, seq: 20 }, 21);
    }

    /// As while sled is being opened again: what is not in memory cannot be read.
    #[cfg(test)]
    pub(super) fn lose_for_test(&self) {
        drop(self.disk.write().take());
    }

    /// Opens sled again after it failed, which it does for good.
    ///
    /// It may be less far then; `catch_up` brings it from there to where it was, before anyone
    /// reads from it. What came after that is in memory.
    pub(super) fn reopen(
        &self,
        catch_up: impl FnOnce(&Disk, Position, Position) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _turn = self.turn.lock();
        drop(self.disk.write().take());
        let disk = Disk::open(&self.dir, self.cache_bytes)?;
        let (from, until) = (disk.position()?, self.stored());
        if from < until {
            catch_up(&disk, from, until)?;
        }
        self.layers.write().moved += 1;
        *self.disk.write() = Some(disk);
        Ok(())
    }

    /// Disk space it takes, bytes.
    pub(super) fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.disk()?.bytes()
    }
}

fn sync_files(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        // Sled may have replaced a snapshot in the meantime.
        match File::open(&path).and_then(|file| file.sync_all()) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
    }
    File::open(dir)?.sync_all()
}
