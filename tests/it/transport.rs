//! Who may call from where and how often: hosts, pages of other sites, smuggled requests, rates.

use std::sync::LazyLock;

use muster::Result;
use muster::app::Cx;
use muster::config::{Hosts, Origins, RateLimit};
use muster::method::{Access, Def, Entry, Method, RestStyle, Spec, Verb};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::{PATIENCE, TestServer, code_of};

/// Says whom it takes the caller for.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Whoami {}

static OPEN: RestStyle = RestStyle { any_origin: true, trailing_slash: true, ..RestStyle::CORE };

impl Method for Whoami {
    type Output = String;
    const SPEC: Spec =
        Spec::new("test.whoami", Access::Anyone).rest(Verb::Get, "/open/whoami", 200).style(&OPEN);

    async fn call(self, cx: Cx) -> Result<String> {
        Ok(format!("{:?}", cx.caller))
    }
}

/// The same, closed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Closed {}

impl Method for Closed {
    type Output = String;
    const SPEC: Spec =
        Spec::new("test.closed", Access::Anyone).rest(Verb::Get, "/closed/whoami", 200);

    async fn call(self, cx: Cx) -> Result<String> {
        Ok(format!("{:?}", cx.caller))
    }
}

static DEFS: &[Def] = &[
    Def::call::<Whoami>(),
    Def::call::<Closed>(),
    Def::call::<muster::face::core::system::Ping>(),
];
static METHODS: LazyLock<Vec<Entry>> =
    LazyLock::new(|| DEFS.iter().enumerate().map(Entry::new).collect());

const CONSOLE: &str = "https://console.example";
const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"system.ping"}"#;

/// Everything that comes back for some bytes, up to the end of the connection.
async fn send(server: &TestServer, bytes: &str) -> String {
    let mut io = TcpStream::connect(server.at.http).await.unwrap();
    io.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, io.read_to_end(&mut answer)).await.expect("the connection ends");
    String::from_utf8(answer).unwrap()
}

async fn request(server: &TestServer, line: &str, headers: &[&str]) -> (u16, String) {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let head = format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    let answer = send(server, &head).await;
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer.to_ascii_lowercase())
}

async fn with_console() -> TestServer {
    let set = |config: &mut muster::config::Config| {
        config.allow_origins = Origins::read(CONSOLE).unwrap();
    };
    TestServer::serving(&METHODS, set).await
}

#[tokio::test]
async fn pages_of_allowed_sites_may_ask_and_read() {
    let server = with_console().await;
    let console = format!("origin: {CONSOLE}");
    let asks = "access-control-request-method: POST";
    for path in ["/", "/closed/whoami", "/nowhere"] {
        let (status, answer) =
            request(&server, &format!("OPTIONS {path}"), &[&console, asks]).await;
        assert_eq!(status, 204, "{path}: {answer}");
        for header in [
            "access-control-allow-origin: https://console.example\r\n",
            "access-control-allow-methods: get, post,",
            "authorization, content-type,",
            "last-event-id",
            "x-ocp-operator-token",
            "access-control-max-age: ",
            "vary: origin",
        ] {
            assert!(answer.contains(header), "{path}: {header}: {answer}");
        }
    }
    for (line, status) in
        [("GET /closed/whoami", 200), ("GET /nowhere", 404), ("GET /health", 200), ("PUT /", 405)]
    {
        let (got, answer) = request(&server, line, &[&console]).await;
        assert_eq!(got, status, "{line}");
        assert!(answer.contains("access-control-allow-origin: https://console.example\r\n"));
        assert!(answer.contains("vary: origin"), "{answer}");
        assert!(answer.contains("access-control-expose-headers: "), "{answer}");
    }
    let (_, answer) = request(&server, "GET /closed/whoami", &[]).await;
    assert!(!answer.contains("access-control"), "{answer}");
}

