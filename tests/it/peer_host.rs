//! Another machine that the coordinator sends requests to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::server::PATIENCE;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Heard {
    pub verb: String,
    pub path: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// What is answered: status line and headers after `HTTP/1.1 `, and the body.
pub type Answer = (String, Vec<u8>);
type Answering = Arc<dyn Fn(&Heard) -> Answer + Send + Sync>;

pub struct PeerHost {
    pub at: SocketAddr,
    heard: UnboundedReceiver<Heard>,
}

impl PeerHost {
    /// Listens, and answers as told.
    pub async fn start(answer: impl Fn(&Heard) -> Answer + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), answer).await
    }

    /// The same at an address of the test's own.
    pub async fn at(
        at: SocketAddr,
        answer: impl Fn(&Heard) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let at = listener.local_addr().unwrap();
        let (told, heard) = unbounded_channel();
        let answer: Answering = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                tokio::spawn(serve(io, told.clone(), Arc::clone(&answer)));
            }
        });
        Self { at, heard }
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.at)
    }

    /// The next request.
    pub async fn heard(&mut self) -> Heard {
        timeout(PATIENCE, self.heard.recv()).await.expect("no request came").unwrap()
    }

    /// Whether nothing more has come.
    pub fn is_quiet(&mut self) -> bool {
        self.heard.try_recv().is_err()
    }
}

pub fn ok() -> Answer {
    ("200 OK".to_owned(), Vec::new())
}

async fn serve(io: TcpStream, told: UnboundedSender<Heard>, answer: Answering) {
    let mut io = BufReader::new(io);
    while let Some(heard) = read(&mut io).await {
        let (head, body) = answer(&heard);
        let head = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len());
        let _ = told.send(heard);
        if io.write_all(head.as_bytes()).await.is_err() || io.write_all(&body).await.is_err() {
            return;
        }
    }
}

async fn read(io: &mut BufReader<TcpStream>) -> Option<Heard> {
    let mut line = String::new();
    io.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (verb, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        io.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    io.read_exact(&mut body).await.ok()?;
    Some(Heard { verb, path, headers, body })
}
