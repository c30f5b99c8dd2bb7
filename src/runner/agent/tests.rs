use std::collections::VecDeque;

use futures_util::future::BoxFuture;
use futures_util::stream::unfold;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::model::slices::{FunctionLanguage, Slice, SliceBatch, SliceReport};
use crate::model::task::Language;
use crate::runner::executor::Executor;
use crate::runner::functions::{FunctionExecutor, Functions};
use crate::runner::link::Notifications;
use crate::runner::protocol::{Report, ReportStatus};
use crate::runner::{Assignment, Stop};

/// A coordinator that keeps what it hears and answers as it was told.
#[derive(Clone, Debug, Default)]
struct Fake {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    attached: Vec<Value>,
    called: Vec<(String, Value)>,
    reports: Vec<Report>,
    notify: Option<mpsc::Sender<Notification<Carried>>>,
    refuse_attach: VecDeque<LinkError>,
    answers: VecDeque<Result<Value, LinkError>>,
}

impl Fake {
    /// Waits until the state is so.
    async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if let Some(found) = look(&mut self.state.lock()) {
                    return found;
                }
                changed.await;
            }
        };
        timeout(Duration::from_secs(20), wait).await.expect("it comes to that")
    }

    async fn attached(&self, times: usize) -> Value {
        self.until(|state| {
            (state.attached.len() == times).then(|| state.attached[times - 1].clone())
        })
        .await
    }

    async fn reported(&self, token: &str, status: ReportStatus) -> Report {
        let wanted = |report: &&Report| report.token == token && report.status == status;
        self.until(|state| state.reports.iter().find(wanted).cloned()).await
    }

    async fn tell(&self, notification: Notification<Carried>) {
        let notify = self.state.lock().notify.clone().unwrap();
        notify.send(notification).await.unwrap();
    }

    async fn give(&self, script: &str, tokens: &[&str]) {
        let (mut job, mut attempts) = (vec![], vec![]);
        for (id, token) in (1..).zip(tokens) {
            let script = script.to_owned();
            job.push(CarriedJob { id, script, script_type: "Sal".into(), ..CarriedJob::default() });
            let token = (*token).to_owned();
            attempts.push(Attempt { job_id: id, attempt: 1, token, ..Attempt::default() });
        }
        self.tell(Notification::Jobs { message: Carried { job }, attempts }).await;
    }

    fn statuses(&self, token: &str) -> Vec<ReportStatus> {
        let state = self.state.lock();
        state.reports.iter().filter(|r| r.token == token).map(|r| r.status).collect()
    }
}

impl Link for Fake {
    async fn attach(&self, params: &Attach) -> Result<Notifications, LinkError> {
        let mut state = self.state.lock();
        if let Some(refused) = state.refuse_attach.pop_front() {
            return Err(refused);
        }
        let (notify, told) = mpsc::channel(64);
        state.notify = Some(notify);
        state.attached.push(serde_json::to_value(params).unwrap());
        self.changed.notify_waiters();
        let told = unfold(told, async |mut told| Some((told.recv().await?, told)));
        Ok(told.boxed())
    }

    async fn call<P: Serialize + Sync, T: DeserializeOwned + Send>(
        &self,
        method: &'static str,
        params: &P,
    ) -> Result<T, LinkError> {
        let params = serde_json::to_value(params).unwrap();
        let answer = {
            let mut state = self.state.lock();
            let answer = match method {
                "runner.report" => state.answers.pop_front(),
                "runner.heartbeat" => Some(Ok(json!({ "cancel": [] }))),
                _ => Some(Ok(json!({ "draining": true, "busy": 0 }))),
            };
            let answer = answer.unwrap_or_else(|| Ok(json!({ "accepted": 1, "refused": [] })));
            if method == "runner.report" && answer.is_ok() {
                let reports: Vec<Report> =
                    serde_json::from_value(params["reports"].clone()).unwrap();
                state.reports.extend(reports);
            }
            state.called.push((method.to_owned(), params));
            answer
        };
        self.changed.notify_waiters();
        answer.map(|value| serde_json::from_value(value).unwrap())
    }
}

/// Does what the one word of a script says.
#[derive(Debug)]
struct Words;

impl Executor for Words {
    fn run(&self, job: Assignment, mut stop: Stop, logs: Logs) -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            logs.line("stdout", "hello");
            let result = BTreeMap::new();
            match job.script.as_str() {
                "wait" => Outcome::Error { error: stop.wait().await.to_string(), result },
                "panic" => panic!("on purpose"),
                _ => Outcome::Finished { result },
            }
        })
    }
}

/// Gives each datum back, one report at a time, and then what the function says.
#[derive(Debug)]
struct Numbers;

impl FunctionExecutor for Numbers {
    fn run(
        &self,
        batch: SliceBatch,
        _: Stop,
        reports: mpsc::Sender<Vec<SliceReport>>,
    ) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            for Slice { number, datum: value } in batch.slices {
                let report = SliceReport::Finished { number, value, seconds: 0.5 };
                reports.send(vec![report]).await.unwrap();
            }
            if batch.function == "ok" { Ok(()) } else { Err(batch.function) }
        })
    }

    fn is_there(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }
}

