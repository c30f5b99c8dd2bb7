//! `config`, and how every command comes by its configuration.

use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::exit::{Failure, Result};
use super::output;
use crate::access::Secret;
use crate::config::{Effective, Layers, SETTINGS, default_file};

/// A larger file is none with tokens.
const FILE_BYTES: u64 = 64 << 10;

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
    let mut effective = layers.resolve()?;
    effective.config.operator_tokens =
        operator_tokens(effective.config.operator_token_file.as_deref())?;
    Ok(effective)
}

/// Operators' tokens that are configured: those of the file and of the environment, never shown.
fn operator_tokens(file: Option<&Path>) -> Result<Vec<Secret>> {
    let mut tokens = Vec::new();
    if let Some(path) = file {
        let named = |e: std::io::Error| Failure::from(e).during(path.display());
        if std::fs::metadata(path).map_err(named)?.len() > FILE_BYTES {
            return Err(Failure::usage(format!("{}: too large for tokens", path.display())));
        }
        let text = std::fs::read_to_string(path).map_err(named)?;
        tokens.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Secret::new));
        if tokens.is_empty() {
            return Err(Failure::usage(format!("{}: there is no token in it", path.display())));
        }
    }
    tokens.extend(variable("MUSTER_OPERATOR_TOKEN").map(Secret::new));
    let peers = || variable("OCP_OPERATOR_TOKEN").or_else(|| variable("OCP_CONTROL_TOKEN"));
    tokens.extend(peers().map(Secret::new));
    Ok(tokens)
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
