//! The built binary is killed in the middle of its work, and started again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::calls::with;
use crate::fake_runner::{
    FakeRunner, Line, flow_key, job, job_key, sound_log_at, submission, token,
};
use crate::server::PATIENCE;

/// A coordinator of its own process.
pub struct Process {
    child: Child,
    pub ws: SocketAddr,
}

impl Process {
    pub async fn start(dir: &Path, runner_grace: u32) -> Self {
        Self::with(dir, runner_grace, &[]).await
    }

    /// With further arguments.
    pub async fn with(dir: &Path, runner_grace: u32, arguments: &[&str]) -> Self {
        let endpoints = dir.join("endpoints.json");
        let _ = std::fs::remove_file(&endpoints);
        let mut child = Command::new(env!("CARGO_BIN_EXE_muster"))
            .arg("serve")
            .arg("--data-dir")
            .arg(dir)
            .args(["--api-http-port", "0", "--api-ws-port", "0"])
            .args(["--runner-grace", &runner_grace.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let published = async {
            loop {
                if let Ok(text) = std::fs::read_to_string(&endpoints) {
                    return serde_json::from_str::<Value>(&text).unwrap();
                }
                assert!(child.try_wait().unwrap().is_none(), "it does not start");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let at = timeout(PATIENCE, published).await.expect("it starts in time");
        let ws = at["ws"].as_str().unwrap();
        let ws = ws.trim_start_matches("ws://").trim_end_matches('/').parse().unwrap();
        Self { child, ws }
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has: its exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        let id = i32::try_from(self.child.id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::SIGTERM).unwrap();
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, ended).await.expect("it stops in time")
    }

    pub async fn line(&self) -> Line {
        Line::open(self.ws).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with context 1 and runners 5 and 6, and its coordinator.
pub async fn begin(runner_grace: u32) -> (TempDir, Process) {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), runner_grace).await;
    let mut line = process.line().await;
    let context = json!({ "id": 1, "admins": [7], "readers": [], "executors": [] });
    line.ask("context.create", json!({ "context": context })).await.unwrap();
    for id in [5, 6] {
        let runner = with(&crate::runner::params(id), "runner.local", json!(false));
        line.ask("runner.create", runner).await.unwrap();
    }
    (dir, process)
}

/// What is on disk must fit together.
fn check(dir: &Path) {
    let report = muster::store::check(dir).unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
}

async fn until(line: &mut Line, method: &str, params: Value, wanted: impl Fn(&Value) -> bool) {
    let mut last = Value::Null;
    let reached = async {
        loop {
            last = line.ask(method, params.clone()).await.unwrap();
            if wanted(&last) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(PATIENCE, reached).await.is_err() {
        panic!("{method} {params} still says {last}");
    }
}

async fn states(line: &mut Line, id: u32) -> Vec<String> {
    let attempts = line.ask("job.attempts", job_key(id)).await.unwrap();
    let items = attempts["items"].as_array().unwrap().iter();
    items.map(|item| item["state"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_was_under_way_goes_on_after_a_crash() {
    let (dir, mut process) = begin(60).await;
    let mut line = process.line().await;
    let mut runner = FakeRunner::attach_at(process.ws, 5, json!({ "slots": 3 })).await;
    line.ask("flow.submit", submission(6, &[job(60, &[])])).await.unwrap();
    assert_eq!(runner.work().await, 60);
    until(&mut line, "flow.load", flow_key(6), |flow| flow["status"] == "Finished").await;
    let finished = line.ask("flow.load", flow_key(6)).await.unwrap();
    let again = with(&job(4, &[]), "retries", json!(1));
    let gated = with(&job(5, &[]), "prerequisites", json!(["a", "b"]));
    let jobs = [job(1, &[]), job(2, &[]), job(3, &[1, 2]), again, gated];
    line.ask("flow.submit", submission(7, &jobs)).await.unwrap();
    let tokens = [runner.given_job(1).await, runner.given_job(2).await, runner.given_job(4).await];
    runner.start(&tokens[0]).await;
    runner.fail(&tokens[2], "once").await;
    let satisfy = |gate: &str| with(&job_key(5), "prerequisite", json!(gate));
    line.ask("job.satisfy", satisfy("a")).await.unwrap();
    let explained = line.ask("job.explain", job_key(4)).await.unwrap();
    assert_eq!(explained["waiting_for"][0]["kind"], "backoff");
    process.kill();
    check(dir.path());

    let process = Process::start(dir.path(), 60).await;
    let mut line = process.line().await;
    assert_eq!(line.ask("flow.load", flow_key(6)).await.unwrap(), finished);
    assert_eq!(line.ask("job.load", job_key(1)).await.unwrap()["status"], "Started");
    let after = line.ask("job.explain", job_key(4)).await.unwrap();
    let kind = after["waiting_for"][0]["kind"].as_str().unwrap();
    assert!(after == explained || kind == "runner", "backing off as before: {after}");
    let gate = line.ask("job.explain", job_key(5)).await.unwrap();
    assert_eq!(gate["waiting_for"].as_array().unwrap().len(), 1, "{gate}");
    line.ask("job.satisfy", satisfy("b")).await.unwrap();
    let hello = json!({ "slots": 3, "in_hand": [tokens[0]] });
    let mut runner = FakeRunner::attach_at(process.ws, 5, hello).await;
    runner.finish(&tokens[0], json!({ "kept": "1" })).await;
    let mut given = BTreeMap::new();
    while given.len() < 3 {
        let told = runner.told().await;
        for attempt in told["attempts"].as_array().into_iter().flatten() {
            given.insert(attempt["job_id"].as_u64().unwrap(), attempt.clone());
        }
    }
    assert_eq!(given.keys().copied().collect::<Vec<_>>(), [2, 4, 5]);
    assert_eq!((&given[&2]["attempt"], &given[&4]["attempt"]), (&json!(2), &json!(2)));
    runner.report_stale(json!({ "token": tokens[1], "status": "Finished" })).await;
    for attempt in given.values() {
        runner.finish(&token(attempt), json!({})).await;
    }
    let last = runner.given().await;
    assert_eq!(last["inputs"]["1"], json!({ "kept": "1" }));
    runner.finish(&token(&last), json!({})).await;
    until(&mut line, "flow.load", flow_key(7), |flow| flow["status"] == "Finished").await;
    assert_eq!(states(&mut line, 1).await, ["Finished"]);
    assert_eq!(states(&mut line, 2).await, ["Lost", "Finished"]);
    assert_eq!(states(&mut line, 4).await, ["Error", "Finished"]);
    sound_log_at(process.ws).await;
}

#[tokio::test]
async fn a_graceful_stop_leaves_runners_what_they_have() {
    let (dir, mut process) = begin(60).await;
    let mut line = process.line().await;
    let mut runner = FakeRunner::attach_at(process.ws, 5, json!({ "slots": 2 })).await;
    line.ask("flow.submit", submission(7, &[job(1, &[]), job(2, &[1])])).await.unwrap();
    let one = runner.given_job(1).await;
    runner.start(&one).await;
    drop(line);
    let stopping = process.stop();
    let told = async {
        let reason = runner.detached().await;
        drop(runner);
        reason
    };
    let (code, reason) = tokio::join!(stopping, told);
    assert_eq!(code, Some(0));
    assert!(reason.contains("shutting down"), "{reason}");
    check(dir.path());
    let process = Process::start(dir.path(), 60).await;
    let hello = json!({ "slots": 2, "in_hand": [one] });
    let mut runner = FakeRunner::attach_at(process.ws, 5, hello).await;
    runner.finish(&one, json!({})).await;
    assert_eq!(runner.work().await, 2);
    let mut line = process.line().await;
    until(&mut line, "flow.load", flow_key(7), |flow| flow["status"] == "Finished").await;
    assert_eq!(states(&mut line, 1).await, ["Finished"]);
    sound_log_at(process.ws).await;
}

#[tokio::test]
async fn work_of_a_runner_that_does_not_return_after_a_crash_goes_to_another() {
    let (dir, mut process) = begin(1).await;
    let mut line = process.line().await;
    let mut message = with(&crate::message::params(9), "message.job", json!([job(2, &[])]));
    message["message"]["timeout_ack"] = json!(30);
    line.ask("flow.submit", submission(7, &[with(&job(1, &[]), "timeout", json!(60))]))
        .await
        .unwrap();
    line.ask("message.create", message).await.unwrap();
    let mut runner = FakeRunner::attach_at(process.ws, 5, json!({ "slots": 2 })).await;
    let mut held = [token(&runner.given().await), token(&runner.given().await)];
    held.sort();
    runner.start(&held[1]).await;
    process.kill();
    let process = Process::start(dir.path(), 1).await;
    let mut line = process.line().await;
    let other = json!({ "slots": 2 });
    let mut other = FakeRunner::attach_at(process.ws, 6, other).await;
    let mut done = [other.work().await, other.work().await];
    done.sort_unstable();
    assert_eq!(done, [1, 2]);
    until(&mut line, "flow.load", flow_key(7), |flow| flow["status"] == "Finished").await;
    until(&mut line, "message.load", job_key(9), |m| m["status"] == "Processed").await;
    for id in [1, 2] {
        assert_eq!(states(&mut line, id).await, ["Lost", "Finished"]);
    }
    sound_log_at(process.ws).await;
}

/// Something that a client was told is done.
enum Done {
    Job(u32),
    Flow(u32),
}

/// Creates jobs until the connection ends.
async fn create(ws: SocketAddr, ids: impl Iterator<Item = u32>, done: mpsc::UnboundedSender<Done>) {
    let mut line = Line::open(ws).await;
    for id in ids {
        let created = with(&job(id, &[]), "script", json!(format!("script {id}")));
        let params = json!({ "context_id": 1, "job": created });
        let Some(answer) = line.try_ask("job.create", params).await else { return };
        answer.unwrap();
        done.send(Done::Job(id)).unwrap();
    }
}

/// Three jobs of a flow, the last of which needs the others.
fn chain(flow: u32) -> Value {
    let first = flow * 3;
    let jobs = [job(first, &[]), job(first + 1, &[first]), job(first + 2, &[first + 1, first])];
    with(&submission(flow, &jobs), "idempotency_key", json!(format!("flow {flow}")))
}

/// Submits flows until the connection ends.
async fn submit(ws: SocketAddr, from: u32, done: mpsc::UnboundedSender<Done>) {
    let mut line = Line::open(ws).await;
    for flow in from.. {
        let Some(answer) = line.try_ask("flow.submit", chain(flow)).await else { return };
        answer.unwrap();
        done.send(Done::Flow(flow)).unwrap();
    }
}

/// Finishes whatever it is given until the connection ends; what it still had in hand then.
async fn execute(ws: SocketAddr, mut in_hand: BTreeSet<String>) -> BTreeSet<String> {
    let mut line = Line::open(ws).await;
    let hello = json!({
        "context_id": 1, "runner_id": 5, "script_types": ["Osis"], "slots": 8, "in_hand": in_hand,
    });
    let Some(attached) = line.try_ask("runner.attach", hello).await else { return in_hand };
    attached.unwrap();
    loop {
        let reports: Vec<Value> = in_hand
            .iter()
            .map(|token| json!({ "token": token, "status": "Finished", "result": { "n": "1" } }))
            .collect();
        let params = json!({ "context_id": 1, "runner_id": 5, "reports": reports });
        let Some(answer) = line.try_ask("runner.report", params).await else { return in_hand };
        answer.unwrap();
        in_hand.clear();
        let Some(told) = line.note().await else { return in_hand };
        for attempt in told["attempts"].as_array().into_iter().flatten() {
            in_hand.insert(token(attempt));
        }
    }
}

/// Waits until all of these flows have finished, for as long as anything happens.
async fn all_finish(line: &mut Line, flows: &BTreeSet<u32>) {
    let mut left: Vec<u32> = flows.iter().copied().collect();
    let (mut latest, mut quiet) = (Value::Null, 0);
    while let Some(flow) = left.last().copied() {
        let loaded = line.ask("flow.load", flow_key(flow)).await.unwrap();
        if loaded["status"] == "Finished" {
            left.pop();
            continue;
        }
        let mut page = line.ask("events.list", json!({ "since": 0, "limit": 1 })).await.unwrap();
        let now = page["latest"].take();
        quiet = if now == latest { quiet + 1 } else { 0 };
        latest = now;
        if quiet > 1_000 {
            let mut why = Vec::new();
            for id in loaded["jobs"].as_array().unwrap() {
                let key = with(&job_key(0), "id", id.clone());
                why.push(line.ask("job.explain", key.clone()).await.unwrap());
                why.push(line.ask("job.attempts", key).await.unwrap());
            }
            panic!("flow {flow} does not end: {}", Value::from(why));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_crash_loses_what_was_acknowledged_or_does_anything_twice() {
    let (dir, mut process) = begin(60).await;
    let mut jobs = BTreeSet::new();
    let mut flows = BTreeSet::new();
    let mut in_hand = BTreeSet::new();
    for round in 0..5_u32 {
        let (done, mut told) = mpsc::unbounded_channel();
        let base = 1_000_000 + round * 100_000;
        let clients = [
            tokio::spawn(create(process.ws, base..base + 50_000, done.clone())),
            tokio::spawn(create(process.ws, base + 50_000..base + 100_000, done.clone())),
            tokio::spawn(submit(process.ws, 1 + round * 10_000, done.clone())),
            tokio::spawn(submit(process.ws, 5_001 + round * 10_000, done)),
        ];
        let runner = tokio::spawn(execute(process.ws, in_hand));
        let mut left = fastrand::u32(30..150);
        while let Some(next) = timeout(PATIENCE, told.recv()).await.expect("something is done") {
            match next {
                Done::Job(id) => jobs.insert(id),
                Done::Flow(id) => flows.insert(id),
            };
            left = left.saturating_sub(1);
            if left == 0 {
                process.kill();
            }
        }
        for client in clients {
            client.await.unwrap();
        }
        in_hand = runner.await.unwrap();
        check(dir.path());
        process = Process::start(dir.path(), 60).await;
        let mut line = process.line().await;
        for id in &jobs {
            let stored = line.ask("job.load", job_key(*id)).await.unwrap();
            assert_eq!(stored["script"], format!("script {id}"));
        }
        for flow in &flows {
            // The key is still known: this starts nothing.
            let known = line.ask("flow.submit", chain(*flow)).await.unwrap();
            assert!(["Started", "Finished"].contains(&known["status"].as_str().unwrap()));
        }
    }
    let runner = tokio::spawn(execute(process.ws, in_hand));
    let mut line = process.line().await;
    all_finish(&mut line, &flows).await;
    let idle = |stats: &Value| stats["busy"] == 0;
    until(&mut line, "runner.status", json!({ "context_id": 1, "id": 5 }), idle).await;
    let mut ends = BTreeMap::<String, u32>::new();
    for event in sound_log_at(process.ws).await {
        if event["data"]["to"] == "Finished" {
            *ends.entry(event["subject"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        assert_ne!(event["data"]["to"], "Error", "{event}");
    }
    for flow in &flows {
        let first = flow * 3;
        assert_eq!(ends[&format!("flow/1/{flow}")], 1);
        for id in first..first + 3 {
            assert_eq!(ends[&format!("job/1/42/{id}")], 1);
        }
    }
    process.kill();
    runner.await.unwrap();
    check(dir.path());
}
