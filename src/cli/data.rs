//! `backup`, `restore` and `db`: looking after a data directory.

use clap::ArgMatches;
use serde_json::json;

use super::exit::{Failure, Result};
use super::peer::Address;
use super::{block_on, output, settings};

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
    settings::load(matches)?;
    Err(Failure::failed("not built yet"))
}

/// `muster db check|compact|rebuild`.
pub(super) fn maintain(matches: &ArgMatches) -> Result {
    let (_, matches) = matches.subcommand().ok_or_else(|| Failure::usage("name an action"))?;
    settings::load(matches)?;
    Err(Failure::failed("not built yet"))
}
