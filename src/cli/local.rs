//! The built-in runner inside of a coordinator's process.

use std::sync::Arc;
use std::time::Duration;

use super::flow_run::ensure_local_runner;
use super::peer::Address;
use crate::app::App;
use crate::model::slices::PUBLIC_GROUP;
use crate::runner::Executors;
use crate::runner::executor::Limits;
use crate::runner::local::LocalRunners;

/// Serves every runner with `local: true`, or only those of compute groups, where that is configured.
#[derive(Debug)]
pub(super) struct LocalRunner(Option<LocalRunners>);

impl LocalRunner {
    /// Starts it.
    pub(super) fn start(app: &Arc<App>) -> Self {
        let wanted = app.config.local_runner || app.config.js_runner;
        let limits = Limits { function_bytes: app.config.js_memory_bytes, ..Limits::default() };
        let executors = || Arc::new(Executors::new(&limits, None));
        Self(wanted.then(|| LocalRunners::start(Arc::clone(app), executors())))
    }

    /// Gives the public compute group a runner for it, where it has none.
    pub(super) async fn open_public_group(app: &Arc<App>) {
        if !app.config.local_runner && !app.config.js_runner {
            return;
        }
        let opened = match Address::inside(Arc::clone(app)).connect().await {
            Ok(peer) => ensure_local_runner(&peer, PUBLIC_GROUP).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = opened {
            tracing::warn!(reason = failure.message, "the public compute group is not served");
        }
    }

    /// Lets it finish what it has in hand; what takes longer than `limit` is stopped.
    pub(super) async fn stop(self, limit: Duration) {
        if let Some(runners) = self.0
            && tokio::time::timeout(limit, runners.stop()).await.is_err()
        {
            tracing::warn!("some jobs did not end in time: they were stopped");
        }
    }
}