#[tokio::test]
async fn pages_of_other_sites_may_not_but_where_all_may() {
    let server = with_console().await;
    for origin in ["origin: https://evil.example", "origin: null", "origin: http://localhost:3000"]
    {
        let asks = [origin, "access-control-request-method: GET"];
        for line in ["OPTIONS /", "OPTIONS /closed/whoami", "GET /closed/whoami", "GET /health"] {
            let (status, answer) = request(&server, line, &asks).await;
            assert_eq!(status, 403, "{line}: {answer}");
            assert!(!answer.contains("access-control"), "{answer}");
        }
        for path in ["/open/whoami", "/open/whoami/"] {
            let (status, answer) = request(&server, &format!("OPTIONS {path}"), &asks).await;
            assert_eq!(status, 204, "{answer}");
            assert!(answer.contains("access-control-allow-origin: *\r\n"), "{answer}");
            let (status, answer) = request(&server, &format!("GET {path}"), &[origin]).await;
            assert!(answer.contains("access-control-allow-origin: *\r\n"), "{answer}");
            assert!(status == 200 && answer.ends_with("\"anonymous\""), "{answer}");
        }
        let (status, answer) = request(&server, "DELETE /open/whoami", &[origin]).await;
        assert_eq!(status, 405);
        assert!(answer.contains("access-control-allow-origin: *\r\n"), "{answer}");
    }
    let embedded = ["sec-fetch-site: cross-site", "sec-fetch-mode: no-cors"];
    assert_eq!(request(&server, "GET /closed/whoami", &embedded).await.0, 403);
    let (_, answer) = request(&server, "GET /open/whoami", &embedded).await;
    assert!(answer.ends_with("\"anonymous\""), "{answer}");
    let (_, answer) = request(&server, "GET /open/whoami", &[]).await;
    assert!(answer.ends_with("\"operator\""), "{answer}");
    let (status, _) = request(&server, "OPTIONS /open/whoami", &[]).await;
    assert_eq!(status, 204);
}

#[tokio::test]
async fn a_name_that_was_pointed_here_gets_nothing() {
    let server = TestServer::with(|config| {
        config.allow_hosts = Hosts::read("muster.example").unwrap();
    })
    .await;
    let get = |host: &str, more: &str| {
        format!("GET /openrpc.json HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{more}\r\n")
    };
    let port = server.at.http.port();
    for (host, more, status) in [
        ("muster.example".to_owned(), String::new(), "200"),
        (
            format!("MUSTER.example:{port}"),
            format!("origin: http://muster.example:{port}\r\n"),
            "200",
        ),
        ("evil.example".to_owned(), String::new(), "403"),
        (format!("evil.example:{port}"), format!("origin: http://evil.example:{port}\r\n"), "403"),
        ("muster.example.evil.example".to_owned(), String::new(), "403"),
        ("x@localhost".to_owned(), String::new(), "403"),
    ] {
        let answer = send(&server, &get(&host, &more)).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{host}: {answer}");
    }
}

