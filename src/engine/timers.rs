//! Every deadline of the engine, in one ordered set.

use std::collections::BTreeSet;

use super::memory::GroupId;
use crate::model::Millis;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The back-off of a task is over.
    Ready(GroupId, u32),
    /// The attempt of this number should have been acknowledged.
    Acknowledgement(GroupId, u32, u32),
    /// The attempt of this number has taken too long.
    Attempt(GroupId, u32, u32),
    /// The gate of a task that waits for this time opens.
    Gate(GroupId, u32, u32),
    /// The whole group has taken too long.
    Group(GroupId),
    /// A lost runner, by context and id, has not come back.
    Grace(u32, u32),
    /// Old idempotency keys go.
    Housekeeping,
}

/// The set.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Millis, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at: Millis, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(super) fn clear(&mut self, at: Millis, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    /// The clock was set back by so much: all but points in time come earlier.
    pub(super) fn set_back(&mut self, by: Millis) {
        let earlier = |(at, timer): (Millis, Timer)| match timer {
            Timer::Gate(..) => (at, timer),
            _ => (at.saturating_sub(by), timer),
        };
        self.0 = std::mem::take(&mut self.0).into_iter().map(earlier).collect();
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Millis> {
        self.0.first().map(|(at, _)| *at)
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes the first one that is due.
    pub(super) fn pop_due(&mut self, now: Millis) -> Option<Timer> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop_first().map(|(_, timer)| timer)
    }
}
