//! What waits for the engine's thread: a bounded queue that many fill and one empties.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Semaphore;

use super::Command;
use crate::{Error, Result};

/// Commands that may wait; more callers than this wait their turn.
const ROOM: usize = 4_096;

/// The queue.
#[derive(Debug)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    room: Semaphore,
}

#[derive(Default)]
struct Waiting {
    commands: Vec<Command>,
    poked: bool,
    closed: bool,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("commands", &self.commands.len()).finish_non_exhaustive()
    }
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), changed: Condvar::new(), room: Semaphore::new(ROOM) }
    }

    /// Queues a command, waiting for room.
    ///
    /// # Errors
    /// [`Error::Unavailable`] once the inbox is closed.
    pub(super) async fn send(&self, command: Command) -> Result<()> {
        // The room comes back when the command is taken out.
        self.room.acquire().await.map_err(|_| stopping())?.forget();
        if self.post(command) { Ok(()) } else { Err(stopping()) }
    }

    /// Queues a command at once, past the bound: for the few whose number is bounded otherwise.
    ///
    /// `false` once the inbox is closed.
    pub(super) fn post(&self, command: Command) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return false;
        }
        waiting.commands.push(command);
        drop(waiting);
        self.changed.notify_one();
        true
    }

    /// Wakes the engine without a command: something that it waits for has changed.
    pub(super) fn poke(&self) {
        self.waiting.lock().poked = true;
        self.changed.notify_one();
    }

    /// Takes no more commands; those that wait are still carried out.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.room.close();
        self.changed.notify_one();
    }

    /// Moves what waits into `commands`, waiting until there is something, a poke, the inbox is
    /// closed, or `limit` has passed.
    ///
    /// `false` when it is closed and empty.
    pub(super) fn take(&self, commands: &mut Vec<Command>, limit: Option<Duration>) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.commands.is_empty() && !waiting.poked && !waiting.closed {
            match limit {
                Some(limit) => {
                    self.changed.wait_for(&mut waiting, limit);
                }
                None => self.changed.wait(&mut waiting),
            }
        }
        waiting.poked = false;
        std::mem::swap(commands, &mut waiting.commands);
        let room = ROOM.saturating_sub(self.room.available_permits()).min(commands.len());
        self.room.add_permits(room);
        !(waiting.closed && commands.is_empty())
    }

    /// How many commands wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().commands.len()
    }
}

fn stopping() -> Error {
    Error::Unavailable("the coordinator is stopping")
}
