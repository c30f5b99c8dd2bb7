//! Random graphs, random runners, random cancellations: what must hold whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use muster::Error;
use muster::engine::{Hello, Push, Report, Skill, Token, Verdict};
use muster::model::demand::Offer;
use muster::model::task::Language;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use crate::calls::{Core, with};
use crate::fake_runner::{create_runner, flow_key, job, job_key, sound_log, submission};

const FLOWS: u32 = 8;
const RUNNERS: u32 = 3;
/// More than any history needs.
const STEPS: u32 = 20_000;

/// A runner without a socket.
#[derive(Default)]
struct Runner {
    slots: u32,
    attached: Option<(u64, Receiver<Push>)>,
    held: Vec<Token>,
}

/// A coordinator and what is done to it.
struct World {
    server: Core,
    random: Rng,
    runners: BTreeMap<u32, Runner>,
    /// What each job depends on.
    depends: BTreeMap<u32, Vec<u32>>,
    /// The last attempt that was given out of each job.
    given: BTreeMap<u32, u32>,
    /// Tokens of attempts that are over.
    spent: Vec<(u32, Token, bool)>,
    /// Nothing fails any more.
    kind: bool,
}

impl World {
    async fn new(seed: u64) -> Self {
        let grace = Duration::from_millis(30);
        let server = Core::with(|config| config.runner_grace = grace).await;
        let mut world = Self {
            server,
            random: Rng::with_seed(seed),
            runners: BTreeMap::new(),
            depends: BTreeMap::new(),
            given: BTreeMap::new(),
            spent: Vec::new(),
            kind: false,
        };
        for id in 0..RUNNERS {
            create_runner(&world.server, id).await;
            let slots = world.random.u32(1..4);
            world.runners.insert(id, Runner { slots, ..Runner::default() });
        }
        for flow in 0..FLOWS {
            world.submit(flow).await;
        }
        world
    }

    async fn submit(&mut self, flow: u32) {
        let count = self.random.u32(0..9);
        let mut ids: Vec<u32> = (0..count).map(|n| flow * 100 + n).collect();
        // Ids say nothing of the order.
        self.random.shuffle(&mut ids);
        let mut jobs = Vec::new();
        for (place, id) in ids.iter().enumerate() {
            let needed: Vec<u32> =
                ids[..place].iter().copied().filter(|_| self.random.u8(..) < 90).collect();
            let mut described = job(*id, &needed);
            if self.random.u8(..) < 30 {
                described["retries"] = json!(1);
            }
            if self.random.u8(..) < 30
                && let Some(other) = ids[..place].first()
            {
                described["prerequisites"] = json!([format!("job:42/{other}")]);
            }
            jobs.push(described);
            self.depends.insert(*id, needed);
        }
        let fast = with(&submission(flow, &jobs), "fail_fast", json!(self.random.bool()));
        self.server.rpc("flow.submit", fast).await.unwrap();
    }

    /// Attaches a runner, which may have forgotten some of what it has.
    async fn attach(&mut self, id: u32) {
        let runner = self.runners.get_mut(&id).unwrap();
        let forgets = self.random.bool();
        let random = &mut self.random;
        runner.held.retain(|_| !forgets || random.bool());
        let hello = Hello {
            runner: (1, id),
            skills: vec![Skill::Script(Language::Osis)],
            slots: runner.slots,
            offer: Offer::public(),
            labels: BTreeMap::new(),
            in_hand: runner.held.iter().map(ToString::to_string).collect(),
        };
        let attached = self.server.app.engine.change(move |turn| turn.attach(&hello)).await;
        let attached = attached.unwrap();
        runner.attached = Some((attached.session, attached.pushes));
    }

    /// Takes in what the runners have been told.
    fn listen(&mut self) {
        for runner in self.runners.values_mut() {
            let Some((_, pushes)) = &mut runner.attached else { continue };
            while let Ok(push) = pushes.try_recv() {
                match push {
                    Push::Jobs(given) => {
                        for attempt in given.attempts {
                            let token = attempt.token;
                            let last = self.given.insert(token.job.2, token.attempt);
                            assert!(last.unwrap_or(0) < token.attempt, "given twice: {token}");
                            runner.held.push(token);
                        }
                    }
                    Push::Cancel { tokens, .. } => {
                        runner.held.retain(|held| !tokens.contains(&held.to_string()));
                    }
                    Push::Detached { reason } => panic!("{reason}"),
                }
                let slots = usize::try_from(runner.slots).unwrap();
                assert!(runner.held.len() <= slots, "more than {slots} slots");
            }
        }
    }

    async fn report(&self, id: u32, token: Token, verdict: Verdict) -> Result<(), Error> {
        let report = Report { token, verdict, logs: Vec::new(), slices: None };
        self.server.app.engine.change(move |turn| turn.report((1, id), &report)).await
    }

    /// A runner says something about one of its attempts.
    async fn work(&mut self, id: u32) {
        let runner = &self.runners[&id];
        if runner.attached.is_none() || runner.held.is_empty() {
            return;
        }
        let token = runner.held[self.random.usize(..runner.held.len())];
        let well = self.kind || self.random.u8(..) < 200;
        match self.random.u8(0..4) {
            0 => self.report(id, token, Verdict::Acknowledged).await.unwrap(),
            1 => self.report(id, token, Verdict::Started).await.unwrap(),
            _ => {
                self.end(id, token, well).await.unwrap();
                self.runners.get_mut(&id).unwrap().held.retain(|held| *held != token);
                self.spent.push((id, token, well));
            }
        }
    }

