//! Random histories of open jobs over commits that fail and restarts: every slice ends once.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::*;
use crate::model::address::Address;
use crate::model::demand::Demands;
use crate::model::slices::{FunctionLanguage, PUBLIC_GROUP, SliceReport};
use crate::store::{
    BATCHES, RESULTS, WORK_EVENTS, WORK_RUNS, WORK_SOURCES, WORKS, WorkEvent, WorkRow,
    WorkSourceRow,
};

const WORKS_HERE: u8 = 3;
const RUNNERS_HERE: u32 = 2;
const STEPS: u32 = 300;
/// More than any history needs to end.
const ENDING: u32 = 3_000;

type Hand = (Option<(u64, tokio::sync::mpsc::Receiver<Push>)>, BTreeSet<String>);

struct History {
    dir: TempDir,
    world: Option<World>,
    random: Rng,
    hands: Vec<Hand>,
    kind: bool,
}

fn address(of: u8) -> Address {
    Address::parse(&format!("0x{}", format!("{of:02x}").repeat(20))).unwrap()
}

fn at(id: u32) -> usize {
    id.try_into().unwrap()
}

fn work(of: u8) -> Deploy {
    let row = WorkRow {
        number: 0,
        owner: address(100),
        created_at: 0,
        made: 0,
        language: FunctionLanguage::JavaScript,
        group: PUBLIC_GROUP,
        account: address(101),
        offer: String::new(),
        name: String::new(),
        description: String::new(),
        link: String::new(),
        attempts: 3,
        slice_millis: 1_000,
        demands: Demands::default(),
        remote: 0,
        price: 0,
    };
    let source = WorkSourceRow {
        function: "x => x".into(),
        args: "[]".into(),
        requirements: "{}".into(),
        packages: vec![],
    };
    let source = WORK_SOURCES.encoded(&source).unwrap();
    Deploy { id: address(of), row, source, slices: slices(20) }
}

fn slices(count: usize) -> Slices {
    Slices::new(std::iter::repeat_n("1", count)).unwrap()
}

