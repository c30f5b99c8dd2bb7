//! Log lines on stderr, as configured. INTERIM: the telemetry module takes over.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::exit::{Failure, Result};
use crate::config::{Config, LogFormat};

/// Starts writing log lines.
pub(super) fn start(config: &Config) -> Result {
    let filter = EnvFilter::builder().parse_lossy(&config.log_level);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(super::output::colourful(&std::io::stderr()));
    let text = match config.log_format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let started = if text { builder.try_init() } else { builder.json().try_init() };
    started.map_err(|e| Failure::failed(e.to_string()))
}
