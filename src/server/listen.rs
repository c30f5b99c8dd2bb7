//! Accepts connections within limits, and serves HTTP on each.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::Instrument;

use super::link::{Flow, Link, Port};
use super::socket::Socket;
use super::stream::Stream;
use super::tls::Tls;
use super::{Shared, http};
use crate::app::App;

/// How long a request head may take, and how long a connection may idle between requests.
const HEAD_LIMIT: Duration = Duration::from_secs(60);
/// The first byte that a client sends over TLS.
const TLS_HANDSHAKE: u8 = 0x16;
/// Largest request head, bytes: larger than the longest target that is understood, which is 64 KiB, so
/// that a longer one is told so (414).
const HEAD_BYTES: usize = 128 << 10;
/// Pause after a failed accept, which is nearly always a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that the kernel may queue up.
const BACKLOG: i32 = 1_024;
/// How much longer than a slow reader may take we wait for the peer's kernel to answer at all.
const PEER_SILENCE: Duration = Duration::from_secs(30);

/// Binds an address so that a restart finds it free.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    let named = |err: io::Error| io::Error::new(err.kind(), format!("{address}: {err}"));
    socket.bind(&address.into()).map_err(named)?;
    socket.listen(BACKLOG).map_err(named)?;
    TcpListener::from_std(socket.into())
}

/// Ends when a graceful stop begins.
pub(super) fn stopped(app: &App) -> impl Future<Output = ()> + Send + use<> {
    let mut stopping = app.stopping.subscribe();
    async move { drop(stopping.wait_for(|stopping| *stopping).await) }
}

/// One listener.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) shared: Arc<Shared>,
    pub(super) listener: TcpListener,
    pub(super) port: Port,
    pub(super) killed: watch::Receiver<()>,
    pub(super) alive: mpsc::Sender<()>,
}

impl Listening {
    /// Accepts until the coordinator stops.
    pub(super) async fn run(self) {
        let mut killed = self.killed.clone();
        let stopped = stopped(&self.shared.app);
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer),
                    Err(err) => {
                        tracing::warn!(%err, "cannot accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                () = &mut stopped => return,
                _ = killed.changed() => return,
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let metrics = &self.shared.app.metrics;
        let config = &self.shared.app.config;
        let permit = Arc::clone(&self.shared.permits).try_acquire_owned().ok();
        let place = permit.is_some().then(|| self.shared.places.take(peer.ip())).flatten();
        let (Some(permit), Some(place)) = (permit, place) else {
            metrics.connections_refused.inc();
            if self.shared.tls.is_none() {
                let all = self.shared.permits.available_permits() == 0;
                let of_one = config.max_connections_per_address;
                let limit = if all { config.max_connections } else { of_one };
                // Best effort: a peer that would make us wait for this gets nothing.
                let _ = stream.try_write(http::too_many_connections(limit).as_bytes());
            }
            return;
        };
        let silence = config.slow_reader_timeout.saturating_mul(2) + PEER_SILENCE;
        let socket = SockRef::from(&stream);
        let set = socket.set_tcp_nodelay(true).and(socket.set_tcp_user_timeout(Some(silence)));
        if let Err(err) = set {
            tracing::debug!(%err, "socket options");
        }
        metrics.connections.inc();
        let link = Arc::new(Link {
            shared: Arc::clone(&self.shared),
            port: self.port,
            peer: peer.ip(),
            local: stream.local_addr().map_or(peer.ip(), |at| at.ip()),
            connection: self.shared.next_connection.fetch_add(1, Ordering::Relaxed),
            killed: self.killed.clone(),
            flow: Flow::default(),
            accepting: watch::Sender::default(),
            cut: Notify::new(),
            _permit: permit,
            _place: place,
            _alive: self.alive.clone(),
        });
        let span = tracing::info_span!("connection", id = link.connection, %peer);
        tokio::spawn(converse(link, stream).instrument(span));
    }
}

/// Answers the requests of one connection.
async fn converse(link: Arc<Link>, stream: TcpStream) {
    let (stopped, mut killed) = (stopped(&link.shared.app), link.killed.clone());
    tokio::pin!(stopped);
    let stream = match &link.shared.tls {
        None => Stream::Plain(stream),
        Some(tls) => {
            let limit = link.shared.app.config.tls_handshake_timeout;
            let secured = tokio::select! {
                secured = timeout(limit, Box::pin(secure(tls, stream))) => secured,
                () = &mut stopped => return,
                _ = killed.changed() => return,
            };
            match secured.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => stream,
                Err(err) => {
                    link.shared.app.metrics.handshakes_failed.inc();
                    return tracing::debug!(%err, "no TLS");
                }
            }
        }
    };
    let socket = Socket::new(stream, Arc::clone(&link));
    let cut = Arc::clone(&link);
    let service = service_fn(move |request| {
        let link = Arc::clone(&link);
        async move { Ok::<_, Infallible>(http::answer(link, request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = &mut stopped => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = &mut serving => ended,
                _ = killed.changed() => return,
                () = cut.cut.notified() => return,
            }
        }
        () = cut.cut.notified() => return,
        _ = killed.changed() => return,
    };
    if let Err(err) = ended {
        tracing::debug!(%err, "connection ended");
    }
}

/// Encrypts a connection; a peer that speaks plain HTTP is told that this is not what is spoken here.
async fn secure(tls: &Tls, mut tcp: TcpStream) -> io::Result<Stream> {
    let mut first = [0];
    if tcp.peek(&mut first).await? > 0 && first != [TLS_HANDSHAKE] {
        tcp.write_all(http::tls_required().as_bytes()).await?;
        tcp.shutdown().await?;
        // What is left unread would take the answer with it.
        let mut rest = tcp.take(1 << 20);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
        return Err(io::ErrorKind::InvalidData.into());
    }
    let encrypted = tls.acceptor().accept(tcp).await?;
    Ok(Stream::secure(encrypted))
}
