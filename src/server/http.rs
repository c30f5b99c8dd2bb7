//! One HTTP request: checks, then JSON-RPC, a page, a REST route or an upgrade.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};
use jsonrpsee::types::ErrorObjectOwned;
use tokio::time::{Instant, timeout_at};
use tower::Service;

use super::envelope::failure;
use super::link::{Link, Port};
use super::room::Held;
use super::rules::Unanswered;
use super::sse::Events;
use super::{cors, envelope, pages, rest, upgrade};
use crate::error::{Refusal, bare};
use crate::method::{Captures, RestFault, RestStyle};
use crate::{Code, Error};

/// What is answered.
pub(super) type Answer = Response<Body>;
/// Its body: one piece, or events as they come.
pub(super) type Body = Either<Full<Bytes>, Events>;

fn whole(body: impl Into<Bytes>) -> Body {
    Either::Left(Full::new(body.into()))
}

/// How long a body may make no progress.
const BODY_STALL: Duration = Duration::from_secs(30);
/// How long it may take whatever its size, and then the slowest that it may come, bytes in a
/// millisecond: nobody keeps room by sending a byte now and then.
const BODY_GRACE: Duration = Duration::from_secs(60);
const SLOWEST: u64 = 16;
/// How long, and how much of, a body that is too large is read before it is refused: a peer that
/// is still writing would otherwise lose the answer.
const DISCARD: (Duration, usize) = (Duration::from_secs(5), 64 << 20);
/// How long nothing may come of such a body: a peer that waits for the answer gets it.
const DISCARD_STALL: Duration = Duration::from_secs(1);

/// Answers one request.
pub(super) async fn answer(link: Arc<Link>, mut request: Request<Incoming>) -> Answer {
    let path = request.uri().path();
    let open = pages::is_open_at(path) || link.shared.routes.are_open_at(path);
    let open = open && link.port == Port::Http;
    let page = match link.shared.sites.admit(&request, link.local, open) {
        Ok(page) => page,
        Err(turned) => return plain(turned.status, turned.reason),
    };
    if let Some(answer) = cors::preflight(&page, open, &request) {
        return answer;
    }
    page.mark(request.extensions_mut());
    // A length beside it is gone by now: nobody may go on by that length after this.
    let last = request.headers().contains_key(TRANSFER_ENCODING);
    let answer = cors::allow(&page, open, route(link, request).await);
    if last { closing(answer) } else { answer }
}

/// Answers one request that may be answered.
async fn route(link: Arc<Link>, request: Request<Incoming>) -> Answer {
    if link.port == Port::Ws {
        return upgrade::answer(link, request).await;
    }
    if request.method() == Method::POST && request.uri().path() == "/" {
        return call(&link, request).await;
    }
    match pages::answer(&link, &request).await {
        Some(page) => page,
        None => rest::answer(&link, request).await,
    }
}

/// JSON-RPC over HTTP.
async fn call(link: &Arc<Link>, request: Request<Incoming>) -> Answer {
    let visitor = link.visitor(request.headers(), request.extensions());
    let kind = request.headers().get(CONTENT_TYPE);
    if !is_json(kind) && !is_of_type(kind, "application/json-rpc") {
        let error = bare(Code::InvalidRequest, "Content-Type must be application/json");
        return json(StatusCode::UNSUPPORTED_MEDIA_TYPE, failure("null", &error));
    }
    let sizes = &link.shared.sizes;
    let what = "bytes in a request";
    // Given back with the answer: as long as that, parts of the body are needed.
    let mut held = link.shared.room.begin();
    let body = match read(request.into_body(), sizes.largest(), &mut held).await {
        Ok(body) if sizes.admit(&body) => Ok(body),
        Ok(_) | Err(Error::Limit { .. }) => Err(sizes.refusal(what)),
        Err(err) => Err(err),
    };
    let body = match body {
        Ok(body) => body,
        Err(err) => {
            let (status, error): (_, ErrorObjectOwned) = (status_of(&err), err.into());
            return closing(json(status, failure("null", &error)));
        }
    };
    let message = match envelope::admitted(&body, link.shared.app.config.max_batch) {
        // Most bodies are taken as they are.
        Cow::Borrowed(text) => body.slice_ref(text),
        Cow::Owned(text) => text.into(),
    };
    let mut request = Request::new(Full::new(message));
    *request.method_mut() = Method::POST;
    let json_type = HeaderValue::from_static("application/json");
    request.headers_mut().insert(CONTENT_TYPE, json_type);
    request.extensions_mut().insert(Arc::clone(link));
    request.extensions_mut().insert(visitor);
    let answered = link.shared.doors.http.clone().call(request).await;
    let answered = answered.inspect_err(|err| tracing::warn!(%err, "transport"));
    let Ok(answer) = answered else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "the call was not answered");
    };
    let (parts, text) = answer.into_parts();
    if parts.extensions.get::<Unanswered>().is_some() {
        return json(parts.status, Bytes::new());
    }
    match text.collect().await {
        Ok(text) => json(parts.status, text.to_bytes()),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer broke off"),
    }
}

