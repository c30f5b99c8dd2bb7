//! From an HTTP request to a WebSocket.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::Instrument;

use super::http::{self, Answer};
use super::listen::Link;
use super::{pages, socket};

/// Answers a request on the WebSocket port: an upgrade, or a page about this port's health.
pub(super) async fn answer(link: Arc<Link>, request: Request<Incoming>) -> Answer {
    let Some(key) = key(&request) else {
        return match pages::answer(&link, &request).await {
            Some(page) if request.uri().path() != "/" => page,
            _ => upgrade_required(),
        };
    };
    let accept = derive_accept_key(key.as_bytes());
    let span = tracing::Span::current();
    let serving = async move {
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => socket::serve(link, TokioIo::new(upgraded)).await,
            Err(err) => tracing::debug!(%err, "upgrade failed"),
        }
    };
    tokio::spawn(serving.instrument(span));
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

/// The key of a well-formed upgrade request.
fn key<B>(request: &Request<B>) -> Option<String> {
    let headers = request.headers();
    let version = headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let asks =
        has_token(headers, CONNECTION, "upgrade") && has_token(headers, UPGRADE, "websocket");
    let key = headers.get(SEC_WEBSOCKET_KEY)?.to_str().ok()?;
    (request.method() == Method::GET && asks && version).then(|| key.to_owned())
}

fn has_token(headers: &HeaderMap, name: hyper::header::HeaderName, token: &str) -> bool {
    let lists = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
}

fn upgrade_required() -> Answer {
    let mut answer = http::plain(
        StatusCode::UPGRADE_REQUIRED,
        "this port speaks WebSocket, version 13; HTTP has the other port",
    );
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    answer
}
