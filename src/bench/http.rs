//! A JSON-RPC load generator over HTTP keep-alive that costs next to nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::clock::now;

/// A kept connection; one request at a time.
#[derive(Debug)]
pub struct Http {
    stream: TcpStream,
    host: SocketAddr,
    inbox: BytesMut,
    /// Further headers, each with its line end.
    headers: String,
}

impl Http {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(host: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        let inbox = BytesMut::with_capacity(16 << 10);
        Ok(Self { stream, host, inbox, headers: String::new() })
    }

    /// Posts a JSON body and returns that of the answer.
    ///
    /// # Errors
    /// When the connection is gone or the status is not 200.
    pub async fn post(&mut self, body: &str) -> anyhow::Result<BytesMut> {
        let mut request = String::with_capacity(body.len() + 128);
        request.push_str("POST / HTTP/1.1\r\nHost: ");
        request.push_str(&self.host.to_string());
        request.push_str("\r\n");
        request.push_str(&self.headers);
        request.push_str("Content-Type: application/json\r\nContent-Length: ");
        request.push_str(&body.len().to_string());
        request.push_str("\r\n\r\n");
        request.push_str(body);
        self.exchange(request.as_bytes()).await
    }

    /// Calls a method; the text of the answer, which may be an error object.
    ///
    /// # Errors
    /// When the connection is gone or the status is not 200.
    pub async fn call(&mut self, method: &str, params: &str) -> anyhow::Result<BytesMut> {
        self.post(&request(1, method, params)).await
    }

    /// Sends a whole request and returns the body of the answer.
    ///
    /// # Errors
    /// When the connection is gone or the status is not 200.
    pub async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<BytesMut> {
        self.stream.write_all(request).await?;
        let head = loop {
            if let Some(end) = self.inbox.windows(4).position(|window| window == b"\r\n\r\n") {
                break self.inbox.split_to(end + 4);
            }
            self.read_more().await?;
        };
        let head = std::str::from_utf8(&head)?;
        let length = member(head, "content-length").and_then(|length| length.parse().ok());
        let body = match length {
            Some(length) => self.read_exactly(length).await?,
            None if member(head, "transfer-encoding").is_some() => self.read_chunks().await?,
            None => bail!("an answer without length: {head}"),
        };
        if !head.starts_with("HTTP/1.1 200") {
            bail!("{head}{}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    async fn read_more(&mut self) -> anyhow::Result<()> {
        self.inbox.reserve(8 << 10);
        if self.stream.read_buf(&mut self.inbox).await? == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }

    async fn read_exactly(&mut self, length: usize) -> anyhow::Result<BytesMut> {
        self.inbox.reserve(length.saturating_sub(self.inbox.len()));
        while self.inbox.len() < length {
            self.read_more().await?;
        }
        Ok(self.inbox.split_to(length))
    }

    async fn read_chunks(&mut self) -> anyhow::Result<BytesMut> {
        let mut body = BytesMut::new();
        loop {
            let end = loop {
                if let Some(end) = self.inbox.windows(2).position(|window| window == b"\r\n") {
                    break end;
                }
                self.read_more().await?;
            };
            let line = self.inbox.split_to(end);
            self.inbox.advance(2);
            let length = usize::from_str_radix(std::str::from_utf8(&line)?.trim(), 16)?;
            let chunk = self.read_exactly(length + 2).await?;
            if length == 0 {
                return Ok(body);
            }
            body.extend_from_slice(chunk.get(..length).unwrap_or_default());
        }
    }
}

fn member<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// A call as JSON text.
pub fn request(id: u64, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

/// Sends `total` requests over some connections, each next one as soon as the last is answered,
/// and returns how long that took. `body` gets the number of the request.
///
/// # Errors
/// When a connection breaks or an answer has no result.
pub async fn load(
    host: SocketAddr,
    connections: usize,
    total: usize,
    body: impl Fn(usize) -> String + Send + Sync + 'static,
) -> anyhow::Result<Duration> {
    load_as(host, connections, total, None, body).await
}

/// The same as whoever the bearer is.
///
/// # Errors
/// As [`load`].
pub async fn load_as(
    host: SocketAddr,
    connections: usize,
    total: usize,
    bearer: Option<String>,
    body: impl Fn(usize) -> String + Send + Sync + 'static,
) -> anyhow::Result<Duration> {
    let headers = bearer.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let headers = headers.unwrap_or_default();
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        clients.push(Http { headers: headers.clone(), ..Http::connect(host).await? });
    }
    let (next, body) = (Arc::new(AtomicUsize::new(0)), Arc::new(body));
    let mut tasks = JoinSet::new();
    let start = now();
    for mut client in clients {
        let (next, body) = (Arc::clone(&next), Arc::clone(&body));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return anyhow::Ok(());
                }
                check(&client.post(&body(number)).await?)?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.context("a client died")??;
    }
    Ok(start.elapsed())
}

/// Whether an answer, or all answers of a batch, are results.
///
/// # Errors
/// When one is not.
pub fn check(answer: &[u8]) -> anyhow::Result<()> {
    let part = answer.get(..answer.len().min(400)).unwrap_or_default();
    let has = |wanted: &[u8]| part.windows(wanted.len()).any(|window| window == wanted);
    if has(br#""result":"#) && !has(br#""error":{"#) {
        return Ok(());
    }
    bail!("refused: {}", String::from_utf8_lossy(part))
}
