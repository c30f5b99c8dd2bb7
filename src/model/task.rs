//! The unit of work every face maps onto, as one pure transition function.

use minicbor::{Decode, Encode};

use super::Millis;

/// The language of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Language {
    /// A Rhai script.
    #[n(0)]
    Osis,
    /// A Rhai script.
    #[n(1)]
    Sal,
    /// A V program.
    #[n(2)]
    V,
    /// A Python program.
    #[n(3)]
    Python,
}

/// Where a job stands, as the core face says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum JobStatus {
    /// May be given to a runner, or has been and did not begin.
    #[n(0)]
    Dispatched,
    /// Something holds it back.
    #[n(1)]
    WaitingForPrerequisites,
    /// A runner works on it.
    #[n(2)]
    Started,
    /// Ended badly, or was cancelled.
    #[n(3)]
    Error,
    /// Ended well.
    #[n(4)]
    Finished,
}

/// How an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum AttemptState {
    /// Given to a runner.
    #[n(0)]
    Leased,
    /// The runner works on it.
    #[n(1)]
    Running,
    /// Ended well.
    #[n(2)]
    Finished,
    /// Ended badly.
    #[n(3)]
    Error,
    /// Its runner was lost, or never acknowledged it.
    #[n(4)]
    Lost,
    /// Withdrawn.
    #[n(5)]
    Cancelled,
}

/// Where a task of a run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Held back.
    Waiting {
        /// Tasks that must finish first.
        dependencies: u32,
        /// Gates that are closed.
        gates: u32,
    },
    /// May be leased from `not_before` on.
    Ready {
        /// Earliest start, 0 when it is not backing off.
        not_before: Millis,
    },
    /// Given to a runner that has not begun.
    Leased(Lease),
    /// A runner works on it.
    Running(Lease),
    /// Ended well.
    Finished,
    /// Ended badly: its retries are spent.
    Failed {
        /// What the last attempt said.
        error: String,
    },
    /// Withdrawn, or given up because of something else.
    GivenUp {
        /// Why.
        reason: String,
    },
}

/// Who has the present attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The attempt.
    pub fence: Fence,
    /// When it was given out.
    pub leased_at: Millis,
    /// Whether its holder confirmed it.
    pub acknowledged: bool,
    /// When work began; 0 before.
    pub started_at: Millis,
}

/// What a report must name to be about the present attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// Its number, from 1.
    pub attempt: u32,
    /// Its holder.
    pub runner: u32,
    /// Random; see [`crate::store::AttemptRow::nonce`].
    pub nonce: u32,
}

/// What can happen to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A task that it depends on finished.
    DependencyFinished,
    /// A gate opened.
    GateOpened,
    /// A runner takes it.
    Lease {
        /// Taker.
        runner: u32,
        /// Random number of this lease.
        nonce: u32,
    },
    /// The holder has it.
    Acknowledge(Fence),
    /// The holder began.
    Start(Fence),
    /// The holder ended well.
    Finish(Fence),
    /// The holder ended badly.
    Fail {
        /// What it was given.
        fence: Fence,
        /// What it said.
        error: String,
    },
    /// The attempt took too long.
    TimeOut {
        /// Which bound it broke.
        error: String,
    },
    /// The holder is gone, or never confirmed.
    Lose {
        /// How it was lost.
        error: String,
    },
    /// It is withdrawn, or something it needs failed.
    GiveUp {
        /// Why.
        reason: String,
    },
}

/// What the world must be told, once the new state is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// May be leased from this time on.
    pub queued: Option<Millis>,
    /// This lease is over, and its holder does not know.
    pub revoked: Option<Lease>,
    /// It ended: `true` for well.
    pub settled: Option<bool>,
    /// How the attempt that was under way ended, and why it failed.
    pub ended: Option<(AttemptState, Option<String>)>,
}

/// How often, and how patiently, to try.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Attempts after the first.
    pub retries: u8,
    /// Delay before the second attempt; doubles from there.
    pub base: Millis,
    /// The longest delay.
    pub cap: Millis,
    /// Attempts that may be lost in a row before they count as failures.
    pub losses: u32,
}

impl Policy {
    /// The core face's: 1 s doubled up to 30 s, 10 losses (specification of the core face, "Jobs").
    pub const fn core(retries: u8) -> Self {
        Self { retries, base: 1_000, cap: 30_000, losses: 10 }
    }

    /// The delay after so many failures; `random` spreads it over its upper half.
    pub fn delay(&self, failures: u32, random: u32) -> Millis {
        let doublings = failures.saturating_sub(1).min(32);
        let full = self.base.saturating_mul(1 << doublings).min(self.cap);
        let half = full / 2;
        full - half + half.saturating_mul(u64::from(random)) / u64::from(u32::MAX)
    }
}