impl History {
    async fn new(seed: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let world = World::new(dir.path()).await;
        for id in 0..RUNNERS_HERE {
            let put = move |turn: &mut Turn<'_>| {
                let row = turn.get(RUNNERS, &(1, id))?.unwrap();
                Ok(turn.put(RUNNERS, &(PUBLIC_GROUP, id), &row)?)
            };
            world.engine.change(put).await.unwrap();
        }
        for of in 0..WORKS_HERE {
            world.engine.change(move |turn| turn.deploy(work(of))).await.unwrap();
        }
        let random = Rng::with_seed(seed);
        let hands = (0..RUNNERS_HERE).map(|_| (None, BTreeSet::new())).collect();
        Self { dir, world: Some(world), random, hands, kind: false }
    }

    fn world(&self) -> &World {
        self.world.as_ref().unwrap()
    }

    async fn ask<T: Send + 'static>(
        &mut self,
        change: impl FnOnce(&mut Turn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let fails = !self.kind && self.random.u8(..) < 12;
        self.world().ask(fails, change).await
    }

    async fn change_work(&mut self) {
        let (of, what) = (self.random.u8(0..WORKS_HERE), self.random.u8(0..10));
        let change = move |turn: &mut Turn<'_>| {
            let row = turn.get(WORKS, &address(of))?.unwrap();
            let done = match what {
                0 if of == 0 => turn.cancel_work(&row, None),
                0..6 => turn.add_slices(&row, &slices(7)).map(drop),
                6..8 => turn.hold_work(&row, true).map(drop),
                _ => turn.hold_work(&row, false).map(drop),
            };
            match done {
                Err(Error::Conflict { .. }) => Ok(()),
                done => done,
            }
        };
        let _ = self.ask(change).await;
    }

    async fn attach(&mut self, id: u32) {
        let forgets = !self.kind && self.random.bool();
        let (hand, random) = (&mut self.hands[at(id)], &mut self.random);
        hand.1.retain(|_| !forgets || random.bool());
        let skill = Skill::Function(FunctionLanguage::JavaScript);
        let hello = hello((PUBLIC_GROUP, id), skill, hand.1.iter().cloned().collect());
        if let Ok(attached) = self.ask(move |turn| turn.attach(&hello)).await {
            self.hands[at(id)].0 = Some((attached.session, attached.pushes));
        }
    }

    fn listen(&mut self) {
        for (attached, held) in &mut self.hands {
            let Some((_, pushes)) = attached else { continue };
            while let Ok(push) = pushes.try_recv() {
                match push {
                    Push::Jobs(given) => {
                        held.extend(given.attempts.iter().map(|one| one.token.to_string()));
                    }
                    Push::Cancel { tokens, .. } => held.retain(|token| !tokens.contains(token)),
                    Push::Detached { .. } => {}
                }
            }
            if pushes.is_closed() {
                *attached = None;
            }
        }
    }

    async fn work(&mut self, id: u32) {
        let held: Vec<String> = self.hands[at(id)].1.iter().cloned().collect();
        let Some(text) = self.random.choice(held) else { return };
        let token = Token::parse(&text).unwrap();
        let key = (token.job.1, token.job.2);
        let open = self.world().store.get(BATCHES, &key).unwrap().unwrap_or_default().open;
        let mut reports = vec![];
        for number in open.iter().chain([1, 5_000]) {
            let value = serde_json::value::to_raw_value(&number).unwrap();
            match self.random.u8(0..8) {
                0 if !self.kind => {
                    let (name, message) = ("E".to_owned(), String::new());
                    reports.push(SliceReport::Failed { number, name, message, seconds: 0.1 });
                }
                1 if !self.kind => {}
                _ => reports.push(SliceReport::Finished { number, value, seconds: 0.01 }),
            }
        }
        let (verdict, last) = match self.random.u8(0..5) {
            0 => (Verdict::Started, false),
            1 if !self.kind => (Verdict::Error { error: "no".into(), result: "{}".into() }, true),
            _ => (Verdict::Finished { result: None }, true),
        };
        let slices = Delivered::new(reports).unwrap();
        let report = Report { token, verdict, logs: vec![], slices };
        let say = move |turn: &mut Turn<'_>| match turn.report((PUBLIC_GROUP, id), &report) {
            Err(Error::Stale) => Ok(false),
            done => done.map(|()| true),
        };
        match self.ask(say).await {
            Ok(true) if !last => {}
            Ok(_) => {
                self.hands[at(id)].1.remove(&text);
            }
            Err(err) => assert!(matches!(err, Error::Store(_) | Error::Unavailable(_)), "{err}"),
        }
    }

    async fn step(&mut self) {
        let id = self.random.u32(0..RUNNERS_HERE);
        match self.random.u32(0..100) {
            0..60 => self.work(id).await,
            60..75 if !self.kind => self.change_work().await,
            75..80 if !self.kind => {
                if let Some((session, _)) = self.hands[at(id)].0.take() {
                    self.world().engine.connection_lost((PUBLIC_GROUP, id), session);
                }
            }
            80..83 if !self.kind => {
                self.world.take().unwrap().stop();
                self.hands.iter_mut().for_each(|hand| hand.0 = None);
                self.world = Some(World::open(self.dir.path(), wall));
            }
            _ => {
                if self.hands[at(id)].0.is_none() || self.random.u8(..) < 20 {
                    self.attach(id).await;
                }
            }
        }
        self.listen();
    }

    async fn end(&mut self) {
        self.kind = true;
        let release = |turn: &mut Turn<'_>| {
            for of in 0..WORKS_HERE {
                let row = turn.get(WORKS, &address(of))?.unwrap();
                match turn.hold_work(&row, false) {
                    Ok(_) | Err(Error::Conflict { .. }) => {}
                    Err(err) => return Err(err),
                }
            }
            Ok(())
        };
        self.ask(release).await.unwrap();
        for _ in 0..ENDING {
            self.step().await;
            let left = |turn: &mut Turn<'_>| Ok(turn.memory.works.len() + turn.memory.groups.len());
            if self.ask(left).await.unwrap() == 0 {
                return;
            }
        }
        let left = |turn: &mut Turn<'_>| Ok(format!("{:#?}", turn.memory.works.values()));
        panic!("something does not end: {}", self.ask(left).await.unwrap());
    }

    async fn check(&mut self) {
        let left = |turn: &mut Turn<'_>| {
            let memory = &turn.memory;
            assert!(memory.by_job.is_empty() && memory.by_key.is_empty());
            assert_eq!((memory.leased, memory.ready.len()), (0, 0));
            assert!(memory.turns.values().all(std::collections::VecDeque::is_empty));
            Ok(())
        };
        self.ask(left).await.unwrap();
        let store = &self.world().store;
        let report = store.check().unwrap();
        assert_eq!(report.problem_count, 0, "{:?}", report.problems);
        assert!(store.page(BATCHES, &(), None, 1).unwrap().is_empty());
        for of in 0..WORKS_HERE {
            let number = store.get(WORKS, &address(of)).unwrap().unwrap().number;
            let ledger = store.get(WORK_RUNS, &number).unwrap().unwrap().ledger;
            assert_eq!(ledger.active, 0, "{ledger:?}");
            let mut ended = BTreeSet::new();
            for ((_, last), row) in store.page(RESULTS, &number, None, 10_000).unwrap() {
                for (slice, text) in row.numbered(last) {
                    assert!(ended.insert(slice), "{slice} has two results");
                    assert_eq!(text, slice.to_string());
                }
            }
            assert_eq!(ledger.completed, u64::try_from(ended.len()).unwrap(), "{ledger:?}");
            let mut seq = 0;
            for ((_, last), row) in store.page(WORK_EVENTS, &number, None, 10_000).unwrap() {
                seq += row.what.count();
                assert_eq!(seq, last, "events are numbered without gaps");
                if let WorkEvent::Error { number, last: true, .. } = row.what {
                    assert!(ended.insert(number), "{number} has ended twice");
                }
            }
            if !ledger.cancelled {
                assert_eq!(
                    ended.into_iter().collect::<Vec<_>>(),
                    (1..=ledger.total).collect::<Vec<_>>()
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_every_slice_ends_once() {
    let rounds = std::env::var("MUSTER_ROUNDS").ok().and_then(|text| text.parse().ok());
    for round in 0..rounds.unwrap_or(3_u64) {
        let seed = if round < 2 { round } else { fastrand::u64(..) };
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
