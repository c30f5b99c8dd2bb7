//! JSON-RPC as such: envelopes, ids, batches, spellings of params, over both transports.

use futures_util::SinkExt;
use jsonrpsee::core::client::ClientT;
use jsonrpsee::rpc_params;
use muster::face::core::system::{Discover, Ping};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::server::{TestServer, code_of};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"system.ping"}"#;

/// What is sent, and the code it is answered with, or 0 for a good answer, and the id echoed.
fn cases() -> Vec<(String, i64, Value)> {
    let mut cases = vec![
        (PING.to_owned(), 0, json!(1)),
        (PING.replace("1,", "\"a\\u0062\","), 0, json!("ab")),
        (PING.replace("1,", "null,"), 0, Value::Null),
        (PING.replace("1,", "\"\","), 0, json!("")),
        (PING.replace("system.ping", "system_ping"), 0, json!(1)),
        ("nope".to_owned(), -32700, Value::Null),
        ("{".to_owned(), -32700, Value::Null),
        ("".to_owned(), -32700, Value::Null),
        (format!("{PING}x"), -32700, Value::Null),
        ("{}".to_owned(), -32600, Value::Null),
        ("3".to_owned(), -32600, Value::Null),
        ("[]".to_owned(), -32600, Value::Null),
        (r#"{"jsonrpc":"2.0","id":7,"method":7}"#.to_owned(), -32600, json!(7)),
        (r#"{"jsonrpc":"2.0","id":7}"#.to_owned(), -32600, json!(7)),
        (r#"{"id":7,"method":"system.ping"}"#.to_owned(), -32600, json!(7)),
        (PING.replace("system.ping", "no.such"), -32601, json!(1)),
        (PING.replace("\"system.ping\"", "\"system.ping\",\"params\":7"), -32602, json!(1)),
        (PING.replace("\"system.ping\"", "\"system.ping\",\"params\":{\"x\":1}"), -32602, json!(1)),
        (PING.replace("\"system.ping\"", "\"system.ping\",\"params\":[1]"), -32602, json!(1)),
    ];
    for id in ["-1", "1.5", "{}", "[]", "true"] {
        cases.push((PING.replace("1,", &format!("{id},")), -32600, Value::Null));
    }
    cases
}

fn check(sent: &str, answer: &Value, code: i64, id: &Value) {
    let got = answer["error"]["code"].as_i64().unwrap_or_default();
    assert_eq!((got, &answer["id"]), (code, id), "{sent}: {answer}");
    if code == 0 {
        assert_eq!(answer["result"], true, "{sent}");
    } else {
        assert!(answer["error"]["data"]["http_status"].is_u64(), "{sent}: {answer}");
    }
}

#[tokio::test]
async fn requests_are_answered_by_the_book_over_http() {
    let server = TestServer::start().await;
    for (sent, code, id) in cases() {
        check(&sent, &server.post(&sent).await, code, &id);
    }
}

#[tokio::test]
async fn requests_are_answered_by_the_book_over_websocket() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    for (sent, code, id) in cases() {
        check(&sent, &socket.ask(&sent).await, code, &id);
    }
    socket.0.send(Message::binary(PING.as_bytes().to_vec())).await.unwrap();
    assert_eq!(socket.hear().await.unwrap()["result"], true, "binary frames too");
    socket.0.send(Message::binary(vec![0xff, 0xfe])).await.unwrap();
    assert_eq!(code_of(&socket.hear().await.unwrap()), -32700);
}

#[tokio::test]
async fn every_spelling_of_params_is_taken() {
    let server = TestServer::start().await;
    for params in [
        json!({ "profile": "codegen" }),
        json!({ "params": { "profile": "codegen" } }),
        json!([{ "profile": "codegen" }]),
        json!(["codegen"]),
    ] {
        let answer = server.ask("rpc.discover", params.clone()).await;
        let names = answer["result"]["methods"].as_array().unwrap();
        assert!(names.iter().any(|m| m["name"] == "rpc_discover"), "{params}");
    }
    for params in [json!(null), json!([]), json!({}), json!([{}]), json!({ "params": {} })] {
        let answer = server.ask("rpc.discover", params.clone()).await;
        assert_eq!(answer["result"]["info"]["title"], "Muster", "{params}");
    }
    let refused = server.ask("rpc.discover", json!({ "profile": "x" })).await;
    assert_eq!(code_of(&refused), -32602);
    assert_eq!(refused["error"]["data"]["field"], "profile", "{refused}");
    let refused = server.ask("rpc.discover", json!({ "profil": "codegen" })).await;
    assert_eq!(refused["error"]["data"]["field"], "profil", "{refused}");
}

#[tokio::test]
async fn batches_are_answered_in_order_and_without_their_notifications() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    let note = r#"{"jsonrpc":"2.0","method":"system.ping"}"#;
    let odd = r#"{"jsonrpc":"2.0","id":-1,"method":"system.ping"}"#;
    let batch = format!("[{PING},{note},7,{},{odd},[]]", PING.replace("1,", "\"x\","));
    for answer in [server.post(&batch).await, socket.ask(&batch).await] {
        let answers = answer.as_array().unwrap();
        assert_eq!(answers.len(), 5, "{answer}");
        check("first", &answers[0], 0, &json!(1));
        check("a number", &answers[1], -32600, &Value::Null);
        check("third", &answers[2], 0, &json!("x"));
        check("odd id", &answers[3], -32600, &Value::Null);
        check("an array", &answers[4], -32600, &Value::Null);
    }
    assert_eq!(server.raw("POST", "/", &format!("[{note},{note}]")).await, (200, Value::Null));
    assert_eq!(server.raw("POST", "/", note).await, (200, Value::Null));
    socket.say(&format!("[{note}]")).await;
    socket.say(note).await;
    check("next", &socket.ask(PING).await, 0, &json!(1));
}

#[tokio::test]
async fn typed_clients_work_over_both_transports() {
    let server = TestServer::start().await;
    assert!(server.call(Ping {}).await.unwrap());
    let ws = server.ws().await;
    assert!(muster::client::call(&ws, Ping {}).await.unwrap());
    let document = muster::client::call(&ws, Discover::default()).await.unwrap();
    let served = format!("ws://{}/", server.at.ws);
    assert_eq!(document.0["servers"][1]["url"], served.as_str(), "the address that is served");
    assert!(ws.request::<bool, _>("system_ping", rpc_params![]).await.unwrap());
}

#[tokio::test]
async fn large_answers_come_whole() {
    let server = TestServer::start().await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}"#;
    let batch = format!("[{}]", vec![call; 50].join(","));
    let mut socket = server.socket().await;
    socket.say(&batch).await;
    socket.say(PING).await;
    let answers = socket.hear().await.unwrap();
    assert_eq!(answers.as_array().unwrap().len(), 50);
    check("after it", &socket.hear().await.unwrap(), 0, &json!(1));
}

#[tokio::test]
async fn calls_may_be_pipelined() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    for id in 0..1_000 {
        socket.0.feed(Message::text(PING.replace("1,", &format!("{id},")))).await.unwrap();
    }
    socket.0.flush().await.unwrap();
    for id in 0..1_000 {
        check("pipelined", &socket.hear().await.unwrap(), 0, &json!(id));
    }
}
