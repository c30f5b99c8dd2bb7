//! Arguments that several commands have.

use std::path::PathBuf;

use clap::builder::ValueHint;
use clap::{Arg, ArgAction, Command, value_parser};

use crate::config::{Kind, SETTINGS};

/// Adds every setting, and `--config`.
pub(super) fn with_settings(command: Command) -> Command {
    let all: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
    with(command, &all)
}

/// Adds some settings, and `--config`.
pub(super) fn with(command: Command, keys: &[&str]) -> Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
        .help("Settings file [default: muster.toml, where there is one] [env: MUSTER_CONFIG]")
        .help_heading("Settings");
    let settings = SETTINGS.iter().filter(|setting| keys.contains(&setting.key)).map(|setting| {
        let (variable, default) = (setting.variable(), setting.default_text());
        let arg = Arg::new(setting.key)
            .long(setting.flag())
            .value_name(setting.kind.placeholder())
            .allow_hyphen_values(setting.kind == Kind::Seconds)
            .help(format!("{} [default: {default}] [env: {variable}]", setting.doc))
            .help_heading("Settings");
        match setting.kind {
            Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
            Kind::Path => arg.value_hint(ValueHint::AnyPath),
            _ => arg,
        }
    });
    command.arg(file).args(settings)
}

/// The flow file.
pub(super) fn flow_path() -> Arg {
    Arg::new("file")
        .value_name("FILE")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
        .help("A flow file, TOML or JSON")
}

/// An id.
pub(super) fn id(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("ID").value_parser(value_parser!(u32)).help(help)
}

/// A flag that is given or not.
pub(super) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// `--json`.
pub(super) fn json() -> Arg {
    switch("json", "Print JSON")
}

/// `--url`.
pub(super) fn url(default: &str) -> Arg {
    Arg::new("url")
        .long("url")
        .value_name("URL")
        .env("MUSTER_URL")
        .hide_env_values(true)
        .value_hint(ValueHint::Url)
        .help(format!("Where the coordinator is [default: {default}]"))
}

/// `--token` and `--token-file`, of every command.
pub(super) fn credentials() -> [Arg; 2] {
    [
        Arg::new("token")
            .long("token")
            .value_name("TOKEN")
            .env("MUSTER_TOKEN")
            .hide_env_values(true)
            .global(true)
            .conflicts_with("token_file")
            .help("What proves who calls a coordinator: a token, a session or an API key")
            .help_heading("Credentials"),
        Arg::new("token_file")
            .long("token-file")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .value_hint(ValueHint::FilePath)
            .global(true)
            .help("The same from a file")
            .help_heading("Credentials"),
    ]
}

/// `--ca`.
pub(super) fn ca() -> Arg {
    Arg::new("ca")
        .long("ca")
        .value_name("FILE")
        .env("MUSTER_CA")
        .hide_env_values(true)
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
        .help("Who vouches for an https:// or wss:// coordinator, PEM [default: this machine's authorities]")
}

/// `--timeout`.
pub(super) fn timeout() -> Arg {
    Arg::new("timeout")
        .long("timeout")
        .value_name("SECONDS")
        .value_parser(value_parser!(f64))
        .default_value("60")
        .help("How long to wait for an answer")
}
