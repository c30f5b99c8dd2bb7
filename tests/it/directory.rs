//! The directory: what is published is found, on both surfaces, and nothing else.

use std::num::NonZeroU32;
use std::time::Duration;

use muster::config::Config;
use serde_json::{Value, json};

use crate::advertiser::{Advertiser, in_seconds};
use crate::server::TestServer;

pub async fn put(server: &TestServer, node: &Advertiser, text: &str) -> (u16, Value) {
    server.raw("PUT", &node.path(), text).await
}

/// `adv.put` over RPC, with the text as it is.
pub async fn rpc_put(server: &TestServer, text: &str) -> Value {
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"adv.put","params":{{"advertisement":{text}}}}}"#
    );
    server.post(&call).await
}

async fn page(server: &TestServer, query: &str) -> Value {
    let (status, body) = server.raw("GET", &format!("/adv{query}"), "").await;
    assert_eq!(status, 200, "{body}");
    body
}

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["node/id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_put_is_got_as_it_was_written() {
    let server = TestServer::start().await;
    let node = Advertiser::new();
    let text = node.with(
        9_007_199_254_740_993,
        &[("x/ż", json!(1.5)), ("federation/id", json!("fed:a")), ("x/big", json!(u64::MAX))],
    );
    let text = text.replacen("\"x/ż\":1.5", " \"x\\/\\u017c\" : 1.5e0 ", 1);
    let (status, receipt) = put(&server, &node, &text).await;
    assert_eq!(status, 201, "{receipt}");
    assert_eq!(receipt["status"], "stored");
    assert_eq!(receipt["node/id"], node.id().as_str());
    assert_eq!(receipt["advertisement/id"], "adv:TEST-9007199254740993");
    assert_eq!(receipt["sequence/no"], 9_007_199_254_740_993_u64);
    assert_eq!(receipt.as_object().unwrap().len(), 6);
    let stored = receipt["stored-at"].as_str().unwrap();
    assert!(stored.len() == 20 && stored.ends_with('Z'), "{stored}");
    let at = server.at.http;
    let got = server.exchange(at, "GET", &node.path(), &[], b"").await;
    assert_eq!(got, (200, text.clone()));
    let encoded = node.path().replace(':', "%3A");
    assert_eq!(server.exchange(at, "GET", &encoded, &[], b"").await.1, text);
    let answer = server
        .exchange(
            at,
            "POST",
            "/",
            &[],
            json!({ "jsonrpc": "2.0", "id": 1, "method": "adv.get", "params": [node.id()] })
                .to_string()
                .as_bytes(),
        )
        .await;
    assert!(answer.1.contains(&text), "{}", answer.1);
    let listed = server.exchange(at, "GET", "/adv", &[], b"").await;
    assert!(listed.1.contains(&text), "{}", listed.1);
}

#[tokio::test]
async fn both_surfaces_say_the_same() {
    let server = TestServer::start().await;
    let node = Advertiser::new();
    let text = node.advertisement(5);
    let stored = rpc_put(&server, &text).await;
    assert_eq!(stored["result"]["sequence/no"], 5, "{stored}");
    let again = rpc_put(&server, &text).await;
    let (status, body) = put(&server, &node, &text).await;
    assert_eq!(status, 409);
    assert_eq!(
        body,
        json!({
            "status": "conflict", "reason": "stale-sequence", "node/id": node.id(),
            "current/sequence-no": 5, "submitted/sequence-no": 5
        })
    );
    assert_eq!(again["error"]["code"], -32002);
    let mut data = again["error"]["data"].clone();
    assert_eq!(data.as_object_mut().unwrap().remove("http_status"), Some(json!(409)));
    assert_eq!(data, body);
    for params in [
        json!([node.id(), serde_json::from_str::<Value>(&node.advertisement(6)).unwrap()]),
        json!([serde_json::from_str::<Value>(&node.advertisement(7)).unwrap()]),
        json!([Value::Null, serde_json::from_str::<Value>(&node.advertisement(8)).unwrap()]),
    ] {
        let answer = server.ask("adv.put", params).await;
        assert_eq!(answer["result"]["status"], "stored", "{answer}");
    }
    let other = Advertiser::new();
    let wrong = json!({ "node_id": other.id(), "advertisement": serde_json::from_str::<Value>(&node.advertisement(9)).unwrap() });
    let answer = server.ask("adv.put", wrong).await;
    assert_eq!(answer["error"]["data"]["reason"], "node-id-mismatch");
    assert_eq!(answer["error"]["data"]["node/id"], other.id().as_str());
    assert_eq!(answer["error"]["code"], -32602);
    for params in [
        json!({}),
        json!({ "advertisement": 1, "x": 2 }),
        json!({ "node_id": 5, "advertisement": {} }),
    ] {
        assert_eq!(server.ask("adv.put", params).await["error"]["code"], -32602);
    }
    let unknown = Advertiser::new();
    let (status, body) = server.raw("GET", &unknown.path(), "").await;
    assert_eq!((status, &body), (404, &json!({ "status": "not-found", "node/id": unknown.id() })));
    let answer = server.ask("adv.get", json!({ "node_id": unknown.id() })).await;
    assert_eq!(answer["error"]["code"], -32001);
    assert_eq!(answer["error"]["data"]["status"], "not-found");
    assert_eq!(server.ask("adv.delete", json!({})).await["error"]["code"], -32601);
}

