//! A WebSocket client that costs next to nothing, so that the server is what is measured.

use std::collections::VecDeque;
use std::net::SocketAddr;

use anyhow::{Context, bail};
use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More than the largest answer of any workload.
const LARGEST: usize = 1 << 30;
/// Frames kept while waiting for an answer.
const MOST_PENDING: usize = 1 << 20;

/// A connection that speaks JSON-RPC.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    inbox: BytesMut,
    /// The parts so far of a message that comes in several frames.
    parts: BytesMut,
    outbox: Vec<u8>,
    next_id: u64,
    /// Came while an answer was awaited.
    pending: VecDeque<Bytes>,
}

/// What every frame of JSON-RPC may hold.
#[derive(Debug, Deserialize)]
pub struct Envelope<'a> {
    /// Which call this answers.
    pub id: Option<u64>,
    /// The answer.
    #[serde(borrow)]
    pub result: Option<&'a RawValue>,
    /// Or why there is none.
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

impl Socket {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// When the peer is not there or does not speak WebSocket.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut inbox = BytesMut::with_capacity(1024);
        let head = loop {
            if stream.read_buf(&mut inbox).await? == 0 {
                bail!("closed while shaking hands");
            }
            if let Some(end) = inbox.windows(4).position(|window| window == b"\r\n\r\n") {
                break inbox.split_to(end + 4);
            }
        };
        if !head.starts_with(b"HTTP/1.1 101") {
            bail!("no upgrade: {}", String::from_utf8_lossy(&head));
        }
        let (parts, outbox, pending) = (BytesMut::new(), Vec::new(), VecDeque::new());
        Ok(Self { stream, inbox, parts, outbox, next_id: 1, pending })
    }

    /// Sends a call and returns its id without waiting for the answer.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, method: &str, params: &str) -> anyhow::Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":"#);
        self.put_frame(0x1, &[head.as_bytes(), params.as_bytes(), b"}"])?;
        self.flush().await?;
        Ok(id)
    }

    /// Calls and waits for the answer; notifications that come before it are kept.
    ///
    /// # Errors
    /// When the connection is gone or the answer is an error.
    pub async fn call(&mut self, method: &str, params: &str) -> anyhow::Result<Box<RawValue>> {
        let id = self.send(method, params).await?;
        loop {
            let frame = self.read_frame().await?;
            let envelope: Envelope<'_> = serde_json::from_slice(&frame)?;
            if envelope.id != Some(id) {
                if self.pending.len() >= MOST_PENDING {
                    bail!("{method}: no answer");
                }
                self.pending.push_back(frame);
            } else if let Some(error) = envelope.error {
                bail!("{method}: {error}");
            } else {
                return Ok(envelope.result.context("neither result nor error")?.to_owned());
            }
        }
    }

    /// The next frame, in the order of arrival.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn receive(&mut self) -> anyhow::Result<Bytes> {
        match self.pending.pop_front() {
            Some(frame) => Ok(frame),
            None => self.read_frame().await,
        }
    }

    /// The next frame, if it has come already.
    ///
    /// # Errors
    /// When the peer broke the protocol or has gone.
    pub fn receive_ready(&mut self) -> anyhow::Result<Option<Bytes>> {
        if let Some(frame) = self.pending.pop_front() {
            return Ok(Some(frame));
        }
        self.take_frame()
    }

    async fn read_frame(&mut self) -> anyhow::Result<Bytes> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(frame);
            }
            self.flush().await?;
            self.inbox.reserve(64 << 10);
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                bail!("the server closed the connection");
            }
        }
    }

    /// Takes a whole message off the inbox; answers pings on the way.
    fn take_frame(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            let &[first, second, ..] = &*self.inbox else { return Ok(None) };
            let rest = self.inbox.get(2..).unwrap_or_default();
            let (head, length) = match second & 0x7f {
                126 => match rest.first_chunk::<2>() {
                    Some(bytes) => (4, u64::from(u16::from_be_bytes(*bytes))),
                    None => return Ok(None),
                },
                127 => match rest.first_chunk::<8>() {
                    Some(bytes) => (10, u64::from_be_bytes(*bytes)),
                    None => return Ok(None),
                },
                short => (2, u64::from(short)),
            };
            let length = usize::try_from(length)?;
            if self.parts.len().saturating_add(length) > LARGEST || second & 0x80 != 0 {
                bail!("a frame that is masked, or of {length} bytes");
            }
            if self.inbox.len() < head + length {
                self.inbox.reserve(head + length - self.inbox.len());
                return Ok(None);
            }
            self.inbox.advance(head);
            let payload = self.inbox.split_to(length).freeze();
            match first & 0x0f {
                0x0..=0x2 if first & 0x80 == 0 => self.parts.extend_from_slice(&payload),
                0x0..=0x2 if self.parts.is_empty() => return Ok(Some(payload)),
                0x0..=0x2 => {
                    self.parts.extend_from_slice(&payload);
                    return Ok(Some(self.parts.split().freeze()));
                }
                0x8 => bail!("the server closed the connection"),
                0x9 => self.put_frame(0xa, &[&payload])?,
                _ => {}
            }
        }
    }

    /// Queues a frame. The mask that clients must use is zero, so nothing has to be masked.
    fn put_frame(&mut self, kind: u8, parts: &[&[u8]]) -> anyhow::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.outbox.push(0x80 | kind);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..126), _) => self.outbox.push(0x80 | short),
            (_, Ok(middle)) => {
                self.outbox.push(0x80 | 126);
                self.outbox.extend_from_slice(&middle.to_be_bytes());
            }
            _ => {
                self.outbox.push(0x80 | 127);
                self.outbox.extend_from_slice(&u64::try_from(length)?.to_be_bytes());
            }
        }
        self.outbox.extend_from_slice(&[0; 4]);
        for part in parts {
            self.outbox.extend_from_slice(part);
        }
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        if !self.outbox.is_empty() {
            self.stream.write_all(&self.outbox).await?;
            self.outbox.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn messages_come_whole_and_pings_are_answered() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = BytesMut::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.unwrap();
            // Two parts with a ping between them, then one of more than 125 bytes.
            stream.write_all(b"\x01\x02ab\x89\x01!\x80\x01c").await.unwrap();
            stream.write_all(b"\x81\x7e\x00\x80").await.unwrap();
            stream.write_all(&[b'x'; 128]).await.unwrap();
            let mut pong = [0; 7];
            stream.read_exact(&mut pong).await.unwrap();
            pong
        });
        let mut socket = Socket::connect(at).await.unwrap();
        assert_eq!(socket.receive().await.unwrap(), "abc");
        assert_eq!(socket.receive().await.unwrap(), "x".repeat(128));
        assert!(socket.receive().await.is_err());
        assert_eq!(server.await.unwrap(), *b"\x8a\x81\0\0\0\0!");
    }
}
