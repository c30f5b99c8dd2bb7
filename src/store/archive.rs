//! The file of a backup: every row, the batches before them whose events are kept, those committed
//! meanwhile, the large values, a checksum.
//!
//! A header, then items, each a kind, a length and its bytes. The last item says how far the state
//! is once all others were taken in, and a BLAKE3 digest of everything before it ends the file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::batch::{Batch, Position, take_bytes, take_u64};
use super::blob::Digest;
use super::{KeyBytes, StoreError};

const MAGIC: [u8; 8] = *b"mustrbak";
/// Files of the first version have no batches from before the rows.
const VERSIONS: std::ops::RangeInclusive<u64> = 1..=2;
/// No item is longer: what claims to be is damaged.
const MAX_ITEM: u64 = 2 << 30;
const ROW: u8 = 1;
const BATCH: u8 = 2;
const VALUE: u8 = 3;
const END: u8 = 4;
const PAST: u8 = 5;

/// What a backup holds.
pub(super) enum Item<'i> {
    /// A row as it is stored, of some batch up to the last.
    Row(KeyBytes, &'i [u8]),
    /// A batch that is in the rows already; it is there for its events.
    Past(Box<Batch>),
    /// A batch committed while the rows were read.
    Batch(Box<Batch>),
    /// A large value.
    Value(&'i [u8]),
}

/// Writes a backup, which replaces an older one of the name only when it is whole.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    part: PathBuf,
    out: BufWriter<File>,
    hash: blake3::Hasher,
    scratch: Vec<u8>,
    bytes: u64,
    /// Large values that the items refer to.
    pub(super) values: BTreeSet<Digest>,
}

impl Writer {
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        let create = || {
            fs::create_dir_all(folder(path))?;
            // Like the data directory, it is for its owner only.
            File::options().create(true).write(true).truncate(true).mode(0o600).open(&part)
        };
        let file = create().map_err(StoreError::io("creating the backup"))?;
        let mut writer = Self {
            path: path.to_owned(),
            part,
            out: BufWriter::with_capacity(1 << 20, file),
            hash: blake3::Hasher::new(),
            scratch: vec![],
            bytes: 0,
            values: BTreeSet::new(),
        };
        writer.put(&MAGIC)?;
        writer.put(&VERSIONS.end().to_le_bytes())?;
        Ok(writer)
    }

    pub(super) fn row(&mut self, key: &KeyBytes, value: &[u8]) -> Result<(), StoreError> {
        self.values.extend(super::blob::reference(value));
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        super::batch::put_bytes(&mut scratch, key.as_slice());
        scratch.extend_from_slice(value);
        let done = self.item(ROW, &scratch);
        self.scratch = scratch;
        done
    }

    /// What it refers to may be gone by now, and is not needed.
    pub(super) fn past(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.encoded(PAST, batch)
    }

    pub(super) fn batch(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let values = batch.changes.values().flatten();
        self.values.extend(values.filter_map(|value| super::blob::reference(value)));
        self.encoded(BATCH, batch)
    }

    fn encoded(&mut self, kind: u8, batch: &Batch) -> Result<(), StoreError> {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        batch.encode(&mut bytes);
        let done = self.item(kind, &bytes);
        self.scratch = bytes;
        done
    }

    pub(super) fn value(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.item(VALUE, bytes)
    }

    /// Ends it; returns its size.
    pub(super) fn finish(mut self, end: Position) -> Result<u64, StoreError> {
        let mut bytes = end.number.to_le_bytes().to_vec();
        bytes.extend_from_slice(&end.seq.to_le_bytes());
        self.item(END, &bytes)?;
        let digest = self.hash.finalize();
        self.put(digest.as_bytes())?;
        let sync = || {
            self.out.flush()?;
            self.out.get_ref().sync_all()?;
            fs::rename(&self.part, &self.path)?;
            File::open(folder(&self.path))?.sync_all()
        };
        let mut sync = sync;
        sync().map_err(StoreError::io("finishing the backup"))?;
        Ok(self.bytes)
    }

    fn item(&mut self, kind: u8, bytes: &[u8]) -> Result<(), StoreError> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.put(&[kind])?;
        self.put(&length.to_le_bytes())?;
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hash.update(bytes);
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.out.write_all(bytes).map_err(StoreError::io("writing the backup"))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After `finish` there is none.
        let _ = fs::remove_file(&self.part);
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Reads a backup to its end, and only then returns how far it is.
///
/// # Errors
/// When it is damaged, which may be found after `visit` has seen all of it.
pub(super) fn read(
    path: &Path,
    mut visit: impl FnMut(Item<'_>) -> Result<(), StoreError>,
) -> Result<Position, StoreError> {
    let mut source = Source::open(path)?;
    let mut buffer = vec![];
    loop {
        let [kind] = source.take()?;
        let length = u64::from_le_bytes(source.take()?);
        source.fill(&mut buffer, length)?;
        let mut bytes = buffer.as_slice();
        match kind {
            ROW => {
                let Some(key) = take_bytes(&mut bytes) else { return Err(source.damaged("a row")) };
                visit(Item::Row(KeyBytes::from(key), bytes))?;
            }
            PAST | BATCH => match Batch::decode(&mut bytes).map(Box::new) {
                Some(batch) if kind == PAST => visit(Item::Past(batch))?,
                Some(batch) => visit(Item::Batch(batch))?,
                None => return Err(source.damaged("a batch")),
            },
            VALUE => visit(Item::Value(bytes))?,
            END => {
                let (number, seq) = (take_u64(&mut bytes), take_u64(&mut bytes));
                let digest = source.hash.finalize();
                let right = source.take()? == *digest.as_bytes() && source.at == source.length;
                return match (number, seq) {
                    (Some(number), Some(seq)) if right => Ok(Position { number, seq }),
                    _ => Err(source.damaged("the checksum")),
                };
            }
            _ => return Err(source.damaged("an item")),
        }
    }
}

struct Source {
    path: PathBuf,
    input: BufReader<File>,
    hash: blake3::Hasher,
    at: u64,
    length: u64,
}

impl Source {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let open = || {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            Ok((BufReader::with_capacity(1 << 20, file), length))
        };
        let (input, length) = open().map_err(StoreError::io("opening the backup"))?;
        let hash = blake3::Hasher::new();
        let mut source = Self { path: path.to_owned(), input, hash, at: 0, length };
        if source.take()? != MAGIC {
            return Err(source.damaged("this is no backup: the beginning"));
        }
        let found = u64::from_le_bytes(source.take()?);
        if !VERSIONS.contains(&found) {
            return Err(StoreError::Version { what: "backup", found, known: *VERSIONS.end() });
        }
        Ok(source)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|err| self.failed(err))?;
        self.passed(&bytes);
        Ok(bytes)
    }

    fn fill(&mut self, buffer: &mut Vec<u8>, length: u64) -> Result<(), StoreError> {
        let fits = length <= MAX_ITEM && length <= self.length.saturating_sub(self.at);
        let size = usize::try_from(length).ok().filter(|_| fits);
        buffer.resize(size.ok_or_else(|| self.damaged("an item's length"))?, 0);
        self.input.read_exact(buffer).map_err(|err| self.failed(err))?;
        self.passed(buffer);
        Ok(())
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.at += u64::try_from(bytes.len()).unwrap_or_default();
    }

    fn failed(&self, source: io::Error) -> StoreError {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("the end is missing; the length"),
            _ => StoreError::Io { what: "reading the backup", source },
        }
    }

    fn damaged(&self, reason: &'static str) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), offset: self.at, reason }
    }
}
