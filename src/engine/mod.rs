//! The one thread that changes anything: drain, check, commit once, reply.
//!
//! While one batch is on its way to disk the next collects. No reply, no event and no push that
//! depends on a change leaves before that change is durable.

mod adoption;
mod apply;
mod batches;
mod classes;
mod clock;
mod credits;
mod delivered;
mod dispatch;
mod explain;
mod flows;
mod groups;
mod inbox;
mod jobs;
mod load;
mod memory;
mod messages;
mod origin;
mod plan;
mod queue;
mod reports;
mod run;
mod sessions;
mod timers;
mod token;
mod turn;
mod version;
mod works;
mod works_load;
mod works_stop;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use delivered::Delivered;
pub use explain::{Explanation, Reason};
pub use flows::Rerun;
use inbox::Inbox;
pub use origin::acting_for;
use parking_lot::Mutex;
pub use plan::{History, Outside, Plan, Prepared, job_subject};
pub use queue::Skill;
pub use reports::{Report, SharedLine, Verdict};
pub use run::Gauges;
pub use sessions::{Attached, Carrier, Given, GivenAttempt, Hello, MAX_SLOTS, Push, RunnerStatus};
pub use token::Token;
use tokio::sync::{broadcast, oneshot};
pub use turn::{Live, LiveLine, SliceNote, Turn};
use version::Versions;
pub use works::{Deploy, Slices, work_subject};

use crate::model::Millis;
use crate::store::{Store, StoreError};
use crate::{Error, Result};

/// Time to acknowledge an attempt that the coordinator gave out by itself, in milliseconds
/// (specification of the core face, "Runners").
const ACKNOWLEDGE_WITHIN: Millis = 30_000;
/// Log lines that a slow watcher may be behind before it misses some.
const LIVE_LINES: usize = 1_024;

type Committed = Result<(), Arc<StoreError>>;
type Reply = Box<dyn FnOnce(&Committed) + Send>;
type Command = Box<dyn FnOnce(&mut Turn<'_>) -> Reply + Send>;

/// A handle to the engine.
#[derive(Clone, Debug)]
pub struct Engine {
    inbox: Arc<Inbox>,
    versions: Versions,
    live: broadcast::Sender<Arc<Live>>,
    gauges: Arc<Gauges>,
    thread: Arc<Mutex<Option<std::thread::JoinHandle<()>>>>,
}

impl Engine {
    /// Reads the active work and starts the thread; `ages` says that events are forgotten by age.
    ///
    /// # Errors
    /// When the thread does not start.
    pub fn start(
        store: Arc<Store>,
        now: fn() -> Millis,
        grace: Duration,
        ages: bool,
    ) -> std::io::Result<Self> {
        let engine = Self {
            inbox: Arc::new(Inbox::new()),
            versions: Versions::new(),
            live: broadcast::channel(LIVE_LINES).0,
            gauges: Arc::default(),
            thread: Arc::default(),
        };
        let run = run::Run {
            store,
            inbox: Arc::clone(&engine.inbox),
            versions: engine.versions.clone(),
            live: engine.live.clone(),
            gauges: Arc::clone(&engine.gauges),
            now,
            grace: Millis::try_from(grace.as_millis()).unwrap_or(Millis::MAX),
            ages,
        };
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || run.run())?;
        *engine.thread.lock() = Some(thread);
        Ok(engine)
    }

    /// Runs `f` alone against the current state and commits what it staged.
    ///
    /// Returns once that is durable. When `f` fails, nothing it did remains.
    ///
    /// # Errors
    /// Those of `f`, [`Error::Store`] when the commit failed, [`Error::Unavailable`] when the
    /// engine is stopping.
    pub async fn change<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Turn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let by = origin::current().map(Arc::new);
        let command: Command = Box::new(|turn| {
            turn.act_for(by);
            let out = turn.attempt(f);
            turn.act_for(None);
            Box::new(|committed| {
                let out = committed.clone().map_err(Error::Store).and(out);
                let _ = reply.send(out);
            })
        });
        self.inbox.send(command).await?;
        answer.await.map_err(|_| Error::Unavailable("the coordinator is stopping"))?
    }

    /// Ends the session of a runner whose connection is gone. Does not wait.
    pub fn connection_lost(&self, runner: (u32, u32), session: u64) {
        detach(&self.inbox, runner, session);
    }

    /// The version of a context's definitions, for [`Turn::is_at`].
    pub fn version(&self, context: u32) -> u64 {
        self.versions.of(context)
    }

    /// Log lines of all jobs, and what slices say, as they are reported; a slow receiver misses
    /// some.
    pub fn live_lines(&self) -> broadcast::Receiver<Arc<Live>> {
        self.live.subscribe()
    }

    /// Commands that wait for the engine.
    pub fn queue_depth(&self) -> usize {
        self.inbox.len()
    }

    /// What the engine last counted.
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// Takes no more changes, tells attached runners, carries out what is queued, and waits for
    /// the thread to end. Blocks.
    pub fn stop(&self) {
        self.inbox.post(Box::new(|turn| {
            let _ = turn.attempt(|turn| {
                turn.end_all_sessions();
                Ok(())
            });
            Box::new(|_| {})
        }));
        self.inbox.close();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the engine's thread panicked");
        }
    }
}

/// Ends a session; their number is bounded, so this goes past the bound of the inbox.
fn detach(inbox: &Inbox, runner: (u32, u32), session: u64) {
    inbox.post(Box::new(move |turn| {
        let out = turn.attempt(|turn| {
            turn.connection_lost(runner, session);
            Ok(())
        });
        if let Err(err) = out {
            tracing::error!(error = %err, "could not detach a runner");
        }
        Box::new(|_| {})
    }));
}
