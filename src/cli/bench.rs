//! `muster bench`.

use clap::{ArgMatches, FromArgMatches};

use super::exit::{Failure, Result};
use crate::bench::{self, Options};

/// Measures this build; fails when a goal is missed.
pub(super) fn bench(matches: &ArgMatches) -> Result {
    let options = Options::from_arg_matches(matches).map_err(|e| Failure::usage(e.to_string()))?;
    match bench::run(&options) {
        Ok(0) => Ok(()),
        Ok(missed) => Err(Failure::failed(format!("{missed} goals missed"))),
        Err(err) => Err(Failure::failed(format!("{err:#}"))),
    }
}
