//! `backup`, `restore` and `db`: looking after a data directory.

use std::path::PathBuf;

use clap::ArgMatches;
use serde_json::{Value, json};

use super::exit::{Exit, Failure, Result};
use super::peer::Address;
use super::{block_on, output, settings};
use crate::store::{self, Report, StoreError};

/// `muster backup PATH`: asks a running coordinator.
pub(super) fn backup(matches: &ArgMatches) -> Result {
    let path = matches.get_one::<String>("path").cloned().unwrap_or_default();
    let address = Address::of(matches)?;
    let params = json!({ "path": path });
    let answer = block_on(async { address.connect().await?.call("system.backup", params).await })?;
    output::answer(&answer, matches.get_flag("json"))
}

/// `muster restore FILE`.
pub(super) fn restore(matches: &ArgMatches) -> Result {
    let config = settings::load(matches)?.config;
    let file = matches.get_one::<PathBuf>("file").ok_or_else(|| Failure::usage("name a file"))?;
    if !file.is_file() {
        let file = file.display();
        return Err(Failure::new(Exit::NotFound, format!("{file}: there is no such file")));
    }
    let restored = store::restore(file, &config.data_dir)?;
    let answer = json!({
        "data_dir": config.data_dir,
        "bytes": restored.bytes,
        "seq": restored.seq,
    });
    output::answer(&answer, matches.get_flag("json"))
}

/// `muster db check|compact|rebuild`.
pub(super) fn maintain(matches: &ArgMatches) -> Result {
    let (action, matches) = matches.subcommand().ok_or_else(|| Failure::usage("name an action"))?;
    let dir = settings::load(matches)?.config.data_dir;
    if !dir.is_dir() {
        let dir = dir.display();
        return Err(Failure::new(Exit::NotFound, format!("{dir}: there is no such directory")));
    }
    let as_json = matches.get_flag("json");
    match action {
        "check" => {
            let report = store::check(&dir)?;
            output::answer(&told(&report), as_json)?;
            match report.problem_count {
                0 => Ok(()),
                1 => Err(Failure::failed("one problem")),
                count => Err(Failure::failed(format!("{count} problems"))),
            }
        }
        "compact" => {
            let (before, after) = store::compact(&dir)?;
            let answer = json!({ "bytes_before": before, "bytes_after": after });
            output::answer(&answer, as_json)
        }
        _ => {
            let backup = matches.get_one::<PathBuf>("from");
            let rebuilt = store::rebuild(&dir, backup.map(PathBuf::as_path));
            let position = rebuilt.map_err(|err| match (err, backup) {
                (StoreError::Forgotten, None) => Failure::failed(
                    "the journal does not go back to the beginning: name a backup with --from",
                ),
                (StoreError::Forgotten, Some(_)) => Failure::failed(
                    "the journal does not go back to that backup: name a newer one with --from",
                ),
                (err, _) => err.into(),
            })?;
            let answer = json!({ "batch": position.number, "seq": position.seq });
            output::answer(&answer, as_json)
        }
    }
}

fn told(report: &Report) -> Value {
    json!({
        "rows": report.rows,
        "batches": report.batches,
        "events": report.events,
        "problems": report.problem_count,
        "first_problems": report.problems,
    })
}

impl From<StoreError> for Failure {
    fn from(err: StoreError) -> Self {
        let exit = match err {
            StoreError::Locked(_) | StoreError::NotEmpty(_) => Exit::Conflict,
            _ => Exit::Failed,
        };
        Self::new(exit, err.to_string())
    }
}
