//! The engine without a server: commits that fail, reads that fail, clocks that are set back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::model::Triple;
use crate::model::demand::Offer;
use crate::model::task::{JobStatus, Language};
use crate::store::{
    CONTEXTS, ContextRow, JOBS, JobRow, MESSAGES, MessageRow, RUNNERS, RunnerRow, TASKS, TaskRow,
    tests as faults,
};

mod histories;
mod slices;

const PATIENCE: Duration = Duration::from_secs(60);
const OSIS: Skill = Skill::Script(Language::Osis);

/// An engine on a store that can be made to fail.
struct World {
    store: Arc<Store>,
    engine: Engine,
    fails: Arc<AtomicBool>,
}

/// The end of a runner's attachment.
struct Fake {
    pushes: tokio::sync::mpsc::Receiver<Push>,
}

fn wall() -> Millis {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    since.as_millis().try_into().unwrap()
}

/// A runner with two slots and this in hand.
fn hello(runner: (u32, u32), skill: Skill, in_hand: Vec<String>) -> Hello {
    let (skills, labels) = (vec![skill], BTreeMap::new());
    Hello { runner, skills, slots: 2, offer: Offer::public(), labels, in_hand }
}

impl World {
    async fn new(dir: &Path) -> Self {
        Self::by(dir, wall).await
    }

    async fn by(dir: &Path, now: fn() -> Millis) -> Self {
        let world = Self::open(dir, now);
        let context = ContextRow {
            admins: vec![],
            readers: vec![],
            executors: vec![],
            created_at: 0,
            updated_at: 0,
        };
        let put = move |turn: &mut Turn<'_>| Ok(turn.put(CONTEXTS, &1, &context)?);
        world.engine.change(put).await.unwrap();
        for id in 0..4 {
            let runner = RunnerRow {
                pubkey: String::new(),
                address: String::new(),
                topic: String::new(),
                local: false,
                created_at: 0,
                updated_at: 0,
            };
            let put = move |turn: &mut Turn<'_>| Ok(turn.put(RUNNERS, &(1, id), &runner)?);
            world.engine.change(put).await.unwrap();
        }
        world
    }

    /// On what is there.
    fn open(dir: &Path, now: fn() -> Millis) -> Self {
        let fails = Arc::new(AtomicBool::new(false));
        let store = faults::open_failing(dir, Arc::clone(&fails));
        let grace = Duration::from_secs(30);
        let engine = Engine::start(Arc::clone(&store), now, grace, false).unwrap();
        Self { store, engine, fails }
    }

    async fn define(&self, id: u32, change: impl FnOnce(&mut JobRow)) -> Triple {
        let mut job = JobRow {
            script: "1".into(),
            language: Language::Osis,
            timeout: 0,
            retries: 0,
            env_vars: BTreeMap::new(),
            result: BTreeMap::new(),
            prerequisites: vec![],
            depends: vec![],
            created_at: 0,
            updated_at: 0,
        };
        change(&mut job);
        let put = move |turn: &mut Turn<'_>| Ok(turn.put(JOBS, &(1, 7, id), &job)?);
        self.engine.change(put).await.unwrap();
        (1, 7, id)
    }

    /// Asks for a change that may be refused, and is not stored when the commit `fails`.
    async fn ask<T: Send + 'static>(
        &self,
        fails: bool,
        change: impl FnOnce(&mut Turn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.fails.store(fails, Ordering::SeqCst);
        let done = timeout(PATIENCE, self.engine.change(change)).await.expect("an answer");
        self.fails.store(false, Ordering::SeqCst);
        assert!(!matches!(done, Err(Error::Bug(_))), "{:?}", done.err());
        done
    }

    async fn run(&self, job: Triple) {
        self.engine.change(move |turn| turn.run_job(job)).await.unwrap();
    }

    async fn attach(&self, id: u32, in_hand: &[Token]) -> Fake {
        let hello = hello((1, id), OSIS, in_hand.iter().map(ToString::to_string).collect());
        let attached = self.engine.change(move |turn| turn.attach(&hello)).await.unwrap();
        Fake { pushes: attached.pushes }
    }

