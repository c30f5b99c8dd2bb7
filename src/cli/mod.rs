//! The command line, one file per group of commands.
//!
//! - [`command`], [`arguments`]: the tree of commands and their arguments
//! - [`exit`]: what a failure is called and which exit code it has
//! - [`output`]: data for people or programs, on stdout
//! - [`peer`]: the coordinator that commands talk to, here or over the wire
//! - [`methods`]: `call`, and one command per method off the table
//! - [`key`], [`adv`]: this node's key, and what it publishes
//! - [`serve`], [`runner`], [`watch`], [`data`], [`settings`], [`token`], [`bench`]: the commands
//!   named so
//! - [`flow_file`], [`flow_inputs`], [`flow_plan`]: flow files, as written and as submitted
//! - [`flow`], [`run`], [`flow_run`], [`progress`], [`local`]: flows submitted, or run on the spot

mod adv;
mod arguments;
mod bench;
mod command;
mod data;
mod exit;
mod flow;
mod flow_file;
mod flow_inputs;
mod flow_plan;
mod flow_run;
mod key;
mod local;
mod methods;
mod output;
mod peer;
mod progress;
mod run;
mod runner;
mod serve;
mod settings;
mod token;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::ArgMatches;
use exit::{Failure, Result};

/// Does what the arguments say; the first one is the program's name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let asked = command::Asked::of(&args);
    // Kept to the end: what it would give back is used for tables that sled asks for and hardly
    // touches, and has to be zeroed first, which makes all of them resident.
    let mut command = command::tree(&asked);
    let matches = match command.try_get_matches_from_mut(args) {
        Ok(matches) => matches,
        Err(err) => {
            let _ = err.print();
            return ExitCode::from(u8::try_from(err.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(matches: &ArgMatches) -> Result {
    let Some((name, matches)) = matches.subcommand() else {
        return Err(Failure::usage("no command given"));
    };
    match (name, matches.subcommand_name()) {
        ("serve", _) => serve::serve(matches),
        ("run", _) => run::run(matches),
        ("runner", None) => runner::run(matches),
        ("call", _) => methods::call(matches),
        ("methods", _) => methods::list(matches),
        ("openrpc", _) => methods::openrpc(matches),
        ("watch", _) => watch::watch(matches),
        ("config", _) => settings::show(matches),
        ("backup", _) => data::backup(matches),
        ("restore", _) => data::restore(matches),
        ("db", _) => data::maintain(matches),
        ("bench", _) => bench::bench(matches),
        ("completions", _) => command::completions(matches),
        ("key", _) => key::key(matches),
        ("adv", Some("publish")) => adv::publish(matches),
        ("flow", Some("submit")) => flow::submit(matches),
        ("token", Some(action)) => token::run(action, matches),
        (namespace, _) => methods::by_name(namespace, matches),
    }
}

/// Runs something that waits, on one thread.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}