/// A refused input; the state is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Wrong state for this input.
    #[error("a {state} task cannot {input}")]
    State {
        /// The state's name.
        state: &'static str,
        /// The input's verb.
        input: &'static str,
    },
    /// It is not about the present attempt.
    #[error("the attempt token is not the current one")]
    Stale,
}

/// A task of a run, and what its retries are counted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Where it stands.
    pub state: State,
    /// The number of the last attempt; never falls, also over runs.
    pub attempts: u32,
    /// Failed attempts of this run.
    pub failures: u32,
    /// Attempts lost in a row.
    pub losses: u32,
}

impl Task {
    /// A task at the begin of a run.
    pub const fn new(dependencies: u32, gates: u32, attempts: u32) -> Self {
        let state = match (dependencies, gates) {
            (0, 0) => State::Ready { not_before: 0 },
            _ => State::Waiting { dependencies, gates },
        };
        Self { state, attempts, failures: 0, losses: 0 }
    }

    /// The only way a task changes: a new state and what follows from it.
    ///
    /// ```
    /// use muster::model::task::{Input, Policy, State, Task};
    /// let waiting = Task::new(1, 0, 0);
    /// let (ready, effects) =
    ///     waiting.step(Input::DependencyFinished, &Policy::core(0), 5, 0).unwrap();
    /// assert_eq!(ready.state, State::Ready { not_before: 0 });
    /// assert_eq!(effects.queued, Some(0));
    /// ```
    ///
    /// # Errors
    /// When the input does not fit the state, or names an attempt that is not the present one.
    pub fn step(
        &self,
        input: Input,
        policy: &Policy,
        now: Millis,
        random: u32,
    ) -> Result<(Self, Effects), Refusal> {
        use {Input as I, State as S};
        match (&self.state, input) {
            (S::Waiting { dependencies, gates }, I::DependencyFinished) if *dependencies > 0 => {
                Ok(self.released(dependencies - 1, *gates))
            }
            (S::Waiting { dependencies, gates }, I::GateOpened) if *gates > 0 => {
                Ok(self.released(*dependencies, gates - 1))
            }
            (S::Ready { not_before }, I::Lease { runner, nonce }) if *not_before <= now => {
                let attempt = self.attempts.saturating_add(1);
                let fence = Fence { attempt, runner, nonce };
                let lease = Lease { fence, leased_at: now, acknowledged: false, started_at: 0 };
                let next = Self { state: S::Leased(lease), attempts: attempt, ..*self };
                Ok((next, Effects::default()))
            }
            (S::Leased(lease), I::Acknowledge(fence)) => {
                check(fence, lease)?;
                let lease = Lease { acknowledged: true, ..*lease };
                Ok((self.with(S::Leased(lease)), Effects::default()))
            }
            (S::Running(lease), I::Acknowledge(fence) | I::Start(fence)) => {
                check(fence, lease)?;
                Ok((self.with(S::Running(*lease)), Effects::default()))
            }
            (S::Leased(lease), I::Start(fence)) => {
                check(fence, lease)?;
                let lease = Lease { acknowledged: true, started_at: now.max(1), ..*lease };
                Ok((self.with(S::Running(lease)), Effects::default()))
            }
            (S::Leased(lease) | S::Running(lease), I::Finish(fence)) => {
                check(fence, lease)?;
                Ok((self.with(S::Finished), settled(true, AttemptState::Finished, None)))
            }
            (S::Leased(lease) | S::Running(lease), I::Fail { fence, error }) => {
                check(fence, lease)?;
                Ok(self.failed(error, AttemptState::Error, policy, now, random))
            }
            (S::Leased(lease) | S::Running(lease), I::TimeOut { error }) => {
                let (next, effects) = self.failed(error, AttemptState::Error, policy, now, random);
                Ok((next, Effects { revoked: Some(*lease), ..effects }))
            }
            (S::Leased(lease) | S::Running(lease), I::Lose { error }) => {
                let (next, effects) = self.lost(error, policy, now, random);
                Ok((next, Effects { revoked: Some(*lease), ..effects }))
            }
            (S::Leased(lease) | S::Running(lease), I::GiveUp { reason }) => {
                let ended = settled(false, AttemptState::Cancelled, Some(reason.clone()));
                let next = self.with(S::GivenUp { reason });
                Ok((next, Effects { revoked: Some(*lease), ..ended }))
            }
            (S::Waiting { .. } | S::Ready { .. }, I::GiveUp { reason }) => {
                let effects = Effects { settled: Some(false), ..Effects::default() };
                Ok((self.with(S::GivenUp { reason }), effects))
            }
            (state, input) => match input {
                // An attempt that is over is stale, whatever became of the task.
                I::Acknowledge(_) | I::Start(_) | I::Finish(_) | I::Fail { .. } => {
                    Err(Refusal::Stale)
                }
                _ => Err(Refusal::State { state: state.name(), input: input.verb() }),
            },
        }
    }