#[tokio::test]
async fn a_feed_of_250_nodes_comes_in_pages() {
    let server = TestServer::start().await;
    let mut all = Vec::new();
    for index in 0..250 {
        let node = Advertiser::new();
        let federation = if index % 50 == 0 { "fed:rare" } else { "fed:many" };
        let text = node.with(1, &[("federation/id", json!(federation))]);
        assert!(rpc_put(&server, &text).await["result"].is_object());
        all.push(node);
    }
    let (mut since, mut seen) = (String::new(), Vec::new());
    for want in [100, 100, 50, 0, 0] {
        let got = page(&server, &format!("?since={since}")).await;
        assert_eq!(got["items"].as_array().unwrap().len(), want);
        assert_eq!(got["max-items"], 100);
        assert_eq!(got.as_object().unwrap().len(), 3, "{got}");
        let next = got["next"].as_str().unwrap().to_owned();
        assert!(want == 0 && next == since || next > since);
        let over_rpc = server.ask("adv.list", json!({ "since": since, "limit": 100 })).await;
        assert_eq!(over_rpc["result"], got);
        seen.extend(ids(&got));
        since = next;
    }
    assert_eq!(seen, all.iter().map(Advertiser::id).collect::<Vec<_>>());
    // A replacement moves to the end, once.
    assert_eq!(put(&server, &all[0], &all[0].advertisement(2)).await.0, 201);
    let got = page(&server, &format!("?since={since}")).await;
    assert_eq!(ids(&got), [all[0].id()]);
    let first = page(&server, "?limit=1").await;
    assert_eq!((ids(&first), &first["max-items"]), (vec![all[1].id()], &json!(1)));
    let rare = page(&server, "?federation=fed%3Arare&x=y").await;
    assert_eq!(ids(&rare), [50, 100, 150, 200].map(|index: usize| all[index].id()));
    assert!(ids(&page(&server, "?federation=FED%3Arare").await).is_empty());
    let reset = page(&server, "?since=cur:01JQNODECUR001&limit=3").await;
    assert_eq!((ids(&reset).len(), &reset["reset"]), (3, &json!(true)));
}

#[tokio::test]
async fn limits_and_cursors_that_are_none_are_refused() {
    let server = TestServer::start().await;
    let empty = page(&server, "").await;
    assert_eq!(empty["items"], json!([]));
    let next = empty["next"].as_str().unwrap();
    assert_eq!(page(&server, &format!("?since={next}")).await, empty);
    for limit in ["0", "-1", "1.5", "x", "", "+5", "1e2", "%20"] {
        let (status, body) = server.raw("GET", &format!("/adv?limit={limit}"), "").await;
        assert_eq!((status, &body["reason"]), (400, &json!("limit-invalid")), "{limit}");
        assert_eq!(body["status"], "invalid");
    }
    for limit in ["100", "101", "99999999999999999999999999", "00100"] {
        assert_eq!(page(&server, &format!("?limit={limit}")).await["max-items"], 100);
    }
    for since in ["x", "cur:", "cur:a%20b", "CUR:1", "cur:%C3%A9"] {
        let (status, body) = server.raw("GET", &format!("/adv?since={since}"), "").await;
        assert_eq!((status, &body["reason"]), (400, &json!("cursor-invalid")), "{since}");
    }
    for params in [json!({ "limit": 0 }), json!({ "limit": -3 }), json!({ "limit": 1.5 })] {
        let answer = server.ask("adv.list", params).await;
        assert_eq!(answer["error"]["code"], -32602);
        assert_eq!(answer["error"]["data"]["reason"], "limit-invalid", "{answer}");
    }
    let nulls = json!({ "since": null, "limit": null, "federation": null });
    assert_eq!(server.ask("adv.list", nulls).await["result"], empty);
    assert_eq!(server.ask("adv.list", json!([null, 1000])).await["result"]["max-items"], 100);
    assert_eq!(server.ask("adv.list", json!({ "limit": "7" })).await["error"]["code"], -32602);
    assert_eq!(server.ask("adv.list", json!({ "since": 7 })).await["error"]["code"], -32602);
    for path in
        ["/adv?attest=seed-directory-query.v1", &format!("{}?attest=x", Advertiser::new().path())]
    {
        let (status, body) = server.raw("GET", path, "").await;
        assert_eq!((status, &body["reason"]), (503, &json!("attestation_unavailable")));
    }
}

