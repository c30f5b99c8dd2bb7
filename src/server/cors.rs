//! Routes that pages of every origin may call (Fetch standard, section 3.2).
//!
//! Such a page acts for nobody but itself: what a loopback peer may do, it may not.

use hyper::StatusCode;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HeaderMap, HeaderValue,
};

use super::http::{self, Answer};

/// How long a browser may remember what it was told, seconds.
const REMEMBERED: HeaderValue = HeaderValue::from_static("86400");
/// What pages may send when they do not ask for anything in particular.
const USUAL: HeaderValue = HeaderValue::from_static("Authorization, Content-Type");

/// Pages of every origin may read this answer.
pub(super) fn for_all(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answer
}

/// What a browser asks before it lets a page call.
pub(super) fn preflight(headers: &HeaderMap, verbs: &[&str]) -> Answer {
    let mut answer = http::allowing(http::empty(StatusCode::NO_CONTENT), verbs);
    let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned().unwrap_or(USUAL);
    let told = answer.headers_mut();
    if let Ok(verbs) = HeaderValue::from_str(&verbs.join(", ")) {
        told.insert(ACCESS_CONTROL_ALLOW_METHODS, verbs);
    }
    told.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
    told.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED);
    for_all(answer)
}
