//! `context.*`.

use serde_json::json;

use crate::calls::{Core, bad_field, refused};

#[tokio::test]
async fn a_context_is_created_loaded_listed_and_deleted() {
    let server = Core::start().await;
    let context = json!({ "id": 2, "admins": [1, 2], "readers": [3], "executors": [] });
    let made = server.rpc("context.create", json!({ "context": context })).await.unwrap();
    assert_eq!(made["admins"], json!([1, 2]));
    assert_eq!(made["readers"], json!([3]));
    assert_eq!(server.rpc("context.load", json!({ "id": 2 })).await.unwrap(), made);
    let list = server.rpc("context.list", json!({})).await.unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    assert_eq!(list["items"][1], made);
    server.rpc("context.delete", json!({ "id": 2 })).await.unwrap();
    refused(server.rpc("context.load", json!({ "id": 2 })).await, -32001);
    refused(server.rpc("context.delete", json!({ "id": 2 })).await, -32001);
    let bad = json!({ "context": { "id": 2, "admins": [1, "x"], "readers": [], "executors": [] } });
    assert_eq!(bad_field(server.rpc("context.create", bad).await), "context.admins[1]");
}

#[tokio::test]
async fn the_lowest_and_the_highest_ids_are_ids_like_all_others() {
    let server = Core::start().await;
    for id in [0, u32::MAX, u32::MAX - 1] {
        let context = json!({ "id": id, "admins": [id], "readers": [], "executors": [] });
        server.rpc("context.create", json!({ "context": context })).await.unwrap();
        let mut job = crate::job::params(id);
        job["context_id"] = json!(id);
        for (field, value) in [("context_id", id), ("caller_id", id)] {
            job["job"][field] = json!(value);
        }
        let made = server.rpc("job.create", job).await.unwrap();
        let key = json!({ "context_id": id, "caller_id": id, "id": id });
        assert_eq!(server.rpc("job.load", key).await.unwrap(), made);
    }
}

#[tokio::test]
async fn a_context_that_holds_anything_is_deleted_by_force_only() {
    let server = Core::start().await;
    for id in 1..=30 {
        let job = crate::job::params(id);
        server.rpc("job.create", job).await.unwrap();
    }
    server.rpc("flow.create", crate::flow::params(7, &[1, 2])).await.unwrap();
    server.rpc("message.create", crate::message::params(9)).await.unwrap();
    server.rpc("runner.create", crate::runner::params(5)).await.unwrap();
    refused(server.rpc("context.delete", json!({ "id": 1 })).await, -32002);
    refused(server.rpc("context.delete", json!({ "id": 1, "force": false })).await, -32002);
    server.rpc("context.delete", json!({ "id": 1, "force": true })).await.unwrap();
    let context = json!({ "id": 1, "admins": [], "readers": [], "executors": [] });
    server.rpc("context.create", json!({ "context": context })).await.unwrap();
    for list in ["job.list", "flow.list", "message.list", "runner.list"] {
        let page = server.rpc(list, json!({ "context_id": 1 })).await.unwrap();
        assert_eq!(page, json!({ "items": [] }), "{list}");
    }
    server.rpc("context.delete", json!({ "id": 1 })).await.expect("nothing is left in it");
}