    fn with(&self, state: State) -> Self {
        Self { state, ..*self }
    }

    fn released(&self, dependencies: u32, gates: u32) -> (Self, Effects) {
        if dependencies == 0 && gates == 0 {
            (self.with(State::Ready { not_before: 0 }), queued(0))
        } else {
            (self.with(State::Waiting { dependencies, gates }), Effects::default())
        }
    }

    fn failed(
        &self,
        error: String,
        ended: AttemptState,
        policy: &Policy,
        now: Millis,
        random: u32,
    ) -> (Self, Effects) {
        if self.failures >= u32::from(policy.retries) {
            let effects = settled(false, ended, Some(error.clone()));
            return (self.with(State::Failed { error }), effects);
        }
        let failures = self.failures + 1;
        let not_before = now.saturating_add(policy.delay(failures, random));
        let next = Self {
            state: State::Ready { not_before },
            failures,
            losses: 0,
            attempts: self.attempts,
        };
        (next, Effects { ended: Some((ended, Some(error))), ..queued(not_before) })
    }

    fn lost(&self, error: String, policy: &Policy, now: Millis, random: u32) -> (Self, Effects) {
        if self.losses >= policy.losses {
            return self.failed(error, AttemptState::Lost, policy, now, random);
        }
        let losses = self.losses + 1;
        let next = Self { losses, ..self.with(State::Ready { not_before: 0 }) };
        (next, Effects { ended: Some((AttemptState::Lost, Some(error))), ..queued(0) })
    }
}

impl State {
    /// Whether no input can change it any more.
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::Finished | Self::Failed { .. } | Self::GivenUp { .. })
    }

    /// The present lease.
    pub const fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Leased(lease) | Self::Running(lease) => Some(lease),
            _ => None,
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Ready { .. } => "ready",
            Self::Leased(_) => "leased",
            Self::Running(_) => "running",
            Self::Finished => "finished",
            Self::Failed { .. } => "failed",
            Self::GivenUp { .. } => "given up",
        }
    }
}

impl From<&State> for JobStatus {
    fn from(state: &State) -> Self {
        match state {
            State::Waiting { .. } => Self::WaitingForPrerequisites,
            State::Ready { .. } | State::Leased(_) => Self::Dispatched,
            State::Running(_) => Self::Started,
            State::Finished => Self::Finished,
            State::Failed { .. } | State::GivenUp { .. } => Self::Error,
        }
    }
}

impl JobStatus {
    /// All of them, in the order of the seed document.
    pub const ALL: [Self; 5] = [
        Self::Dispatched,
        Self::WaitingForPrerequisites,
        Self::Started,
        Self::Error,
        Self::Finished,
    ];

    /// A job that nothing has happened to.
    pub const fn fresh(held_back: bool) -> Self {
        if held_back { Self::WaitingForPrerequisites } else { Self::Dispatched }
    }

    /// Whether it has ended.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Error)
    }

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dispatched => "Dispatched",
            Self::WaitingForPrerequisites => "WaitingForPrerequisites",
            Self::Started => "Started",
            Self::Error => "Error",
            Self::Finished => "Finished",
        }
    }
}

impl Language {
    /// All of them, in the order of the seed document.
    pub const ALL: [Self; 4] = [Self::Osis, Self::Sal, Self::V, Self::Python];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Osis => "Osis",
            Self::Sal => "Sal",
            Self::V => "V",
            Self::Python => "Python",
        }
    }
}

impl Input {
    const fn verb(&self) -> &'static str {
        match self {
            Self::DependencyFinished | Self::GateOpened => "be released",
            Self::Lease { .. } => "be leased",
            Self::Acknowledge(_) => "be acknowledged",
            Self::Start(_) => "start",
            Self::Finish(_) => "finish",
            Self::Fail { .. } => "fail",
            Self::TimeOut { .. } => "time out",
            Self::Lose { .. } => "be lost",
            Self::GiveUp { .. } => "be given up",
        }
    }
}

fn check(got: Fence, lease: &Lease) -> Result<(), Refusal> {
    if got == lease.fence { Ok(()) } else { Err(Refusal::Stale) }
}

fn queued(from: Millis) -> Effects {
    Effects { queued: Some(from), ..Effects::default() }
}

fn settled(well: bool, ended: AttemptState, error: Option<String>) -> Effects {
    Effects { settled: Some(well), ended: Some((ended, error)), ..Effects::default() }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
