//! The local journal: files of checksummed records, appended to and synced in groups.
//!
//! `journal/<first batch>.log` is a header and records. A record is its length, a checksum of the
//! rest, the number of the first batch of the group that was written with it, and the batch.
//! Everything before a group was durable when the group was written, so what does not check out
//! is a torn write when nothing of a later group follows it, and damage when something does.

use std::fs::{self, File, OpenOptions};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::StoreError;
use super::batch::{Batch, Position};
use super::journal::{Journal, Visit};
use super::record::{HEADER, Header, Reader, put_record};

/// A new file is begun when one would grow beyond this.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Disk space taken ahead of need: a sync is a quarter cheaper when it need not move the file's end.
const AHEAD_BYTES: u64 = 1 << 20;
/// Distance of the positions remembered within a file.
const MARK_BYTES: u64 = 32 << 10;
/// Scratch memory kept between appends.
const BUFFER_BYTES: usize = 1 << 20;

/// The journal of one machine.
#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    segment_bytes: u64,
    list: RwLock<Vec<Arc<Segment>>>,
    last: Mutex<Position>,
    writer: Mutex<Writer>,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    /// What comes before its first batch.
    before: Position,
    /// Where its durable bytes end.
    end: AtomicU64,
    /// Some of its records, in order; `None` until someone asks.
    marks: Mutex<Option<Vec<Mark>>>,
}

/// Where a batch begins, and what comes before it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    before: Position,
    offset: u64,
}

#[derive(Debug)]
struct Writer {
    file: File,
    segment: Arc<Segment>,
    allocated: u64,
    buffer: Vec<u8>,
    /// A failed append may have left bytes behind.
    unclean: bool,
    /// A file that was to be begun may have been left behind: what comes next goes into that one.
    must_roll: bool,
}

impl Segments {
    /// Opens the journal in `dir`; an empty one begins after `start`.
    pub(super) fn open(dir: &Path, start: Position) -> Result<Self, StoreError> {
        Self::open_with(dir, start, SEGMENT_BYTES)
    }

    pub(super) fn open_with(
        dir: &Path,
        start: Position,
        segment_bytes: u64,
    ) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(StoreError::io("creating the journal's directory"))?;
        let mut list = list(dir)?;
        // A crash can leave a file behind that was just about to be begun.
        if let Some((path, None)) = list.last()
            && length(path)? <= HEADER
        {
            fs::remove_file(path).map_err(StoreError::io("removing an empty journal file"))?;
            list.pop();
        }
        let mut segments = Vec::new();
        for (path, before) in list {
            let before = before.ok_or_else(|| damaged(&path, 0, "the header is damaged"))?;
            let end = length(&path)?;
            segments.push(Arc::new(Segment::new(path, before, end)));
        }
        let (segment, last) = match segments.last() {
            Some(segment) => (Arc::clone(segment), segment.recover()?),
            None => {
                let segment = Arc::new(Segment::create(dir, start)?.0);
                segments.push(Arc::clone(&segment));
                (segment, start)
            }
        };
        let file = open_for_append(&segment.path)?;
        let allocated = segment.end.load(Ordering::Acquire);
        let (unclean, must_roll) = (false, false);
        let writer = Writer { file, segment, allocated, buffer: vec![], unclean, must_roll };
        Ok(Self {
            dir: dir.to_owned(),
            segment_bytes,
            list: RwLock::new(segments),
            last: Mutex::new(last),
            writer: Mutex::new(writer),
        })
    }

    #[cfg(test)]
    pub(super) fn end(&self) -> u64 {
        self.writer.lock().segment.end.load(Ordering::Acquire)
    }

    fn roll(&self, writer: &mut Writer) -> Result<(), StoreError> {
        writer.truncate()?;
        // One that is begun and then not used would be taken for the end of the journal.
        writer.must_roll = true;
        let (segment, file) = Segment::create(&self.dir, self.last())?;
        writer.must_roll = false;
        let segment = Arc::new(segment);
        writer.file = file;
        writer.allocated = HEADER;
        writer.segment = Arc::clone(&segment);
        self.list.write().push(segment);
        Ok(())
    }

    /// The files from the last one whose `before` is not past the point on.
    fn from(&self, reached: impl Fn(&Position) -> bool) -> Option<Vec<Arc<Segment>>> {
        let list = self.list.read();
        let first = list.partition_point(|s| reached(&s.before)).checked_sub(1)?;
        Some(list.get(first..)?.to_vec())
    }

    fn walk(
        &self,
        reached: impl Fn(&Position) -> bool,
        decode: fn(&mut &[u8]) -> Option<Batch>,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        let segments = self.from(&reached).ok_or(StoreError::Forgotten)?;
        let mut expected = None;
        for segment in segments {
            let Mark { before, mut offset } = segment.seek(&reached)?;
            let mut expected_here = expected.unwrap_or(before.number + 1);
            let mut reader = segment.reader()?;
            while let Some(record) = reader.next(&mut offset)? {
                let at = record.offset;
                let batch = decode(&mut &*record.payload)
                    .filter(|batch| batch.number == expected_here)
                    .ok_or_else(|| damaged(&segment.path, at, "not the batch that must be here"))?;
                expected_here += 1;
                if visit(batch).is_break() {
                    return Ok(());
                }
            }
            expected = Some(expected_here);
        }
        Ok(())
    }
}