/// Whether a body is to be read as JSON; one without a type is.
pub(super) fn is_json(value: Option<&HeaderValue>) -> bool {
    is_of_type(value, "application/json")
}

fn is_of_type(value: Option<&HeaderValue>, wanted: &str) -> bool {
    let Some(value) = value else { return true };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case(wanted)
}

/// Reads a whole body within the limits of size and time.
///
/// # Errors
/// [`Error::Limit`] when it is too large, [`Error::Params`] when it breaks off or comes too slowly,
/// [`Error::Unavailable`] when there is no room for it among all the others.
pub(super) async fn read(mut body: Incoming, limit: u32, held: &mut Held) -> Result<Bytes, Error> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let too_large = || Error::Limit { what: "bytes in a request".to_owned(), limit: limit.into() };
    let declared = body.size_hint().lower();
    if declared > u64::from(limit) {
        discard(body).await;
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut whole: Vec<u8> = Vec::new();
    let begun = Instant::now();
    loop {
        let so_far = whole.len() + first.as_ref().map_or(0, Bytes::len);
        let until = begun
            + BODY_GRACE
            + Duration::from_millis(u64::try_from(so_far).unwrap_or(u64::MAX) / SLOWEST);
        let until = until.min(Instant::now() + BODY_STALL);
        let frame = match timeout_at(until, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(err))) => {
                return Err(Error::params("", format!("the body broke off: {err}")));
            }
            Ok(None) => break,
            Err(_) => {
                return Err(Error::params("", "the body stopped coming, or comes too slowly"));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        let by_now = so_far.saturating_add(data.len());
        if by_now > most {
            discard(body).await;
            return Err(too_large());
        }
        if !held.grow(by_now) {
            // What has come makes room for the others before the rest of it is waited for.
            drop((first, whole, data));
            discard(body).await;
            return Err(Error::Unavailable("too much is being sent at once; try again"));
        }
        // Nearly every body is one piece, which is then used as it is.
        match first.take() {
            None if whole.is_empty() => first = Some(data),
            None => whole.extend_from_slice(&data),
            Some(piece) => {
                // As much as has come, and not as much as is announced.
                whole.reserve(usize::try_from(declared).unwrap_or(0).min(by_now.max(1 << 20)));
                whole.extend_from_slice(&piece);
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.into()))
}

/// Reads on for a while, so that a peer that is still writing sees the answer.
pub(super) async fn discard(mut body: Incoming) {
    let (within, mut left) = DISCARD;
    let until = Instant::now() + within;
    let next = |now: Instant| until.min(now + DISCARD_STALL);
    while let Ok(Some(Ok(frame))) = timeout_at(next(Instant::now()), body.frame()).await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}

/// The status that REST clients see for an error, with the one for sizes that HTTP has.
pub(super) fn status_of(err: &Error) -> StatusCode {
    StatusCode::from_u16(err.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A JSON body.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "application/json", body)
}

/// A body of some type.
pub(super) fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// A refusal as it is worded.
pub(super) fn worded(refusal: &Refusal) -> Answer {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_string(&refusal.body).unwrap_or_default();
    let mut answer = json(status, body);
    if let Some(seconds) = refusal.retry_after {
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if let Some(challenge) = refusal.challenge {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE { closing(answer) } else { answer }
}

/// No body.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(whole(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

/// An error outside of any method.
pub(super) fn plain(status: StatusCode, reason: &str) -> Answer {
    json(status, object(status, reason))
}

/// The path exists, but not for this verb.
pub(super) fn other_verbs(verbs: &[&'static str]) -> Answer {
    let refusal = (RestStyle::CORE.refuse)(&RestFault::Verb(verbs), &Captures::default());
    allowing(worded(&refusal), verbs)
}

/// With the verbs that the path takes.
pub(super) fn allowing(mut answer: Answer, verbs: &[&str]) -> Answer {
    if let Ok(verbs) = HeaderValue::from_str(&verbs.join(", ")) {
        answer.headers_mut().insert(ALLOW, verbs);
    }
    answer
}

fn object(status: StatusCode, reason: &str) -> String {
    serde_json::json!({ "reason": reason, "http_status": status.as_u16() }).to_string()
}

/// The connection ends with this answer: what is left of the request is not read.
fn closing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// What a connection beyond the limit is sent, whole.
pub(super) fn too_many_connections(limit: u32) -> String {
    let body = serde_json::json!({
        "reason": format!("connections: at most {limit}"), "limit": limit, "http_status": 503,
    });
    bare_answer("503 Service Unavailable\r\nretry-after: 1", &body.to_string())
}

/// What a connection that should be encrypted is sent, whole.
pub(super) fn tls_required() -> String {
    let body = object(StatusCode::BAD_REQUEST, "this port speaks TLS: use https:// or wss://");
    bare_answer("400 Bad Request", &body)
}

fn bare_answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
}