    async fn end(&self, id: u32, token: Token, well: bool) -> Result<(), Error> {
        let verdict = if well {
            Verdict::Finished { result: Some(format!(r#"{{"n":"{}"}}"#, token.attempt)) }
        } else {
            let (error, result) = ("no".to_owned(), r#"{"error":"no"}"#.to_owned());
            Verdict::Error { error, result }
        };
        self.report(id, token, verdict).await
    }

    /// Says again how an attempt ended, or says it wrong.
    async fn repeat(&mut self) {
        let Some((id, token, well)) = self.random.choice(&self.spent).copied() else { return };
        self.end(id, token, well).await.expect("it may be said again");
        let wrong = self.end(id, token, !well).await;
        assert!(matches!(wrong, Err(Error::Stale)), "{wrong:?}");
        let other = self.end(id + 1, token, well).await;
        assert!(matches!(other, Err(Error::Stale)), "{other:?}");
    }

    async fn step(&mut self) {
        let id = self.random.u32(0..RUNNERS);
        match self.random.u32(0..100) {
            0..70 => self.work(id).await,
            70..80 => self.repeat().await,
            80..86 if !self.kind => {
                let runner = self.runners.get_mut(&id).unwrap();
                if let Some((session, pushes)) = runner.attached.take() {
                    self.server.app.engine.connection_lost((1, id), session);
                    drop(pushes);
                }
            }
            86..87 if !self.kind => {
                let ids: Vec<u32> = self.depends.keys().copied().collect();
                if let Some(job) = self.random.choice(ids) {
                    self.server.rpc("job.cancel", job_key(job)).await.unwrap();
                }
            }
            87..88 if !self.kind && self.random.u8(0..4) == 0 => {
                let flow = flow_key(self.random.u32(0..FLOWS));
                self.server.rpc("flow.cancel", flow).await.unwrap();
            }
            _ => {
                if self.runners[&id].attached.is_none() || self.random.u8(..) < 20 {
                    self.attach(id).await;
                }
            }
        }
        self.listen();
    }

    /// Goes on until every flow has ended; how they ended.
    async fn run(&mut self) -> BTreeMap<u32, String> {
        for step in 0..STEPS {
            self.step().await;
            let idle = self.runners.values().all(|runner| runner.held.is_empty());
            if !idle && step % 64 != 0 {
                continue;
            }
            let mut ends = BTreeMap::new();
            for flow in 0..FLOWS {
                let loaded = self.server.rpc("flow.load", flow_key(flow)).await.unwrap();
                let status = loaded["status"].as_str().unwrap().to_owned();
                if ["Finished", "Error"].contains(&status.as_str()) {
                    ends.insert(flow, status);
                }
            }
            if ends.len() == usize::try_from(FLOWS).unwrap() {
                return ends;
            }
            if idle {
                // Backing off, or waiting for a grace period.
                let mut follower = self.server.app.store.follow(None).unwrap();
                let _ = timeout(Duration::from_millis(5), follower.next()).await;
                self.listen();
            }
        }
        panic!("the flows do not end");
    }
}

/// Replays the log: nothing starts before what it needs, every run ends exactly once.
fn check_runs(events: &[Value], depends: &BTreeMap<u32, Vec<u32>>, ends: &BTreeMap<u32, String>) {
    let mut stands = BTreeMap::<u32, String>::new();
    let mut over = BTreeSet::new();
    for event in events {
        let id = |subject: &Value| -> u32 {
            subject.as_str().unwrap().rsplit('/').next().unwrap().parse().unwrap()
        };
        let to = event["data"]["to"].as_str().unwrap_or_default().to_owned();
        match event["kind"].as_str().unwrap() {
            "job.status" => {
                let job = id(&event["subject"]);
                if ["Dispatched", "Started", "Finished"].contains(&to.as_str()) {
                    for needed in &depends[&job] {
                        assert_eq!(stands.get(needed).map(String::as_str), Some("Finished"));
                    }
                }
                assert!(!over.contains(&(job / 100)), "its flow has ended: {event}");
                stands.insert(job, to);
            }
            "flow.status" => {
                let flow = id(&event["subject"]);
                if to == "Started" {
                    over.remove(&flow);
                    continue;
                }
                over.insert(flow);
                let jobs = depends.keys().filter(|job| **job / 100 == flow);
                let mut all_well = true;
                for job in jobs {
                    let stands = stands[job].as_str();
                    assert!(["Finished", "Error"].contains(&stands), "{event} but {job} {stands}");
                    all_well &= stands == "Finished";
                }
                assert_eq!(to == "Finished", all_well, "{event}");
            }
            _ => {}
        }
    }
    for (flow, end) in ends {
        assert!(over.contains(flow));
        let jobs = depends.keys().filter(|job| **job / 100 == *flow);
        assert_eq!(jobs.clone().all(|job| stands[job] == "Finished"), end == "Finished");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_every_run_ends_once_and_soundly() {
    for round in 0..6_u64 {
        let seed = if round < 3 { round } else { fastrand::u64(..) };
        eprintln!("seed {seed}");
        let mut world = World::new(seed).await;
        let ends = world.run().await;
        check_runs(&sound_log(&world.server).await, &world.depends, &ends);
        // What went wrong goes well the second time.
        world.kind = true;
        for (flow, end) in &ends {
            if end == "Error" {
                world.server.rpc("flow.retry", flow_key(*flow)).await.unwrap();
            }
        }
        let ends = world.run().await;
        assert!(ends.values().all(|end| end == "Finished"), "{ends:?}");
        check_runs(&sound_log(&world.server).await, &world.depends, &ends);
        let stats = world.server.rpc("system.stats", json!({})).await.unwrap();
        assert!(stats.is_object());
    }
}
