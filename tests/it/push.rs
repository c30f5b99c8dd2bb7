//! Subscriptions: what every one of them keeps, whatever it sends.

use std::sync::LazyLock;
use std::time::Duration;

use futures_util::SinkExt;
use futures_util::stream::{StreamExt, iter, once, pending};
use muster::Result;
use muster::app::Cx;
use muster::client::Told;
use muster::method::{Access, Def, Entry, Items, Method, Spec, Subscription, feed};
use muster::model::event::Filter;
use muster::store::Draft;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::server::{TestServer, code_of};

/// Commits events.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Emit {
    /// How many.
    count: u32,
    /// How long their data is, bytes.
    #[serde(default)]
    bytes: usize,
}

impl Method for Emit {
    type Output = u64;
    const SPEC: Spec = Spec::new("test.emit", Access::Anyone);

    async fn call(self, cx: Cx) -> Result<u64> {
        let change = move |turn: &mut muster::engine::Turn<'_>| {
            for _ in 0..self.count {
                turn.emit(Draft {
                    kind: "test.event",
                    context_id: Some(1),
                    subject: "test/1".to_owned(),
                    group: None,
                    data: json!("x".repeat(self.bytes)).to_string(),
                });
            }
            Ok(())
        };
        cx.app.engine.change(change).await?;
        Ok(cx.app.store.latest())
    }
}

/// Follows all events.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Follow {
    /// After this one.
    #[serde(default)]
    since: Option<u64>,
}

impl Subscription for Follow {
    type Item = Value;
    const SPEC: Spec =
        Spec::new("test.subscribe", Access::Anyone).push("test.event", "test.unsubscribe");

    async fn open(self, cx: Cx) -> Result<Items> {
        feed(&cx.app, self.since, Filter::default())
    }
}

/// Says two things and ends.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Brief {}

impl Subscription for Brief {
    type Item = u32;
    const SPEC: Spec =
        Spec::new("brief.subscribe", Access::Anyone).push("brief.item", "brief.unsubscribe");

    async fn open(self, _: Cx) -> Result<Items> {
        Ok(Items::new(iter([1, 2])))
    }
}

/// Says good-bye when the coordinator stops.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Polite {}

impl Subscription for Polite {
    type Item = String;
    const SPEC: Spec =
        Spec::new("polite.subscribe", Access::Anyone).push("polite.item", "polite.unsubscribe");

    async fn open(self, cx: Cx) -> Result<Items> {
        let mut stopping = cx.app.stopping.subscribe();
        let farewell = once(async move {
            let _ = stopping.wait_for(|stopping| *stopping).await;
            "good-bye"
        });
        Ok(Items::new(farewell).winding_down())
    }
}

/// Says nothing.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Silent {}

impl Subscription for Silent {
    type Item = u32;
    const SPEC: Spec =
        Spec::new("silent.subscribe", Access::Anyone).push("silent.item", "silent.unsubscribe");

    async fn open(self, _: Cx) -> Result<Items> {
        Ok(Items::new(pending::<u32>()))
    }
}

static DEFS: &[Def] = &[
    Def::call::<Emit>(),
    Def::open::<Follow>(),
    Def::open::<Brief>(),
    Def::open::<Polite>(),
    Def::open::<Silent>(),
];
static METHODS: LazyLock<Vec<Entry>> =
    LazyLock::new(|| DEFS.iter().enumerate().map(Entry::new).collect());

