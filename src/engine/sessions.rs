//! Attached runners: slots, what they hold, grace after a lost connection.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::classes::Class;
use super::memory::GroupId;
use super::queue::{Skill, Skills};
use super::timers::Timer;
use super::token::Token;
use super::turn::{Held, Turn};
use crate::model::demand::Offer;
use crate::model::task::{Input, Lease};
use crate::model::{Millis, Triple};
use crate::store::RUNNERS;
use crate::{Error, Result};

/// The most slots that a runner can have.
pub const MAX_SLOTS: u32 = 1_024;
/// Notifications that may wait besides one per slot: cancellations and the last word.
const SPARE_PUSHES: usize = 64;

/// What an attached runner is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// Work.
    Jobs(Box<Given>),
    /// Attempts that were taken away.
    Cancel {
        /// Which.
        tokens: Vec<String>,
        /// Why.
        reason: String,
    },
    /// The last word.
    Detached {
        /// Why.
        reason: String,
    },
}

impl Push {
    /// The attempts that it gives.
    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        let given = match self {
            Self::Jobs(given) => given.attempts.as_slice(),
            Self::Cancel { .. } | Self::Detached { .. } => &[],
        };
        given.iter().map(|attempt| attempt.token)
    }
}

/// Attempts that travel in one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The message.
    pub message: Carrier,
    /// The flow that the jobs are part of, by id.
    pub flow: Option<u32>,
    /// The environment that the jobs share.
    pub env: Arc<BTreeMap<String, String>>,
    /// One per job.
    pub attempts: Vec<GivenAttempt>,
}

impl Given {
    /// The context of the jobs.
    pub const fn context(&self) -> u32 {
        match self.message {
            Carrier::Made { of: (context, _), .. } | Carrier::Stored((context, ..)) => context,
        }
    }
}

/// The message that carries jobs to a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Made by the coordinator, not stored: its id, and the caller whose jobs it carries.
    Made {
        /// From 2^31 up.
        id: u32,
        /// Context and caller.
        of: (u32, u32),
    },
    /// One that a client stored.
    Stored(Triple),
}

/// One attempt on its way to a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenAttempt {
    /// Names it.
    pub token: Token,
    /// When it will be given up.
    pub deadline_at: Option<Millis>,
}

/// What a runner says of itself when it attaches.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Its context and id.
    pub runner: (u32, u32),
    /// What it can execute.
    pub skills: Vec<Skill>,
    /// Attempts that it may hold at once.
    pub slots: u32,
    /// What it offers to open jobs.
    pub offer: Offer,
    /// What its operator says of it.
    pub labels: BTreeMap<String, String>,
    /// Tokens of what it still has in hand, as it wrote them.
    pub in_hand: Vec<String>,
}

/// The coordinator's end of an attachment; dropping the receiver detaches.
#[derive(Debug)]
pub struct Attached {
    /// Tells this attachment from a later one of the same runner.
    pub session: u64,
    /// What the runner is told.
    pub pushes: mpsc::Receiver<Push>,
}

/// How an attached runner stands.
#[derive(Clone, Debug)]
pub struct RunnerStatus {
    /// Whether it is attached.
    pub online: bool,
    /// Since when.
    pub attached_at: Option<Millis>,
    /// What it can execute.
    pub skills: Vec<Skill>,
    /// Attempts that it may hold at once.
    pub slots: u32,
    /// Attempts that it holds.
    pub busy: u32,
    /// Whether it gets nothing new.
    pub draining: bool,
    /// What it offers to open jobs.
    pub offer: Offer,
    /// What its operator says of it.
    pub labels: BTreeMap<String, String>,
}

/// An attachment.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) pushes: mpsc::Sender<Push>,
    pub(super) skills: Vec<Skill>,
    pub(super) usable: Skills,
    pub(super) offer: Offer,
    /// Classes of work that it may have.
    pub(super) classes: Vec<Class>,
    /// What it was given last: something else is looked for first the next time.
    pub(super) served: Option<(Skill, Class)>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) slots: u32,
    pub(super) draining: bool,
    /// Left an attempt unacknowledged; it gets nothing until it is heard of.
    pub(super) silent: bool,
    pub(super) attached_at: Millis,
    /// Waits in line for work.
    pub(super) offered: bool,
    /// The last batch that something said to it waits for.
    pub(super) held_for: u64,
}

