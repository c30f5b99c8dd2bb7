//! A clock that is set back: what was to last a while lasts no longer for it.

use super::memory::Memory;
use super::turn::Turn;
use crate::model::Millis;
use crate::model::task::State;

/// Less than this, and the time stands still until the clock is where it was.
const STEP: Millis = 1_000;

impl Turn<'_> {
    /// Takes the time from the clock, which said `last` the time before; answers what it says now.
    pub(super) fn set_clock(&mut self, read: Millis, last: Millis) -> Millis {
        self.now = read.max(last);
        let back = self.now - read;
        if back >= STEP {
            tracing::warn!(milliseconds = back, "the clock was set back");
            self.memory.set_back(back);
            self.now = read;
        }
        self.now
    }
}

impl Memory {
    /// Has every span of time that began before the clock was set back end as late as it would have.
    fn set_back(&mut self, by: Millis) {
        let earlier = |at: &mut Millis| *at = at.saturating_sub(by);
        for group in self.groups.values_mut() {
            if let Some(due) = &mut group.due {
                earlier(due);
            }
            for task in &mut group.tasks {
                match &mut task.state {
                    State::Ready { not_before } => earlier(not_before),
                    State::Leased(lease) | State::Running(lease) => earlier(&mut lease.leased_at),
                    _ => {}
                }
            }
        }
        for runner in self.runners.values_mut() {
            if let Some(until) = &mut runner.grace_until {
                earlier(until);
            }
        }
        self.timers.set_back(by);
    }
}
