//! Every limit is answered, and nothing beyond it harms anyone else.

use std::sync::LazyLock;
use std::time::Duration;

use futures_util::SinkExt;
use muster::Result;
use muster::app::Cx;
use muster::method::{Access, Def, Entry, Method, Spec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::server::{TestServer, code_of, read_answer};

/// Panics.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Broken {}

impl Method for Broken {
    type Output = ();
    const SPEC: Spec = Spec::new("test.broken", Access::Anyone);

    async fn call(self, _: Cx) -> Result<()> {
        panic!("on purpose")
    }
}

/// Answers when the coordinator stops.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Slow {}

impl Method for Slow {
    type Output = String;
    const SPEC: Spec = Spec::new("test.slow", Access::Anyone);

    async fn call(self, cx: Cx) -> Result<String> {
        let mut stopping = cx.app.stopping.subscribe();
        let _ = stopping.wait_for(|stopping| *stopping).await;
        Ok("late".to_owned())
    }
}

/// Answers never.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Stuck {}

impl Method for Stuck {
    type Output = ();
    const SPEC: Spec = Spec::new("test.stuck", Access::Anyone);

    async fn call(self, _: Cx) -> Result<()> {
        std::future::pending().await
    }
}

static DEFS: &[Def] = &[
    Def::call::<Broken>(),
    Def::call::<Slow>(),
    Def::call::<Stuck>(),
    Def::call::<muster::face::core::system::Ping>(),
];
static METHODS: LazyLock<Vec<Entry>> =
    LazyLock::new(|| DEFS.iter().enumerate().map(Entry::new).collect());

fn call(id: u32, method: &str) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": method }).to_string()
}

#[tokio::test]
async fn a_panic_is_answered_and_hurts_nobody_else() {
    let server = TestServer::serving(&METHODS, |_| {}).await;
    let mut socket = server.socket().await;
    socket.say(&call(1, "test.slow")).await;
    let broken = socket.ask(&call(2, "test.broken")).await;
    assert_eq!((code_of(&broken), &broken["id"]), (-32603, &json!(2)));
    assert!(broken["error"]["data"]["incident"].is_string());
    assert_eq!(socket.ask(&call(3, "system.ping")).await["result"], true);
    let batch = format!("[{},{}]", call(4, "test.broken"), call(5, "system.ping"));
    let answers = server.post(&batch).await;
    assert_eq!((code_of(&answers[0]), &answers[1]["result"]), (-32603, &json!(true)));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let server = TestServer::with(|config| config.max_body_bytes = 1_000).await;
    let large = call(1, "system.ping") + " ".repeat(200_000).as_str();
    let (status, body) = server.raw("POST", "/", &large).await;
    assert_eq!((status, code_of(&body)), (413, -32005), "{body}");
    assert_eq!(body["error"]["data"]["limit"], 1_000);
    let (status, body) = server.raw("GET", "/openrpc.json", &large).await;
    assert_eq!((status, &body["http_status"]), (413, &json!(413)));
    // In chunks, so that no length gives it away.
    let mut io = TcpStream::connect(server.at.http).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    io.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..10 {
        io.write_all(format!("100\r\n{}\r\n", " ".repeat(256)).as_bytes()).await.unwrap();
    }
    io.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut io).await.0, 413);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused() {
    let server = TestServer::with(|config| config.max_body_bytes = 1_000).await;
    let mut socket = server.socket().await;
    let large = call(1, "system.ping") + " ".repeat(4_000_000).as_str();
    socket.0.send(Message::text(large)).await.unwrap();
    let refused = socket.hear().await.unwrap();
    assert_eq!((code_of(&refused), &refused["id"]), (-32005, &Value::Null));
    assert_eq!(socket.ask(&call(2, "system.ping")).await["result"], true, "and all goes on");
}

