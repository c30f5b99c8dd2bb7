//! The bytes of a connection, encrypted or not.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A connection. What it takes is with the kernel: a flush finds nothing left to do, and one that
/// takes nothing is one whose peer reads nothing, whether it is encrypted or not.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Secure(Box<Secure>),
}

/// An encrypted connection.
#[derive(Debug)]
pub(super) struct Secure {
    tls: TlsStream<TcpStream>,
    /// Bytes that have been encrypted, and of which the kernel has not taken all.
    held: Option<usize>,
}

impl Stream {
    pub(super) fn secure(tls: TlsStream<TcpStream>) -> Self {
        Self::Secure(Box::new(Secure { tls, held: None }))
    }

    /// What carries it.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Secure(secure) => secure.tls.get_ref().0,
        }
    }
}

impl Secure {
    /// Encrypts with `take`, unless that has been done for the same bytes, and hands all to the
    /// kernel.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(Pin<&mut TlsStream<TcpStream>>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let bytes = match self.held {
            Some(bytes) => bytes,
            None => ready!(take(Pin::new(&mut self.tls), cx))?,
        };
        self.held = Some(bytes);
        ready!(Pin::new(&mut self.tls).poll_flush(cx))?;
        self.held = None;
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, out),
            Self::Secure(secure) => Pin::new(&mut secure.tls).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Secure(secure) => secure.write(cx, |tls, cx| tls.poll_write(cx, bytes)),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, parts),
            Self::Secure(secure) => secure.write(cx, |tls, cx| tls.poll_write_vectored(cx, parts)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Secure(secure) => Pin::new(&mut secure.tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Secure(secure) => Pin::new(&mut secure.tls).poll_shutdown(cx),
        }
    }
}
