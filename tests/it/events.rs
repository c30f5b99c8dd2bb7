//! `events.*` and the subscriptions of flows, jobs and messages.

use serde_json::{Value, json};

use crate::calls::{Core, bad_field, refused, with};
use crate::job;
use crate::server::Socket;

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

/// Subscribes on a socket of its own; the subscription's id comes with it.
async fn follow(server: &Core, method: &str, params: Value) -> (Socket, Value) {
    let mut socket = server.socket().await;
    let call = json!({ "jsonrpc": "2.0", "id": "a", "method": method, "params": params });
    let mut answer = socket.ask(&call.to_string()).await;
    (socket, answer["result"].take())
}

/// The kinds and subjects of the next `count` events, whose notifications are called `name`.
async fn next(socket: &mut Socket, name: &str, id: &Value, count: usize) -> Vec<(String, String)> {
    let mut events = vec![];
    while events.len() < count {
        let note = socket.hear().await.unwrap();
        assert_eq!((&note["method"], &note["params"]["subscription"]), (&json!(name), id));
        let event = &note["params"]["result"];
        assert!(event["seq"].is_u64() && event["at"].is_u64() && event["context_id"] == 1);
        let text = |member: &str| event[member].as_str().unwrap().to_owned();
        events.push((text("kind"), text("subject")));
    }
    events
}

fn event(kind: &str, subject: &str) -> (String, String) {
    (kind.to_owned(), subject.to_owned())
}

#[tokio::test]
async fn a_job_is_followed_from_where_one_says_and_live() {
    let server = Core::start().await;
    server.rpc("job.create", job::params(3)).await.unwrap();
    server.rpc("job.create", job::params(33)).await.unwrap();
    let params = with(&job::key(3), "since", json!(0));
    let (mut socket, id) = follow(&server, "job.subscribe", params).await;
    let live = with(&job::key(3), "logs", json!(true));
    let (mut late, late_id) = follow(&server, "job.subscribe", live).await;
    server.rpc("job.delete", job::key(33)).await.unwrap();
    server.rpc("job.delete", job::key(3)).await.unwrap();
    let deleted = event("job.deleted", "job/1/42/3");
    assert_eq!(
        next(&mut socket, "job.event", &id, 2).await,
        [event("job.created", "job/1/42/3"), deleted.clone()]
    );
    assert_eq!(next(&mut late, "job.event", &late_id, 1).await, [deleted]);
    let close = json!({ "jsonrpc": "2.0", "id": "b", "method": "job.unsubscribe", "params": [id] });
    assert_eq!(socket.ask(&close.to_string()).await["result"], true);
}

#[tokio::test]
async fn a_flow_is_followed_with_the_status_of_its_jobs() {
    let server = Core::start().await;
    let params = json!({ "context_id": 1, "id": 7 });
    let (mut socket, id) = follow(&server, "flow.subscribe", params.clone()).await;
    server.rpc("job.create", job::params(1)).await.unwrap();
    server.rpc("flow.create", crate::flow::params(7, &[1])).await.unwrap();
    server.rpc("flow.start", params.clone()).await.unwrap();
    server.rpc("flow.cancel", params).await.unwrap();
    let seen = next(&mut socket, "flow.event", &id, 4).await;
    assert_eq!(seen[0], event("flow.created", "flow/1/7"));
    assert_eq!(seen[1], event("flow.status", "flow/1/7"));
    let mut ends = seen[2..].to_vec();
    ends.sort();
    assert_eq!(ends, [event("flow.status", "flow/1/7"), event("job.status", "job/1/42/1")]);
}

#[tokio::test]
async fn messages_reach_those_who_follow_their_context() {
    let server = Core::start().await;
    let (mut all, all_id) = follow(&server, "message.subscribe", json!({ "context_id": 1 })).await;
    let caller = json!({ "context_id": 1, "caller_id": 43 });
    let (mut own, own_id) = follow(&server, "message.subscribe", caller).await;
    let other = json!({ "kinds": ["message.created"], "subject": "message/1/43" });
    let (mut log, log_id) = follow(&server, "events.subscribe", other).await;
    server.rpc("message.create", crate::message::params(9)).await.unwrap();
    let from = with(&crate::message::params(9), "message.caller_id", json!(43));
    server.rpc("message.create", from).await.unwrap();
    let (first, second) =
        (event("message.created", "message/1/42/9"), event("message.created", "message/1/43/9"));
    assert_eq!(next(&mut all, "message.event", &all_id, 2).await, [first, second.clone()]);
    assert_eq!(next(&mut own, "message.event", &own_id, 1).await, std::slice::from_ref(&second));
    assert_eq!(next(&mut log, "events.event", &log_id, 1).await, [second]);
}
