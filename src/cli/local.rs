//! The built-in runner inside of a coordinator's process.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::runner::Executors;
use crate::runner::executor::Limits;
use crate::runner::local::LocalRunners;

/// Serves every runner with `local: true`, where that is configured.
#[derive(Debug)]
pub(super) struct LocalRunner(Option<LocalRunners>);

impl LocalRunner {
    /// Starts it.
    pub(super) fn start(app: &Arc<App>) -> Self {
        let executors = || Arc::new(Executors::new(&Limits::default(), None));
        let wanted = app.config.local_runner;
        Self(wanted.then(|| LocalRunners::start(Arc::clone(app), executors())))
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
