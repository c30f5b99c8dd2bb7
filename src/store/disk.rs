//! An open sled: rows, and the parts of those that its pages are too small for.
//!
//! A page of sled has up to 16 rows, whatever their size. One that is too large for a quarter of
//! a segment becomes a file, which sled's cache takes for some bytes and never lets go of. So a
//! large row is a head that says how many parts of it there are in another tree.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::batch::Position;
use super::state::Found;
use super::table::{BLOB, PLAIN};
use super::warm::Warm;
use super::{KeyBytes, StoreError};

/// Rows written to sled at once; its readers wait that long.
const CHUNK: usize = 128;
/// Unit in which sled reuses disk space; with smaller ones less of it lies idle.
const SEGMENT_BYTES: usize = 128 << 10;
/// Longer rows are kept in parts of this size: 17 of them, for a moment, with their keys are less
/// than a quarter of a segment.
const PART_BYTES: usize = 1_800;
/// A page full of parts, about.
const PAGE_BYTES: u64 = 16 * 1_800;
/// What sled may have to write before it is waited for, bytes, by the estimate of [`footprint`].
///
/// Each segment is written by a thread of a pool that sled does not let grow while all of its seven
/// threads wait for a lock, whose holder can wait for the file to be cut short: by one of them. So
/// there are never that many segments under way.
const UNDER_WAY: u64 = 256 << 10;
/// The row that says how far the state is; no table has its prefix.
const POSITION: &[u8] = b"\0position";
/// The first byte of a head, where other values have their kind.
const HEAD: u8 = 2;
const _: () = assert!(HEAD != PLAIN && HEAD != BLOB, "kinds of values differ");
/// Steps in which memory is freed after a chunk, at most.
const SWEEPS: usize = 64;
/// Looks for the parts of a row that is being replaced meanwhile.
const LOOKS: usize = 16;

/// An open sled.
#[derive(Debug)]
pub(super) struct Disk {
    db: sled::Db,
    rows: sled::Tree,
    parts: sled::Tree,
    /// First bytes of keys of rows in parts: which tables have any.
    parted: Mutex<BTreeSet<u8>>,
    /// Bytes since sled was last waited for, see [`UNDER_WAY`].
    under_way: AtomicU64,
    warm: Warm,
}

/// What stands for a row in parts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Head {
    /// Differs from that of the row that was replaced, so parts of one are not taken for those
    /// of the other.
    generation: u8,
    length: u32,
    sum: u32,
}

impl Head {
    fn read(stored: &[u8]) -> Option<Self> {
        let (&kind, rest) = stored.split_first()?;
        let (&generation, rest) = rest.split_first()?;
        let (length, rest) = rest.split_first_chunk()?;
        let head = Self {
            generation,
            length: u32::from_le_bytes(*length),
            sum: u32::from_le_bytes(*rest.first_chunk()?),
        };
        (kind == HEAD).then_some(head)
    }

    fn bytes(self) -> Vec<u8> {
        let mut out = vec![HEAD, self.generation];
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.sum.to_le_bytes());
        out
    }

    /// Keys of the parts of the row with this key.
    fn parts(self, key: &[u8]) -> impl Iterator<Item = KeyBytes> {
        let count = usize::try_from(self.length).unwrap_or(usize::MAX).div_ceil(PART_BYTES);
        (0..u16::try_from(count).unwrap_or(u16::MAX)).map(move |number| {
            let mut part = KeyBytes::from(key);
            part.push(self.generation);
            part.extend_from_slice(&number.to_be_bytes());
            part
        })
    }
}

/// Changes on their way to the trees.
#[derive(Default)]
struct Chunk {
    /// Before the heads that need them …
    parts: sled::Batch,
    rows: sled::Batch,
    /// … and after those that needed these.
    unused: sled::Batch,
    count: usize,
    footprint: u64,
}

impl Disk {
    /// Opens what is in `dir`, which need not exist.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        // Flushing is up to checkpoints; the journal is what makes changes durable.
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(None);
        let mut attempts = 0;
        let db = loop {
            match config.open() {
                Ok(db) => break db,
                // Its lock can linger for a moment after the last handle is gone.
                Err(sled::Error::Io(err))
                    if attempts < 50 && err.to_string().contains("acquire lock") =>
                {
                    attempts += 1;
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                Err(err) => return Err(err.into()),
            }
        };
        let (rows, parts) = (db.open_tree("rows")?, db.open_tree("parts")?);
        let parted = Mutex::new(first_bytes(&parts)?);
        Ok(Self { db, rows, parts, parted, under_way: AtomicU64::new(0), warm: Warm::default() })
    }

