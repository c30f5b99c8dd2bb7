//! A job's own directory, removed when the job ends, or by a later runner.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;

use super::{reap, supervisor};

const PREFIX: &str = "muster-job-";
/// Names tried before giving up.
const TRIES: u32 = 16;
/// How often, and after which pause, locks of what was left are tried again, all of them together.
const LOOKS: u32 = 25;
const PAUSE: Duration = Duration::from_millis(10);

/// A fresh directory that only this user can enter. It holds `home`, where the job runs.
#[derive(Debug)]
pub(super) struct WorkDir {
    path: PathBuf,
    _lock: File,
}

impl WorkDir {
    /// Makes one below the system's directory for temporary files.
    pub(super) fn make() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        let mut tries = 0;
        let path = loop {
            let name = format!("{PREFIX}{}-{:016x}", std::process::id(), fastrand::u64(..));
            let path = parent.join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => break path,
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists && tries < TRIES => {
                    tries += 1;
                }
                Err(err) => return Err(err),
            }
        };
        let lock = File::open(&path)?;
        lock.lock_shared()?;
        // From here on it goes when something fails.
        let made = Self { path, _lock: lock };
        fs::create_dir(made.home())?;
        Ok(made)
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the job runs.
    pub(super) fn home(&self) -> PathBuf {
        self.path.join("home")
    }

    /// Writes a file into it.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?
            .write_all(content)?;
        Ok(path)
    }

    /// Reads a file that the job may have made anything of; none when there is none.
    ///
    /// # Errors
    /// When it is not an ordinary file, or larger than `most` bytes.
    pub(super) fn read(&self, name: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
        let opened =
            OpenOptions::new().read(true).custom_flags(flags.bits()).open(self.path.join(name));
        let file = match opened {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not an ordinary file"));
        }
        let mut content = Vec::new();
        let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        file.take(bound).read_to_end(&mut content)?;
        if content.len() > most {
            return Err(io::Error::other(format!("larger than {most} bytes")));
        }
        Ok(Some(content))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes what earlier runners left that were killed together with all that watched over them.
///
/// Processes first: those whose environment names the directory.
pub(super) fn remove_stale() {
    let mut patience = LOOKS;
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let Some((pid, _)) = rest.split_once('-') else { continue };
        if supervisor::is_alive(pid.as_ref()) {
            continue;
        }
        let path = entry.path();
        let Ok(lock) = File::open(&path) else { continue };
        if locked(&lock, &mut patience) {
            reap::kill_marked(&path.to_string_lossy());
            remove(&path);
        }
    }
}

/// Whether nobody else has the lock, or lets go of it soon: those who were killed a moment ago may
/// still be on their way out. Someone in another container may use the same directory, and keeps it.
fn locked(lock: &File, patience: &mut u32) -> bool {
    loop {
        if lock.try_lock().is_ok() {
            return true;
        }
        let Some(left) = patience.checked_sub(1) else { return false };
        *patience = left;
        std::thread::sleep(PAUSE);
    }
}

/// Removes it, also where the job took away its own permissions.
fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_err() {
        open_up(path);
        let _ = fs::remove_dir_all(path);
    }
}

fn open_up(root: &Path) {
    let mut next = vec![root.to_owned()];
    while let Some(dir) = next.pop() {
        let _ = fs::set_permissions(&dir, Permissions::from_mode(0o700));
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            // Not through symbolic links.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                next.push(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_goes_with_its_owner_whatever_is_in_it() {
        let dir = WorkDir::make().unwrap();
        let path = dir.path().to_owned();
        let locked = dir.home().join("a");
        fs::create_dir_all(locked.join("b")).unwrap();
        fs::set_permissions(&locked, Permissions::from_mode(0o0)).unwrap();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn only_an_ordinary_file_of_bounded_size_is_read() {
        let dir = WorkDir::make().unwrap();
        assert_eq!(dir.read("result", 10).unwrap(), None);
        dir.write("result", b"12345").unwrap();
        assert_eq!(dir.read("result", 5).unwrap().unwrap(), b"12345");
        assert!(dir.read("result", 4).is_err());
        assert!(dir.read("home", 4).is_err());
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(dir.read("link", 1 << 20).is_err());
    }
}
