//! The built-in runner inside of a coordinator's process.

use std::sync::Arc;
use std::time::Duration;

use super::exit::Result;
use crate::app::App;

/// Serves every runner with `local: true`.
#[derive(Debug)]
pub(super) struct LocalRunner;

impl LocalRunner {
    /// Starts it.
    pub(super) async fn start(_: &Arc<App>) -> Result<Self> {
        Ok(Self)
    }

    /// Stops it, with everything that it has started.
    pub(super) async fn stop(self, _: Duration) {}
}
