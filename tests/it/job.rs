//! `job.*`, what is stored of them.

use serde_json::{Value, json};

use crate::calls::{Core, bad_field, refused, with};

/// A job of caller 42 in context 1.
pub fn params(id: u32) -> Value {
    json!({
        "context_id": 1,
        "job": {
            "id": id, "caller_id": 42, "context_id": 1, "script": "40 + 2", "script_type": "Osis",
            "timeout": 60, "retries": 3, "env_vars": { "A": "1" }, "prerequisites": [],
            "depends": [],
        },
    })
}

pub fn key(id: u32) -> Value {
    json!({ "context_id": 1, "caller_id": 42, "id": id })
}

#[tokio::test]
async fn a_job_is_created_loaded_and_deleted() {
    let server = Core::start().await;
    let made = server.rpc("job.create", params(3)).await.unwrap();
    assert_eq!(made["script"], "40 + 2");
    assert_eq!(made["retries"], 3);
    assert_eq!(made["result"], json!({}));
    assert_eq!(made["status"], "Dispatched");
    assert_eq!(server.rpc("job.load", key(3)).await.unwrap(), made);
    let attempts = server.rpc("job.attempts", key(3)).await.unwrap();
    assert_eq!(attempts, json!({ "items": [] }));
    assert_eq!(server.rpc("job.logs", key(3)).await.unwrap(), json!({ "items": [] }));
    server.rpc("job.delete", key(3)).await.unwrap();
    for method in ["job.load", "job.delete", "job.attempts", "job.logs"] {
        let data = refused(server.rpc(method, key(3)).await, -32001);
        assert_eq!(data["id"], "1/42/3", "{method}");
    }
    let events = server.rpc("events.list", json!({ "subject": "job/1/42/3" })).await.unwrap();
    assert_eq!(events["items"][0]["kind"], "job.created");
    assert_eq!(events["items"][0]["data"], made);
    assert_eq!(events["items"][1]["kind"], "job.deleted");
    assert_eq!(events["items"][1]["data"], json!({ "caller_id": 42, "id": 3 }));
}

#[tokio::test]
async fn a_fresh_job_waits_if_anything_may_hold_it_back() {
    let server = Core::start().await;
    for (path, value) in [("job.depends", json!([1])), ("job.prerequisites", json!(["approval"]))] {
        let made = server.rpc("job.create", with(&params(3), path, value)).await.unwrap();
        assert_eq!(made["status"], "WaitingForPrerequisites", "{path}");
    }
    let result = with(&params(3), "job.result", json!({ "a": "b" }));
    let made = server.rpc("job.create", result).await.unwrap();
    assert_eq!((&made["status"], &made["result"]), (&json!("Dispatched"), &json!({ "a": "b" })));
}

#[tokio::test]
async fn a_refusal_names_the_field() {
    let server = Core::start().await;
    let data = refused(
        server
            .rpc(
                "job.create",
                with(&with(&params(1), "context_id", json!(8)), "job.context_id", json!(8)),
            )
            .await,
        -32001,
    );
    assert_eq!(data["kind"], "context");
    for (path, value, field) in [
        ("job.context_id", json!(2), "job.context_id"),
        ("job.retries", json!(256), "job.retries"),
        ("job.retries", json!(-1), "job.retries"),
        ("job.timeout", json!(4_294_967_296_u64), "job.timeout"),
        ("job.timeout", json!(1.5), "job.timeout"),
        ("job.script_type", json!("Perl"), "job.script_type"),
        ("job.script_type", json!("Chat"), "job.script_type"),
        ("job.env_vars", json!({ "A": 1 }), "job.env_vars.A"),
        ("job.env_vars", json!({ "A=": "1" }), "job.env_vars"),
        ("job.env_vars", json!({ "A": "\u{0}" }), "job.env_vars"),
        ("job.depends", json!([1, -1]), "job.depends[1]"),
        ("job.prerequisites", json!(["ok", "after:soon"]), "job.prerequisites[1]"),
        ("job.prerequisites", json!(["flow:x"]), "job.prerequisites[0]"),
        ("job.prerequisites", json!(["job:1"]), "job.prerequisites[0]"),
    ] {
        let answer = server.rpc("job.create", with(&params(1), path, value.clone())).await;
        assert_eq!(bad_field(answer), field, "{path} {value}");
    }
    let mut missing = params(1);
    missing["job"].as_object_mut().unwrap().remove("script");
    assert_eq!(bad_field(server.rpc("job.create", missing).await), "job.script");
    refused(server.rpc("job.load", key(1)).await, -32001);
}

