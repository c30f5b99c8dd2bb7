//! What pages of other sites are told: who may call, and what they may read of an answer.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, VARY,
};
use hyper::{Method, Request, StatusCode};

use super::guard::Page;
use super::http::{self, Answer};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Accept, If-Match, If-None-Match, Last-Event-ID, Range, \
     X-OCP-Operator-Token",
);
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Allow, Content-Range, ETag, Location, Retry-After, WWW-Authenticate");
/// Two hours: the longest that browsers remember it.
const REMEMBERED: HeaderValue = HeaderValue::from_static("7200");
const ANY: HeaderValue = HeaderValue::from_static("*");
const BY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");

/// The answer to a browser that asks whether a page may call.
///
/// `open` says that the path is open to every site: there, `OPTIONS` is always answered.
pub(super) fn preflight<B>(page: &Page, open: bool, request: &Request<B>) -> Option<Answer> {
    if request.method() != Method::OPTIONS {
        return None;
    }
    let asks = request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if !(open || asks && matches!(page, Page::Allowed(_))) {
        return None;
    }
    let mut answer = http::empty(StatusCode::NO_CONTENT);
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    // A page that acts for nobody but itself may send what it likes.
    let asked = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|_| open);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.cloned().unwrap_or(HEADERS));
    headers.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED);
    Some(allow(page, open, answer))
}

/// Lets the page that asked read the answer.
pub(super) fn allow(page: &Page, open: bool, mut answer: Answer) -> Answer {
    let origin = match page {
        _ if open => ANY,
        Page::Allowed(origin) => origin.clone(),
        Page::Own | Page::Foreign => return answer,
    };
    let headers = answer.headers_mut();
    if origin != ANY {
        headers.append(VARY, BY_ORIGIN);
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    answer
}
