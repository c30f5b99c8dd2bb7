//! Random histories of flows, messages and runners over commits that fail, restarts and a clock
//! that is set back: whatever happens, everything ends, and nothing is left of it in memory.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use tokio::sync::mpsc::error::TryRecvError;

use super::*;
use crate::store::{FLOWS, FlowRow};

const JOBS_OF_EACH: u32 = 5;
const EACH: u32 = 3;
const RUNNERS_HERE: u32 = 3;
const STEPS: u32 = 400;
/// More than any history needs to end.
const ENDING: u32 = 3_000;

static CLOCK: AtomicU64 = AtomicU64::new(10_000_000_000);

struct Hand {
    attached: Option<(u64, tokio::sync::mpsc::Receiver<Push>)>,
    held: BTreeSet<String>,
}

struct History {
    dir: TempDir,
    world: Option<World>,
    random: Rng,
    hands: Vec<Hand>,
    /// Tokens whose last report was taken, by attempt.
    taken: BTreeMap<(Triple, u32), String>,
    kind: bool,
    steps: Cell<u32>,
}

impl History {
    async fn new(seed: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let world = World::by(dir.path(), now).await;
        let hand = |_| Hand { attached: None, held: BTreeSet::new() };
        let mut history = Self {
            dir,
            world: Some(world),
            random: Rng::with_seed(seed),
            hands: (0..RUNNERS_HERE).map(hand).collect(),
            taken: BTreeMap::new(),
            kind: false,
            steps: Cell::new(0),
        };
        // Jobs 0.. are of flows, 100.. of messages, 200.. by themselves.
        for of in 0..EACH {
            for place in 0..JOBS_OF_EACH {
                history.define(of * 10 + place, of * 10).await;
                history.define(100 + of * 10 + place, 100 + of * 10).await;
            }
            history.define(200 + of, 200 + of).await;
            history.group(of).await;
        }
        history
    }

    fn world(&self) -> &World {
        self.world.as_ref().unwrap()
    }

    async fn define(&mut self, id: u32, first: u32) {
        let random = &mut self.random;
        let depends: Vec<u32> = (first..id).filter(|_| random.u8(..) < 90).collect();
        let mut prerequisites = vec![];
        if random.u8(..) < 40 {
            prerequisites.push(format!("job:7/{}", random.u32(0..EACH) + 200));
        }
        if id >= 100 && random.u8(..) < 40 {
            prerequisites.push(format!("flow:{}", random.u32(0..EACH)));
        }
        let (retries, timeout) = (random.u8(0..3), random.u32(0..3) * 20);
        let change = move |job: &mut JobRow| {
            job.depends = depends;
            job.prerequisites = if (200..).contains(&id) { vec![] } else { prerequisites };
            (job.retries, job.timeout) = (retries, timeout);
        };
        self.world().define(id, change).await;
    }