impl Journal for Segments {
    fn append(&self, batches: &[Batch]) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        let mut last = self.last();
        if writer.unclean {
            writer.truncate()?;
        }
        let group = last.number + 1;
        let (mut marks, mut buffer) = (Vec::new(), std::mem::take(&mut writer.buffer));
        buffer.clear();
        for batch in batches {
            if batch.number != last.number + 1 || batch.seq_before != last.seq {
                return Err(StoreError::Superseded);
            }
            marks.push((last, buffer.len()));
            put_record(&mut buffer, group, batch)?;
            last = batch.position();
        }
        let written = self.write(&mut writer, &buffer, &marks);
        buffer.shrink_to(BUFFER_BYTES);
        writer.buffer = buffer;
        written?;
        *self.last.lock() = last;
        Ok(())
    }

    fn first(&self) -> Position {
        self.list.read().first().map_or_else(Position::default, |segment| segment.before)
    }

    fn last(&self) -> Position {
        *self.last.lock()
    }

    fn read(&self, after: u64, visit: Visit<'_>) -> Result<(), StoreError> {
        self.walk(|before| before.number <= after, Batch::decode, &mut |batch| {
            if batch.number > after { visit(batch) } else { ControlFlow::Continue(()) }
        })
    }

    fn read_events(&self, seq: u64, visit: Visit<'_>) -> Result<(), StoreError> {
        self.walk(|before| before.seq <= seq, Batch::decode_log, &mut |batch| {
            if batch.position().seq > seq { visit(batch) } else { ControlFlow::Continue(()) }
        })
    }

    fn forget(&self, done: Position) -> Result<(), StoreError> {
        loop {
            let first = {
                let list = self.list.read();
                let [first, second, ..] = list.as_slice() else { return Ok(()) };
                if second.before.number > done.number || second.before.seq > done.seq {
                    return Ok(());
                }
                Arc::clone(first)
            };
            fs::remove_file(&first.path).map_err(StoreError::io("deleting a journal file"))?;
            self.list.write().retain(|segment| !Arc::ptr_eq(segment, &first));
        }
    }

    fn bytes(&self) -> u64 {
        let allocated = self.writer.lock().allocated;
        let list = self.list.read();
        let sealed = list.iter().rev().skip(1).map(|s| s.end.load(Ordering::Relaxed));
        sealed.sum::<u64>() + allocated
    }
}

impl Segments {
    fn write(
        &self,
        writer: &mut Writer,
        bytes: &[u8],
        marks: &[(Position, usize)],
    ) -> Result<(), StoreError> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let mut end = writer.segment.end.load(Ordering::Acquire);
        let full = end > HEADER && end.saturating_add(size) > self.segment_bytes;
        if full || writer.must_roll {
            self.roll(writer)?;
            end = HEADER;
        }
        writer.allocate(end.saturating_add(size));
        let done = writer.file.write_all_at(bytes, end).and_then(|()| writer.file.sync_data());
        if let Err(source) = done {
            writer.unclean = true;
            // What cannot be cleaned up now is before the next append.
            let _ = writer.truncate();
            return Err(StoreError::Io { what: "appending to the journal", source });
        }
        writer.segment.remember(marks.iter().map(|(before, offset)| Mark {
            before: *before,
            offset: end.saturating_add(u64::try_from(*offset).unwrap_or(u64::MAX)),
        }));
        writer.segment.end.store(end + size, Ordering::Release);
        Ok(())
    }
}

impl Writer {
    /// Takes disk space up to `end` and some more; without it the write still works, or says why.
    fn allocate(&mut self, end: u64) {
        if end <= self.allocated {
            return;
        }
        let from = i64::try_from(self.allocated);
        let size = i64::try_from(end - self.allocated + AHEAD_BYTES);
        if let (Ok(from), Ok(size)) = (from, size)
            && nix::fcntl::posix_fallocate(&self.file, from, size).is_ok()
        {
            self.allocated = end + AHEAD_BYTES;
        }
    }

    /// Cuts off what lies behind the last durable record.
    fn truncate(&mut self) -> Result<(), StoreError> {
        let end = self.segment.end.load(Ordering::Acquire);
        let done = self.file.set_len(end).and_then(|()| self.file.sync_all());
        done.map_err(StoreError::io("cutting the journal back to its last record"))?;
        self.allocated = end;
        self.unclean = false;
        Ok(())
    }
}

