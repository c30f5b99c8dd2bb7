//! Attempts that a runner has and a crash has forgotten.

use super::memory::GroupId;
use super::token::Token;
use super::turn::Turn;
use crate::model::task::Input;
use crate::{Error, Result};

impl Turn<'_> {
    /// Takes a runner's word for an attempt that was pushed before its lease was durable, and whose
    /// lease a crash has then undone.
    pub(super) fn adopt(&mut self, token: Token, runner: u32) -> Result<bool> {
        let Some(at) = self.memory.by_job.get(&token.job).copied() else { return Ok(false) };
        // Of what began in this process nothing was forgotten: such a token is of an earlier life.
        let group = self.memory.groups.get(&at.0).filter(|group| group.loaded);
        let task = group.and_then(|group| group.task(at.1));
        let next = task.is_some_and(|task| task.attempts.checked_add(1) == Some(token.attempt));
        if !next || !self.could_have_been_given(at, runner) {
            return Ok(false);
        }
        let taken = self.advance(at, Input::Lease { runner, nonce: token.nonce }, None);
        match taken {
            Ok(()) => Ok(true),
            Err(Error::Conflict { .. }) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Whether the runner, as it is attached, might have been given the task: names of attempts can
    /// be guessed, and nobody gets by a guess what he would not have got by waiting.
    fn could_have_been_given(&self, (group, index): (GroupId, u32), runner: u32) -> bool {
        let Some(group) = self.memory.groups.get(&group) else { return false };
        let Some(known) = self.memory.runners.get(&(group.context(), runner)) else { return false };
        let session = known.session.as_ref();
        session.zip(group.plan.spec(index)).is_some_and(|(session, spec)| {
            let slots = usize::try_from(session.slots).unwrap_or(usize::MAX);
            known.in_hand.len() < slots
                && session.usable.contains(spec.skill)
                && session.classes.contains(&spec.class)
        })
    }
}
