//! The loop of one runner: attaches, executes what it is given, reports, comes back when it lost the
//! connection, and drains when it is asked to end.

use std::collections::{BTreeMap, HashMap};
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::StreamExt;
use serde_json::{Map, Value};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::attempt::{RESULTS, Results, Way, Work};
use super::connection::{Connection, Heard};
use super::executor::{Executors, Outcome, Stopper};
use super::link::{Attach, Link, LinkError, Name};
use super::logs::Logs;
use super::outbox::{Outbox, is_passing};
use super::protocol::{Attempt, Carried, CarriedJob, Notification, ReportReply};
use super::turns::{Answer, Call, Turns};
use crate::Code;
use crate::face::core::compute_group::JoinGroup;
use crate::model::Millis;

/// First pause before another try.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Calls of `runner.report` that may be on their way at once.
const CALLS: usize = 8;
/// For jobs to end that were told to.
const STOPPING: Duration = Duration::from_secs(10);

/// Which runner, and how it behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The tenant.
    pub context_id: u32,
    /// The runner.
    pub runner_id: u32,
    /// What it executes, values of `ScriptType`.
    pub script_types: Vec<&'static str>,
    /// How many attempts it holds at once.
    pub slots: u32,
    /// What it is able to: nested booleans.
    pub capabilities: Map<String, Value>,
    /// Compute groups that it serves; none: the public one.
    pub groups: Vec<JoinGroup>,
    /// For operators to tell runners apart.
    pub labels: BTreeMap<String, String>,
    /// For jobs in hand to end when it drains.
    pub drain_limit: Duration,
    /// The clock.
    pub now: fn() -> Millis,
}

/// Every `ScriptType`.
pub const SCRIPT_TYPES: [&str; 4] = ["Osis", "Sal", "V", "Python"];

/// How a runner came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was drained; nothing is in hand.
    Drained,
    /// It was to end, and some of its jobs took too long: others get them.
    Abandoned(usize),
    /// Another process attached as the same runner.
    Replaced,
    /// The coordinator will not have it, such as because there is no such runner.
    Refused(LinkError),
}

/// One runner.
#[derive(Debug)]
pub struct Agent<L> {
    link: Arc<L>,
    settings: Settings,
    executors: Arc<Executors>,
    /// Attempts that may be executed at once, perhaps by several agents together.
    permits: Arc<Semaphore>,
    outbox: Outbox,
    running: JoinSet<(String, Outcome)>,
    tokens: HashMap<Id, String>,
    wake: Arc<Notify>,
    failures: u32,
}

impl<L: Link> Agent<L> {
    /// One that executes as many attempts at once as `permits` allows.
    pub fn new(
        link: L,
        settings: Settings,
        executors: Arc<Executors>,
        permits: Arc<Semaphore>,
    ) -> Self {
        Self {
            link: Arc::new(link),
            settings,
            executors,
            permits,
            outbox: Outbox::default(),
            running: JoinSet::new(),
            tokens: HashMap::new(),
            wake: Arc::new(Notify::new()),
            failures: 0,
        }
    }

    /// Runs until it is drained, which `drain` asks for, or refused for good.
    ///
    /// Dropping it ends what it executes at once; others get that work after the grace period.
    pub async fn run(mut self, drain: impl Future<Output = ()> + Send) -> Ended {
        let mut turns = Turns::new();
        let mut drain = Box::pin(drain.fuse());
        turns.connection = self.attach();
        let ended = loop {
            let sends_at = turns.next_deadline(self.outbox.has_lines());
            tokio::select! {
                heard = turns.connection.hear() => {
                    if let Some(ended) = self.hear(heard, &mut turns) {
                        break ended;
                    }
                }
                Some(token) = turns.begun.recv() => self.outbox.started(&token),
                Some(done) = self.running.join_next_with_id(), if !self.running.is_empty() => {
                    // What ended has begun before: that is said first.
                    while let Ok(token) = turns.begun.try_recv() {
                        self.outbox.started(&token);
                    }
                    self.settle(done);
                }
                Some(answer) = turns.calls.next(), if !turns.calls.is_empty() => {
                    self.take_answer(answer, &mut turns);
                }
                () = self.wake.notified() => turns.gather(),
                () = until(sends_at), if sends_at.is_some() => turns.due(),
                _ = turns.heartbeat.tick(), if turns.connection.is_up() => {
                    turns.calls.push(self.heartbeat());
                }
                () = &mut drain, if turns.ends_at.is_none() => {
                    turns.ends_at = Some(Instant::now() + self.settings.drain_limit);
                }
                () = until(turns.ends_at), if turns.ends_at.is_some() => {
                    break Ended::Abandoned(self.outbox.len());
                }
            }
            if turns.ends_at.is_some() && self.outbox.is_empty() && !turns.connection.is_up() {
                break Ended::Drained;
            }
            self.speak(&mut turns);
        };
        drop(turns);
        self.leave(ended).await
    }