    /// Reads one row.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Found>, StoreError> {
        match self.rows.get(key)? {
            Some(stored) => {
                self.warm.used(&self.rows, key, stored.len());
                self.found(key, stored)
            }
            None => Ok(None),
        }
    }

    /// Rows from `start` on, as they are stored; [`Disk::passed`] turns one into what it is.
    pub(super) fn range(&self, start: Bound<&[u8]>) -> sled::Iter {
        self.rows.range::<&[u8], _>((start, Bound::Unbounded))
    }

    /// The row that a walk has come to; none where it is the position, which is no row and may look
    /// like a head.
    pub(super) fn passed(
        &self,
        key: &[u8],
        stored: sled::IVec,
    ) -> Result<Option<Found>, StoreError> {
        if key == POSITION {
            return Ok(None);
        }
        let bytes = u64::try_from(key.len() + stored.len()).unwrap_or(u64::MAX);
        self.warm.grown(&self.rows, key, bytes);
        self.found(key, stored)
    }

    /// Puts a row together.
    fn found(&self, key: &[u8], mut stored: sled::IVec) -> Result<Option<Found>, StoreError> {
        for _ in 0..LOOKS {
            let Some(head) = Head::read(&stored) else { return Ok(Some(Found::Disk(stored))) };
            if let Some(whole) = self.whole(key, head)? {
                return Ok(Some(Found::Whole(whole)));
            }
            // It was replaced after its head was read.
            match self.rows.get(key)? {
                Some(now) => stored = now,
                None => return Ok(None),
            }
        }
        let reason = "parts of a large row are missing".to_owned();
        Err(StoreError::Value { table: "state", reason })
    }

    /// A row in parts, if they are all there.
    fn whole(&self, key: &[u8], head: Head) -> Result<Option<Box<[u8]>>, StoreError> {
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        let mut whole = Vec::with_capacity(length.min(1 << 20));
        for part in head.parts(key) {
            let Some(bytes) = self.parts.get(&part)? else { return Ok(None) };
            whole.extend_from_slice(&bytes);
        }
        self.grown(key, head);
        let complete = whole.len() == length && crc32fast::hash(&whole) == head.sum;
        Ok(complete.then(|| whole.into_boxed_slice()))
    }

    /// Parts of a row lie beside each other: the last page of them may be new to the cache, and
    /// those before it hold nothing else.
    fn grown(&self, key: &[u8], head: Head) {
        if let Some(part) = head.parts(key).next() {
            let bytes = u64::from(head.length) + PAGE_BYTES;
            self.warm.grown(&self.parts, part.as_slice(), bytes);
        }
    }

    /// Writes rows in chunks; with the last one this is at `position`.
    pub(super) fn write<'r>(
        &self,
        rows: impl Iterator<Item = (&'r KeyBytes, Option<&'r [u8]>)>,
        position: Position,
    ) -> Result<(), StoreError> {
        let mut chunk = Chunk::default();
        for (key, value) in rows {
            self.add(&mut chunk, key.as_slice(), value)?;
            if chunk.count >= CHUNK || chunk.footprint >= UNDER_WAY {
                self.apply(std::mem::take(&mut chunk))?;
            }
        }
        chunk.rows.insert(POSITION, encode_position(position));
        self.apply(chunk)
    }

    fn add(&self, chunk: &mut Chunk, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        let old = self.head(key)?;
        for part in old.iter().flat_map(|old| old.parts(key)) {
            chunk.unused.remove(part.as_slice());
            chunk.count += 1;
        }
        chunk.count += 1;
        chunk.footprint += footprint(key.len() + value.map_or(0, <[u8]>::len));
        let Some(value) = value else {
            chunk.rows.remove(key);
            return Ok(());
        };
        if value.len() <= PART_BYTES {
            chunk.rows.insert(key, value);
            self.warm.used(&self.rows, key, value.len());
            return Ok(());
        }
        let too_large = |_| StoreError::Value { table: "state", reason: "too large".to_owned() };
        let head = Head {
            generation: old.map_or(0, |old| old.generation.wrapping_add(1)),
            length: u32::try_from(value.len()).map_err(too_large)?,
            sum: crc32fast::hash(value),
        };
        for (part, bytes) in head.parts(key).zip(value.chunks(PART_BYTES)) {
            chunk.parts.insert(part.as_slice(), bytes);
            chunk.count += 1;
        }
        chunk.rows.insert(key, head.bytes());
        self.parted.lock().extend(key.first());
        self.grown(key, head);
        Ok(())
    }

    /// The head of the row that a key has now, if it is one in parts.
    fn head(&self, key: &[u8]) -> Result<Option<Head>, StoreError> {
        let parted = key.first().is_some_and(|first| self.parted.lock().contains(first));
        if !parted {
            return Ok(None);
        }
        Ok(self.rows.get(key)?.and_then(|stored| Head::read(&stored)))
    }

    fn apply(&self, chunk: Chunk) -> Result<(), StoreError> {
        self.parts.apply_batch(chunk.parts)?;
        self.rows.apply_batch(chunk.rows)?;
        self.parts.apply_batch(chunk.unused)?;
        let under_way = self.under_way.fetch_add(chunk.footprint, Ordering::Relaxed);
        if under_way + chunk.footprint >= UNDER_WAY {
            self.db.flush()?;
            self.under_way.store(0, Ordering::Relaxed);
        }
        sweep();
        Ok(())
    }

    /// How far it is.
    pub(super) fn position(&self) -> Result<Position, StoreError> {
        let Some(bytes) = self.rows.get(POSITION)? else { return Ok(Position::default()) };
        let mut rest: &[u8] = &bytes;
        let number = super::batch::take_u64(&mut rest);
        let seq = super::batch::take_u64(&mut rest);
        match (number, seq) {
            (Some(number), Some(seq)) => Ok(Position { number, seq }),
            _ => Err(StoreError::Key("position")),
        }
    }

    /// Asks the system to write what it has not written yet.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        Ok(())
    }

    /// Disk space it takes, bytes.
    pub(super) fn bytes(&self) -> Result<u64, StoreError> {
        Ok(self.db.size_on_disk()?)
    }

    /// How many parts there are of all rows.
    #[cfg(test)]
    pub(super) fn parts_for_test(&self) -> usize {
        self.parts.len()
    }

    /// Loses the last part there is.
    #[cfg(test)]
    pub(super) fn lose_part_for_test(&self) {
        self.parts.pop_max().unwrap().unwrap();
    }

    /// As if it had lost all but the first rows.
    #[cfg(test)]
    pub(super) fn lose_for_test(&self, position: Position, kept: usize) {
        self.rows.insert(POSITION, encode_position(position)).unwrap();
        for row in self.rows.iter().keys().skip(kept) {
            self.rows.remove(row.unwrap()).unwrap();
        }
    }
}

