//! Following the directory.

use std::time::Duration;

use serde_json::{Value, json};

use crate::advertiser::{Advertiser, in_seconds};
use crate::directory::put;
use crate::server::{Socket, TestServer, code_of};

async fn follow(server: &TestServer, params: Value) -> Socket {
    let mut socket = server.socket().await;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "adv.subscribe", "params": params });
    let answer = socket.ask(&call.to_string()).await;
    assert!(answer["result"].is_string(), "{answer}");
    socket
}

async fn event(socket: &mut Socket) -> Value {
    let mut told = socket.hear().await.unwrap();
    assert_eq!(told["method"], "adv.event");
    told["params"]["result"].take()
}

async fn publish(server: &TestServer, node: &Advertiser, sequence: u64, federation: &str) {
    let text = node.with(sequence, &[("federation/id", json!(federation))]);
    assert_eq!(put(server, node, &text).await.0, 201);
}

#[tokio::test]
async fn what_is_accepted_is_told_in_order_and_a_cursor_resumes() {
    let server = TestServer::start().await;
    let nodes: Vec<Advertiser> = (0..5).map(|_| Advertiser::new()).collect();
    publish(&server, &nodes[0], 1, "fed:a").await;
    let (mut one, mut two) = (follow(&server, json!({})).await, follow(&server, json!([])).await);
    let mut cursors = Vec::new();
    for node in &nodes[1..] {
        publish(&server, node, 1, "fed:a").await;
    }
    for node in &nodes[1..] {
        let (first, second) = (event(&mut one).await, event(&mut two).await);
        assert_eq!(first, second);
        assert_eq!(first["type"], "advertisement");
        assert_eq!(first["advertisement"]["node/id"], node.id().as_str());
        cursors.push(first["cursor"].as_str().unwrap().to_owned());
    }
    assert!(cursors.is_sorted());
    let (_, page) = server.raw("GET", &format!("/adv?since={}", cursors[1]), "").await;
    assert_eq!(page["items"][0]["node/id"], nodes[3].id().as_str());
    assert_eq!(page["next"], cursors[3].as_str());
    // From a cursor: what is current since, then what comes.
    publish(&server, &nodes[3], 2, "fed:a").await;
    let mut resumed = follow(&server, json!({ "since": cursors[1] })).await;
    publish(&server, &nodes[1], 2, "fed:a").await;
    let mut told = Vec::new();
    for _ in 0..3 {
        let event = event(&mut resumed).await;
        told.push((
            event["advertisement"]["node/id"].clone(),
            event["advertisement"]["sequence/no"].clone(),
        ));
    }
    assert_eq!(
        told,
        [(4, 1), (3, 2), (1, 2)].map(|(n, s): (usize, u64)| (json!(nodes[n].id()), json!(s)))
    );
    let answer =
        resumed.ask(r#"{"jsonrpc":"2.0","id":2,"method":"adv.unsubscribe","params":["x"]}"#).await;
    assert_eq!(answer["result"], false);
}

#[tokio::test]
async fn an_unknown_place_begins_anew_and_what_is_none_is_refused() {
    let server = TestServer::start().await;
    let node = Advertiser::new();
    publish(&server, &node, 1, "fed:a").await;
    let mut socket = follow(&server, json!({ "since": "cur:01JQNODECUR001" })).await;
    assert_eq!(event(&mut socket).await, json!({ "type": "reset" }));
    assert_eq!(event(&mut socket).await["advertisement"]["node/id"], node.id().as_str());
    let call = |params: Value| {
        json!({ "jsonrpc": "2.0", "id": 9, "method": "adv.subscribe", "params": params })
            .to_string()
    };
    let refused = socket.ask(&call(json!({ "since": "nonsense" }))).await;
    assert_eq!(code_of(&refused), -32602);
    assert_eq!(refused["error"]["data"]["reason"], "cursor-invalid");
    let mut all = follow(&server, json!({ "since": "" })).await;
    assert_eq!(event(&mut all).await["advertisement"]["node/id"], node.id().as_str());
}

#[tokio::test]
async fn expiry_is_told_once_and_only_of_what_is_current() {
    let server =
        TestServer::with(|config| config.directory.sweep = Duration::from_millis(50)).await;
    let (node, other) = (Advertiser::new(), Advertiser::new());
    let mut all = follow(&server, json!({})).await;
    let mut some = follow(&server, json!({ "federation": "fed:b" })).await;
    let ends = in_seconds(1);
    let brief = |node: &Advertiser, sequence| {
        node.with(sequence, &[("expires-at", json!(ends)), ("federation/id", json!("fed:a"))])
    };
    assert_eq!(put(&server, &node, &brief(&node, 1)).await.0, 201);
    assert_eq!(put(&server, &other, &brief(&other, 1)).await.0, 201);
    publish(&server, &other, 2, "fed:b").await;
    let mut last = Value::Null;
    for _ in 0..3 {
        last = event(&mut all).await["cursor"].take();
    }
    let told = event(&mut all).await;
    assert_eq!(
        told,
        json!({
            "type": "expired", "cursor": last, "node/id": node.id(), "sequence/no": 1,
            "expires-at": ends
        })
    );
    publish(&server, &node, 2, "fed:b").await;
    let next = event(&mut all).await;
    assert_eq!(next["advertisement"]["sequence/no"], 2);
    for want in [other.id(), node.id()] {
        assert_eq!(event(&mut some).await["advertisement"]["node/id"], want.as_str());
    }
    // It is not told again to whoever comes later.
    let mut late = follow(&server, json!({ "since": "" })).await;
    for want in [other.id(), node.id()] {
        let event = event(&mut late).await;
        assert_eq!(
            (&event["type"], &event["advertisement"]["node/id"]),
            (&json!("advertisement"), &json!(want))
        );
    }
}

#[tokio::test]
async fn the_seam_between_backlog_and_now_has_no_gap_and_no_repetition() {
    let server = TestServer::start().await;
    let nodes: Vec<Advertiser> = (0..200).map(|_| Advertiser::new()).collect();
    for node in &nodes[..100] {
        publish(&server, node, 1, "fed:a").await;
    }
    let publishing = async {
        for node in &nodes[100..] {
            publish(&server, node, 1, "fed:a").await;
        }
    };
    let following = async {
        let mut socket = follow(&server, json!({ "since": "" })).await;
        let mut told = Vec::new();
        while told.len() < 200 {
            told.push(
                event(&mut socket).await["advertisement"]["node/id"].as_str().unwrap().to_owned(),
            );
        }
        told
    };
    let ((), told) = tokio::join!(publishing, following);
    assert_eq!(told, nodes.iter().map(Advertiser::id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_told_where_it_lost_its_place() {
    let server = TestServer::with(|config| {
        config.directory.push_queue = 20;
        config.slow_reader_timeout = Duration::from_secs(1);
    })
    .await;
    let mut silent = follow(&server, json!({})).await;
    let mut patient = follow(&server, json!({})).await;
    let filler = json!("x".repeat(60_000));
    for index in 0..400 {
        let node = Advertiser::new();
        let text = node.with(1, &[("x/filler", filler.clone())]);
        assert_eq!(put(&server, &node, &text).await.0, 201, "{index}");
        assert_eq!(event(&mut patient).await["advertisement"]["node/id"], node.id().as_str());
    }
    let mut last = None;
    let lagged = loop {
        let Some(told) = silent.hear().await else { break None };
        let result = &told["params"]["result"];
        if result["type"] == "lagged" {
            break Some(result["cursor"].as_str().unwrap().to_owned());
        }
        last = Some(result["cursor"].as_str().unwrap().to_owned());
    };
    assert!(lagged.is_some(), "it was told everything, or nothing");
    assert_eq!(lagged, last);
    let (_, page) = server.raw("GET", &format!("/adv?limit=1&since={}", last.unwrap()), "").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
}
