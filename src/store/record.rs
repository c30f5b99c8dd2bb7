//! The bytes of a journal file: its header, its records, and how they are read back.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::batch::{Batch, Position, take_u64};

/// Length of a file's header.
pub(super) const HEADER: u64 = 32;
/// The version of this format.
const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"mustrjnl";
/// Length, checksum, group.
const RECORD_HEAD: usize = 16;
/// Read at once.
const CHUNK: usize = 256 << 10;
/// No record is longer: what claims to be is damaged.
const MAX_RECORD: usize = 1 << 30;

/// The header of a journal file.
pub(super) struct Header {
    /// What comes before its first batch.
    pub(super) before: Position,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        let mut numbers = self.before.number.to_le_bytes().to_vec();
        numbers.extend_from_slice(&self.before.seq.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&numbers).to_le_bytes());
        out.extend_from_slice(&numbers);
        out
    }

    /// `None` when it is not whole.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = File::open(path).map_err(StoreError::io("opening a journal file"))?;
        let mut bytes = [0; 32];
        if file.read_exact_at(&mut bytes, 0).is_err() {
            return Ok(None);
        }
        let (mut head, mut numbers) = bytes.split_at(16);
        let (magic, rest) = (take_u64(&mut head), take_u64(&mut head).unwrap_or_default());
        let [version, sum] = [rest & u64::from(u32::MAX), rest >> 32];
        if magic != Some(u64::from_le_bytes(MAGIC)) || sum != u64::from(crc32fast::hash(numbers)) {
            return Ok(None);
        }
        if version != u64::from(VERSION) {
            let found = version;
            return Err(StoreError::Version { what: "journal", found, known: VERSION.into() });
        }
        let (number, seq) = (take_u64(&mut numbers), take_u64(&mut numbers));
        let before = Position { number: number.unwrap_or_default(), seq: seq.unwrap_or_default() };
        Ok(Some(Self { before }))
    }
}

/// Appends a record.
pub(super) fn put_record(out: &mut Vec<u8>, group: u64, batch: &Batch) -> Result<(), StoreError> {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&group.to_le_bytes());
    batch.encode(out);
    let body = out.get(start + 8..).unwrap_or_default();
    if body.len() > MAX_RECORD {
        let source = std::io::Error::other("the batch is too large");
        return Err(StoreError::Io { what: "appending to the journal", source });
    }
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    let sum = crc32fast::hash(body).to_le_bytes();
    if let Some(head) = out.get_mut(start..start + 8) {
        let (left, right) = head.split_at_mut(4);
        left.copy_from_slice(&length);
        right.copy_from_slice(&sum);
    }
    Ok(())
}

/// A record whose checksum is right.
pub(super) struct Record<'r> {
    /// Where it begins.
    pub(super) offset: u64,
    /// The batch.
    pub(super) payload: &'r [u8],
}

impl Record<'_> {
    /// What comes before the batch.
    pub(super) fn before(&self) -> Position {
        let mut bytes = self.payload;
        let number = take_u64(&mut bytes).unwrap_or_default();
        let seq = take_u64(&mut bytes).unwrap_or_default();
        Position { number: number.saturating_sub(1), seq }
    }
}

/// Reads the records of one file.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    path: PathBuf,
    end: u64,
    base: u64,
    buffer: Vec<u8>,
}

impl Reader {
    /// Reads up to `end`.
    pub(super) fn open(path: &Path, end: u64) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|err| match err.kind() {
            std::io::ErrorKind::NotFound => StoreError::Forgotten,
            _ => StoreError::Io { what: "opening a journal file", source: err },
        })?;
        Ok(Self { file, path: path.to_owned(), end, base: 0, buffer: vec![] })
    }

    /// The record at `offset`, which moves behind it; `None` at the end.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when there is something else.
    pub(super) fn next(&mut self, offset: &mut u64) -> Result<Option<Record<'_>>, StoreError> {
        let at = *offset;
        if at >= self.end {
            return Ok(None);
        }
        match self.body(at)? {
            Some(length) => {
                *offset = at + 8 + u64::try_from(length).unwrap_or_default();
                let bytes = self.window(at, 8 + length)?.unwrap_or_default();
                let payload = bytes.get(RECORD_HEAD..).unwrap_or_default();
                Ok(Some(Record { offset: at, payload }))
            }
            None => Err(StoreError::Damaged {
                path: self.path.clone(),
                offset: at,
                reason: "the checksum is wrong",
            }),
        }
    }

    /// Whether something between `from` and the end was written by a group after `number`.
    ///
    /// Then whatever is wrong before it was durable once, and is not a torn write.
    pub(super) fn holds_group_after(&mut self, from: u64, number: u64) -> Result<bool, StoreError> {
        let mut at = from;
        while at + 16 <= self.end {
            let Some(head) = self.window(at, 24)? else { return Ok(false) };
            let mut numbers = head.get(8..).unwrap_or_default();
            let group = take_u64(&mut numbers).unwrap_or_default();
            let batch = take_u64(&mut numbers).unwrap_or_default();
            let plausible = group > number && batch >= group && batch - number < 1 << 24;
            if plausible && self.body(at)?.is_some() {
                return Ok(true);
            }
            at += 1;
        }
        Ok(false)
    }

    /// The length of what follows the first eight bytes, when the checksum is right.
    fn body(&mut self, at: u64) -> Result<Option<usize>, StoreError> {
        let Some(head) = self.window(at, RECORD_HEAD)? else { return Ok(None) };
        let Some((head, _)) = head.split_at_checked(8) else { return Ok(None) };
        let numbers = head.first_chunk().copied().map_or(0, u64::from_le_bytes);
        let length = usize::try_from(numbers & u64::from(u32::MAX)).unwrap_or_default();
        if !(RECORD_HEAD..=MAX_RECORD).contains(&length) {
            return Ok(None);
        }
        let body = self.window(at, 8 + length)?.and_then(|bytes| bytes.get(8..));
        let right = body.is_some_and(|body| u64::from(crc32fast::hash(body)) == numbers >> 32);
        Ok(right.then_some(length))
    }

    /// `length` bytes from `at`, unless the file ends before.
    fn window(&mut self, at: u64, length: usize) -> Result<Option<&[u8]>, StoreError> {
        let until = at.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        if until > self.end {
            return Ok(None);
        }
        let have = self.base + u64::try_from(self.buffer.len()).unwrap_or_default();
        if at < self.base || until > have {
            let rest = usize::try_from(self.end - at).unwrap_or(usize::MAX);
            self.buffer.resize(length.max(CHUNK).min(rest), 0);
            self.base = at;
            let read = self.file.read_exact_at(&mut self.buffer, at);
            read.map_err(StoreError::io("reading the journal"))?;
        }
        let start = usize::try_from(at - self.base).unwrap_or(usize::MAX);
        Ok(self.buffer.get(start..start + length))
    }
}