/// What sled writes for a row of so many bytes, about: the row, and its page of up to 16 when that
/// is written anew, which is after ten changes, and when it is split.
fn footprint(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX / 8).saturating_mul(5).saturating_add(200)
}

/// Frees what sled has replaced or let go of.
///
/// By itself it does so a little at a time, whenever some thread happens to come by: less than
/// large batches leave behind, and on threads that the allocator has not got the memory from.
fn sweep() {
    let swept = Arc::new(AtomicBool::new(false));
    let last = Arc::clone(&swept);
    sled::pin().defer(move || last.store(true, Ordering::Relaxed));
    for _ in 0..SWEEPS {
        // Whoever reads right now holds it up; the next chunk makes up for it.
        sled::pin().flush();
        if swept.load(Ordering::Relaxed) {
            return;
        }
    }
}

fn first_bytes(tree: &sled::Tree) -> Result<BTreeSet<u8>, StoreError> {
    let (mut found, mut from) = (BTreeSet::new(), Some(0_u8));
    while let Some(first) = from {
        let next = tree.range([first]..).next().transpose()?;
        let first = next.as_ref().and_then(|(key, _)| key.first().copied());
        found.extend(first);
        from = first.and_then(|first| first.checked_add(1));
    }
    Ok(found)
}

fn encode_position(position: Position) -> Vec<u8> {
    let mut out = position.number.to_le_bytes().to_vec();
    out.extend_from_slice(&position.seq.to_le_bytes());
    out
}
