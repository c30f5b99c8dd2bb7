//! `config`, and how every command comes by its configuration.

use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::exit::Result;
use super::output;
use crate::config::{Effective, Layers, SETTINGS, default_file};

/// Puts together what flags, environment and file say.
pub(super) fn load(matches: &ArgMatches) -> Result<Effective> {
    let mut layers = Layers::default();
    if let Some(path) = named_file(matches).or_else(default_file) {
        layers.file(&path)?;
    }
    layers.environment(variable);
    for setting in SETTINGS {
        let flag = matches.try_get_one::<String>(setting.key).ok().flatten();
        let given = || matches.value_source(setting.key) == Some(ValueSource::CommandLine);
        if let Some(text) = flag.filter(|_| given()) {
            layers.flags.insert(setting.key, text.clone());
        }
    }
    Ok(layers.resolve()?)
}

/// An empty variable is one that is not set.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn named_file(matches: &ArgMatches) -> Option<PathBuf> {
    let flag = matches.try_get_one::<PathBuf>("config").ok().flatten();
    flag.cloned().or_else(|| variable("MUSTER_CONFIG").map(PathBuf::from))
}

/// `muster config`.
pub(super) fn show(matches: &ArgMatches) -> Result {
    let effective = load(matches)?;
    if matches.get_flag("json") {
        return output::line(&output::json(&effective.to_json()));
    }
    output::line(&effective.to_toml())
}
