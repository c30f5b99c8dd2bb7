//! Ready tasks meet free slots.

use std::sync::Arc;

use super::memory::{GroupId, GroupKey};
use super::queue::Ready;
use super::sessions::{Carrier, Given, GivenAttempt, Push};
use super::token::Token;
use super::turn::{Held, Turn};
use crate::model::slices::is_group;
use crate::model::task::{Input, State};
use crate::{Error, Result};

/// Attempts that go to one runner in one message.
struct Parcel {
    runner: u32,
    group: GroupId,
    attempts: Vec<GivenAttempt>,
    /// It must not leave before this turn's batch is durable.
    held: bool,
}

impl Turn<'_> {
    /// Gives ready tasks to free slots, in the contexts where either is new.
    pub(super) fn dispatch(&mut self) {
        for context in std::mem::take(&mut self.marked) {
            let mut parcels = Vec::new();
            let done = self.attempt(|turn| {
                if is_group(context) {
                    return turn.dispatch_group(context, &mut parcels);
                }
                turn.dispatch_context(context, &mut parcels);
                Ok(())
            });
            match done {
                Ok(()) => self.send(context, parcels),
                Err(err) => tracing::error!(error = %err, context, "could not dispatch"),
            }
        }
    }

    /// As [`Turn::dispatch_context`], cutting the batches that slots are free for.
    fn dispatch_group(&mut self, context: u32, parcels: &mut Vec<Parcel>) -> Result<()> {
        loop {
            self.cut_batches(context)?;
            let leased = self.memory.leased;
            self.dispatch_context(context, parcels);
            if self.memory.leased == leased || self.poisoned {
                return Ok(());
            }
        }
    }

    fn dispatch_context(&mut self, context: u32, parcels: &mut Vec<Parcel>) {
        // Each round gives every free runner at most one task, so that work spreads.
        let mut useless = 0;
        while !self.memory.ready.is_empty(context) {
            let Some(free) = self.memory.free.get_mut(&context) else { break };
            if useless >= free.len() {
                break;
            }
            let Some(runner) = free.pop_front() else { break };
            let Some(known) = self.memory.runners.get_mut(&(context, runner)) else { continue };
            let in_hand = known.in_hand.len();
            let Some(session) = known.session.as_mut() else { continue };
            session.offered = false;
            if !session.can_take(in_hand) {
                continue;
            }
            let taken = match self.memory.ready.pop(context, session.turns()) {
                Some((ready, kind)) => {
                    session.served = Some(kind);
                    self.lease(ready, runner, parcels);
                    true
                }
                None => false,
            };
            useless = if taken { 0 } else { useless + 1 };
            self.memory.offer(context, runner);
        }
        if self.memory.free.get(&context).is_some_and(std::collections::VecDeque::is_empty) {
            self.memory.free.remove(&context);
        }
    }

    fn lease(&mut self, ready: Ready, runner: u32, parcels: &mut Vec<Parcel>) {
        let at = (ready.group, ready.index);
        let task = self.memory.groups.get(&at.0).and_then(|group| group.task(at.1));
        // It may have been given up since it was queued.
        if task.is_none_or(|task| !matches!(task.state, State::Ready { .. })) {
            return;
        }
        let nonce = fastrand::u32(..);
        match self.advance(at, Input::Lease { runner, nonce }, None) {
            Ok(()) => {}
            Err(Error::Conflict { .. } | Error::Stale) => return,
            Err(err) => {
                tracing::error!(error = %err, "could not lease a task");
                self.poisoned = true;
                return;
            }
        }
        let Some(group) = self.memory.groups.get(&at.0) else { return };
        let Some(job) = group.job(at.1) else { return };
        let Some(lease) = group.task(at.1).and_then(|task| task.state.lease()) else { return };
        let attempt = GivenAttempt {
            token: Token::new(job, lease.fence),
            deadline_at: group.deadline(at.1, lease.leased_at),
        };
        // Nor may it overtake the word that takes an attempt away, whose slot it may fill.
        let known = self.memory.runners.get(&(group.context(), runner));
        let said = known.and_then(|known| known.session.as_ref()).map_or(0, |s| s.held_for);
        let held = ready.batch.max(said) > self.durable;
        let parcel = parcels
            .iter_mut()
            .rev()
            .find(|p| (p.runner, p.group, p.held) == (runner, ready.group, held));
        match parcel {
            Some(parcel) => parcel.attempts.push(attempt),
            None => {
                let attempts = vec![attempt];
                parcels.push(Parcel { runner, group: ready.group, attempts, held });
            }
        }
    }

    fn send(&mut self, context: u32, parcels: Vec<Parcel>) {
        for Parcel { runner, group, attempts, held } in parcels {
            let Some(group) = self.memory.groups.get(&group) else { continue };
            let (key, caller, env) = (group.key, group.caller, Arc::clone(&group.env));
            let (message, flow) = match key {
                GroupKey::Message(key) => (Carrier::Stored(key), None),
                GroupKey::Flow(_, flow) => (self.made(context, caller), Some(flow)),
                GroupKey::Job(_) | GroupKey::Batch(_) => (self.made(context, caller), None),
            };
            let push = Push::Jobs(Box::new(Given { message, flow, env, attempts }));
            let Some(known) = self.memory.runners.get_mut(&(context, runner)) else { continue };
            let Some(session) = &known.session else { continue };
            let (session, pushes) = (session.id, session.pushes.clone());
            if held {
                known.untold.retain(|(batch, _)| *batch > self.durable);
                known.untold.extend(push.tokens().map(|token| (self.batch, token)));
            }
            let push = Held { runner: (context, runner), session, pushes, push };
            if held { self.held.push(push) } else { self.immediate.push(push) }
        }
    }

    fn made(&mut self, context: u32, caller: u32) -> Carrier {
        Carrier::Made { id: self.memory.next_message(), of: (context, caller) }
    }
}