struct Running {
    drain: Option<oneshot::Sender<()>>,
    agent: JoinHandle<Ended>,
}

impl Running {
    fn drain(&mut self) {
        drop(self.drain.take());
    }

    async fn end(self) -> Ended {
        timeout(Duration::from_secs(20), self.agent).await.expect("it ends").unwrap()
    }
}

fn start(fake: &Fake, slots: u32, drain_limit: Duration) -> Running {
    let settings = Settings {
        context_id: 1,
        runner_id: 5,
        script_types: SCRIPT_TYPES.to_vec(),
        slots,
        capabilities: serde_json::Map::new(),
        groups: Vec::new(),
        labels: BTreeMap::new(),
        drain_limit,
        now: || 0,
    };
    let words: Arc<dyn Executor> = Arc::new(Words);
    let numbers: Arc<dyn FunctionExecutor> = Arc::new(Numbers);
    let executors = Arc::new(Executors::of(
        BTreeMap::from([(Language::Sal, words)]),
        Functions::of(BTreeMap::from([(FunctionLanguage::JavaScript, numbers)])),
    ));
    let permits = Arc::new(Semaphore::new(slots.try_into().unwrap()));
    let agent = Agent::new(fake.clone(), settings, executors, permits);
    let (drain, drained) = oneshot::channel::<()>();
    let agent = tokio::spawn(agent.run(async {
        let _ = drained.await;
    }));
    Running { drain: Some(drain), agent }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_comes_of_slices_is_reported_once_in_order_and_before_the_end() {
    for (function, end) in [("ok", ReportStatus::Finished), ("stopped", ReportStatus::Error)] {
        let fake = Fake::default();
        let _running = start(&fake, 1, LONG);
        fake.attached(1).await;
        let slice = |number| Slice { number, datum: to_raw_value(&(number * 10)).unwrap() };
        let batch = SliceBatch {
            function: function.into(),
            args: to_raw_value(&json!([])).unwrap(),
            public: to_raw_value(&json!({})).unwrap(),
            slice_seconds: 1.0,
            slices: (1..=100).map(slice).collect(),
        };
        let job = CarriedJob { id: 1, script_type: "JavaScript".into(), ..CarriedJob::default() };
        let (token, slices) = ("a".to_owned(), Some(Box::new(batch)));
        let attempt = Attempt { job_id: 1, attempt: 1, token, slices, ..Attempt::default() };
        let (message, attempts) = (Carried { job: vec![job] }, vec![attempt]);
        fake.tell(Notification::Jobs { message, attempts }).await;
        let last = fake.reported("a", end).await;
        assert_eq!(last.error.is_some(), end == ReportStatus::Error);
        let reports = fake.state.lock().reports.clone();
        let numbers = reports.iter().flat_map(|report| &report.slices).map(|slice| match slice {
            SliceReport::Finished { number, value, .. } => {
                assert_eq!(value.get(), (number * 10).to_string());
                *number
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(numbers.collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_attempt_is_acknowledged_started_and_finished_with_its_lines() {
    let fake = Fake::default();
    let _running = start(&fake, 2, LONG);
    let attached = fake.attached(1).await;
    let expected = json!({
        "context_id": 1, "runner_id": 5, "script_types": ["Osis", "Sal", "V", "Python"],
        "slots": 2, "in_hand": []
    });
    assert_eq!(attached, expected);
    fake.give("go", &["a", "b"]).await;
    for token in ["a", "b"] {
        fake.reported(token, ReportStatus::Finished).await;
        let expected = [ReportStatus::Acknowledged, ReportStatus::Started, ReportStatus::Finished];
        assert_eq!(fake.statuses(token), expected);
        let state = fake.state.lock();
        let lines = state.reports.iter().filter(|r| r.token == token).flat_map(|r| &r.logs);
        assert_eq!(lines.map(|line| line.line.as_str()).collect::<Vec<_>>(), ["hello"]);
    }
}

#[tokio::test]
async fn lines_of_a_long_job_travel_while_it_runs() {
    let fake = Fake::default();
    let _running = start(&fake, 1, LONG);
    fake.attached(1).await;
    fake.give("wait", &["a"]).await;
    fake.until(|state| state.reports.iter().any(|r| !r.logs.is_empty()).then_some(())).await;
    assert!(!fake.statuses("a").contains(&ReportStatus::Error));
}

#[tokio::test]
async fn what_is_in_hand_survives_a_lost_connection() {
    let fake = Fake::default();
    let _running = start(&fake, 1, LONG);
    fake.attached(1).await;
    fake.give("wait", &["a"]).await;
    fake.reported("a", ReportStatus::Started).await;
    let lost = LinkError::Lost("on purpose".into());
    fake.state.lock().refuse_attach.push_back(lost);
    fake.state.lock().notify = None;
    assert_eq!(fake.attached(2).await["in_hand"], json!(["a"]));
    let tokens = vec!["a".to_owned()];
    fake.tell(Notification::Cancel { tokens, reason: "asked".into() }).await;
    fake.state.lock().notify = None;
    assert_eq!(fake.attached(3).await["in_hand"], json!([]), "given up");
}

#[tokio::test]
async fn reports_that_got_lost_are_sent_again() {
    let fake = Fake::default();
    let _running = start(&fake, 1, LONG);
    fake.attached(1).await;
    let storage = LinkError::Refused { code: Code::StorageError.number(), message: "full".into() };
    fake.state.lock().answers.extend([Err(LinkError::Lost("gone".into())), Err(storage)]);
    fake.give("go", &["a"]).await;
    fake.reported("a", ReportStatus::Finished).await;
    let expected = [ReportStatus::Acknowledged, ReportStatus::Started, ReportStatus::Finished];
    assert_eq!(fake.statuses("a"), expected);
}

#[tokio::test]
async fn what_is_given_up_without_the_coordinator_knowing_is_told_by_attaching_anew() {
    let fake = Fake::default();
    let _running = start(&fake, 1, LONG);
    fake.attached(1).await;
    let refused = LinkError::Refused { code: Code::InvalidParams.number(), message: "no".into() };
    fake.state.lock().answers.push_back(Err(refused));
    fake.give("wait", &["a"]).await;
    assert_eq!(fake.attached(2).await["in_hand"], json!([]));
}

#[tokio::test]
async fn nothing_is_thrown_away_because_a_session_has_expired() {
    let fake = Fake::default();
    let _running = start(&fake, 1, LONG);
    fake.attached(1).await;
    let code = Code::Unauthenticated.number();
    fake.state.lock().answers.push_back(Err(LinkError::Refused { code, message: "who?".into() }));
    fake.give("go", &["a"]).await;
    assert_eq!(fake.attached(2).await["in_hand"], json!(["a"]));
    fake.reported("a", ReportStatus::Finished).await;
}

#[tokio::test]
async fn a_stale_attempt_is_dropped() {
    let fake = Fake::default();
    let mut running = start(&fake, 1, LONG);
    fake.attached(1).await;
    let refused = json!([{ "token": "a", "code": -32006, "message": "stale" }]);
    fake.state.lock().answers.push_back(Ok(json!({ "accepted": 0, "refused": refused })));
    fake.give("wait", &["a"]).await;
    fake.until(|state| (!state.reports.is_empty()).then_some(())).await;
    // Its slot is free again.
    fake.give("go", &["b"]).await;
    fake.reported("b", ReportStatus::Finished).await;
    running.drain();
    fake.until(|state| state.called.iter().any(|(m, _)| m == "runner.drain").then_some(())).await;
    fake.tell(Notification::Detached { reason: "drained".into() }).await;
    assert_eq!(running.end().await, Ended::Drained);
    assert!(!fake.statuses("a").iter().any(|status| status.is_final()));
}

#[tokio::test]
async fn draining_waits_for_what_is_in_hand_but_not_for_ever() {
    let fake = Fake::default();
    let mut running = start(&fake, 1, Duration::from_millis(100));
    fake.attached(1).await;
    fake.give("wait", &["a"]).await;
    fake.reported("a", ReportStatus::Started).await;
    running.drain();
    assert_eq!(running.end().await, Ended::Abandoned(1));
    assert!(!fake.statuses("a").contains(&ReportStatus::Error), "others get it");
}

#[tokio::test]
async fn whoever_is_replaced_or_refused_does_not_come_back() {
    let fake = Fake::default();
    let running = start(&fake, 1, LONG);
    fake.attached(1).await;
    fake.tell(Notification::Detached { reason: "replaced by a newer attach".into() }).await;
    assert_eq!(running.end().await, Ended::Replaced);
    let refused = LinkError::Refused { code: Code::NotFound.number(), message: "no runner".into() };
    fake.state.lock().refuse_attach.push_back(refused.clone());
    assert_eq!(start(&fake, 1, LONG).end().await, Ended::Refused(refused));
}

#[tokio::test]
async fn what_cannot_be_executed_fails_with_a_reason() {
    let fake = Fake::default();
    let _running = start(&fake, 3, LONG);
    fake.attached(1).await;
    let job = |id, script_type: &str, script: &str| CarriedJob {
        id,
        script_type: script_type.into(),
        script: script.into(),
        ..CarriedJob::default()
    };
    let job = vec![job(1, "Cobol", ""), job(2, "V", ""), job(3, "Sal", "panic")];
    let attempts =
        (1..=3).map(|id| Attempt { job_id: id, token: format!("t{id}"), ..Attempt::default() });
    let attempts = attempts.collect();
    fake.tell(Notification::Jobs { message: Carried { job }, attempts }).await;
    for (token, expected) in [("t1", "Cobol"), ("t2", "cannot run V"), ("t3", "failed")] {
        let error = fake.reported(token, ReportStatus::Error).await.error.unwrap();
        assert!(error.contains(expected), "{error}");
    }
}