    async fn group(&mut self, of: u32) {
        let flow = FlowRow {
            caller_id: 7,
            jobs: (of * 10..of * 10 + JOBS_OF_EACH).collect(),
            env_vars: BTreeMap::new(),
            result: BTreeMap::new(),
            created_at: 0,
            updated_at: 0,
        };
        let mut bound = || self.random.u32(0..3) * 30;
        let message = MessageRow {
            message: String::new(),
            message_type: "Job".into(),
            message_format_type: "Text".into(),
            timeout: bound() * 10,
            timeout_ack: bound(),
            timeout_result: bound(),
            jobs: (100 + of * 10..100 + of * 10 + JOBS_OF_EACH).collect(),
            logs: vec![],
            created_at: 0,
            updated_at: 0,
        };
        let put = move |turn: &mut Turn<'_>| {
            turn.put(FLOWS, &(1, of), &flow)?;
            Ok(turn.put(MESSAGES, &(1, 7, of), &message)?)
        };
        self.world().engine.change(put).await.unwrap();
    }

    /// Asks for a change that may be refused, and perhaps not be stored.
    async fn ask<T: Send + 'static>(
        &mut self,
        change: impl FnOnce(&mut Turn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let fails = !self.kind && self.random.u8(..) < 12;
        self.world().ask(fails, change).await
    }

    async fn begin(&mut self) {
        let of = self.random.u32(0..EACH);
        let fast = self.random.bool();
        let _ = match self.random.u8(0..4) {
            0 => self.ask(move |turn| turn.run_job((1, 7, 200 + of))).await,
            1 => {
                let deliver = move |turn: &mut Turn<'_>| {
                    if turn.message_is_active(1, 7, of) {
                        return Err(Error::conflict("active", "it is delivered"));
                    }
                    turn.deliver_message(1, 7, of)
                };
                self.ask(deliver).await
            }
            2 => {
                let start = move |turn: &mut Turn<'_>| {
                    let prepared = turn.prepare_flow((1, of))?;
                    turn.start_flow((1, of), prepared, Rerun::All, Some(fast))
                };
                self.ask(start).await
            }
            _ => {
                let retry = move |turn: &mut Turn<'_>| {
                    let prepared = turn.prepare_flow((1, of))?;
                    turn.start_flow((1, of), prepared, Rerun::Unfinished, None)
                };
                self.ask(retry).await
            }
        };
    }

    async fn cancel(&mut self) {
        let of = self.random.u32(0..EACH);
        let job = self.random.u32(0..3) * 100 + of * 10 + self.random.u32(0..JOBS_OF_EACH);
        let _ = if self.random.bool() {
            self.ask(move |turn| turn.cancel_flow((1, of), "enough")).await
        } else {
            self.ask(move |turn| turn.cancel_job((1, 7, job), "enough")).await
        };
    }

    async fn attach(&mut self, id: u32) {
        let forgets = !self.kind && self.random.bool();
        let (hand, random) = (&mut self.hands[at(id)], &mut self.random);
        hand.held.retain(|_| !forgets || random.bool());
        let hello = hello((1, id), OSIS, hand.held.iter().cloned().collect());
        if let Ok(attached) = self.ask(move |turn| turn.attach(&hello)).await {
            self.hands[at(id)].attached = Some((attached.session, attached.pushes));
        } else {
            // As the guard of a connection does. It knows no number, and there is only one.
            let session = move |turn: &mut Turn<'_>| {
                let known = turn.memory.runners.get(&(1, id));
                let session = known.and_then(|known| known.session.as_ref());
                Ok(session.filter(|session| session.pushes.is_closed()).map(|session| session.id))
            };
            if let Ok(Some(session)) = self.world().engine.change(session).await {
                self.world().engine.connection_lost((1, id), session);
            }
        }
    }

    fn leave(&mut self, id: u32) {
        if let Some((session, _)) = self.hands[at(id)].attached.take() {
            self.world().engine.connection_lost((1, id), session);
        }
    }

    fn listen(&mut self) {
        for hand in &mut self.hands {
            let Some((_, pushes)) = &mut hand.attached else { continue };
            loop {
                match pushes.try_recv() {
                    Ok(Push::Jobs(given)) => {
                        let tokens = given.attempts.iter().map(|attempt| attempt.token);
                        hand.held.extend(tokens.map(|token| token.to_string()));
                    }
                    Ok(Push::Cancel { tokens, .. }) => {
                        hand.held.retain(|held| !tokens.contains(held));
                    }
                    Ok(Push::Detached { .. }) | Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        hand.attached = None;
                        break;
                    }
                }
            }
        }
    }

    async fn work(&mut self, id: u32) {
        let held: Vec<String> = self.hands[at(id)].held.iter().cloned().collect();
        let Some(text) = self.random.choice(held) else { return };
        let token = Token::parse(&text).unwrap();
        let (verdict, last) = match self.random.u8(0..6) {
            0 => (Verdict::Acknowledged, false),
            1 => (Verdict::Started, false),
            2 if !self.kind => {
                let (error, result) = ("no".to_owned(), r#"{"error":"no"}"#.to_owned());
                (Verdict::Error { error, result }, true)
            }
            _ => (Verdict::Finished { result: None }, true),
        };
        let report =
            Report { token, verdict, logs: vec![("stdout".into(), "x".into())], slices: None };
        let say = move |turn: &mut Turn<'_>| match turn.report((1, id), &report) {
            Err(Error::Stale) => Ok(false),
            done => done.map(|()| true),
        };
        match self.ask(say).await {
            Ok(true) if last => {
                let before = self.taken.insert((token.job, token.attempt), text.clone());
                assert!(before.is_none_or(|before| before == text), "two ends of one attempt");
                self.hands[at(id)].held.remove(&text);
            }
            // It is said again later.
            Ok(true) | Err(Error::Store(_) | Error::Unavailable(_)) => {}
            Ok(false) => {
                self.hands[at(id)].held.remove(&text);
            }
            Err(err) => panic!("{err}"),
        }
    }

    fn restart(&mut self) {
        let world = self.world.take().unwrap();
        world.stop();
        for hand in &mut self.hands {
            hand.attached = None;
        }
        self.world = Some(World::open(self.dir.path(), now));
    }

    async fn step(&mut self) {
        self.steps.set(self.steps.get() + 1);
        CLOCK.fetch_add(self.random.u64(0..2_000), Ordering::SeqCst);
        let id = self.random.u32(0..RUNNERS_HERE);
        match self.random.u32(0..100) {
            0..60 => self.work(id).await,
            60..75 if !self.kind => self.begin().await,
            75..78 if !self.kind => self.cancel().await,
            78..83 if !self.kind => self.leave(id),
            83..85 if !self.kind => self.restart(),
            85..86 if !self.kind => {
                CLOCK.fetch_sub(3_600_000, Ordering::SeqCst);
            }
            _ => {
                if self.hands[at(id)].attached.is_none() || self.random.u8(..) < 20 {
                    self.attach(id).await;
                }
            }
        }
        self.listen();
    }

    /// Nothing goes wrong any more: everything ends, as far as nothing waits for what nobody began.
    async fn end(&mut self) {
        self.kind = true;
        for of in 0..EACH {
            let run = move |turn: &mut Turn<'_>| match turn.run_job((1, 7, 200 + of)) {
                Err(Error::Conflict { .. }) => Ok(()),
                done => done,
            };
            self.ask(run).await.unwrap();
        }
        for step in 0..ENDING {
            self.step().await;
            if step % 50 != 0 {
                continue;
            }
            let active = self.ask(|turn| Ok(turn.memory.groups.len())).await.unwrap();
            if active == 0 && self.hands.iter().all(|hand| hand.held.is_empty()) {
                return;
            }
            // A gate can wait for a flow that was never started.
            let start = |turn: &mut Turn<'_>| {
                for of in 0..EACH {
                    if turn.get(crate::store::FLOW_RUNS, &(1, of))?.is_none() {
                        let prepared = turn.prepare_flow((1, of))?;
                        turn.start_flow((1, of), prepared, Rerun::All, None)?;
                    }
                }
                Ok(())
            };
            self.ask(start).await.unwrap();
        }
        let left = |turn: &mut Turn<'_>| Ok(format!("{:#?}", turn.memory.groups.values()));
        let left = self.world().engine.change(left).await.unwrap();
        panic!("something does not end: {left}");
    }

    async fn check(&mut self) {
        let left = |turn: &mut Turn<'_>| {
            let memory = &turn.memory;
            assert!(memory.by_job.is_empty() && memory.by_key.is_empty());
            assert!(memory.per_context.is_empty() && memory.watchers.is_empty());
            assert_eq!((memory.leased, memory.ready.len()), (0, 0));
            for status in [JobStatus::Dispatched, JobStatus::Started] {
                assert_eq!(memory.tally.count(status), 0);
            }
            assert_eq!(memory.tally.count(JobStatus::WaitingForPrerequisites), 0);
            let attached = memory.runners.values().filter(|known| known.session.is_some()).count();
            assert_eq!((memory.attached, memory.runners.len()), (attached, attached));
            assert_eq!(memory.timers.len(), 1, "{:?}", memory.timers);
            Ok(())
        };
        self.world().engine.change(left).await.unwrap();
        let report = self.world().store.check().unwrap();
        assert_eq!(report.problem_count, 0, "{:?}", report.problems);
        let (mut stands, mut since) = (BTreeMap::<String, String>::new(), 0);
        loop {
            let page = self.world().store.events(since, 1_000).unwrap();
            let Some(last) = page.last() else { return };
            since = last.seq;
            let told = ["job.status", "flow.status"];
            for event in page.iter().filter(|event| told.contains(&event.kind.as_ref())) {
                let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
                let told = |name: &str| data[name].as_str().unwrap().to_owned();
                let before = stands.insert(event.subject.clone(), told("to"));
                assert!(before.is_none_or(|before| before == told("from")), "{}", event.raw());
            }
        }
    }
}

fn now() -> Millis {
    CLOCK.load(Ordering::SeqCst)
}

fn at(id: u32) -> usize {
    id.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_everything_ends_and_nothing_of_it_is_left() {
    let rounds = std::env::var("MUSTER_ROUNDS").ok().and_then(|text| text.parse().ok());
    for round in 0..rounds.unwrap_or(3_u64) {
        let set = std::env::var("MUSTER_SEED").ok().and_then(|text| text.parse().ok());
        let seed = set.unwrap_or_else(|| if round < 2 { round } else { fastrand::u64(..) });
        eprintln!("seed {seed}");
        let mut history = History::new(seed).await;
        for _ in 0..STEPS {
            history.step().await;
        }
        history.end().await;
        history.check().await;
        history.world.take().unwrap().stop();
    }
}
