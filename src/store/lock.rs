//! One process per data directory.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::StoreError;

/// Takes the data directory for this process, for as long as the file lives; creates it if need be.
pub(super) fn take(dir: &Path) -> Result<File, StoreError> {
    // Everybody's jobs and results are in it: other users of this machine have no business there.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(StoreError::io("creating the data directory"))?;
    let file = File::options().create(true).write(true).truncate(false).open(dir.join("lock"));
    let file = file.map_err(StoreError::io("opening the lock file"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(StoreError::Io { what: "locking", source }),
    }
}
