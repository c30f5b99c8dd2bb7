//! Messages that carry jobs, on their way to a runner and back.

use serde_json::{Value, json};

use crate::calls::{Core, refused, with};
use crate::fake_runner::{
    FakeRunner, Line, attempt_states, job, job_is, job_key, kinds, load_job, sound_log, token,
    until,
};

/// A message 9 with these jobs.
fn message(jobs: &[Value], limits: Value) -> Value {
    let mut params = with(&crate::message::params(9), "message.job", json!(jobs));
    params["message"]["timeout_ack"] = json!(30);
    if let Value::Object(limits) = limits {
        params["message"].as_object_mut().unwrap().extend(limits);
    }
    params
}

async fn transport_is(server: &Core, status: &str) -> Value {
    until(server, "message.load", job_key(9), |m| m["transport_status"] == status).await
}

async fn message_is(server: &Core, status: &str) -> Value {
    until(server, "message.load", job_key(9), |m| m["status"] == status).await
}

#[tokio::test]
async fn a_message_goes_from_queued_to_read() {
    let server = Core::start().await;
    let mut follower = Line::open(server.at.ws).await;
    follower.ask("message.subscribe", json!({ "context_id": 1 })).await.unwrap();
    let request = message(&[job(1, &[]), job(2, &[1])], json!({}));
    let made = server.rpc("message.create", request).await.unwrap();
    assert_eq!(
        (&made["status"], &made["transport_status"]),
        (&json!("Dispatched"), &json!("Queued"))
    );
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    let given = runner.given().await;
    let one = token(&given);
    assert!(given.get("flow_id").is_none());
    let carried = &runner.messages[0];
    assert_eq!((&carried["id"], &carried["caller_id"]), (&json!(9), &json!(42)));
    assert_eq!(carried["message"], "hello");
    assert_eq!(carried["job"].as_array().unwrap().len(), 1, "only what this runner is given");
    assert_eq!(transport_is(&server, "Sent").await["status"], "Dispatched");
    runner.acknowledge(&one).await;
    assert_eq!(transport_is(&server, "Delivered").await["status"], "Acknowledged");
    let logs = json!([{ "stream": "stdout", "line": "from the job" }]);
    runner.report(json!({ "token": one, "status": "Started", "logs": logs })).await;
    let read = transport_is(&server, "Read").await;
    assert_eq!(read["status"], "Acknowledged");
    assert_eq!(read["logs"].as_array().unwrap().last().unwrap(), "from the job");
    runner.finish(&one, json!({ "n": "1" })).await;
    let second = runner.given().await;
    assert_eq!(second["inputs"], json!({ "1": { "n": "1" } }));
    runner.finish(&token(&second), json!({})).await;
    let ended = message_is(&server, "Processed").await;
    assert_eq!(ended["transport_status"], "Read");
    let told = follower.notes_until(|event| event["data"]["to"] == "Processed").await;
    let steps: Vec<&str> = told
        .iter()
        .filter(|event| event["kind"] == "message.status")
        .map(|event| event["data"]["to"].as_str().unwrap())
        .collect();
    assert_eq!(steps, ["Acknowledged", "Processed"]);
    assert_eq!(told[0]["kind"], "message.created");
    let list = server.rpc("message.list", json!({ "context_id": 1 })).await.unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    sound_log(&server).await;
}

#[tokio::test]
async fn a_message_whose_job_fails_is_an_error() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    server.rpc("message.create", message(&[job(1, &[]), job(2, &[1])], json!({}))).await.unwrap();
    let one = runner.given_job(1).await;
    refused(server.rpc("message.create", message(&[], json!({}))).await, -32002);
    let other = with(&message(&[job(1, &[])], json!({})), "message.id", json!(10));
    refused(server.rpc("message.create", other).await, -32002);
    runner.fail(&one, "no").await;
    message_is(&server, "Error").await;
    assert!(load_job(&server, 2).await["result"]["reason"].as_str().unwrap().contains("job 1"));
    // Created again, it is delivered again.
    server.rpc("message.create", message(&[job(1, &[]), job(2, &[1])], json!({}))).await.unwrap();
    assert_eq!([runner.work().await, runner.work().await], [1, 2]);
    message_is(&server, "Processed").await;
    assert_eq!(attempt_states(&server, 1).await, ["Error", "Finished"]);
    sound_log(&server).await;
}

