//! `events.*` and the subscriptions of flows, jobs and messages.

use serde_json::{Value, json};

use crate::calls::{Core, bad_field, refused};
use crate::job;

async fn list(server: &Core, params: Value) -> Value {
    server.rpc("events.list", params).await.unwrap()
}

#[tokio::test]
async fn the_log_has_every_change_in_order_without_gaps() {
    let server = Core::start().await;
    for id in 1..=5 {
        server.rpc("job.create", job::params(id)).await.unwrap();
    }
    let page = list(&server, json!({})).await;
    let items = page["items"].as_array().unwrap();
    let seqs: Vec<u64> = items.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    assert_eq!(items[0]["kind"], "context.created");
    assert_eq!((&items[0]["subject"], &items[0]["context_id"]), (&json!("context/1"), &json!(1)));
    assert_eq!((&page["latest"], &page["oldest"]), (&json!(6), &json!(1)));
    assert!(page.get("next").is_none());
    let page = list(&server, json!({ "since": 2, "limit": 3 })).await;
    assert_eq!(page["items"][0]["seq"], 3);
    assert_eq!(page["next"], 5);
    let page = list(&server, json!({ "since": 6 })).await;
    assert_eq!(page["items"], json!([]));
    assert_eq!(bad_field(server.rpc("events.list", json!({ "since": 7 })).await), "since");
    assert_eq!(bad_field(server.rpc("events.list", json!({ "limit": 0 })).await), "limit");
}

#[tokio::test]
async fn filters_choose_by_context_kind_and_subject() {
    let server = Core::start().await;
    server.rpc("job.create", job::params(1)).await.unwrap();
    server.rpc("job.create", job::params(11)).await.unwrap();
    server.rpc("job.delete", job::key(1)).await.unwrap();
    let context = json!({ "id": 2, "admins": [], "readers": [], "executors": [] });
    server.rpc("context.create", json!({ "context": context })).await.unwrap();
    for (params, count) in [
        (json!({ "kinds": ["job.*"] }), 3),
        (json!({ "kinds": ["job.created", "context.created"] }), 4),
        (json!({ "kinds": ["job"] }), 0),
        (json!({ "context_id": 2 }), 1),
        (json!({ "subject": "job/1/42" }), 3),
        (json!({ "subject": "job/1/42/1" }), 2),
        (json!({ "subject": "job/1/4" }), 0),
        (json!({ "subject": "job", "kinds": ["*.deleted"] }), 0),
    ] {
        let page = list(&server, params.clone()).await;
        assert_eq!(page["items"].as_array().unwrap().len(), count, "{params}");
    }
    let many: Vec<&str> = vec!["job.*"; 101];
    refused(server.rpc("events.list", json!({ "kinds": many })).await, -32005);
}
