//! The REST gateway: one route per bound method, no code per method.

use std::fmt::Display;
use std::sync::Arc;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use serde_json::{Map, Value};

use crate::app::{App, Caller};
use crate::face;
use crate::method::{Entry, Rest, Verb};
use crate::{Error, Result};

const MAX_BODY: usize = 1 << 20;

/// All routes.
pub(super) fn router() -> Router<Arc<App>> {
    face::entries().iter().fold(Router::new(), |router, entry| match entry.def.spec.rest {
        None => router,
        Some(rest) => {
            let filter = match rest.verb {
                Verb::Get => MethodFilter::GET,
                Verb::Post => MethodFilter::POST,
                Verb::Put => MethodFilter::PUT,
                Verb::Delete => MethodFilter::DELETE,
            };
            let answer = move |State(app), req| async move { answer(entry, rest, app, req).await };
            router.route(rest.path, on(filter, answer))
        }
    })
}

async fn answer(entry: &'static Entry, rest: Rest, app: Arc<App>, req: Request) -> Response {
    let caller = req.extensions().get::<Caller>().copied().unwrap_or_default();
    let answer = match params(entry, req).await {
        Ok(params) => entry.call(app, caller, &params.to_string()).await,
        Err(err) => Err(err),
    };
    let (status, body) = match answer {
        Ok(body) => (rest.status, body.get().to_owned()),
        Err(err) => (err.code().http(), err.data().to_string()),
    };
    let status = StatusCode::from_u16(status).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Merges body, query and path into one object; the later wins.
async fn params(entry: &Entry, req: Request) -> Result<Value> {
    let (mut parts, body) = req.into_parts();
    let path = RawPathParams::from_request_parts(&mut parts, &()).await.map_err(bad)?;
    let body = to_bytes(body, MAX_BODY).await.map_err(bad)?;
    let mut params: Map<String, Value> =
        if body.is_empty() { Map::new() } else { serde_json::from_slice(&body).map_err(bad)? };
    let mut set = |name: &str, text: &str| {
        let field = entry.shape.field(name);
        params.insert(name.to_owned(), field.map_or_else(|| text.into(), |f| f.coerce(text)));
    };
    for (name, text) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
        set(&name, &text);
    }
    for (name, text) in &path {
        set(name, text);
    }
    Ok(Value::Object(params))
}

fn bad(err: impl Display) -> Error {
    Error::params("", err.to_string())
}