#[tokio::test]
async fn a_batch_that_is_too_long_is_refused_as_one() {
    let server = TestServer::with(|config| config.max_batch = 3).await;
    let batch = |count| format!("[{}]", vec![call(1, "system.ping"); count].join(","));
    assert_eq!(server.post(&batch(3)).await.as_array().unwrap().len(), 3);
    let refused = server.post(&batch(4)).await;
    assert_eq!((code_of(&refused), &refused["error"]["data"]["limit"]), (-32005, &json!(3)));
    assert_eq!(code_of(&server.socket().await.ask(&batch(4)).await), -32005);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_turned_away_and_come_back_later() {
    let server = TestServer::with(|config| config.max_connections = 2).await;
    let mut first = server.socket().await;
    let mut second = server.socket().await;
    assert_eq!(first.ask(&call(1, "system.ping")).await["result"], true);
    let mut third = TcpStream::connect(server.at.http).await.unwrap();
    assert_eq!(read_answer(&mut third).await.0, 503);
    second.0.close(None).await.unwrap();
    while second.hear().await.is_some() {}
    let freed = async {
        while server.app.metrics.connections.get() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::server::PATIENCE, freed).await.unwrap();
    assert_eq!(server.raw("GET", "/health", "").await.0, 200);
}

#[tokio::test]
async fn calls_in_flight_are_bounded_and_the_rest_waits() {
    let server = TestServer::serving(&METHODS, |config| config.max_in_flight = 2).await;
    let mut socket = server.socket().await;
    assert_eq!(socket.ask(&call(0, "system.ping")).await["result"], true);
    let waiting = server.app.stopping.receiver_count();
    for id in 1..=2 {
        socket.say(&call(id, "test.slow")).await;
    }
    socket.say(&call(3, "system.ping")).await;
    let begun = async {
        while server.app.stopping.receiver_count() < waiting + 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::server::PATIENCE, begun).await.unwrap();
    // Another connection is not held up.
    assert_eq!(server.post(&call(9, "system.ping")).await["result"], true);
    // The third has not been read, and is not any more once the coordinator stops.
    server.app.stopping.send_replace(true);
    for _ in 1..=2 {
        assert_eq!(socket.hear().await.unwrap()["result"], "late");
    }
    assert!(socket.hear().await.is_none());
}

#[tokio::test]
async fn whatever_has_been_answered_or_wants_no_answer_makes_room() {
    let server = TestServer::serving(&METHODS, |config| config.max_in_flight = 2).await;
    let mut socket = server.socket().await;
    let ping = call(1, "system.ping");
    let note = r#"{"jsonrpc":"2.0","method":"system.ping"}"#;
    let broken = call(2, "test.broken");
    let unknown = call(3, "no.such");
    let batch = format!("[{ping},{note},{broken}]");
    let odd = r#"{"jsonrpc":"2.0","id":-1,"method":"system.ping"}"#;
    for _ in 0..5 {
        for message in [&ping, &broken, &unknown, &batch, odd, "{}", "nope", "[]", "3"] {
            socket.say(message).await;
            socket.say(note).await;
            assert!(socket.hear().await.is_some(), "{message}");
        }
    }
}

#[tokio::test]
async fn a_dropped_connection_drops_its_calls() {
    // Noticed too while nothing more is read.
    for most in [1, 256] {
        let server = TestServer::serving(&METHODS, |config| config.max_in_flight = most).await;
        let mut socket = server.socket().await;
        assert_eq!(socket.ask(&call(1, "system.ping")).await["result"], true);
        socket.say(&call(2, "test.stuck")).await;
        drop(socket);
        let ended = async {
            while server.app.metrics.connections.get() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(crate::server::PATIENCE, ended).await.unwrap();
    }
}

#[tokio::test]
async fn a_stop_lets_calls_finish_and_closes_connections() {
    let server = TestServer::serving(&METHODS, |_| {}).await;
    let mut socket = server.socket().await;
    socket.say(&call(1, "test.slow")).await;
    assert_eq!(socket.ask(&call(2, "system.ping")).await["result"], true);
    let http = server.at.http;
    let mut idle = TcpStream::connect(http).await.unwrap();
    let ping = call(3, "system.ping");
    let head =
        format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", ping.len());
    idle.write_all((head + ping.as_str()).as_bytes()).await.unwrap();
    assert!(idle.readable().await.is_ok());
    let stop = tokio::spawn(server.at.stop());
    assert_eq!(socket.hear().await.unwrap()["result"], "late");
    assert!(socket.hear().await.is_none());
    drop(socket);
    assert_eq!(read_answer(&mut idle).await.0, 200);
    assert!(stop.await.unwrap(), "everything had finished");
    assert!(TcpStream::connect(http).await.is_err());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let brief = Duration::from_millis(50);
    let server = TestServer::serving(&METHODS, |config| config.drain_timeout = brief).await;
    let mut socket = server.socket().await;
    socket.say(&call(1, "test.stuck")).await;
    assert_eq!(socket.ask(&call(2, "system.ping")).await["result"], true);
    assert!(!server.at.stop().await);
    assert!(socket.hear().await.is_none());
}

#[tokio::test]
async fn deep_and_broken_documents_are_clear_errors() {
    let server = TestServer::start().await;
    let deep = "[".repeat(200_000) + "]".repeat(200_000).as_str();
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"rpc.discover","params":{{"profile":{deep}}}}}"#
    );
    assert_eq!(code_of(&server.post(&call).await), -32602);
    assert_eq!(code_of(&server.post(&deep).await[0]), -32600, "a batch of one array");
    let open = "{\"a\":".repeat(200_000);
    assert_eq!(code_of(&server.post(&open).await), -32700);
    assert_eq!(server.post(&self::call(1, "system.ping")).await["result"], true);
}
