//! `system.backup`: a copy of everything while it is in use.

use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aside::far_aside;
use super::bounds;
use crate::app::Cx;
use crate::method::{Access, Def, Method, Spec, Verb};
use crate::store::StoreError;
use crate::{Code, Error, Result};

/// Bytes of one name in a path: what file systems take, less the ending of an unfinished file.
const NAME: usize = 250;

/// This namespace's methods on backups.
pub const METHODS: &[Def] = &[Def::call::<Backup>()];

/// Writes a backup of everything as of one moment, while work goes on: objects, results, and the
/// events and the audit trail as far back as they can be asked for.
///
/// `muster restore` reads it into an empty directory. A backup that fails leaves nothing behind;
/// one of the same name is replaced.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SystemBackupParams")]
pub struct Backup {
    /// The file, relative to the backup directory; directories in it are created.
    pub path: String,
}

/// A backup that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SystemBackup {
    /// The file on the coordinator's machine.
    pub path: String,
    /// Its size, bytes.
    pub bytes: u64,
    /// The number of the last event before it.
    pub seq: u64,
}

impl Method for Backup {
    type Output = SystemBackup;
    const SPEC: Spec = Spec::new("system.backup", Access::Operator)
        .rest(Verb::Post, "/system/backup", 200)
        .errors(&[Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<SystemBackup> {
        let below = below(&self.path)?;
        far_aside(move || {
            let file = place(&cx.app.config.backup_dir, &below)?;
            let done = cx.app.store.backup(&file)?;
            let path = file.to_string_lossy().into_owned();
            Ok(SystemBackup { path, bytes: done.bytes, seq: done.seq })
        })
        .await
    }
}

fn outside() -> Error {
    Error::params("path", "a file below the backup directory, relative to it")
}

/// The path, if it goes nowhere but down.
fn below(path: &str) -> Result<PathBuf> {
    bounds::length(|| "path".to_owned(), path, bounds::SHORT_TEXT)?;
    let parsed = Path::new(path);
    let down = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let named = parsed.file_name().is_some() && !path.ends_with(['/', '.']);
    if !named || path.contains('\0') || !parsed.components().all(down) {
        return Err(outside());
    }
    if parsed.components().any(|part| part.as_os_str().len() > NAME) {
        return Err(Error::params("path", format!("names of at most {NAME} bytes")));
    }
    Ok(parsed.to_owned())
}

/// The file, its directory made; nothing on the way there may be a link, which could lead out.
fn place(dir: &Path, below: &Path) -> Result<PathBuf> {
    let failed = |source| Error::from(StoreError::Io { what: "preparing the backup", source });
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mut at = dir.to_owned();
    let mut parts = below.components().peekable();
    while let Some(part) = parts.next() {
        at.push(part);
        let last = parts.peek().is_none();
        match std::fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() != last && !found.is_symlink() => {}
            Ok(_) => return Err(outside()),
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(failed(err)),
            Err(_) if last => {}
            Err(_) => std::fs::create_dir(&at).map_err(failed)?,
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_nowhere_but_down() {
        for good in ["a", "a.muster", "nightly/a", "./a", "..a", "a..b"] {
            assert!(below(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "/", "/a", "../a", "a/../../b", "a/..", "a/", "a\0b"] {
            assert!(below(bad).is_err(), "{bad}");
        }
        assert!(below(&format!("a/{}", "x".repeat(NAME))).is_ok());
        assert!(below(&format!("{}/a", "x".repeat(NAME + 1))).is_err(), "no file can be called so");
    }

    #[test]
    fn links_are_not_followed() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(other.path(), dir.path().join("out")).unwrap();
        assert!(place(dir.path(), Path::new("out/a")).is_err());
        assert!(place(dir.path(), Path::new("out")).is_err());
        assert!(place(dir.path(), Path::new("in/a")).is_ok());
        assert!(place(dir.path(), Path::new("in")).is_err(), "a directory");
    }
}
