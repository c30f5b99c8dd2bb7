//! The coordinator's end of an attached runner: what it is told, in order, until it detaches.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::parcel::{Ready, Told, prepared};
use crate::Result;
use crate::app::App;
use crate::engine::{Engine, Push};

/// Detaches when it is dropped.
pub(super) struct Guard {
    engine: Engine,
    runner: (u32, u32),
    session: u64,
}

impl Guard {
    /// Of a session that has begun.
    pub(super) const fn new(engine: Engine, runner: (u32, u32), session: u64) -> Self {
        Self { engine, runner, session }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.engine.connection_lost(self.runner, self.session);
    }
}

/// A runner's attachment.
pub(super) struct Attachment {
    app: Arc<App>,
    pushes: mpsc::Receiver<Push>,
    stopping: watch::Receiver<bool>,
    /// Work whose slices are being fetched; nothing else waits for it. At most one per slot.
    fetching: JoinSet<Result<Option<Told>>>,
    _guard: Guard,
}

impl Attachment {
    /// Of a session that has begun.
    pub(super) fn new(app: Arc<App>, pushes: mpsc::Receiver<Push>, guard: Guard) -> Self {
        let (stopping, fetching) = (app.stopping.subscribe(), JoinSet::new());
        Self { app, pushes, stopping, fetching, _guard: guard }
    }

    /// The next thing that the runner is told, and whether it is the last.
    pub(super) async fn next(&mut self) -> Option<(Told, bool)> {
        loop {
            let push = tokio::select! {
                biased;
                push = self.pushes.recv() => push?,
                Some(fetched) = self.fetching.join_next(), if !self.fetching.is_empty() => {
                    let fetched = fetched.map_err(|err| crate::Error::Bug(err.to_string()));
                    match fetched.and_then(|told| told) {
                        Ok(Some(told)) => return Some((told, false)),
                        Ok(None) => continue,
                        Err(err) => return failed(&err),
                    }
                }
                _ = self.stopping.wait_for(|stopping| *stopping) => {
                    Push::Detached { reason: "the coordinator is shutting down".to_owned() }
                }
            };
            let last = matches!(push, Push::Detached { .. });
            match prepared(&self.app, push).await {
                Ok(Ready::Now(told)) => return Some((told, last)),
                Ok(Ready::Later(fetch)) => {
                    self.fetching.spawn(fetch);
                }
                Ok(Ready::Never) => {}
                Err(err) => return failed(&err),
            }
        }
    }
}

/// Ending the session gives its work to others after the grace period.
fn failed(err: &crate::Error) -> Option<(Told, bool)> {
    tracing::error!(error = %err, "could not read what a runner is given");
    None
}
