//! A runner that tests drive by hand, and what is asked of the coordinator around it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::calls::Core;
use crate::server::{PATIENCE, Socket};

/// A WebSocket connection that tells answers from notifications.
pub struct Line {
    socket: Socket,
    calls: u64,
    notes: VecDeque<Value>,
}

impl Line {
    pub async fn open(ws: SocketAddr) -> Self {
        let io = TcpStream::connect(ws).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(format!("ws://{ws}/"), io).await.unwrap();
        Self { socket: Socket(socket), calls: 0, notes: VecDeque::new() }
    }

    /// One call: the result, or the error's code and data.
    pub async fn ask(&mut self, method: &str, params: Value) -> Result<Value, (i32, Value)> {
        self.try_ask(method, params).await.expect("the connection holds")
    }

    /// The same; none when the connection ends before the answer.
    pub async fn try_ask(
        &mut self,
        method: &str,
        params: Value,
    ) -> Option<Result<Value, (i32, Value)>> {
        self.calls += 1;
        let id = self.calls;
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.socket.0.send(Message::text(call.to_string())).await.ok()?;
        loop {
            let mut heard = self.socket.hear().await?;
            if heard.get("method").is_some() {
                self.notes.push_back(heard["params"]["result"].take());
            } else if let Some(error) = heard.get("error") {
                let code = error["code"].as_i64().unwrap();
                return Some(Err((code.try_into().unwrap(), error["data"].clone())));
            } else {
                assert_eq!(heard["id"], id);
                return Some(Ok(heard["result"].take()));
            }
        }
    }

    /// The next notification; none when the connection has ended.
    pub async fn note(&mut self) -> Option<Value> {
        if let Some(note) = self.notes.pop_front() {
            return Some(note);
        }
        let mut heard = self.socket.hear().await?;
        Some(heard["params"]["result"].take())
    }

    /// The notifications up to the first that `is_last`, with it.
    pub async fn notes_until(&mut self, is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut notes = Vec::new();
        loop {
            notes.push(self.note().await.expect("the connection holds"));
            if notes.last().is_some_and(&is_last) {
                return notes;
            }
        }
    }
}

/// An attached runner.
pub struct FakeRunner {
    pub line: Line,
    pub id: u32,
    attempts: VecDeque<Value>,
    /// The messages that carried the attempts given so far.
    pub messages: Vec<Value>,
}

impl FakeRunner {
    /// Attaches runner `id`, which is created if need be, for Osis and Python.
    pub async fn attach(server: &Core, id: u32, slots: u32) -> Self {
        Self::attach_with(server, id, json!({ "slots": slots })).await
    }

    /// Attaches with more to say than its slots.
    pub async fn attach_with(server: &Core, id: u32, extra: Value) -> Self {
        create_runner(server, id).await;
        Self::attach_at(server.at.ws, id, extra).await
    }

    /// Attaches a runner that exists.
    pub async fn attach_at(ws: SocketAddr, id: u32, extra: Value) -> Self {
        let mut line = Line::open(ws).await;
        let mut hello =
            json!({ "context_id": 1, "runner_id": id, "script_types": ["Osis", "Python"] });
        for (name, value) in extra.as_object().unwrap() {
            hello[name] = value.clone();
        }
        line.ask("runner.attach", hello).await.unwrap();
        Self { line, id, attempts: VecDeque::new(), messages: Vec::new() }
    }

    /// The next thing that it is told.
    pub async fn told(&mut self) -> Value {
        self.line.note().await.expect("the connection holds")
    }

    /// The next attempt that it is given.
    pub async fn given(&mut self) -> Value {
        while self.attempts.is_empty() {
            let mut told = self.told().await;
            assert_eq!(told["kind"], "jobs", "{told}");
            self.attempts.extend(told["attempts"].as_array().unwrap().iter().cloned());
            self.messages.push(told["message"].take());
        }
        self.attempts.pop_front().unwrap()
    }

    /// The next attempt, which must be of this job, and its token.
    pub async fn given_job(&mut self, job: u32) -> String {
        let given = self.given().await;
        assert_eq!(given["job_id"], job, "{given}");
        token(&given)
    }

