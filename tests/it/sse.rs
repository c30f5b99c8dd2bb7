//! Subscriptions followed as server-sent events.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::calls::Core;
use crate::server::PATIENCE;

/// A reader of one stream.
struct Reader {
    io: TcpStream,
    text: String,
}

impl Reader {
    async fn open(server: &Core, path: &str, headers: &str) -> Self {
        let mut io = TcpStream::connect(server.at.http).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        io.write_all(head.as_bytes()).await.unwrap();
        let mut reader = Self { io, text: String::new() };
        let head = reader.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        reader
    }

    /// What comes up to and with `end`, without the sizes of the chunks.
    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.text.find(end) {
                let rest = self.text.split_off(at + end.len());
                return std::mem::replace(&mut self.text, rest);
            }
            let mut buffer = [0; 4096];
            let got = timeout(PATIENCE, self.io.read(&mut buffer)).await.unwrap().unwrap();
            assert!(got > 0, "the stream ended after {:?}", self.text);
            self.text.push_str(std::str::from_utf8(&buffer[..got]).unwrap());
        }
    }

    /// The next event: its id and what it holds.
    async fn next(&mut self) -> (u64, Value) {
        let frame = self.until("\n\n").await;
        let field = |name: &str| {
            let line = frame.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name} in {frame}")).trim().to_owned()
        };
        (field("id:").parse().unwrap(), serde_json::from_str(&field("data:")).unwrap())
    }
}

async fn actor(server: &Core, id: u32) {
    let actor = json!({ "id": id, "pubkey": "k", "address": [] });
    server.rpc("actor.create", json!({ "actor": actor })).await.unwrap();
}

#[tokio::test]
async fn a_reader_that_comes_back_goes_on_where_it_was() {
    let server = Core::start().await;
    let asking = "accept: text/event-stream\r\n";
    let mut reader = Reader::open(&server, "/events?since=0&kinds=actor.*", asking).await;
    actor(&server, 1).await;
    actor(&server, 2).await;
    let (first, event) = reader.next().await;
    assert_eq!((event["seq"].as_u64(), &event["subject"]), (Some(first), &json!("actor/1")));
    drop(reader);
    actor(&server, 3).await;
    let headers = format!("{asking}last-event-id: {first}\r\n");
    let mut reader = Reader::open(&server, "/events?since=0&kinds=actor.*", &headers).await;
    for id in [2, 3] {
        assert_eq!(reader.next().await.1["subject"], format!("actor/{id}"));
    }
}

#[tokio::test]
async fn a_flow_is_followed_at_its_own_path() {
    let server = Core::start().await;
    let mut reader = Reader::open(&server, "/flows/1/7/events", "").await;
    let flow = json!({ "id": 7, "caller_id": 42, "context_id": 1, "jobs": [], "env_vars": {} });
    server.rpc("flow.create", json!({ "context_id": 1, "flow": flow })).await.unwrap();
    let (_, event) = reader.next().await;
    assert_eq!((&event["kind"], &event["subject"]), (&json!("flow.created"), &json!("flow/1/7")));
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused_with_a_status() {
    let server = Core::start().await;
    let asked = ["accept: text/event-stream"];
    let get = async |path: &str, headers: &[&str]| {
        server.exchange(server.at.http, "GET", path, headers, b"").await
    };
    let (status, body) = get("/events?since=99999", &asked).await;
    assert_eq!((status, body.contains("since")), (400, true), "{body}");
    // As deep as JSON may be, and one level more in the params.
    let deep = format!("/events?since={}{}", "[".repeat(127), "]".repeat(127));
    let (status, body) = get(&deep, &asked).await;
    assert_eq!((status, body.contains("too deeply")), (400, true), "{body}");
    let (status, _) = get("/events", &[asked[0], "last-event-id: x"]).await;
    assert_eq!(status, 400);
    let (status, _) = get("/flows/1/x/events", &asked).await;
    assert_eq!(status, 400);
    // Without being asked for events, the path is that of the page.
    let (status, body) = get("/events", &[]).await;
    assert_eq!((status, body.contains("\"items\"")), (200, true), "{body}");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off_and_a_stop_ends_the_others() {
    let server = Core::with(|config| config.slow_reader_timeout = Duration::from_millis(200)).await;
    let asking = "accept: text/event-stream\r\n";
    let mut silent = Reader::open(&server, "/events", asking).await;
    let mut heeding = Reader::open(&server, "/events?kinds=nothing", asking).await;
    let big = "x".repeat(500);
    let lagged = || server.app.metrics.subscriptions_lagged.get();
    let flooded = async {
        for id in 0_u32.. {
            if lagged() > 0 {
                return;
            }
            let addresses = vec!["10.0.0.1"; 900];
            let actor = json!({ "id": id % 8, "pubkey": big, "address": addresses });
            server.rpc("actor.create", json!({ "actor": actor })).await.unwrap();
        }
    };
    timeout(PATIENCE, flooded).await.unwrap();
    let mut left = Vec::new();
    // The end, or a reset: what matters is that there is one.
    let _ = timeout(PATIENCE, silent.io.read_to_end(&mut left)).await.unwrap();
    server.app.stopping.send_replace(true);
    heeding.until("0\r\n\r\n").await;
}
