//! Gives web hooks their turns: those with something to send, few at a time, the failing ones
//! after a pause.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::webhook_delivery::{Ended, Key, turn};
use crate::Result;
use crate::app::App;
use crate::face::core::aside::aside;
use crate::model::Millis;
use crate::model::address::Address;
use crate::model::task::Policy;
use crate::store::{Next, WEBHOOKS, WORK_RUNS, WORKS};

/// Web hooks that have their turn at once.
const TURNS: usize = 16;
/// Web hooks with something to send that are kept in mind; the others are looked up later.
const KNOWN: usize = 100_000;
/// Pauses of one that fails: 1 second, doubled up to a minute.
const PAUSES: Policy = Policy { retries: 0, base: 1_000, cap: 60_000, losses: 0 };
/// How often it is looked whether a pause is over.
const TICK: Duration = Duration::from_millis(250);

/// How a web hook with something to send stands.
#[derive(Debug, Default)]
struct Stand {
    /// When its turn comes; none while it has it.
    due: Option<Millis>,
    /// More has come since its turn began.
    again: bool,
    /// Turns that failed in a row.
    failures: u32,
}

struct Courier {
    app: Arc<App>,
    known: HashMap<Key, Stand>,
    queue: BTreeSet<(Millis, Key)>,
    turns: JoinSet<(Key, Result<Ended>)>,
    /// Some were left out, and have to be looked up.
    missed: bool,
}

/// Sends results until the coordinator stops.
///
/// How far each web hook has been told is stored, so that nothing is lost with the process; what was
/// under way then is sent again.
pub async fn run(app: Arc<App>) {
    if app.config.compute.webhook_allow.is_empty() {
        return;
    }
    let mut stopping = app.stopping.subscribe();
    let mut courier = Courier {
        app,
        known: HashMap::new(),
        queue: BTreeSet::new(),
        turns: JoinSet::new(),
        missed: false,
    };
    tokio::select! {
        () = courier.work() => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
}

impl Courier {
    async fn work(&mut self) {
        loop {
            // First the place in the log, then what there is: nothing falls between.
            let Ok(mut follower) = self.app.store.follow(None) else { return };
            self.look_up().await;
            loop {
                self.begin_turns();
                tokio::select! {
                    next = follower.next() => match next {
                        Next::Events(page) => {
                            let jobs: BTreeSet<Address> = page
                                .iter()
                                .filter(|event| event.kind == "dcp.job")
                                .filter_map(|event| job_of(&event.subject))
                                .collect();
                            jobs.into_iter().for_each(|job| self.wake(job));
                        }
                        // What the log has forgotten, the rows still have.
                        Next::Lagged => break,
                        Next::Closed => return,
                    },
                    Some(ended) = self.turns.join_next(), if !self.turns.is_empty() => {
                        match ended {
                            Ok((key, ended)) => self.settle(key, ended),
                            Err(err) => {
                                tracing::error!(%err, "a web hook's turn broke off");
                                break;
                            }
                        }
                    }
                    () = sleep(TICK), if !self.queue.is_empty() => {}
                }
                if self.missed && self.known.len() < KNOWN / 2 {
                    break;
                }
            }
            self.turns.abort_all();
            while self.turns.join_next().await.is_some() {}
            self.known.clear();
            self.queue.clear();
        }
    }

    /// Finds every web hook that has not been told everything.
    async fn look_up(&mut self) {
        self.missed = false;
        let store = Arc::clone(&self.app.store);
        let behind = aside(move || {
            let mut behind = Vec::new();
            store.scan(WEBHOOKS, &(), None, |key, row| {
                let latest = || {
                    let work = store.get(WORKS, &key.0).ok()??;
                    Some(store.get(WORK_RUNS, &work.number).ok()??.ledger.seq)
                };
                if latest().is_some_and(|latest| latest > row.seq) {
                    behind.push(key);
                }
                if behind.len() > KNOWN { Break(()) } else { Continue(()) }
            })?;
            Ok(behind)
        });
        match behind.await {
            Ok(behind) => behind.into_iter().for_each(|key| self.add(key)),
            Err(err) => tracing::error!(error = %err, "web hooks cannot be listed"),
        }
    }

    /// Something has happened to a job.
    fn wake(&mut self, job: Address) {
        match self.app.store.page(WEBHOOKS, &job, None, super::webhook::MOST) {
            Ok(hooks) => hooks.into_iter().for_each(|(key, _)| self.add(key)),
            Err(err) => {
                tracing::error!(error = %err, "web hooks cannot be read");
                self.missed = true;
            }
        }
    }

    fn add(&mut self, key: Key) {
        if let Some(stand) = self.known.get_mut(&key) {
            stand.again = stand.due.is_none();
        } else if self.known.len() < KNOWN {
            self.known.insert(key, Stand::default());
            self.queue(key, (self.app.now)());
        } else {
            self.missed = true;
        }
    }

    fn queue(&mut self, key: Key, at: Millis) {
        if let Some(stand) = self.known.get_mut(&key) {
            stand.due = Some(at);
            stand.again = false;
            self.queue.insert((at, key));
        }
    }

    fn begin_turns(&mut self) {
        let now = (self.app.now)();
        while self.turns.len() < TURNS {
            let Some((_, key)) = self.queue.first().copied().filter(|(at, _)| *at <= now) else {
                return;
            };
            self.queue.pop_first();
            if let Some(stand) = self.known.get_mut(&key) {
                stand.due = None;
            }
            let app = Arc::clone(&self.app);
            self.turns.spawn(async move { (key, turn(&app, key).await) });
        }
    }

    fn settle(&mut self, key: Key, ended: Result<Ended>) {
        let now = (self.app.now)();
        let Some(stand) = self.known.get_mut(&key) else { return };
        match ended {
            Ok(Ended::Idle) if !stand.again => {
                self.known.remove(&key);
            }
            Ok(Ended::Idle | Ended::More) => {
                stand.failures = 0;
                self.queue(key, now);
            }
            other => {
                if let Err(err) = other {
                    tracing::warn!(error = %err, "a web hook's results cannot be read or counted");
                }
                stand.failures = stand.failures.saturating_add(1);
                let pause = PAUSES.delay(stand.failures, fastrand::u32(..));
                self.queue(key, now.saturating_add(pause));
            }
        }
    }
}

/// The job of a subject such as `dcp/0x…/job/0x…`.
fn job_of(subject: &str) -> Option<Address> {
    subject.rsplit_once("/job/").and_then(|(_, id)| Address::parse(id))
}
