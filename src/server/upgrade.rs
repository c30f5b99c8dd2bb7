//! From an HTTP request to a WebSocket.

use std::sync::Arc;

use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::{HeaderMap, Method, Request, StatusCode};
use tower::Service;

use super::http::{self, Answer};
use super::link::Link;
use super::pages;

/// Answers a request on the WebSocket port: an upgrade, or a page about this port's health.
pub(super) async fn answer(link: Arc<Link>, request: Request<Incoming>) -> Answer {
    if !is_upgrade(&request) {
        return match pages::answer(&link, &request).await {
            Some(page) if request.uri().path() != "/" => page,
            _ => upgrade_required(),
        };
    }
    let mut request = request;
    let visitor = link.visitor(request.headers(), request.extensions());
    request.extensions_mut().insert(Arc::clone(&link));
    request.extensions_mut().insert(visitor);
    let door = link.shared.doors.ws.clone();
    // Built anew for each connection: that is what gives it an id of its own.
    let mut door = door.build(link.shared.doors.methods.clone(), link.shared.doors.stop.clone());
    match door.call(request).await {
        Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
            link.flow.upgrade();
            answer.map(|_| Either::Left(Full::default()))
        }
        Ok(_) => upgrade_required(),
        Err(err) => {
            tracing::warn!(%err, "transport");
            http::plain(StatusCode::INTERNAL_SERVER_ERROR, "the upgrade failed")
        }
    }
}

/// Whether this is a well-formed request for an upgrade.
fn is_upgrade<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let version = headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let asks =
        has_token(headers, CONNECTION, "upgrade") && has_token(headers, UPGRADE, "websocket");
    request.method() == Method::GET && asks && version && headers.contains_key(SEC_WEBSOCKET_KEY)
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
