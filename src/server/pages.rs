//! Pages for people and machines: what this is, health, readiness, metrics.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::{Method, Request, StatusCode};
use serde_json::json;
use tokio::time::timeout;

use super::http::{self, Answer};
use super::link::Link;
use crate::model::Millis;
use crate::store::PROBES;

/// How long a commit may take while the coordinator calls itself ready.
const READY_LIMIT: Duration = Duration::from_secs(2);
/// How long one commit counts, milliseconds.
const READY_COUNTS: Millis = 500;
const READY: &str = r#"{"status":"ready"}"#;
/// The text at `/`.
const FRONT: &str = concat!(
    "Muster ",
    env!("CARGO_PKG_VERSION"),
    "\n\nJSON-RPC    POST / (and over WebSocket on the other port)\n",
    "Reference   GET /openrpc.json, /openapi.json\n",
    "Health      GET /health, /ready\n",
    "Metrics     GET /metrics\n",
);

/// The compute face for its REST clients.
const COMPUTE: &str = include_str!("../../specs/dcp-openapi.yaml");

/// The page at this path, if there is one.
pub(super) async fn answer<B>(link: &Link, request: &Request<B>) -> Option<Answer> {
    let path = request.uri().path();
    if is_open_at(path) {
        return Some(compute_document(request));
    }
    if !matches!(path, "/" | "/health" | "/livez" | "/ready" | "/readyz" | "/metrics") {
        return None;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let verbs: &[&str] = if path == "/" { &["GET", "POST"] } else { &["GET"] };
        return Some(http::other_verbs(verbs));
    }
    Some(match path {
        "/" => http::typed(StatusCode::OK, "text/plain; charset=utf-8", FRONT),
        "/health" | "/livez" => http::json(StatusCode::OK, r#"{"status":"ok"}"#),
        "/metrics" => metrics(link),
        _ => ready(link).await,
    })
}

/// Whether pages of every site may read what is at this path.
pub(super) fn is_open_at(path: &str) -> bool {
    matches!(path, "/spec" | "/spec/")
}

/// The OpenAPI document of the compute face, where its clients look for it.
fn compute_document<B>(request: &Request<B>) -> Answer {
    match *request.method() {
        Method::GET | Method::HEAD => {
            http::typed(StatusCode::OK, "text/yaml; charset=utf-8", COMPUTE)
        }
        _ => http::other_verbs(&["GET"]),
    }
}

fn metrics(link: &Link) -> Answer {
    let app = &link.shared.app;
    app.gather();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    http::typed(StatusCode::OK, kind, app.metrics.render())
}

/// Ready is who can commit: so it commits something.
async fn ready(link: &Link) -> Answer {
    let app = &link.shared.app;
    if *app.stopping.borrow() {
        return not_ready("stopping");
    }
    let (now, ready_at) = ((app.now)(), &link.shared.ready_at);
    // Anybody may ask, as often as he likes: not each time is something written.
    let since = now.checked_sub(ready_at.load(Ordering::Relaxed));
    if since.is_some_and(|since| since < READY_COUNTS) {
        return http::json(StatusCode::OK, READY);
    }
    let probe = app.engine.change(move |turn| turn.put(PROBES, &0, &now).map_err(Into::into));
    match timeout(READY_LIMIT, probe).await {
        Ok(Ok(())) => {
            ready_at.store(now, Ordering::Relaxed);
            http::json(StatusCode::OK, READY)
        }
        Ok(Err(err)) => {
            tracing::warn!(%err, "not ready: a commit failed");
            not_ready("a commit failed")
        }
        Err(_) => not_ready("a commit takes too long"),
    }
}

fn not_ready(reason: &str) -> Answer {
    let body = json!({ "status": "unavailable", "reason": reason, "http_status": 503 });
    http::json(StatusCode::SERVICE_UNAVAILABLE, body.to_string())
}