fn call(id: u32, method: &str, params: impl Into<Value>) -> String {
    let params: Value = params.into();
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

async fn gone(server: &TestServer) {
    let gone = async {
        while server.app.metrics.subscriptions.get() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::server::PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn a_follower_misses_nothing_and_sees_nothing_twice() {
    let server = TestServer::serving(&METHODS, |_| {}).await;
    server.call(Emit { count: 300, bytes: 0 }).await.unwrap();
    let ws = server.ws().await;
    let mut feed = muster::client::subscribe(&ws, Follow { since: Some(5) }).await.unwrap();
    server.call(Emit { count: 300, bytes: 0 }).await.unwrap();
    for seq in 6..=600 {
        match feed.next().await.unwrap().unwrap() {
            Told::Item(event) => assert_eq!(event["seq"], seq),
            lagged @ Told::Lagged { .. } => panic!("{lagged:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_committed_after_the_answer_is_told() {
    let server = TestServer::serving(&METHODS, |_| {}).await;
    server.call(Emit { count: 3, bytes: 0 }).await.unwrap();
    let mut socket = server.socket().await;
    let answer = socket.ask(&call(1, "test.subscribe", json!([]))).await;
    let id = answer["result"].as_str().unwrap().to_owned();
    server.call(Emit { count: 1, bytes: 2 }).await.unwrap();
    let told = socket.hear().await.unwrap();
    assert_eq!(told["method"], "test.event");
    assert_eq!(told["params"]["subscription"], id.as_str());
    assert_eq!(told["params"]["result"]["seq"], 4);
    assert_eq!(told["params"]["result"]["data"], "xx");
    for (namespace, want) in [("silent", false), ("test", true), ("test", false)] {
        let close = call(2, &format!("{namespace}.unsubscribe"), json!([id]));
        assert_eq!(socket.ask(&close).await["result"], want, "{namespace}");
    }
    gone(&server).await;
    let odd = socket.ask(&call(3, "test.unsubscribe", json!([7]))).await;
    assert_eq!(code_of(&odd), -32602);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_knows_a_subscription_can_end_it() {
    let server = TestServer::serving(&METHODS, |_| {}).await;
    let mut socket = server.socket().await;
    for _ in 0..300 {
        let opened = socket.ask(&call(1, "silent.subscribe", json!([]))).await;
        let close = call(2, "silent.unsubscribe", json!([opened["result"]]));
        assert_eq!(socket.ask(&close).await["result"], true);
    }
    gone(&server).await;
}

#[tokio::test]
async fn a_refused_since_refuses_the_call() {
    let server = TestServer::serving(&METHODS, |_| {}).await;
    let mut socket = server.socket().await;
    let refused = socket.ask(&call(1, "test.subscribe", json!({ "since": 9 }))).await;
    assert_eq!(code_of(&refused), -32602);
    assert_eq!(server.app.metrics.subscriptions.get(), 0);
}

#[tokio::test]
async fn subscriptions_need_a_socket_an_id_and_a_call_of_their_own() {
    let server = TestServer::serving(&METHODS, |_| {}).await;
    let open = call(1, "silent.subscribe", json!([]));
    assert_eq!(code_of(&server.post(&open).await), -32600);
    let mut socket = server.socket().await;
    assert_eq!(code_of(&socket.ask(&format!("[{open}]")).await[0]), -32600);
    socket.say(r#"{"jsonrpc":"2.0","method":"silent.subscribe"}"#).await;
    assert!(socket.ask(&open).await["result"].is_string());
    assert_eq!(server.app.metrics.subscriptions.get(), 1);
    drop(socket);
    gone(&server).await;
}

#[tokio::test]
async fn a_connection_has_so_many_subscriptions_and_gets_places_back() {
    let server = TestServer::serving(&METHODS, |config| config.max_subscriptions = 2).await;
    let mut socket = server.socket().await;
    let open = call(1, "silent.subscribe", json!([]));
    let first = socket.ask(&open).await["result"].as_str().unwrap().to_owned();
    assert!(socket.ask(&open).await["result"].is_string());
    let refused = socket.ask(&open).await;
    assert_eq!((code_of(&refused), &refused["error"]["data"]["limit"]), (-32005, &json!(2)));
    assert_eq!(socket.ask(&call(2, "silent.unsubscribe", json!([first]))).await["result"], true);
    let freed = async {
        while server.app.metrics.subscriptions.get() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::server::PATIENCE, freed).await.unwrap();
    assert!(socket.ask(&open).await["result"].is_string());
}

#[tokio::test]
async fn a_stream_that_ends_ends_its_subscription() {
    let server = TestServer::serving(&METHODS, |_| {}).await;
    let mut socket = server.socket().await;
    assert!(socket.ask(&call(1, "brief.subscribe", json!({}))).await["result"].is_string());
    for item in [1, 2] {
        assert_eq!(socket.hear().await.unwrap()["params"]["result"], item);
    }
    gone(&server).await;
}

#[tokio::test]
async fn a_stop_sends_last_words_and_closes() {
    let server = TestServer::serving(&METHODS, |_| {}).await;
    let mut socket = server.socket().await;
    socket.ask(&call(1, "polite.subscribe", json!([]))).await;
    socket.ask(&call(2, "silent.subscribe", json!([]))).await;
    let stop = tokio::spawn(server.at.stop());
    assert_eq!(socket.hear().await.unwrap()["params"]["result"], "good-bye");
    assert!(socket.hear().await.is_none());
    drop(socket);
    assert!(stop.await.unwrap());
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_told_where_it_stands() {
    let brief = Duration::from_millis(200);
    let server = TestServer::serving(&METHODS, |config| config.slow_reader_timeout = brief).await;
    let mut slow = server.socket().await;
    slow.ask(&call(1, "test.subscribe", json!([]))).await;
    // More than the kernel buffers on both sides take.
    for _ in 0..100 {
        server.call(Emit { count: 8, bytes: 64 << 10 }).await.unwrap();
    }
    gone(&server).await;
    let mut seq = 0;
    let lagged = loop {
        let told = slow.hear().await.expect("last words");
        match told["params"]["result"]["seq"].as_u64() {
            Some(next) => {
                assert_eq!(next, seq + 1, "nothing missing, nothing twice");
                seq = next;
            }
            None => break told,
        }
    };
    assert_eq!(lagged["params"]["result"], json!({ "lagged": { "last_seq": seq } }));
    assert!(seq < 800);
    let resume = call(2, "test.subscribe", json!({ "since": seq }));
    assert!(slow.ask(&resume).await["result"].is_string());
    assert_eq!(slow.hear().await.unwrap()["params"]["result"]["seq"], seq + 1);
}

#[tokio::test]
async fn one_large_commit_makes_nobody_slow() {
    let brief = Duration::from_secs(1);
    let server = TestServer::serving(&METHODS, |config| config.slow_reader_timeout = brief).await;
    let mut socket = server.socket().await;
    socket.ask(&call(1, "test.subscribe", json!([]))).await;
    server.call(Emit { count: 20_000, bytes: 100 }).await.unwrap();
    for seq in 1..=20_000 {
        assert_eq!(socket.hear().await.unwrap()["params"]["result"]["seq"], seq);
    }
}

#[tokio::test]
async fn many_subscribers_are_told_the_same() {
    let server = TestServer::serving(&METHODS, |_| {}).await;
    let mut sockets = Vec::new();
    for _ in 0..100 {
        let mut socket = server.socket().await;
        socket.0.send(Message::text(call(1, "test.subscribe", json!([])))).await.unwrap();
        sockets.push(socket);
    }
    for socket in &mut sockets {
        assert!(socket.hear().await.unwrap()["result"].is_string());
    }
    server.call(Emit { count: 2, bytes: 10 }).await.unwrap();
    for socket in &mut sockets {
        for seq in [1, 2] {
            assert_eq!(socket.hear().await.unwrap()["params"]["result"]["seq"], seq);
        }
    }
    let _ = futures_util::stream::iter(sockets).count().await;
}
