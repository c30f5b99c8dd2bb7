//! stub
use super::exit::{Failure, Result};
use clap::ArgMatches;
pub(super) fn run(_: &ArgMatches) -> Result {
    Err(Failure::failed("x"))
}
