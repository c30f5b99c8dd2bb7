//! What the fuzz targets need of the gateway.

use std::sync::LazyLock;

use hyper::Request;
use hyper::body::Bytes;

use super::rest::{Routes, merged};
use super::route::Found;
use crate::face;
use crate::method::{Captures, RestRequest};

/// Finds the route of a request, decodes its path and query, and merges them with the body into
/// the params of the method; the params, if all that goes well.
pub fn gateway(verb: &str, target: &str, body: &[u8]) -> Option<String> {
    static ROUTES: LazyLock<Routes> = LazyLock::new(|| Routes::new(face::entries()));
    let request = Request::builder().method(verb).uri(target).body(()).ok()?;
    let (parts, ()) = request.into_parts();
    let Found::Route((entry, rest), captures) = ROUTES.find(&parts) else { return None };
    let request = RestRequest {
        path: "/",
        captures: Captures(captures),
        query: parts.uri.query().unwrap_or_default(),
        media_type: None,
        body: Bytes::copy_from_slice(body),
    };
    for (name, _) in &request.captures.0 {
        let _ = request.captures.get(name);
    }
    let fault = crate::method::RestFault::MediaType;
    let _ = (rest.style.refuse)(&fault, &request.captures);
    merged(entry, &request).ok()
}