#[tokio::test]
async fn a_name_that_comes_twice_in_a_map_is_refused() {
    let server = Core::start().await;
    let text = json!({ "jsonrpc": "2.0", "id": 1, "method": "job.create", "params": params(1) });
    let twice = text.to_string().replace(r#""A":"1""#, r#""A":"1","\u0041":"2""#);
    let answer = server.post(&twice).await;
    let error = &answer["error"];
    assert_eq!((&error["code"], &error["data"]["reason"]), (&json!(-32602), &json!("given twice")));
    assert_eq!(error["data"]["field"], "job.env_vars.A");
    refused(server.rpc("job.load", key(1)).await, -32001);
}

#[tokio::test]
async fn text_comes_back_as_it_was_sent() {
    let server = Core::start().await;
    let text = "NUL \u{0}, newline \n, ünïcode \u{1F680}, quote \"";
    let made = server.rpc("job.create", with(&params(1), "job.script", json!(text))).await.unwrap();
    assert_eq!(made["script"], text);
    let big = "x".repeat(300_000);
    server.rpc("job.create", with(&params(2), "job.script", json!(big))).await.unwrap();
    assert_eq!(server.rpc("job.load", key(2)).await.unwrap()["script"], big);
}

#[tokio::test]
async fn lists_are_filtered_without_losing_anything() {
    let server = Core::start().await;
    for id in 1..=9 {
        let caller = json!(40 + id % 3);
        let job = with(&params(id), "job.caller_id", caller);
        let job = if id > 6 { with(&job, "job.depends", json!([1])) } else { job };
        server.rpc("job.create", job).await.unwrap();
    }
    let server = &server;
    let walk =
        async |filter: Value| {
            let (mut seen, mut cursor) = (vec![], Value::Null);
            loop {
                let params = with(&with(&filter, "limit", json!(2)), "cursor", cursor);
                let page = server.rpc("job.list", params).await.unwrap();
                seen.extend(
                    page["items"].as_array().unwrap().iter().map(|job| {
                        (job["caller_id"].as_u64().unwrap(), job["id"].as_u64().unwrap())
                    }),
                );
                match page.get("next") {
                    Some(next) => cursor = next.clone(),
                    None => return seen,
                }
            }
        };
    assert_eq!(walk(json!({ "context_id": 1 })).await.len(), 9);
    let callers = walk(json!({ "context_id": 1, "caller_id": 41 })).await;
    assert_eq!(callers, [(41, 1), (41, 4), (41, 7)]);
    let waiting = json!({ "context_id": 1, "status": "WaitingForPrerequisites" });
    assert_eq!(walk(waiting).await, [(40, 9), (41, 7), (42, 8)]);
    let both = json!({ "context_id": 1, "status": "Dispatched", "caller_id": 42 });
    assert_eq!(walk(both).await, [(42, 2), (42, 5)]);
    assert_eq!(walk(json!({ "context_id": 1, "status": "Finished" })).await, []);
    let bad = json!({ "context_id": 1, "status": "Lost" });
    assert_eq!(bad_field(server.rpc("job.list", bad).await), "status");
    let other = json!({ "context_id": 1, "limit": 1 });
    let next = server.rpc("job.list", other).await.unwrap()["next"].clone();
    let foreign = json!({ "context_id": 1, "caller_id": 41, "cursor": next });
    assert_eq!(bad_field(server.rpc("job.list", foreign).await), "cursor");
}