impl Session {
    /// Whether it can take one more attempt.
    pub(super) fn can_take(&self, in_hand: usize) -> bool {
        let slots = usize::try_from(self.slots).unwrap_or(usize::MAX);
        !self.draining && !self.silent && in_hand < slots
    }
}

impl Turn<'_> {
    /// Attaches a runner; a session that it had before is told so and ends.
    ///
    /// Attempts that it names stay with it, all others it had are given out again. Attempts that
    /// it names and that are not its own any more are cancelled.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such runner.
    pub fn attach(&mut self, hello: &Hello) -> Result<Attached> {
        let (context, id) = hello.runner;
        self.runner_exists(hello.runner)?;
        self.touch();
        let slots = usize::try_from(hello.slots).unwrap_or(usize::MAX);
        let (pushes, receiver) = mpsc::channel(slots.saturating_add(SPARE_PUSHES));
        let mut skills = Vec::new();
        for skill in &hello.skills {
            if !skills.contains(skill) {
                skills.push(*skill);
            }
        }
        self.memory.sessions_made += 1;
        let session = Session {
            id: self.memory.sessions_made,
            pushes,
            skills,
            usable: hello.skills.iter().copied().collect(),
            offer: hello.offer.clone(),
            classes: Vec::new(),
            served: None,
            labels: hello.labels.clone(),
            slots: hello.slots,
            draining: false,
            silent: false,
            attached_at: self.now,
            offered: false,
            held_for: 0,
        };
        let attached = Attached { session: session.id, pushes: receiver };
        self.end_session(hello.runner, "replaced by a newer attach of the same runner");
        let runner = self.memory.runners.entry(hello.runner).or_default();
        if let Some(until) = runner.grace_until.take() {
            self.memory.timers.clear(until, Timer::Grace(context, id));
        }
        runner.session = Some(session);
        self.memory.attached += 1;
        self.memory.classify(hello.runner);
        self.memory.count_slots(hello.runner, true);
        self.reconcile(hello)?;
        self.emit_runner(hello.runner, "runner.attached", "");
        self.memory.offer(context, id);
        self.mark(context);
        Ok(attached)
    }

    /// Compares what a runner says it has with what it should have.
    fn reconcile(&mut self, hello: &Hello) -> Result<()> {
        let (_, runner) = hello.runner;
        let mut foreign = Vec::new();
        let mut named = Vec::new();
        for text in &hello.in_hand {
            let token = Token::parse(text).filter(|token| token.job.0 == hello.runner.0);
            let kept = match token {
                Some(token) => self.holds(token, runner) || self.adopt(token, runner)?,
                None => false,
            };
            match token {
                Some(token) if kept => {
                    self.confirm(token, runner)?;
                    named.push(token.job);
                }
                _ => foreign.push(text.clone()),
            }
        }
        let held = self.memory.runners.get(&hello.runner).map(|known| &known.in_hand);
        let left_out: Vec<Triple> =
            held.into_iter().flatten().filter(|job| !named.contains(job)).copied().collect();
        for job in left_out {
            self.lose(job, "its runner came back without it")?;
        }
        if !foreign.is_empty() {
            let reason = "the attempt is not current any more".to_owned();
            self.hold_push(hello.runner, Push::Cancel { tokens: foreign, reason });
        }
        Ok(())
    }

    /// A runner that names what it has in hand has acknowledged it.
    fn confirm(&mut self, token: Token, runner: u32) -> Result<()> {
        let waits = self.lease_of(token.job).is_some_and(|lease| !lease.acknowledged);
        match self.memory.by_job.get(&token.job).copied() {
            Some(at) if waits => self.advance(at, Input::Acknowledge(token.fence(runner)), None),
            _ => Ok(()),
        }
    }

    /// Whether the token is of the attempt that this runner holds.
    pub(super) fn holds(&self, token: Token, runner: u32) -> bool {
        let lease = self.lease_of(token.job);
        lease.is_some_and(|lease| lease.fence == token.fence(runner))
    }

    fn lease_of(&self, job: Triple) -> Option<&Lease> {
        let (group, index) = self.memory.by_job.get(&job)?;
        self.memory.groups.get(group)?.task(*index)?.state.lease()
    }

    /// Ends a session whose connection is gone; a newer one of the same runner is not touched.
    pub fn connection_lost(&mut self, runner: (u32, u32), session: u64) {
        let known = self.memory.runners.get(&runner);
        let current = known.and_then(|known| known.session.as_ref()).map(|s| s.id);
        if current == Some(session) {
            self.end_session(runner, "");
        }
    }

    /// Ends the session of a runner, if it has one, and starts its grace period.
    pub(super) fn end_session(&mut self, (context, id): (u32, u32), reason: &str) {
        let grace_until = self.now.saturating_add(self.grace);
        self.memory.count_slots((context, id), false);
        let Some(runner) = self.memory.runners.get_mut(&(context, id)) else { return };
        let Some(session) = runner.session.take() else { return };
        self.memory.attached = self.memory.attached.saturating_sub(1);
        self.touch();
        if session.offered
            && let Some(free) = self.memory.free.get_mut(&context)
        {
            free.retain(|waiting| *waiting != id);
            if free.is_empty() {
                self.memory.free.remove(&context);
            }
        }
        if !reason.is_empty() {
            let push = Push::Detached { reason: reason.to_owned() };
            let (session, pushes) = (session.id, session.pushes);
            self.held.push(Held { runner: (context, id), session, pushes, push });
        }
        let Some(runner) = self.memory.runners.get_mut(&(context, id)) else { return };
        if runner.in_hand.is_empty() {
            self.memory.runners.remove(&(context, id));
        } else {
            runner.grace_until = Some(grace_until);
            self.memory.timers.set(grace_until, Timer::Grace(context, id));
        }
        self.emit_runner((context, id), "runner.detached", reason);
    }

    /// Gives the work of a runner that did not come back to others.
    pub(super) fn grace_over(&mut self, runner: (u32, u32)) -> Result<()> {
        let Some(known) = self.memory.runners.get_mut(&runner) else { return Ok(()) };
        known.grace_until = None;
        let lost: Vec<Triple> = known.in_hand.iter().copied().collect();
        for job in lost {
            self.lose(job, "its runner was lost")?;
        }
        Ok(())
    }

    fn lose(&mut self, job: Triple, error: &str) -> Result<()> {
        match self.memory.by_job.get(&job).copied() {
            Some(at) => self.advance(at, Input::Lose { error: error.to_owned() }, None),
            None => Ok(()),
        }
    }

    /// Notes that a runner was heard of, and answers which of the attempts it names it should stop.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such runner.
    pub fn heartbeat(&mut self, runner: (u32, u32), tokens: &[String]) -> Result<Vec<String>> {
        self.runner_exists(runner)?;
        self.heard_of(runner);
        let is_foreign = |text: &&String| {
            let token = Token::parse(text).filter(|token| token.job.0 == runner.0);
            token.is_none_or(|token| !self.holds(token, runner.1))
        };
        Ok(tokens.iter().filter(is_foreign).cloned().collect())
    }

    fn runner_exists(&self, runner: (u32, u32)) -> Result<()> {
        let (context, id) = runner;
        match self.get(RUNNERS, &runner)? {
            Some(_) => Ok(()),
            None => Err(Error::NotFound { kind: "runner", id: format!("{context}/{id}") }),
        }
    }

    /// A runner that left something unacknowledged is served again once it is heard of.
    pub(super) fn heard_of(&mut self, runner: (u32, u32)) {
        let known = self.memory.runners.get_mut(&runner);
        let Some(session) = known.and_then(|known| known.session.as_mut()) else { return };
        if session.silent {
            session.silent = false;
            self.touch();
            self.memory.offer(runner.0, runner.1);
            self.mark(runner.0);
        }
    }

    /// Lets a runner finish what it has; it gets nothing new. Answers how many attempts it holds.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when the runner is not attached.
    pub fn drain(&mut self, runner: (u32, u32)) -> Result<u32> {
        self.runner_exists(runner)?;
        let known = self.memory.runners.get_mut(&runner);
        let Some((session, busy)) =
            known.and_then(|known| Some((known.session.as_mut()?, known.in_hand.len())))
        else {
            return Err(Error::conflict("detached", "the runner is not attached"));
        };
        session.draining = true;
        self.touch();
        if busy == 0 {
            self.end_session(runner, "drained");
        }
        Ok(u32::try_from(busy).unwrap_or(u32::MAX))
    }

    /// How a runner stands.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such runner.
    pub fn runner_status(&self, runner: (u32, u32)) -> Result<RunnerStatus> {
        self.runner_exists(runner)?;
        let known = self.memory.runners.get(&runner);
        let session = known.and_then(|known| known.session.as_ref());
        Ok(RunnerStatus {
            online: session.is_some(),
            attached_at: session.map(|s| s.attached_at),
            skills: session.map(|s| s.skills.clone()).unwrap_or_default(),
            slots: session.map_or(0, |s| s.slots),
            busy: known.map_or(0, |k| u32::try_from(k.in_hand.len()).unwrap_or(u32::MAX)),
            draining: session.is_some_and(|s| s.draining),
            offer: session.map(|s| s.offer.clone()).unwrap_or_default(),
            labels: session.map(|s| s.labels.clone()).unwrap_or_default(),
        })
    }

    /// Whether the runner has work in hand.
    pub fn runner_is_busy(&self, context: u32, id: u32) -> bool {
        self.memory.runners.get(&(context, id)).is_some_and(|known| !known.in_hand.is_empty())
    }

    /// Ends the session of a runner that is being deleted.
    pub fn runner_deleted(&mut self, context: u32, id: u32) {
        self.end_session((context, id), "the runner was deleted");
    }

    /// Ends the sessions of all runners of a context that is being deleted.
    pub fn context_deleted(&mut self, context: u32) {
        self.memory.contexts.remove(&context);
        let of_context = self.memory.runners.keys().filter(|(of, _)| *of == context);
        for runner in of_context.copied().collect::<Vec<_>>() {
            self.end_session(runner, "the context was deleted");
        }
    }

    /// Ends every session: the coordinator stops.
    pub(super) fn end_all_sessions(&mut self) {
        let attached: Vec<(u32, u32)> = self.memory.runners.keys().copied().collect();
        for runner in attached {
            self.end_session(runner, "the coordinator is shutting down");
        }
    }

    /// Frees the slot that an attempt had, whose runner may now get another or is drained.
    pub(super) fn free_slot(&mut self, runner: (u32, u32), job: Triple) {
        let Some(known) = self.memory.runners.get_mut(&runner) else { return };
        let freed = usize::from(known.in_hand.remove(&job));
        self.memory.leased = self.memory.leased.saturating_sub(freed);
        let idle = known.in_hand.is_empty();
        match &known.session {
            Some(session) if session.draining && idle => self.end_session(runner, "drained"),
            Some(_) => {
                self.memory.offer(runner.0, runner.1);
                self.mark(runner.0);
            }
            None if idle => {
                if let Some(until) = known.grace_until {
                    self.memory.timers.clear(until, Timer::Grace(runner.0, runner.1));
                }
                self.memory.runners.remove(&runner);
            }
            None => {}
        }
    }

    /// An attempt was not acknowledged in time: it goes to another runner.
    pub(super) fn acknowledgement_due(&mut self, at: (GroupId, u32), attempt: u32) -> Result<()> {
        let Some(group) = self.memory.groups.get(&at.0) else { return Ok(()) };
        let lease = group.task(at.1).and_then(|task| task.state.lease()).copied();
        let context = group.context();
        let Some(lease) = lease.filter(|l| l.fence.attempt == attempt && !l.acknowledged) else {
            return Ok(());
        };
        let known = self.memory.runners.get_mut(&(context, lease.fence.runner));
        if let Some(session) = known.and_then(|known| known.session.as_mut()) {
            session.silent = true;
        }
        self.advance(at, Input::Lose { error: "not acknowledged in time".to_owned() }, None)
    }
}
