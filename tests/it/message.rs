//! `message.*`, what is stored of them.

use serde_json::{Value, json};

use crate::calls::{Core, bad_field, refused, with};
use crate::job;

/// A message without jobs, of caller 42 in context 1.
pub fn params(id: u32) -> Value {
    json!({
        "context_id": 1,
        "message": {
            "id": id, "caller_id": 42, "context_id": 1, "message": "hello",
            "message_type": "Chat", "message_format_type": "Text", "timeout": 0,
            "timeout_ack": 0, "timeout_result": 0, "job": [],
        },
    })
}

fn key(id: u32) -> Value {
    json!({ "context_id": 1, "caller_id": 42, "id": id })
}

#[tokio::test]
async fn a_message_is_created_loaded_listed_and_deleted() {
    let server = Core::start().await;
    let made = server.rpc("message.create", params(9)).await.unwrap();
    assert_eq!((&made["status"], &made["job"]), (&json!("Dispatched"), &json!([])));
    assert_eq!(server.rpc("message.load", key(9)).await.unwrap(), made);
    let list = |filter: Value| server.rpc("message.list", with(&filter, "context_id", json!(1)));
    assert_eq!(list(json!({})).await.unwrap(), json!({ "items": [made] }));
    assert_eq!(list(json!({ "caller_id": 42 })).await.unwrap()["items"], json!([made]));
    assert_eq!(list(json!({ "caller_id": 1 })).await.unwrap(), json!({ "items": [] }));
    assert_eq!(list(json!({ "status": "Processed" })).await.unwrap(), json!({ "items": [] }));
    server.rpc("message.delete", key(9)).await.unwrap();
    refused(server.rpc("message.load", key(9)).await, -32001);
    refused(server.rpc("message.delete", key(9)).await, -32001);
}

#[tokio::test]
async fn a_type_of_either_enumeration_comes_back_as_sent() {
    let server = Core::start().await;
    for kind in ["Osis", "Sal", "V", "Python", "Job", "Chat", "Mail"] {
        let message = with(&params(9), "message.message_type", json!(kind));
        let made = server.rpc("message.create", message).await.unwrap();
        assert_eq!(made["message_type"], kind);
    }
    let message = with(&params(9), "message.message_type", json!("Fax"));
    assert_eq!(bad_field(server.rpc("message.create", message).await), "message.message_type");
}

#[tokio::test]
async fn jobs_must_be_of_the_same_caller_and_context() {
    let server = Core::start().await;
    let job = job::params(3)["job"].clone();
    let carrying = |job: Value| with(&params(9), "message.job", json!([job]));
    for (path, value, field) in [
        ("caller_id", json!(41), "message.job[0].caller_id"),
        ("context_id", json!(2), "message.job[0].context_id"),
        ("prerequisites", json!(["flow:"]), "message.job[0].prerequisites[0]"),
        ("env_vars", json!({ "=": "" }), "message.job[0].env_vars"),
    ] {
        let answer = server.rpc("message.create", carrying(with(&job, path, value))).await;
        assert_eq!(bad_field(answer), field);
    }
    let twice = with(&params(9), "message.job", json!([job, job]));
    assert_eq!(bad_field(server.rpc("message.create", twice).await), "message.job[1].id");
    let elsewhere = with(&params(9), "message.context_id", json!(2));
    assert_eq!(bad_field(server.rpc("message.create", elsewhere).await), "message.context_id");
    refused(server.rpc("job.load", job::key(3)).await, -32001);
    refused(server.rpc("message.load", key(9)).await, -32001);
}

/// A message that carries jobs 3 and, depending on it, 4.
fn carrying() -> Value {
    let first = job::params(3)["job"].clone();
    let second = with(&job::params(4), "job.depends", json!([3]))["job"].clone();
    with(&params(9), "message.job", json!([first, second]))
}

#[tokio::test]
async fn jobs_of_a_message_are_stored_and_dispatched() {
    let server = Core::start().await;
    let made = server.rpc("message.create", carrying()).await.unwrap();
    assert_eq!(
        (&made["status"], &made["transport_status"]),
        (&json!("Dispatched"), &json!("Queued"))
    );
    assert_eq!(made["job"][0]["status"], "Dispatched");
    assert_eq!(made["job"][1]["status"], "WaitingForPrerequisites");
    assert_eq!(server.rpc("message.load", key(9)).await.unwrap(), made);
    let stored = server.rpc("job.load", job::key(3)).await.unwrap();
    assert_eq!(stored, made["job"][0]);
    let list = server.rpc("job.list", json!({ "context_id": 1 })).await.unwrap();
    assert_eq!(list["items"], made["job"]);
}

#[tokio::test]
async fn what_is_active_is_neither_replaced_nor_deleted() {
    let server = Core::start().await;
    server.rpc("message.create", carrying()).await.unwrap();
    for (method, params, state) in [
        ("job.create", job::params(3), "Dispatched"),
        ("job.create", job::params(4), "WaitingForPrerequisites"),
        ("job.delete", job::key(3), "Dispatched"),
        ("message.create", carrying(), "Dispatched"),
        ("message.create", params(9), "Dispatched"),
        ("message.delete", key(9), "Dispatched"),
        ("message.create", with(&carrying(), "message.id", json!(10)), "Dispatched"),
        ("context.delete", json!({ "id": 1, "force": true }), "active"),
    ] {
        let data = refused(server.rpc(method, params).await, -32002);
        assert_eq!(data["state"], state, "{method}");
    }
    refused(server.rpc("message.load", key(10)).await, -32001);
}

#[tokio::test]
async fn what_has_ended_starts_afresh_when_it_is_replaced() {
    let server = Core::start().await;
    server.rpc("message.create", carrying()).await.unwrap();
    let cancel = server.app.engine.change(|turn| turn.cancel_job((1, 42, 3), "enough"));
    cancel.await.unwrap();
    let cancelled = server.rpc("job.load", job::key(3)).await.unwrap();
    assert_eq!(cancelled["status"], "Error");
    assert_eq!(cancelled["result"], json!({ "reason": "enough" }));
    let ended = server.rpc("message.load", key(9)).await.unwrap();
    assert_eq!(ended["status"], "Error");
    let filter = json!({ "context_id": 1, "status": "Error" });
    assert_eq!(server.rpc("message.list", filter).await.unwrap()["items"], json!([ended]));
    let fresh = server.rpc("job.create", job::params(3)).await.unwrap();
    assert_eq!((&fresh["status"], &fresh["result"]), (&json!("Dispatched"), &json!({})));
    assert_eq!(fresh["created_at"], cancelled["created_at"]);
    let fresh = server.rpc("message.create", params(9)).await.unwrap();
    assert_eq!((&fresh["status"], fresh.get("transport_status")), (&json!("Dispatched"), None));
    server.rpc("context.delete", json!({ "id": 1, "force": true })).await.unwrap();
}
