//! `runner`: runs jobs for a coordinator elsewhere.

use clap::ArgMatches;

use super::exit::{Failure, Result};

/// `muster runner`.
pub(super) fn run(matches: &ArgMatches) -> Result {
    let need = |name: &str| {
        let given = matches.get_one::<u32>(name).copied();
        given.ok_or_else(|| Failure::usage(format!("--{name} is needed to run jobs")))
    };
    let (_context, _id) = (need("context")?, need("id")?);
    Err(Failure::failed("not built yet"))
}
