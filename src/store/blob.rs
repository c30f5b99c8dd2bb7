//! Large values, each a file named by its content; the row has a reference.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::StoreError;
use super::batch::{Batch, Changes, Value, put_bytes, put_count, take_bytes, take_count};
use super::table::BLOB;

/// Values longer than this are files.
pub(super) const LARGE: usize = 64 << 10;

/// The digest of a value.
pub(super) type Digest = [u8; 32];

/// The files of one data directory.
#[derive(Debug)]
pub(super) struct Blobs {
    dir: PathBuf,
    /// Held from writing a file until its row can be seen.
    writing: Mutex<()>,
    /// Files used while unused ones are being looked for; they stay.
    used: Mutex<Option<HashSet<Digest>>>,
    bytes: AtomicU64,
    written: AtomicU64,
}

/// While it lives, no file written is taken for an unused one.
pub(super) type Writing<'b> = MutexGuard<'b, ()>;

impl Blobs {
    /// The files in `dir`, which need not exist.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let blobs = Self {
            dir: dir.to_owned(),
            writing: Mutex::new(()),
            used: Mutex::new(None),
            bytes: AtomicU64::new(0),
            written: AtomicU64::new(0),
        };
        let mut bytes = 0;
        blobs.each(|_, path| {
            bytes += fs::metadata(path)?.len();
            Ok(())
        })?;
        blobs.bytes.store(bytes, Ordering::Relaxed);
        Ok(blobs)
    }

    /// Disk space they take, bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes written since unused files were last removed.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Writes the large values of the batches to files and puts references in their place.
    ///
    /// The guard must live until the rows can be seen.
    pub(super) fn spill(&self, batches: &mut [Batch]) -> Result<Option<Writing<'_>>, StoreError> {
        if !batches.iter().any(|batch| batch.large) {
            return Ok(None);
        }
        let guard = self.writing.lock();
        for batch in batches.iter_mut().filter(|batch| batch.large) {
            let mut changes = Changes::clone(&batch.changes);
            for value in changes.values_mut().flatten() {
                if value.len() > LARGE {
                    *value = self.save(value.get(1..).unwrap_or_default())?;
                }
            }
            batch.changes = Arc::new(changes);
        }
        Ok(Some(guard))
    }

    /// Writes a value to its file, unless it is there; returns the reference.
    pub(super) fn save(&self, bytes: &[u8]) -> Result<Value, StoreError> {
        let digest = *blake3::hash(bytes).as_bytes();
        if let Some(used) = &mut *self.used.lock() {
            used.insert(digest);
        }
        let path = self.path(&digest);
        let there =
            fs::metadata(&path).is_ok_and(|meta| usize::try_from(meta.len()) == Ok(bytes.len()));
        if !there {
            self.write(&path, bytes).map_err(StoreError::io("writing a large value"))?;
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.bytes.fetch_add(size, Ordering::Relaxed);
            self.written.fetch_add(size, Ordering::Relaxed);
        }
        let mut reference = vec![BLOB];
        put_bytes(&mut reference, &digest);
        put_count(&mut reference, bytes.len());
        Ok(Arc::from(reference))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.dir);
        if !folder.is_dir() {
            fs::create_dir_all(folder)?;
            for made in [folder, &self.dir].into_iter().filter_map(Path::parent) {
                File::open(made)?.sync_all()?;
            }
        }
        let part = path.with_extension("part");
        let write = || {
            let mut file = File::create(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, path)?;
            File::open(folder)?.sync_all()
        };
        write().inspect_err(|_| drop(fs::remove_file(&part)))
    }

    /// Reads what a reference, without its first byte, stands for.
    pub(super) fn load(&self, reference: &[u8]) -> Result<Vec<u8>, StoreError> {
        let digest = digest(reference).ok_or(StoreError::Key("large values"))?;
        self.read(&digest)
    }

    /// Reads a value by its digest.
    pub(super) fn read(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.path(digest);
        let bytes = fs::read(&path).map_err(StoreError::io("reading a large value"))?;
        if *blake3::hash(&bytes).as_bytes() != *digest {
            let reason = "the content is not what its name says";
            return Err(StoreError::Damaged { path, offset: 0, reason });
        }
        Ok(bytes)
    }

    /// Removes the files that no row refers to. `mark` hands over every reference in the state.
    pub(super) fn collect(
        &self,
        mark: impl FnOnce(&mut dyn FnMut(Digest)) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        *self.used.lock() = Some(HashSet::new());
        // Whatever was written before is visible to `mark` after this.
        drop(self.writing.lock());
        self.written.store(0, Ordering::Relaxed);
        let mut live = HashSet::new();
        let mut remember = |digest| {
            live.insert(digest);
        };
        let done = mark(&mut remember).and_then(|()| {
            self.each(|digest, path| {
                let used = self.used.lock();
                let wanted = digest.is_some_and(|digest| {
                    live.contains(&digest) || used.as_ref().is_some_and(|u| u.contains(&digest))
                });
                let unfinished = digest.is_none() && self.writing.is_locked();
                if !(wanted || unfinished) {
                    let size = fs::metadata(path)?.len();
                    fs::remove_file(path)?;
                    let left = self.bytes().saturating_sub(size);
                    self.bytes.store(left, Ordering::Relaxed);
                }
                Ok(())
            })
        });
        *self.used.lock() = None;
        done
    }

    /// Visits every file; one without a digest was being written when the process ended.
    fn each(
        &self,
        mut visit: impl FnMut(Option<Digest>, &Path) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let mut walk = || {
            if !self.dir.is_dir() {
                return Ok(());
            }
            for folder in fs::read_dir(&self.dir)? {
                for file in fs::read_dir(folder?.path())? {
                    let path = file?.path();
                    let name = path.file_name().and_then(|name| name.to_str());
                    let digest = name.and_then(|name| blake3::Hash::from_hex(name).ok());
                    visit(digest.map(|digest| *digest.as_bytes()), &path)?;
                }
            }
            Ok(())
        };
        walk().map_err(StoreError::io("looking through the large values"))
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let name = blake3::Hash::from_bytes(*digest).to_hex();
        self.dir.join(name.get(..2).unwrap_or_default()).join(name.as_str())
    }
}

/// The digest in a stored value, when it is a reference.
pub(super) fn reference(stored: &[u8]) -> Option<Digest> {
    stored.split_first().filter(|(kind, _)| **kind == BLOB).and_then(|(_, rest)| digest(rest))
}

/// The digest in a reference, without its first byte.
fn digest(mut reference: &[u8]) -> Option<Digest> {
    let digest = take_bytes(&mut reference)?.try_into().ok()?;
    take_count(&mut reference).filter(|_| reference.is_empty()).map(|_| digest)
}
