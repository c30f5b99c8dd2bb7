//! The version of a data directory, and the way from older ones.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::StoreError;

/// The version that this program writes.
const CURRENT: u64 = 3;
const FILE: &str = "format";

/// One upgrade; the next version is what it leads to.
struct Step {
    /// What it does, for the log.
    name: &'static str,
    /// The version it starts from.
    from: u64,
    /// Does it, on a directory that nobody has open. A crash within repeats it from its beginning.
    run: fn(&Path) -> Result<(), StoreError>,
}

/// Every upgrade, in order.
const STEPS: &[Step] = &[
    // Nothing to do: what older versions wrote is read as it is, but they cannot read the newer.
    Step { name: "events say on whose behalf they happened", from: 1, run: |_| Ok(()) },
    Step { name: "large rows of the state are kept in parts", from: 2, run: |_| Ok(()) },
];

/// Makes `dir` one of the current version.
///
/// # Errors
/// When it is of a newer one, when it is no data directory at all, or when an upgrade fails.
pub(super) fn prepare(dir: &Path) -> Result<(), StoreError> {
    upgrade(dir, CURRENT, STEPS)
}

/// Makes sure that `dir` is a data directory already, before anything is put into it.
///
/// # Errors
/// When it is none.
pub(super) fn must_be_one(dir: &Path) -> Result<(), StoreError> {
    match read(dir)? {
        Some(_) => Ok(()),
        None => Err(StoreError::Foreign(dir.to_owned())),
    }
}

/// Says that `dir` is complete and of the current version.
pub(super) fn stamp(dir: &Path) -> Result<(), StoreError> {
    write(dir, CURRENT)
}

/// Whether `dir` is complete, of whatever version.
pub(super) fn is_stamped(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

fn upgrade(dir: &Path, current: u64, steps: &[Step]) -> Result<(), StoreError> {
    let Some(mut found) = read(dir)? else {
        if dir.join("state").exists() || dir.join("journal").exists() {
            return Err(StoreError::Foreign(dir.to_owned()));
        }
        return write(dir, current);
    };
    if found > current {
        return Err(StoreError::Version { what: "data directory", found, known: current });
    }
    while found < current {
        let Some(step) = steps.iter().find(|step| step.from == found) else {
            return Err(StoreError::Version { what: "data directory", found, known: current });
        };
        tracing::info!(from = found, step = step.name, "upgrading the data directory");
        (step.run)(dir)?;
        found += 1;
        write(dir, found)?;
    }
    Ok(())
}

fn read(dir: &Path) -> Result<Option<u64>, StoreError> {
    match fs::read_to_string(dir.join(FILE)) {
        Ok(text) => match text.trim().parse() {
            Ok(version) => Ok(Some(version)),
            Err(_) => Err(StoreError::Foreign(dir.to_owned())),
        },
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Io { what: "reading the format", source }),
    }
}

fn write(dir: &Path, version: u64) -> Result<(), StoreError> {
    let part = dir.join("format.part");
    let write = || {
        let mut file = File::create(&part)?;
        writeln!(file, "{version}")?;
        file.sync_all()?;
        fs::rename(&part, dir.join(FILE))?;
        File::open(dir)?.sync_all()
    };
    write().map_err(StoreError::io("writing the format"))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const FAKE: &[Step] = &[
        Step {
            name: "say two",
            from: 1,
            run: |dir| fs::write(dir.join("said"), "2").map_err(StoreError::io("saying")),
        },
        Step {
            name: "say three",
            from: 2,
            run: |dir| {
                let said =
                    fs::read_to_string(dir.join("said")).map_err(StoreError::io("saying"))?;
                fs::write(dir.join("said"), said + "3").map_err(StoreError::io("saying"))
            },
        },
    ];

    #[test]
    fn an_older_directory_is_upgraded_step_by_step_and_once() {
        let dir = TempDir::new().unwrap();
        upgrade(dir.path(), 1, &[]).unwrap();
        for _ in 0..2 {
            upgrade(dir.path(), 3, FAKE).unwrap();
            assert_eq!(fs::read_to_string(dir.path().join("said")).unwrap(), "23");
        }
        assert_eq!(read(dir.path()).unwrap(), Some(3));
    }

    #[test]
    fn a_newer_a_foreign_and_an_unfinished_directory_are_refused() {
        let dir = TempDir::new().unwrap();
        write(dir.path(), CURRENT + 1).unwrap();
        let err = prepare(dir.path()).unwrap_err().to_string();
        assert_eq!(err, "the data directory has format 4; this version of muster knows up to 3");
        fs::write(dir.path().join(FILE), "nonsense").unwrap();
        assert!(matches!(prepare(dir.path()), Err(StoreError::Foreign(_))));
        fs::remove_file(dir.path().join(FILE)).unwrap();
        fs::create_dir(dir.path().join("state")).unwrap();
        assert!(matches!(prepare(dir.path()), Err(StoreError::Foreign(_))));
    }
}