    /// The tokens that it is told to stop next, and why.
    pub async fn cancelled(&mut self) -> (Value, String) {
        let mut told = self.told().await;
        assert_eq!(told["kind"], "cancel", "{told}");
        (told["tokens"].take(), told["reason"].as_str().unwrap().to_owned())
    }

    /// Why it is detached, which is the next and last thing it is told.
    pub async fn detached(&mut self) -> String {
        let told = self.told().await;
        assert_eq!(told["kind"], "detached", "{told}");
        told["reason"].as_str().unwrap().to_owned()
    }

    pub async fn send(&mut self, reports: Value) -> Value {
        let params = json!({ "context_id": 1, "runner_id": self.id, "reports": reports });
        self.line.ask("runner.report", params).await.unwrap()
    }

    /// One report that must be accepted.
    pub async fn report(&mut self, report: Value) {
        let answer = self.send(json!([report])).await;
        assert_eq!(answer, json!({ "accepted": 1, "refused": [] }), "{report}");
    }

    /// One report that must be refused as stale.
    pub async fn report_stale(&mut self, report: Value) {
        let answer = self.send(json!([report])).await;
        assert_eq!(answer["accepted"], 0, "{report}");
        assert_eq!(answer["refused"][0]["token"], report["token"]);
        assert_eq!(answer["refused"][0]["code"], -32006, "{answer}");
    }

    pub async fn acknowledge(&mut self, token: &str) {
        self.report(json!({ "token": token, "status": "Acknowledged" })).await;
    }

    pub async fn start(&mut self, token: &str) {
        self.report(json!({ "token": token, "status": "Started" })).await;
    }

    pub async fn finish(&mut self, token: &str, result: Value) {
        self.report(json!({ "token": token, "status": "Finished", "result": result })).await;
    }

    pub async fn fail(&mut self, token: &str, error: &str) {
        self.report(json!({ "token": token, "status": "Error", "error": error })).await;
    }

    /// Does the next job well, and says which it was.
    pub async fn work(&mut self) -> u64 {
        let given = self.given().await;
        let token = token(&given);
        self.start(&token).await;
        self.finish(&token, json!({ "n": given["job_id"].to_string() })).await;
        given["job_id"].as_u64().unwrap()
    }

    pub async fn heartbeat(&mut self, tokens: Value) -> Value {
        let params = json!({ "context_id": 1, "runner_id": self.id, "tokens": tokens });
        self.line.ask("runner.heartbeat", params).await.unwrap()["cancel"].take()
    }
}

pub fn token(attempt: &Value) -> String {
    attempt["token"].as_str().unwrap().to_owned()
}

pub async fn create_runner(server: &Core, id: u32) {
    let mut params = crate::runner::params(id);
    params["runner"]["local"] = json!(false);
    server.rpc("runner.create", params).await.unwrap();
}

/// A job of caller 42 without retries or time limits.
pub fn job(id: u32, depends: &[u32]) -> Value {
    json!({
        "id": id, "caller_id": 42, "context_id": 1, "script": "40 + 2", "script_type": "Osis",
        "timeout": 0, "retries": 0, "env_vars": {}, "prerequisites": [], "depends": depends,
    })
}

/// What `flow.submit` takes to run these jobs.
pub fn submission(flow: u32, jobs: &[Value]) -> Value {
    let ids: Vec<&Value> = jobs.iter().map(|job| &job["id"]).collect();
    let flow = json!({ "id": flow, "caller_id": 42, "context_id": 1, "jobs": ids, "env_vars": {} });
    json!({ "context_id": 1, "flow": flow, "jobs": jobs })
}

pub async fn submit(server: &Core, flow: u32, jobs: &[Value]) -> Value {
    server.rpc("flow.submit", submission(flow, jobs)).await.unwrap()
}

pub fn job_key(id: u32) -> Value {
    json!({ "context_id": 1, "caller_id": 42, "id": id })
}

pub fn flow_key(id: u32) -> Value {
    json!({ "context_id": 1, "id": id })
}

/// Any call on a job that must succeed.
pub async fn of_job(server: &Core, method: &str, id: u32) -> Value {
    server.rpc(method, job_key(id)).await.unwrap()
}

