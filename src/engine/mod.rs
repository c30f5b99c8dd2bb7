//! The one thread that changes anything: drain, check, commit once, reply.
//!
//! INTERIM: commits each change by itself; the interface is final.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::model::Millis;
use crate::store::{Draft, Store, Tx};
use crate::{Error, Result};

type Change = Box<dyn FnOnce(&mut Turn<'_>) -> Box<dyn FnOnce(Result<()>) + Send> + Send>;

/// A handle to the engine; the thread ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Engine {
    queue: mpsc::Sender<Change>,
}

/// What a change works on: the batch in the making, and what is kept in memory of active work.
#[derive(Debug)]
pub struct Turn<'a> {
    tx: Tx<'a>,
    /// The time of this turn.
    pub now: Millis,
}

impl<'a> Deref for Turn<'a> {
    type Target = Tx<'a>;
    fn deref(&self) -> &Tx<'a> {
        &self.tx
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.tx
    }
}

impl Turn<'_> {
    /// Appends an event to the log.
    pub fn emit(&mut self, draft: Draft) {
        let now = self.now;
        self.tx.emit(now, draft);
    }

    /// Whether the job is part of a run that has not ended, or is on its way by itself.
    pub fn job_is_active(&self, _context: u32, _caller: u32, _id: u32) -> bool {
        false
    }

    /// Whether the flow has a run that has not ended.
    pub fn flow_is_active(&self, _context: u32, _id: u32) -> bool {
        false
    }

    /// Whether the message is being delivered.
    pub fn message_is_active(&self, _context: u32, _caller: u32, _id: u32) -> bool {
        false
    }

    /// Whether the runner is attached, or has work in hand.
    pub fn runner_is_busy(&self, _context: u32, _id: u32) -> bool {
        false
    }

    /// Gives the jobs of a stored message, which must not be active, to runners.
    ///
    /// The message and its jobs have been staged before.
    pub fn deliver_message(&mut self, _context: u32, _caller: u32, _id: u32) -> Result<()> {
        Err(Error::Bug("not built yet".to_owned()))
    }

    /// Tells the engine that a definition in the context was created, replaced or deleted.
    pub fn definition_changed(&mut self, _context: u32) {}

    /// Whether anything in the context is active.
    pub fn context_is_active(&self, _context: u32) -> bool {
        false
    }
}

impl Engine {
    /// Starts the thread.
    pub fn start(store: Arc<Store>, now: fn() -> Millis) -> std::io::Result<Self> {
        let (queue, mut changes) = mpsc::channel::<Change>(4_096);
        std::thread::Builder::new().name("engine".into()).spawn(move || {
            while let Some(change) = changes.blocking_recv() {
                let mut turn = Turn { tx: store.begin(), now: now() };
                let reply = change(&mut turn);
                store.submit(turn.tx, move |done| reply(done.map_err(Error::Store)));
            }
        })?;
        Ok(Self { queue })
    }

    /// Runs `f` alone against the current state and commits what it staged.
    ///
    /// Returns once that is durable. When `f` fails, nothing it did remains.
    pub async fn change<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Turn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let change: Change = Box::new(|turn| {
            let out = f(turn);
            Box::new(|committed| {
                let _ = reply.send(committed.and(out));
            })
        });
        let stopping = |()| Error::Unavailable("the coordinator is stopping");
        self.queue.send(change).await.map_err(|_| stopping(()))?;
        answer.await.map_err(|_| stopping(()))?
    }
}