    async fn report(&self, runner: u32, token: Token, verdict: Verdict) -> Result<()> {
        let report = Report { token, verdict, logs: vec![], slices: None };
        self.engine.change(move |turn| turn.report((1, runner), &report)).await
    }

    async fn finish(&self, runner: u32, token: Token) -> Result<()> {
        self.report(runner, token, Verdict::Finished { result: None }).await
    }

    fn row(&self, job: Triple) -> Option<TaskRow> {
        self.store.get(TASKS, &job).unwrap()
    }

    async fn status(&self, job: Triple) -> JobStatus {
        let explained = self.engine.change(move |turn| turn.explain_job(job)).await;
        explained.unwrap().status
    }

    fn stop(self) {
        self.engine.stop();
        self.store.close();
    }
}

impl Fake {
    async fn told(&mut self) -> Push {
        timeout(PATIENCE, self.pushes.recv()).await.expect("told something").expect("attached")
    }

    async fn given(&mut self) -> Token {
        match self.told().await {
            Push::Jobs(given) => given.attempts[0].token,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_runner_was_not_told_because_the_commit_failed_is_given_to_it_later() {
    let dir = TempDir::new().unwrap();
    let world = World::new(dir.path()).await;
    let [first, second, third] = [
        world.define(1, |_| ()).await,
        world.define(2, |_| ()).await,
        world.define(3, |_| ()).await,
    ];
    let mut runner = world.attach(0, &[]).await;
    world.run(first).await;
    world.run(second).await;
    let tokens = [runner.given().await, runner.given().await];
    // There is no acknowledgement to miss: nothing but the push speaks of it.
    let message = MessageRow {
        message: String::new(),
        message_type: "Job".into(),
        message_format_type: "Text".into(),
        timeout: 0,
        timeout_ack: 0,
        timeout_result: 0,
        jobs: vec![third.2],
        logs: vec![],
        created_at: 0,
        updated_at: 0,
    };
    let deliver = move |turn: &mut Turn<'_>| {
        turn.put(MESSAGES, &(1, 7, 1), &message)?;
        turn.deliver_message(1, 7, 1)
    };
    world.engine.change(deliver).await.unwrap();
    world.fails.store(true, Ordering::SeqCst);
    let cancel = move |turn: &mut Turn<'_>| turn.cancel_job(first, "enough");
    let refused = world.engine.change(cancel).await;
    assert!(matches!(refused, Err(Error::Store(_))), "{refused:?}");
    world.fails.store(false, Ordering::SeqCst);
    // Its slots are still full; then they are not.
    assert_eq!(world.row(first).unwrap().status, JobStatus::Dispatched);
    world.finish(0, tokens[0]).await.unwrap();
    let given = runner.given().await;
    assert_eq!(given.job, third);
    world.finish(0, given).await.unwrap();
    world.finish(0, tokens[1]).await.unwrap();
    assert_eq!(world.row(third).unwrap().status, JobStatus::Finished);
    world.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_for_a_while_is_not_forgotten() {
    let dir = TempDir::new().unwrap();
    let world = World::new(dir.path()).await;
    let job = world.define(1, |_| ()).await;
    world.run(job).await;
    faults::settle(&world.store);
    faults::lose_disk(&world.store);
    world.fails.store(true, Ordering::SeqCst);
    let put = |turn: &mut Turn<'_>| {
        Ok(turn.put(
            CONTEXTS,
            &2,
            &ContextRow {
                admins: vec![],
                readers: vec![],
                executors: vec![],
                created_at: 0,
                updated_at: 0,
            },
        )?)
    };
    assert!(world.engine.change(put).await.is_err());
    assert!(world.engine.change(put).await.is_err(), "while nothing can be read");
    world.fails.store(false, Ordering::SeqCst);
    faults::reopen(&world.store);
    while world.engine.change(put).await.is_err() {}
    let mut runner = world.attach(0, &[]).await;
    let token = runner.given().await;
    world.finish(0, token).await.unwrap();
    assert_eq!(world.row(job).unwrap().status, JobStatus::Finished);
    world.stop();
}

static SET_BACK: AtomicU64 = AtomicU64::new(10_000_000_000);

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_neither_loses_nor_delays_what_waits() {
    let dir = TempDir::new().unwrap();
    let world = World::by(dir.path(), || SET_BACK.load(Ordering::SeqCst)).await;
    let pass = |millis| SET_BACK.fetch_add(millis, Ordering::SeqCst);
    let [over, waits, held] = [
        world.define(1, |job| job.retries = 1).await,
        world.define(2, |job| job.retries = 1).await,
        world.define(3, |job| job.timeout = 60).await,
    ];
    let fail = Verdict::Error { error: "no".into(), result: r#"{"error":"no"}"#.into() };
    let mut runner = world.attach(0, &[]).await;
    world.run(over).await;
    let token = runner.given().await;
    world.report(0, token, fail.clone()).await.unwrap();
    // Its back-off is over, and no slot is free; that of the other one is not.
    world.engine.change(|turn| turn.drain((1, 0))).await.unwrap();
    pass(5_000);
    assert_eq!(world.status(over).await, JobStatus::Dispatched);
    let mut runner = world.attach(1, &[]).await;
    let again = runner.given().await;
    assert_eq!((again.job, again.attempt), (over, 2));
    world.run(waits).await;
    let token = runner.given().await;
    world.engine.change(|turn| turn.drain((1, 1))).await.unwrap();
    world.report(1, token, fail.clone()).await.unwrap();
    world.report(1, again, fail).await.unwrap();
    let mut runner = world.attach(2, &[]).await;
    world.run(held).await;
    let held_token = runner.given().await;
    world.report(2, held_token, Verdict::Started).await.unwrap();
    SET_BACK.fetch_sub(3_600_000, Ordering::SeqCst);
    assert_eq!(world.status(waits).await, JobStatus::Dispatched);
    pass(1_000);
    assert_eq!(world.status(waits).await, JobStatus::Dispatched);
    assert_eq!(runner.given().await.job, waits);
    pass(59_000);
    // Deadlines come after what is asked for.
    world.status(held).await;
    assert_eq!(world.status(held).await, JobStatus::Error, "its time is up");
    world.stop();
}

static READY: AtomicU64 = AtomicU64::new(10_000_000_000);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ready_when_the_clock_is_set_back_stays_ready() {
    let dir = TempDir::new().unwrap();
    let world = World::by(dir.path(), || READY.load(Ordering::SeqCst)).await;
    let job = world.define(1, |job| job.retries = 1).await;
    let mut runner = world.attach(0, &[]).await;
    world.run(job).await;
    let token = runner.given().await;
    world.engine.change(|turn| turn.drain((1, 0))).await.unwrap();
    let fail = Verdict::Error { error: "no".into(), result: r#"{"error":"no"}"#.into() };
    world.report(0, token, fail).await.unwrap();
    READY.fetch_add(5_000, Ordering::SeqCst);
    assert_eq!(world.status(job).await, JobStatus::Dispatched);
    READY.fetch_sub(3_600_000, Ordering::SeqCst);
    let mut runner = world.attach(1, &[]).await;
    let given = runner.given().await;
    assert_eq!((given.job, given.attempt), (job, 2));
    world.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_let_go_stays_so_after_a_restart_whatever_becomes_of_its_gate() {
    let dir = TempDir::new().unwrap();
    let world = World::new(dir.path()).await;
    let gate = world.define(1, |_| ()).await;
    let behind = world.define(2, |job| job.prerequisites = vec!["job:7/1".into()]).await;
    let mut runner = world.attach(0, &[]).await;
    world.run(gate).await;
    world.run(behind).await;
    assert_eq!(world.status(behind).await, JobStatus::WaitingForPrerequisites);
    let token = runner.given().await;
    world.engine.change(|turn| turn.drain((1, 0))).await.unwrap();
    world.finish(0, token).await.unwrap();
    assert_eq!(world.status(behind).await, JobStatus::Dispatched);
    world.run(gate).await;
    world.engine.change(move |turn| turn.cancel_job(gate, "not again")).await.unwrap();
    world.stop();
    let world = World::open(dir.path(), wall);
    assert_eq!(world.status(behind).await, JobStatus::Dispatched);
    let mut runner = world.attach(1, &[]).await;
    assert_eq!(runner.given().await.job, behind);
    world.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_an_earlier_life_of_a_job_is_taken_for_none_of_this_one() {
    let dir = TempDir::new().unwrap();
    let world = World::new(dir.path()).await;
    let job = world.define(1, |_| ()).await;
    let mut runner = world.attach(0, &[]).await;
    world.run(job).await;
    let token = runner.given().await;
    drop(runner);
    world.engine.change(move |turn| turn.cancel_job(job, "enough")).await.unwrap();
    // Deleted, and made again.
    let forget = move |turn: &mut Turn<'_>| {
        turn.remove(TASKS, &job);
        turn.drain((1, 0))
    };
    world.engine.change(forget).await.unwrap();
    world.run(job).await;
    assert!(matches!(world.finish(0, token).await, Err(Error::Stale)));
    let mut runner = world.attach(0, &[token]).await;
    assert!(
        matches!(runner.told().await, Push::Cancel { tokens, .. } if tokens == [token.to_string()])
    );
    let fresh = runner.given().await;
    assert_ne!(fresh.nonce, token.nonce);
    world.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_flow_that_fails_fast_ends_at_once() {
    const JOBS_OF_FLOW: u32 = 60_000;
    let dir = TempDir::new().unwrap();
    let world = World::new(dir.path()).await;
    let mut template = None;
    world.define(0, |job| template = Some(job.clone())).await;
    let template = template.unwrap();
    let submit = move |turn: &mut Turn<'_>| {
        for id in 0..JOBS_OF_FLOW {
            turn.put(JOBS, &(1, 7, id), &template)?;
        }
        let flow = crate::store::FlowRow {
            caller_id: 7,
            jobs: (0..JOBS_OF_FLOW).collect(),
            env_vars: BTreeMap::new(),
            result: BTreeMap::new(),
            created_at: 0,
            updated_at: 0,
        };
        turn.put(crate::store::FLOWS, &(1, 1), &flow)?;
        let prepared = turn.prepare_flow((1, 1))?;
        turn.start_flow((1, 1), prepared, Rerun::All, Some(true))
    };
    world.engine.change(submit).await.unwrap();
    let mut runner = world.attach(0, &[]).await;
    let token = runner.given().await;
    let fail = Verdict::Error { error: "no".into(), result: r#"{"error":"no"}"#.into() };
    timeout(PATIENCE, world.report(0, token, fail)).await.expect("it ends at once").unwrap();
    let run = world.store.get(crate::store::FLOW_RUNS, &(1, 1)).unwrap().unwrap();
    assert_eq!(run.status, crate::model::flow::FlowStatus::Error);
    world.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn languages_take_turns() {
    let dir = TempDir::new().unwrap();
    let world = World::new(dir.path()).await;
    for id in 0..6 {
        let job = world
            .define(id, |job| {
                job.language = if id == 5 { Language::Python } else { Language::Osis };
            })
            .await;
        world.run(job).await;
    }
    let hello = Hello {
        runner: (1, 0),
        skills: vec![
            Skill::Script(Language::Osis),
            Skill::Script(Language::Osis),
            Skill::Script(Language::Python),
        ],
        slots: 1,
        offer: Offer::public(),
        labels: BTreeMap::new(),
        in_hand: vec![],
    };
    let attached = world.engine.change(move |turn| turn.attach(&hello)).await.unwrap();
    let mut runner = Fake { pushes: attached.pushes };
    let mut order = vec![];
    for _ in 0..6 {
        let token = runner.given().await;
        order.push(token.job.2);
        world.finish(0, token).await.unwrap();
    }
    assert_eq!(order, [0, 5, 1, 2, 3, 4]);
    world.stop();
}