pub async fn load_job(server: &Core, id: u32) -> Value {
    of_job(server, "job.load", id).await
}

/// The kinds of what a job waits for.
pub async fn kinds(server: &Core, id: u32) -> Vec<String> {
    let explained = of_job(server, "job.explain", id).await;
    let reasons = explained["waiting_for"].as_array().unwrap().iter();
    reasons.map(|reason| reason["kind"].as_str().unwrap().to_owned()).collect()
}

/// The states of a job's attempts.
pub async fn attempt_states(server: &Core, id: u32) -> Vec<String> {
    let attempts = of_job(server, "job.attempts", id).await;
    let items = attempts["items"].as_array().unwrap();
    for (number, item) in (1..).zip(items) {
        assert_eq!(item["attempt"], number, "{attempts}");
    }
    items.iter().map(|item| item["state"].as_str().unwrap().to_owned()).collect()
}

/// Waits until a call answers as wanted.
pub async fn until(
    server: &Core,
    method: &str,
    params: Value,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let mut follower = server.app.store.follow(None).unwrap();
    let mut last = Value::Null;
    let reached = async {
        loop {
            last = server.rpc(method, params.clone()).await.unwrap();
            if wanted(&last) {
                return last.clone();
            }
            // Not everything that can be asked for has an event.
            let _ = timeout(Duration::from_millis(20), follower.next()).await;
        }
    };
    let reached = timeout(PATIENCE, reached).await;
    reached.unwrap_or_else(|_| panic!("{method} {params} still says {last}"))
}

pub async fn job_is(server: &Core, id: u32, status: &str) -> Value {
    until(server, "job.load", job_key(id), |job| job["status"] == status).await
}

pub async fn flow_is(server: &Core, id: u32, status: &str) -> Value {
    until(server, "flow.load", flow_key(id), |flow| flow["status"] == status).await
}

/// The whole event log, checked: no gaps, no change that may not be, no change out of nothing.
pub async fn sound_log(server: &Core) -> Vec<Value> {
    sound_log_at(server.at.ws).await
}

pub async fn sound_log_at(ws: SocketAddr) -> Vec<Value> {
    let mut line = Line::open(ws).await;
    let mut events = Vec::new();
    loop {
        let params = json!({ "since": events.len(), "limit": 1000 });
        let mut page = line.ask("events.list", params).await.unwrap();
        let Value::Array(items) = page["items"].take() else { panic!("{page}") };
        if items.is_empty() {
            break;
        }
        events.extend(items);
    }
    check_log(&events);
    events
}

/// Checks the event log of a coordinator from its first event on.
pub fn check_log(events: &[Value]) {
    let mut stands = std::collections::BTreeMap::new();
    for (seq, event) in (1_u64..).zip(events) {
        assert_eq!(event["seq"], seq, "{event}");
        let subject = event["subject"].as_str().unwrap();
        let kind = event["kind"].as_str().unwrap();
        let data = &event["data"];
        match kind {
            "job.created" | "job.updated" | "flow.created" | "flow.updated" => {
                let status = data["status"].as_str().unwrap();
                stands.insert(subject.to_owned(), status.to_owned());
            }
            "job.status" | "flow.status" => {
                let (from, to) = (data["from"].as_str().unwrap(), data["to"].as_str().unwrap());
                let before = stands.insert(subject.to_owned(), to.to_owned());
                assert_eq!(before.as_deref(), Some(from), "{event}");
                let legal: &[&str] = match (kind, from) {
                    ("job.status", "WaitingForPrerequisites") => &["Dispatched", "Error"],
                    ("job.status", "Dispatched") => &["Started", "Error"],
                    ("job.status", "Started") => &["Finished", "Error", "Dispatched"],
                    // It runs again.
                    ("job.status", _) => &["Dispatched", "WaitingForPrerequisites"],
                    (_, "Dispatched") => &["Started", "Error"],
                    (_, "Started") => &["Finished", "Error"],
                    (_, _) => &["Started"],
                };
                assert!(legal.contains(&to), "{event}");
            }
            _ => {}
        }
    }
}