    /// Ends what still runs.
    async fn leave(mut self, ended: Ended) -> Ended {
        self.outbox.abandon("the runner is stopping");
        let all = async { while self.running.join_next().await.is_some() {} };
        if timeout(STOPPING, all).await.is_err() {
            tracing::error!("jobs do not end");
        }
        ended
    }

    fn name(&self) -> Name {
        Name { context_id: self.settings.context_id, runner_id: self.settings.runner_id }
    }

    fn attach(&self) -> Connection {
        let Settings { context_id, runner_id, script_types, slots, .. } = &self.settings;
        let params = Attach {
            context_id: *context_id,
            runner_id: *runner_id,
            script_types: script_types.clone(),
            slots: *slots,
            capabilities: self.settings.capabilities.clone(),
            groups: self.settings.groups.clone(),
            labels: self.settings.labels.clone(),
            in_hand: self.outbox.tokens(),
        };
        let link = Arc::clone(&self.link);
        Connection::Attaching(Box::pin(async move { link.attach(&params).await }))
    }

    fn pause(&mut self) -> Duration {
        let doubled = PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        // Half of it at random, so that runners do not all come back at once.
        doubled.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    fn try_again(&mut self, why: &str) -> Connection {
        let pause = self.pause();
        let Settings { context_id, runner_id, .. } = self.settings;
        tracing::warn!(context_id, runner_id, ?pause, why, "not attached");
        Connection::Pausing(Box::pin(sleep(pause)))
    }

    /// Attaches anew, if it is attached.
    fn come_back(&mut self, why: &str, turns: &mut Turns) {
        if turns.connection.is_up() {
            turns.connection = self.try_again(why);
        }
    }

    fn hear(&mut self, heard: Heard, turns: &mut Turns) -> Option<Ended> {
        match heard {
            Heard::PauseOver => turns.connection = self.attach(),
            Heard::Tried(Ok(notifications)) => {
                let Settings { context_id, runner_id, slots, .. } = self.settings;
                tracing::info!(context_id, runner_id, slots, "attached");
                turns.connection = Connection::Attached(notifications);
                turns.heartbeat.reset();
                turns.drain_said = false;
            }
            Heard::Tried(Err(LinkError::Refused { code, message })) if !is_passing(code) => {
                return Some(Ended::Refused(LinkError::Refused { code, message }));
            }
            Heard::Tried(Err(err)) => turns.connection = self.try_again(&err.to_string()),
            Heard::Lost => turns.connection = self.try_again("the connection was lost"),
            Heard::Told(Notification::Jobs { message, attempts }) => {
                self.failures = 0;
                self.accept(message, attempts, turns);
            }
            Heard::Told(Notification::Cancel { tokens, reason }) => {
                for token in tokens {
                    self.outbox.cancel(&token, &reason);
                }
            }
            Heard::Told(Notification::Detached { reason }) => {
                tracing::info!(reason, "detached");
                if reason.starts_with("replaced") {
                    return Some(Ended::Replaced);
                }
                if reason.starts_with("drained") {
                    // Perhaps asked for by someone else. What is left are answers to last reports.
                    turns.connection = Connection::Over;
                    turns.ends_at.get_or_insert(Instant::now() + STOPPING);
                } else {
                    turns.connection = self.try_again(&reason);
                }
            }
        }
        None
    }

    /// Takes attempts in hand; their jobs travel in the message.
    fn accept(&mut self, message: Carried, attempts: Vec<Attempt>, turns: &Turns) {
        let jobs = message.job.into_iter().map(|job| ((job.caller_id, job.id), job));
        let mut jobs: HashMap<(u32, u32), CarriedJob> = jobs.collect();
        // Reports that are accepted, and not yet answered, make room at the coordinator before here.
        let most = usize::try_from(self.settings.slots).unwrap_or(usize::MAX).saturating_mul(4);
        for attempt in attempts {
            if self.outbox.len() >= most.max(64) {
                tracing::warn!(token = attempt.token, "more attempts than slots; left alone");
                continue;
            }
            let Some(job) = jobs.remove(&(attempt.caller_id, attempt.job_id)) else {
                tracing::warn!(token = attempt.token, "an attempt without its job; left alone");
                continue;
            };
            self.begin(job, attempt, turns);
        }
    }

    fn begin(&mut self, job: CarriedJob, attempt: Attempt, turns: &Turns) {
        let (stopper, stop) = Stopper::new();
        let logs = Logs::new(Arc::clone(&self.wake));
        let (results, waiting) = mpsc::channel(RESULTS);
        let token = attempt.token.clone();
        if !self.outbox.take(&token, stopper.clone(), logs.clone(), waiting) {
            return;
        }
        let work = match Work::of(self.settings.context_id, job, attempt, (self.settings.now)()) {
            Ok(work) => work,
            Err(unknown) => {
                self.outbox.ended(&token, Outcome::error(unknown));
                return;
            }
        };
        let results = Results { sender: results, wake: Arc::clone(&self.wake) };
        let way = Way { stopper, stop, logs, results };
        let (executors, permits) = (Arc::clone(&self.executors), Arc::clone(&self.permits));
        let (begin, name) = (turns.begin.clone(), token.clone());
        let task = self.running.spawn(async move {
            let outcome = work.execute(&executors, &permits, (begin, &name), way).await;
            (name, outcome)
        });
        self.tokens.insert(task.id(), token);
    }

    fn settle(&mut self, done: Result<(Id, (String, Outcome)), tokio::task::JoinError>) {
        match done {
            Ok((id, (token, outcome))) => {
                self.tokens.remove(&id);
                self.outbox.ended(&token, outcome);
            }
            Err(err) => {
                tracing::error!(%err, "an executor failed");
                if let Some(token) = self.tokens.remove(&err.id()) {
                    self.outbox.ended(&token, Outcome::error("the runner failed; see its log"));
                }
            }
        }
    }

    /// Sends what there is to say.
    fn speak(&mut self, turns: &mut Turns) {
        if !turns.connection.is_up() {
            return;
        }
        if turns.ends_at.is_some() && !turns.drain_said {
            turns.drain_said = true;
            let (link, name) = (Arc::clone(&self.link), self.name());
            turns
                .calls
                .push(Box::pin(async move { Answer::Drain(name.drain(&*link).await.map(|_| ())) }));
        }
        let lines = turns.gathered.is_some_and(|at| at <= Instant::now());
        if turns.held_back.is_some() {
            return;
        }
        while turns.reports_on_their_way < CALLS {
            let reports = self.outbox.next_call(lines);
            if reports.is_empty() {
                break;
            }
            turns.reports_on_their_way += 1;
            let (link, name) = (Arc::clone(&self.link), self.name());
            turns.calls.push(Box::pin(async move {
                let reply = name.report(&*link, &reports).await;
                Answer::Report(reports, reply)
            }));
        }
        if lines {
            turns.gathered = None;
        }
    }

    fn heartbeat(&self) -> Call {
        let (link, name, tokens) = (Arc::clone(&self.link), self.name(), self.outbox.tokens());
        Box::pin(async move {
            Answer::Heartbeat(name.heartbeat(&*link, &tokens).await.map(|reply| reply.cancel))
        })
    }

    fn take_answer(&mut self, answer: Answer, turns: &mut Turns) {
        match answer {
            Answer::Report(reports, reply) => {
                turns.reports_on_their_way -= 1;
                let again = match reply {
                    Ok(ReportReply { refused, .. }) => {
                        self.failures = 0;
                        self.outbox.answered(&reports, &refused)
                    }
                    Err(LinkError::Refused { code, message })
                        if code == Code::Unauthenticated.number() =>
                    {
                        // The session has expired: the next attach proves anew who this is.
                        self.come_back(&message, turns);
                        self.outbox.unsent(reports.iter(), Some(code))
                    }
                    Err(LinkError::Refused { code, message }) if !is_passing(code) => {
                        tracing::error!(code, message, "reports were refused");
                        for report in &reports {
                            self.outbox.drop_unheard(&report.token, &message);
                        }
                        false
                    }
                    Err(err) => {
                        tracing::warn!(%err, "reports will be sent again");
                        let code = match err {
                            LinkError::Refused { code, .. } => Some(code),
                            LinkError::Lost(_) => None,
                        };
                        self.outbox.unsent(reports.iter(), code)
                    }
                };
                if self.outbox.has_dropped() {
                    self.come_back("attempts were given up", turns);
                }
                if again {
                    turns.held_back = Some(Instant::now() + self.pause());
                }
            }
            Answer::Heartbeat(Ok(cancel)) => {
                self.failures = 0;
                for token in cancel {
                    self.outbox.cancel(&token, "the attempt is not current any more");
                }
            }
            Answer::Heartbeat(Err(LinkError::Refused { code, message })) => {
                let detached = code == Code::Conflict.number() && turns.connection.is_up();
                if detached && turns.ends_at.is_none() {
                    // The coordinator does not know this attachment, whatever the socket says.
                    turns.connection = self.try_again(&message);
                }
            }
            Answer::Heartbeat(Err(err)) => {
                self.come_back(&err.to_string(), turns);
            }
            Answer::Drain(Ok(())) => {}
            // Not attached any more: nothing is given out.
            Answer::Drain(Err(LinkError::Refused { .. })) => turns.connection = Connection::Over,
            // Said again after the next attach; the limit holds anyway.
            Answer::Drain(Err(err)) => tracing::warn!(%err, "draining"),
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
