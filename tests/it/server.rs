//! A real coordinator on free ports in a directory of its own, and ways to talk to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use jsonrpsee::core::client::Error as ClientError;
use jsonrpsee_http_client::HttpClient;
use jsonrpsee_ws_client::WsClient;
use muster::app::App;
use muster::client;
use muster::config::Config;
use muster::face;
use muster::method::{Entry, Method};
use muster::model::Millis;
use muster::server::{Running, serve_methods};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Longer than anything should take; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct TestServer {
    pub at: Running,
    pub app: Arc<App>,
    pub dir: TempDir,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings than the defaults.
    pub async fn with(set: impl FnOnce(&mut Config)) -> Self {
        Self::serving(face::entries(), set).await
    }

    /// With a clock of the test's own.
    pub async fn by_clock(now: fn() -> Millis) -> Self {
        Self::launch(face::entries(), |_| {}, |config| App::start_by(config, now)).await
    }

    /// With a method table of the test's own.
    pub async fn serving(methods: &'static [Entry], set: impl FnOnce(&mut Config)) -> Self {
        Self::launch(methods, set, App::start).await
    }

    async fn launch(
        methods: &'static [Entry],
        set: impl FnOnce(&mut Config),
        start: impl FnOnce(Config) -> anyhow::Result<Arc<App>>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config {
            http: any,
            ws: any,
            data_dir: dir.path().into(),
            backup_dir: dir.path().join("backups"),
            ..Config::default()
        };
        set(&mut config);
        let app = start(config).unwrap();
        let at = serve_methods(Arc::clone(&app), methods).await.unwrap();
        Self { at, app, dir }
    }

    pub fn http(&self) -> HttpClient {
        client::http(&format!("http://{}/", self.at.http), PATIENCE).unwrap()
    }

    pub async fn ws(&self) -> WsClient {
        client::ws(&format!("ws://{}/", self.at.ws), PATIENCE).await.unwrap()
    }

    pub async fn call<M: Method>(&self, method: M) -> Result<M::Output, ClientError> {
        client::call(&self.http(), method).await
    }

    /// A bare HTTP exchange: status and JSON body.
    pub async fn raw(&self, verb: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, body) = self.exchange(self.at.http, verb, path, &[], body.as_bytes()).await;
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    /// A bare HTTP exchange: status and text.
    pub async fn exchange(
        &self,
        to: SocketAddr,
        verb: &str,
        path: &str,
        headers: &[&str],
        body: &[u8],
    ) -> (u16, String) {
        let mut head = format!("{verb} {path} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("host:")) {
            head.push_str("host: localhost\r\n");
        }
        if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("content-type:")) {
            head.push_str("content-type: application/json\r\n");
        }
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let mut io = TcpStream::connect(to).await.unwrap();
        io.write_all(head.as_bytes()).await.unwrap();
        io.write_all(body).await.unwrap();
        read_answer(&mut io).await
    }

    /// What a JSON-RPC message is answered with over HTTP.
    pub async fn post(&self, message: &str) -> Value {
        let (status, body) = self.raw("POST", "/", message).await;
        assert_eq!(status, 200, "{message}: {body}");
        body
    }

    /// What one call is answered with over HTTP.
    pub async fn ask(&self, method: &str, params: Value) -> Value {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.post(&call.to_string()).await
    }

    /// The same for one who shows a token in the handshake.
    pub async fn socket_with(&self, token: &str) -> Socket {
        let io = TcpStream::connect(self.at.ws).await.unwrap();
        let request = tokio_tungstenite::tungstenite::ClientRequestBuilder::new(
            format!("ws://{}/", self.at.ws).parse().unwrap(),
        )
        .with_header("authorization", format!("Bearer {token}"));
        Socket(tokio_tungstenite::client_async(request, io).await.unwrap().0)
    }

    /// A WebSocket without a JSON-RPC client on top.
    pub async fn socket(&self) -> Socket {
        let io = TcpStream::connect(self.at.ws).await.unwrap();
        let url = format!("ws://{}/", self.at.ws);
        Socket(tokio_tungstenite::client_async(url, io).await.unwrap().0)
    }
}

/// Reads one answer up to the end of the connection.
pub async fn read_answer(io: &mut TcpStream) -> (u16, String) {
    let mut reply = Vec::new();
    timeout(PATIENCE, io.read_to_end(&mut reply)).await.unwrap().unwrap();
    let reply = String::from_utf8(reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

pub struct Socket(pub WebSocketStream<TcpStream>);

impl Socket {
    pub async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next message; none when the connection has ended.
    pub async fn hear(&mut self) -> Option<Value> {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("nothing was said") {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    }

    pub async fn ask(&mut self, message: &str) -> Value {
        self.say(message).await;
        self.hear().await.unwrap()
    }
}

/// The code in an answer that must be an error.
pub fn code_of(answer: &Value) -> i64 {
    answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {answer}"))
}