#[tokio::test]
async fn forty_at_once_leave_one_winner_for_each_number() {
    let server = TestServer::start().await;
    let node = Advertiser::new();
    let text = node.advertisement(7);
    let same = (0..40).map(|_| put(&server, &node, &text));
    let same = futures_util::future::join_all(same).await;
    assert_eq!(same.iter().filter(|(status, _)| *status == 201).count(), 1);
    assert_eq!(same.iter().filter(|(status, _)| *status == 409).count(), 39);
    let node = Advertiser::new();
    let texts: Vec<String> = (0..40).map(|number| node.advertisement(number)).collect();
    let each = texts.iter().map(|text| put(&server, &node, text));
    let each = futures_util::future::join_all(each).await;
    assert_eq!(each[39].0, 201);
    assert!(each.iter().all(|(status, _)| matches!(status, 201 | 409)));
    let (_, current) = server.raw("GET", &node.path(), "").await;
    assert_eq!(current["sequence/no"], 39);
}

#[tokio::test]
async fn what_has_expired_is_gone_but_its_number_is_not_forgotten() {
    let sweep = std::time::Duration::from_millis(50);
    let server = TestServer::with(|config: &mut Config| config.directory.sweep = sweep).await;
    let node = Advertiser::new();
    let long_lived = node.advertisement(3);
    let brief = node.with(4, &[("expires-at", json!(in_seconds(1)))]);
    assert_eq!(put(&server, &node, &long_lived).await.0, 201);
    let before = page(&server, "").await["next"].clone();
    assert_eq!(put(&server, &node, &brief).await.0, 201);
    let gone = async {
        loop {
            let (status, body) = server.raw("GET", &node.path(), "").await;
            if status == 404 {
                return body;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let body = tokio::time::timeout(crate::server::PATIENCE, gone).await.unwrap();
    assert_eq!(body, json!({ "status": "not-found", "node/id": node.id() }));
    let after = page(&server, &format!("?since={}", before.as_str().unwrap())).await;
    assert!(ids(&after).is_empty());
    for text in [&long_lived, &node.advertisement(4)] {
        let (status, body) = put(&server, &node, text).await;
        assert_eq!((status, &body["current/sequence-no"]), (409, &json!(4)));
    }
    assert_eq!(put(&server, &node, &brief).await.1["reason"], "expired");
    assert_eq!(put(&server, &node, &node.advertisement(5)).await.0, 201);
    let report = server.app.store.check().unwrap();
    assert_eq!(report.problem_count, 0, "{report:?}");
}

#[tokio::test]
async fn one_address_may_try_so_often_and_no_more_if_so_configured() {
    let server = TestServer::with(|config| {
        config.directory.source_budget = NonZeroU32::new(3);
        config.directory.source_refill = Duration::from_secs(3_600);
    })
    .await;
    let node = Advertiser::new();
    assert_eq!(put(&server, &node, &node.advertisement(1)).await.0, 201);
    assert_eq!(put(&server, &node, "{").await.0, 400, "what is refused counts, too");
    assert!(rpc_put(&server, &node.advertisement(2)).await["result"].is_object());
    // Before anything is looked at, on both surfaces.
    let kind = ["content-type: text/plain"];
    let at = server.at.http;
    let (status, body) = server.exchange(at, "PUT", &node.path(), &kind, b"x").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["reason"]), (429, &json!("rate-limited")));
    assert_eq!(
        (&body["node/id"], &body["code"]),
        (&json!(node.id()), &json!("E_TRANSPORT_REJECTED"))
    );
    assert!(body["retry-after-s"].as_u64().is_some_and(|wait| wait > 3_000), "{body}");
    let data = rpc_put(&server, "1").await["error"]["data"].take();
    assert_eq!((&data["reason"], &data["http_status"]), (&json!("rate-limited"), &json!(429)));
    assert_eq!(server.raw("GET", &node.path(), "").await.0, 200, "reading is free");
}
