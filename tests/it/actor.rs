//! `actor.*`.

use serde_json::{Value, json};

use crate::calls::{Core, bad_field, refused, with};

fn params(id: u32) -> Value {
    json!({ "actor": { "id": id, "pubkey": "key", "address": ["127.0.0.1", "::1"] } })
}

#[tokio::test]
async fn an_actor_is_created_loaded_and_deleted() {
    let server = Core::start().await;
    let made = server.rpc("actor.create", params(42)).await.unwrap();
    assert_eq!(made["id"], 42);
    assert_eq!(made["pubkey"], "key");
    assert_eq!(made["address"], json!(["127.0.0.1", "::1"]));
    assert!(made["created_at"].as_i64().unwrap() > 1_000_000_000);
    assert!(made["created_at"].as_i64().unwrap() < 100_000_000_000, "seconds");
    assert_eq!(made["created_at"], made["updated_at"]);
    assert_eq!(server.rpc("actor.load", json!({ "id": 42 })).await.unwrap(), made);
    assert_eq!(server.rpc("actor.load", json!([{ "id": 42 }])).await.unwrap(), made);
    assert_eq!(server.rpc("actor.load", json!({ "params": { "id": 42 } })).await.unwrap(), made);
    let deleted = server.rpc("actor.delete", json!({ "id": 42 })).await.unwrap();
    assert_eq!(deleted, json!({ "deleted": true }));
    let data = refused(server.rpc("actor.load", json!({ "id": 42 })).await, -32001);
    assert_eq!((data["kind"].as_str(), data["id"].as_str()), (Some("actor"), Some("42")));
    refused(server.rpc("actor.delete", json!({ "id": 42 })).await, -32001);
}

#[tokio::test]
async fn creating_again_replaces_and_keeps_the_date() {
    let server = Core::start().await;
    let made = server.rpc("actor.create", params(1)).await.unwrap();
    let again = with(&params(1), "actor.pubkey", json!("other"));
    let again = server.rpc("actor.create", again).await.unwrap();
    assert_eq!(again["pubkey"], "other");
    assert_eq!(again["created_at"], made["created_at"]);
    let events = server.rpc("events.list", json!({ "subject": "actor/1" })).await.unwrap();
    let kinds: Vec<&Value> =
        events["items"].as_array().unwrap().iter().map(|e| &e["kind"]).collect();
    assert_eq!(kinds, ["actor.created", "actor.updated"]);
    assert_eq!(events["items"][1]["data"], again);
}

#[tokio::test]
async fn a_refusal_names_the_field() {
    let server = Core::start().await;
    let long = "x".repeat(513);
    for (path, value, field) in [
        ("actor.pubkey", json!(""), "actor.pubkey"),
        ("actor.pubkey", json!(long), "actor.pubkey"),
        ("actor.pubkey", json!(7), "actor.pubkey"),
        ("actor.id", json!(-1), "actor.id"),
        ("actor.id", json!(4_294_967_296_u64), "actor.id"),
        ("actor.id", json!("1"), "actor.id"),
        ("actor.address", json!("127.0.0.1"), "actor.address"),
        ("actor.address", json!(["127.0.0.1", "localhost"]), "actor.address[1]"),
        ("surplus", json!(1), "surplus"),
    ] {
        let answer = server.rpc("actor.create", with(&params(1), path, value.clone())).await;
        assert_eq!(bad_field(answer), field, "{path} {value}");
    }
    let surplus = with(&params(1), "actor.surplus", json!(1));
    server.rpc("actor.create", surplus).await.expect("ignored inside the object");
    let text = with(&params(1), "actor.pubkey", json!("ü\u{0}\u{1F600}"));
    let made = server.rpc("actor.create", text).await.unwrap();
    assert_eq!(made["pubkey"], "ü\u{0}\u{1F600}");
}

#[tokio::test]
async fn a_list_is_walked_by_its_cursors() {
    let server = Core::start().await;
    for id in [5, 1, 300, 2, 4_294_967_295] {
        server.rpc("actor.create", params(id)).await.unwrap();
    }
    let mut seen = vec![];
    let mut page = server.rpc("actor.list", json!({ "limit": 2 })).await.unwrap();
    loop {
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|actor| actor["id"].as_u64().unwrap()));
        let Some(next) = page.get("next") else { break };
        page = server.rpc("actor.list", json!({ "limit": 2, "cursor": next })).await.unwrap();
    }
    assert_eq!(seen, [1, 2, 5, 300, 4_294_967_295]);
    let whole = server.rpc("actor.list", json!({ "limit": 5 })).await.unwrap();
    assert!(whole.get("next").is_none(), "absent on the last page, even a full one");
    for (limit, field) in [(json!(0), "limit"), (json!(1001), "limit"), (json!(-1), "limit")] {
        assert_eq!(bad_field(server.rpc("actor.list", json!({ "limit": limit })).await), field);
    }
    for cursor in ["x", "", "00", "000000050000000500"] {
        let answer = server.rpc("actor.list", json!({ "cursor": cursor })).await;
        assert_eq!(bad_field(answer), "cursor", "{cursor}");
    }
}
