//! `runner.*`, what is stored of them.

use serde_json::{Value, json};

use crate::calls::{Core, bad_field, refused, with};

pub fn params(id: u32) -> Value {
    json!({
        "context_id": 1,
        "runner": { "id": id, "pubkey": "k", "address": "::1", "topic": "t", "local": true },
    })
}

#[tokio::test]
async fn a_runner_is_created_loaded_listed_and_deleted() {
    let server = Core::start().await;
    let made = server.rpc("runner.create", params(5)).await.unwrap();
    assert_eq!((&made["address"], &made["local"]), (&json!("::1"), &json!(true)));
    let key = json!({ "context_id": 1, "id": 5 });
    assert_eq!(server.rpc("runner.load", key.clone()).await.unwrap(), made);
    let list = server.rpc("runner.list", json!({ "context_id": 1 })).await.unwrap();
    assert_eq!(list, json!({ "items": [made] }));
    server.rpc("runner.delete", key.clone()).await.unwrap();
    let data = refused(server.rpc("runner.load", key.clone()).await, -32001);
    assert_eq!(data["id"], "1/5");
    refused(server.rpc("runner.delete", key).await, -32001);
}

#[tokio::test]
async fn a_runner_needs_its_context_and_sound_fields() {
    let server = Core::start().await;
    let data = refused(
        server.rpc("runner.create", with(&params(1), "context_id", json!(9))).await,
        -32001,
    );
    assert_eq!(data["kind"], "context");
    refused(server.rpc("runner.list", json!({ "context_id": 9 })).await, -32001);
    for (path, value) in [
        ("runner.address", json!("here")),
        ("runner.pubkey", json!("")),
        ("runner.topic", json!("x".repeat(5_000))),
        ("runner.local", json!("yes")),
    ] {
        let answer = server.rpc("runner.create", with(&params(1), path, value)).await;
        assert_eq!(bad_field(answer), path);
    }
}