#[tokio::test]
async fn what_a_proxy_could_read_otherwise_is_refused_or_is_the_last() {
    let server = TestServer::start().await;
    let smuggled = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let chunk = format!("{:x}\r\n{PING}\r\n0\r\n\r\n", PING.len());
    let post = |headers: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{body}{smuggled}")
    };
    let length = PING.len();
    for (what, bytes, status) in [
        ("length before chunks", post(&format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"), &chunk), "200"),
        ("chunks before length", post("transfer-encoding: chunked\r\ncontent-length: 4\r\n", &chunk), "200"),
        ("two lengths", post(&format!("content-length: {length}\r\ncontent-length: 4\r\n"), PING), "400"),
        ("a list of lengths", post(&format!("content-length: {length}, 4\r\n"), PING), "400"),
        ("a length with a sign", post(&format!("content-length: +{length}\r\n"), PING), "400"),
        ("not chunked at the end", post("transfer-encoding: chunked, gzip\r\n", &chunk), "400"),
        ("chunks not quite", post("transfer-encoding: xchunked\r\n", &chunk), "400"),
        ("chunks of HTTP/1.0", format!("POST / HTTP/1.0\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"), "400"),
        ("a space before the colon", post(&format!("content-length : {length}\r\n"), PING), "400"),
        ("a folded line", post(&format!("x-a: 1\r\n content-length: 0\r\ncontent-length: {length}\r\n"), PING), "400"),
        ("a bare CR", post(&format!("x-a: 1\rcontent-length: 0\r\ncontent-length: {length}\r\n"), PING), "400"),
        ("two hosts", "GET /health HTTP/1.1\r\nhost: localhost\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".to_owned(), "400"),
        ("no host", "GET /health HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(), "400"),
        ("a target that is a URL", "GET http://localhost/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".to_owned(), "400"),
        ("another's URL", "GET http://evil.example/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".to_owned(), "400"),
        ("a tunnel", "CONNECT localhost:1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".to_owned(), "400"),
        ("two origins", "GET /health HTTP/1.1\r\nhost: localhost\r\norigin: null\r\norigin: http://localhost\r\nconnection: close\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = send(&server, &bytes).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
    }
}

/// How many of some answers are refusals because of the rate, which say when to try again.
fn limited<'a>(answers: impl IntoIterator<Item = &'a Value>) -> usize {
    let refused = answers.into_iter().filter(|answer| answer["error"].is_object());
    refused
        .map(|answer| {
            let data = &answer["error"]["data"];
            assert_eq!(code_of(answer), -32005);
            assert_eq!((&data["limit"], &data["http_status"]), (&json!(1), &json!(429)));
            assert!(data["retry_after_ms"].as_u64().is_some_and(|ms| (1..=1_001).contains(&ms)));
        })
        .count()
}

async fn with_rate(burst: u32) -> TestServer {
    TestServer::serving(&METHODS, |config| {
        config.rate_limit = RateLimit::PerSecond(1);
        config.rate_burst = std::num::NonZeroU32::new(burst);
    })
    .await
}

#[tokio::test]
async fn calls_beyond_the_rate_are_refused_each_by_itself() {
    let server = with_rate(5).await;
    let batch = format!("[{}]", vec![PING; 40].join(","));
    let answers = server.post(&batch).await;
    let refused = limited(answers.as_array().unwrap());
    assert!((20..=35).contains(&refused), "{refused} of 40");
    assert_eq!(answers[0]["result"], true);
    assert_eq!(limited([&server.ask("system.ping", Value::Null).await]), 1);
    let mut socket = server.socket().await;
    let mut answers = vec![];
    for _ in 0..40 {
        answers.push(socket.ask(PING).await);
    }
    let refused = limited(&answers);
    assert!(refused >= 20, "{refused} of 40");
    assert!(server.app.metrics.calls_limited.get() >= 41);
}

#[tokio::test]
async fn routes_have_the_same_rate_and_say_when_to_come_back() {
    let server = with_rate(2).await;
    let mut last = (0, String::new());
    for _ in 0..20 {
        last = request(&server, "GET /closed/whoami", &[]).await;
        if last.0 == 429 {
            break;
        }
    }
    let (status, answer) = last;
    assert_eq!(status, 429, "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("\"retry_after_ms\":"), "{answer}");
    // Who is somebody else has turns of its own.
    let (status, _) = request(&server, "GET /open/whoami", &["origin: null"]).await;
    assert_eq!(status, 200);
    assert_eq!(request(&server, "GET /health", &[]).await.0, 200, "pages are no calls");
}

#[tokio::test]
async fn one_address_holds_so_many_connections() {
    let server = TestServer::with(|config| config.max_connections_per_address = 2).await;
    let mut first = TcpStream::connect(server.at.http).await.unwrap();
    let _second = TcpStream::connect(server.at.ws).await.unwrap();
    while server.app.metrics.connections.get() < 2 {
        tokio::task::yield_now().await;
    }
    let answer = send(&server, "").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"limit\":2"), "{answer}");
    first.shutdown().await.unwrap();
    while server.app.metrics.connections.get() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(request(&server, "GET /health", &[]).await.0, 200);
}
