//! A runner of the public compute group that tests drive by hand, and clients of its jobs.

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::fake_runner::Line;
use crate::server::TestServer;

/// The public compute group.
pub const GROUP: u32 = u32::MAX - 256;
/// Credentials of one identity.
pub const OURS: &str = include_str!("dcp_keystore.header");
/// Credentials of another.
pub const OTHER: &str = include_str!("dcp_other.header");
/// The account that jobs are paid from.
pub const ACCOUNT: &str = "94E619279C5780fF20ECe07fAA719e3D66111A88";

/// Calls as the one identity, over a line.
pub async fn call(line: &mut Line, method: &str, mut params: Value) -> Result<Value, (i32, Value)> {
    params["auth"] = OURS.trim().into();
    line.ask(method, params).await
}

/// Deploys `(x) => x` over these slices: the job's id.
pub async fn deploy(line: &mut Line, slices: Value) -> String {
    let job = json!({
        "work": { "function": "(x) => x" }, "slices": slices, "account": { "address": ACCOUNT },
    });
    let made = call(line, "dcp.job.deploy", job).await.unwrap();
    made["jobId"].as_str().unwrap().to_owned()
}

pub async fn line(server: &TestServer) -> Line {
    Line::open(server.at.ws).await
}

/// An attached runner.
pub struct SliceRunner {
    pub line: Line,
    pub id: u32,
    batches: VecDeque<Batch>,
}

/// A batch that it was given.
#[derive(Clone, Debug)]
pub struct Batch {
    pub token: String,
    /// The whole attempt.
    pub attempt: Value,
    /// Numbers and inputs of its slices.
    pub slices: Vec<(u64, Value)>,
}

impl SliceRunner {
    /// Creates and attaches runner `id`.
    pub async fn attach(ws: SocketAddr, id: u32, slots: u32) -> Self {
        let mut line = Line::open(ws).await;
        let runner = json!({
            "id": id, "pubkey": "k", "address": "127.0.0.1", "topic": "t", "local": false,
        });
        line.ask("runner.create", json!({ "context_id": GROUP, "runner": runner })).await.unwrap();
        Self::attach_again(line, id, slots, json!([])).await
    }

    /// Attaches with what it has in hand.
    pub async fn attach_again(line: Line, id: u32, slots: u32, in_hand: Value) -> Self {
        Self::attach_saying(line, id, slots, json!({ "in_hand": in_hand })).await.unwrap()
    }

    /// Attaches with further members, if it may.
    pub async fn attach_saying(
        mut line: Line,
        id: u32,
        slots: u32,
        more: Value,
    ) -> Result<Self, (i32, Value)> {
        let mut hello = json!({
            "context_id": GROUP, "runner_id": id, "script_types": ["JavaScript"], "slots": slots,
        });
        hello.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        line.ask("runner.attach", hello).await?;
        Ok(Self { line, id, batches: VecDeque::new() })
    }

    /// Creates and attaches runner `id` that says more of itself, if it may.
    pub async fn offering(ws: SocketAddr, id: u32, more: Value) -> Result<Self, (i32, Value)> {
        let mut line = Line::open(ws).await;
        let runner = json!({
            "id": id, "pubkey": "k", "address": "127.0.0.1", "topic": "t", "local": false,
        });
        line.ask("runner.create", json!({ "context_id": GROUP, "runner": runner })).await.unwrap();
        Self::attach_saying(line, id, 1, more).await
    }

    /// The next thing that it is told.
    pub async fn told(&mut self) -> Value {
        self.line.note().await.expect("the connection holds")
    }

    /// The next batch that it is given.
    pub async fn given(&mut self) -> Batch {
        while self.batches.is_empty() {
            let told = self.told().await;
            // One that comes back is told what it is no longer to do.
            if told["kind"] == "cancel" {
                continue;
            }
            assert_eq!(told["kind"], "jobs", "{told}");
            assert_eq!(told["message"]["job"][0]["script_type"], "JavaScript");
            for attempt in told["attempts"].as_array().unwrap() {
                let slices = attempt["slices"]["slices"].as_array().unwrap().iter();
                let slices = slices.map(|s| (s["number"].as_u64().unwrap(), s["datum"].clone()));
                self.batches.push_back(Batch {
                    token: attempt["token"].as_str().unwrap().to_owned(),
                    slices: slices.collect(),
                    attempt: attempt.clone(),
                });
            }
        }
        self.batches.pop_front().unwrap()
    }

    pub async fn send(&mut self, report: Value) -> Value {
        let params = json!({ "context_id": GROUP, "runner_id": self.id, "reports": [report] });
        self.line.ask("runner.report", params).await.unwrap()
    }

    /// A report that must be accepted.
    pub async fn report(&mut self, report: Value) {
        let answer = self.send(report.clone()).await;
        assert_eq!(answer, json!({ "accepted": 1, "refused": [] }), "{report}");
    }

    /// Ends a batch with what came of its slices.
    pub async fn finish(&mut self, batch: &Batch, slices: Value) {
        let report = json!({ "token": batch.token, "status": "Finished", "slices": slices });
        self.report(report).await;
    }

    /// Does a batch well: twice the datum each.
    pub async fn double(&mut self, batch: &Batch) {
        let done: Vec<Value> = batch
            .slices
            .iter()
            .map(|(number, datum)| finished(*number, &json!(datum.as_i64().unwrap() * 2)))
            .collect();
        self.finish(batch, done.into()).await;
    }

    /// Does batches well until so many slices have been done.
    pub async fn work(&mut self, slices: usize) {
        let mut done = 0;
        while done < slices {
            let batch = self.given().await;
            self.double(&batch).await;
            done += batch.slices.len();
        }
        assert_eq!(done, slices);
    }
}

pub fn finished(number: u64, value: &Value) -> Value {
    json!({ "finished": { "number": number, "value": value, "seconds": 0.0001 } })
}

pub fn failed(number: u64) -> Value {
    json!({
        "failed": { "number": number, "name": "TypeError", "message": "no such", "seconds": 0.001 }
    })
}
