//! One process per data directory.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use super::StoreError;

/// Takes the data directory for this process, for as long as the file lives; creates it if need be.
pub(super) fn take(dir: &Path) -> Result<File, StoreError> {
    fs::create_dir_all(dir).map_err(StoreError::io("creating the data directory"))?;
    let file = File::options().create(true).write(true).truncate(false).open(dir.join("lock"));
    let file = file.map_err(StoreError::io("opening the lock file"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(StoreError::Io { what: "locking", source }),
    }
}