impl Segment {
    fn new(path: PathBuf, before: Position, end: u64) -> Self {
        Self { path, before, end: AtomicU64::new(end), marks: Mutex::new(None) }
    }

    fn create(dir: &Path, before: Position) -> Result<(Self, File), StoreError> {
        let path = dir.join(format!("{:020}.log", before.number + 1));
        let create = || {
            let file = File::create(&path)?;
            file.write_all_at(&Header { before }.encode(), 0)?;
            file.sync_all()?;
            File::open(dir)?.sync_all()?;
            Ok(file)
        };
        let file = create().map_err(|source| {
            // Left behind, it would be taken for a damaged one.
            let _ = fs::remove_file(&path);
            StoreError::Io { what: "creating a journal file", source }
        })?;
        let segment = Self::new(path, before, HEADER);
        *segment.marks.lock() = Some(vec![Mark { before, offset: HEADER }]);
        Ok((segment, file))
    }

    fn reader(&self) -> Result<Reader, StoreError> {
        Reader::open(&self.path, self.end.load(Ordering::Acquire))
    }

    /// Reads the last file through: cuts a torn tail off and tells how far the journal is.
    fn recover(&self) -> Result<Position, StoreError> {
        let (mut reader, mut offset) = (self.reader()?, HEADER);
        let (mut last, mut end) = (self.before, HEADER);
        let mut marks = vec![Mark { before: last, offset }];
        loop {
            match reader.next(&mut offset) {
                Ok(Some(record)) => {
                    let batch = Batch::decode_log(&mut &*record.payload)
                        .filter(|b| b.number == last.number + 1 && b.seq_before == last.seq)
                        .ok_or_else(|| {
                            damaged(&self.path, record.offset, "not the batch that must be here")
                        })?;
                    sparsely(&mut marks, Mark { before: last, offset: record.offset });
                    last = batch.position();
                    end = offset;
                }
                Ok(None) => break,
                Err(err @ StoreError::Damaged { .. }) => {
                    if reader.holds_group_after(end, last.number + 1)? {
                        return Err(err);
                    }
                    break;
                }
                Err(err) => return Err(err),
            }
        }
        if end < self.end.load(Ordering::Acquire) {
            let cut = open_for_append(&self.path).and_then(|file| {
                file.set_len(end).and_then(|()| file.sync_all()).map_err(StoreError::io("cutting"))
            });
            cut?;
            self.end.store(end, Ordering::Release);
        }
        *self.marks.lock() = Some(marks);
        Ok(last)
    }

    fn remember(&self, new: impl Iterator<Item = Mark>) {
        if let Some(marks) = &mut *self.marks.lock() {
            new.for_each(|mark| sparsely(marks, mark));
        }
    }

    /// Where a batch at or before the one that is looked for begins.
    fn seek(&self, reached: impl Fn(&Position) -> bool) -> Result<Mark, StoreError> {
        let mut marks = self.marks.lock();
        if marks.is_none() {
            let (mut reader, mut offset) = (self.reader()?, HEADER);
            let mut found = vec![];
            while let Some(record) = reader.next(&mut offset)? {
                let before = record.before();
                sparsely(&mut found, Mark { before, offset: record.offset });
            }
            *marks = Some(found);
        }
        let marks = marks.as_deref().unwrap_or_default();
        let at = marks.partition_point(|mark| reached(&mark.before)).checked_sub(1);
        let found = at.and_then(|at| marks.get(at)).filter(|mark| mark.offset > HEADER).copied();
        Ok(found.unwrap_or(Mark { before: self.before, offset: HEADER }))
    }
}

fn sparsely(marks: &mut Vec<Mark>, mark: Mark) {
    if marks.last().is_none_or(|last| mark.offset >= last.offset + MARK_BYTES) {
        marks.push(mark);
    }
}

/// Journal files in order, with what comes before each; `None` where the header is not whole.
fn list(dir: &Path) -> Result<Vec<(PathBuf, Option<Position>)>, StoreError> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).map_err(StoreError::io("listing the journal"))? {
        let path = entry.map_err(StoreError::io("listing the journal"))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".log"));
        if let Some(number) = name.and_then(|n| n.parse::<u64>().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    let header = |(number, path): (u64, PathBuf)| {
        let header =
            Header::read(&path)?.filter(|h| h.before.number.checked_add(1) == Some(number));
        Ok((path, header.map(|h| h.before)))
    };
    found.into_iter().map(header).collect()
}

fn length(path: &Path) -> Result<u64, StoreError> {
    fs::metadata(path).map(|meta| meta.len()).map_err(StoreError::io("looking at a journal file"))
}

fn open_for_append(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().write(true).open(path).map_err(StoreError::io("opening a journal file"))
}

fn damaged(path: &Path, offset: u64, reason: &'static str) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), offset, reason }
}