#[tokio::test]
async fn what_is_not_acknowledged_goes_to_another() {
    let server = Core::start().await;
    let mut silent = FakeRunner::attach(&server, 5, 1).await;
    let limits = json!({ "timeout_ack": 3 });
    server.rpc("message.create", message(&[job(1, &[])], limits)).await.unwrap();
    let first = silent.given_job(1).await;
    assert_eq!(silent.cancelled().await.0, json!([first]));
    let explained = server.rpc("job.explain", job_key(1)).await.unwrap();
    assert_eq!(explained["waiting_for"][0]["kind"], "runner");
    let detail = explained["waiting_for"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("acknowledge"), "{detail}");
    let mut other = FakeRunner::attach(&server, 6, 1).await;
    let second = other.given_job(1).await;
    other.acknowledge(&second).await;
    silent.report_stale(json!({ "token": first, "status": "Acknowledged" })).await;
    // The silent one was heard of, and is served again.
    let more = with(&message(&[job(2, &[])], json!({})), "message.id", json!(10));
    server.rpc("message.create", more).await.unwrap();
    assert_eq!(silent.work().await, 2);
    other.finish(&second, json!({})).await;
    message_is(&server, "Processed").await;
    assert_eq!(attempt_states(&server, 1).await, ["Lost", "Finished"]);
    sound_log(&server).await;
}

#[tokio::test]
async fn a_result_that_does_not_come_in_time_fails_the_attempt() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    let limits = json!({ "timeout_result": 3 });
    server.rpc("message.create", message(&[job(1, &[])], limits)).await.unwrap();
    let given = runner.given().await;
    assert!(given["deadline_at"].is_u64());
    runner.start(&token(&given)).await;
    assert_eq!(runner.cancelled().await.0, json!([token(&given)]));
    let ended = message_is(&server, "Error").await;
    assert_eq!(ended["transport_status"], "Read");
    assert_eq!(attempt_states(&server, 1).await, ["Error"]);
    assert!(load_job(&server, 1).await["result"]["error"].as_str().unwrap().contains("timed out"));
}

#[tokio::test]
async fn a_message_as_a_whole_has_a_time_limit() {
    let server = Core::start().await;
    let limits = json!({ "timeout": 3 });
    server.rpc("message.create", message(&[job(1, &[]), job(2, &[1])], limits)).await.unwrap();
    assert_eq!(kinds(&server, 1).await, ["runner"]);
    let ended = message_is(&server, "Error").await;
    assert_eq!(ended["transport_status"], "Failed", "nobody ever had it");
    for id in [1, 2] {
        let job = load_job(&server, id).await;
        assert_eq!(job["status"], "Error");
        assert!(job["result"]["reason"].as_str().unwrap().contains("timed out"), "{job}");
    }
    sound_log(&server).await;
}

#[tokio::test]
async fn talk_reaches_those_who_follow() {
    let server = Core::start().await;
    let (mut all, mut one) = (Line::open(server.at.ws).await, Line::open(server.at.ws).await);
    all.ask("message.subscribe", json!({ "context_id": 1 })).await.unwrap();
    let caller = json!({ "context_id": 1, "caller_id": 41 });
    one.ask("message.subscribe", caller).await.unwrap();
    let chat = crate::message::params(9);
    server.rpc("message.create", chat.clone()).await.unwrap();
    server.rpc("message.create", with(&chat, "message.caller_id", json!(41))).await.unwrap();
    let told = one.note().await.unwrap();
    assert_eq!(
        (&told["kind"], &told["subject"]),
        (&json!("message.created"), &json!("message/1/41/9"))
    );
    assert_eq!(told["data"]["message"], "hello");
    assert_eq!(all.note().await.unwrap()["subject"], "message/1/42/9");
    assert_eq!(all.note().await.unwrap()["seq"], told["seq"]);
    refused(server.rpc("job.load", job_key(1)).await, -32001);
}

#[tokio::test]
async fn a_cancelled_job_ends_its_message() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 2).await;
    server.rpc("message.create", message(&[job(1, &[]), job(2, &[])], json!({}))).await.unwrap();
    let (one, two) = (runner.given_job(1).await, runner.given_job(2).await);
    server.rpc("job.cancel", job_key(1)).await.unwrap();
    assert_eq!(runner.cancelled().await.0, json!([one]));
    runner.finish(&two, json!({})).await;
    message_is(&server, "Error").await;
    job_is(&server, 2, "Finished").await;
    sound_log(&server).await;
}
