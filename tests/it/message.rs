//! `message.*`, what is stored of them.

use serde_json::{Value, json};

use crate::job;
use crate::server::{TestServer, bad_field, refused, with};

/// A message without jobs, of caller 42 in context 1.
pub(crate) fn params(id: u32) -> Value {
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
    let server = TestServer::start().await;
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
    let server = TestServer::start().await;
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
    let server = TestServer::start().await;
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
