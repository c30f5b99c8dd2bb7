//! The REST gateway: one route per bound method, no code per method.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, StatusCode};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::http::{self, Answer};
use super::link::Link;
use super::room::Held;
use super::route::{Found, Tree};
use super::sse;
use crate::app::Cx;
use crate::method::{
    Captures, Entry, Rest, RestFault, RestRequest, RestStyle, Run, percent_decoded,
};
use crate::{Error, Result};

/// All routes.
#[derive(Debug)]
pub(super) struct Routes {
    calls: Tree<(&'static Entry, Rest)>,
    /// Subscriptions, that can be followed as server-sent events.
    streams: Tree<(&'static Entry, Rest)>,
}

impl Routes {
    pub(super) fn new(methods: &'static [Entry]) -> Self {
        let (mut calls, mut streams) = (Tree::default(), Tree::default());
        for entry in methods {
            let Some(rest) = entry.def.spec.rest else { continue };
            let tree = match entry.def.run {
                Run::Call(_) => &mut calls,
                Run::Open(_) => &mut streams,
            };
            for path in std::iter::once(&rest.path).chain(rest.also) {
                if !tree.insert(rest.verb.as_str(), path, (entry, rest)) {
                    tracing::error!(method = entry.def.spec.name, path, "route taken");
                }
            }
        }
        Self { calls, streams }
    }

    /// Finds the route of a request: a subscription's where events are asked for, or where there is
    /// nothing else at that path. `HEAD` is answered as `GET` is, without the body, which hyper
    /// leaves out; but a stream has no end.
    pub(super) fn find<'a>(&'a self, parts: &'a Parts) -> Found<'a, (&'static Entry, Rest)> {
        let path = parts.uri.path();
        let stream = self.streams.find(parts.method.as_str(), path);
        if matches!(stream, Found::Route(..)) && sse::is_asked_for(&parts.headers) {
            return stream;
        }
        let verb = if parts.method == Method::HEAD { Method::GET } else { parts.method.clone() };
        let verb = verb.as_str();
        // A style that tolerates one slash at the end is that of the route before the slash.
        let shorter = path.strip_suffix('/').filter(|shorter| !shorter.is_empty());
        match (self.calls.find(verb, path), shorter) {
            (Found::Nothing, Some(shorter)) => match self.calls.find(verb, shorter) {
                Found::Route((_, rest), _) if !rest.style.trailing_slash => Found::Nothing,
                found => found,
            },
            (Found::Nothing, None) => stream,
            (found, _) => found,
        }
    }

    /// Whether pages of every site may call what is at this path.
    ///
    /// So they may what would be there: a face that is open is so below its whole base path.
    pub(super) fn are_open_at(&self, path: &str) -> bool {
        self.style_at(path).is_some_and(|style| style.any_origin)
    }

    /// The style of the face that has this path, or would have it.
    fn style_at(&self, path: &str) -> Option<&'static RestStyle> {
        let nearest = self.calls.nearest(path).or_else(|| self.streams.nearest(path));
        nearest.map(|(_, rest)| rest.style)
    }
}

/// Answers a request for a route, or says that there is none.
pub(super) async fn answer(link: &Arc<Link>, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let (entry, rest, captures) = match link.shared.routes.find(&parts) {
        Found::Route((entry, rest), captures) => (*entry, *rest, Captures(captures)),
        Found::OtherVerbs { verbs, any: (_, rest), captures } => {
            let refusal = (rest.style.refuse)(&RestFault::Verb(&verbs), &Captures(captures));
            return http::allowing(http::worded(&refusal), &verbs);
        }
        Found::Nothing => return nothing_at(link, parts.uri.path()),
    };
    let style = rest.style;
    let cx = link.cx(&link.visitor(&parts.headers, &parts.extensions));
    let turn = link.take_turn(cx.caller).and_then(|()| entry.def.spec.take_turn(&cx));
    if let Err(err) = turn {
        http::discard(body).await;
        let mut refusal = (style.refuse)(&RestFault::Error(&err), &captures);
        refusal.retry_after = refusal.retry_after.or(err.retry_after());
        return http::worded(&refusal);
    }
    if matches!(entry.def.run, Run::Open(_)) {
        let query = parts.uri.query().unwrap_or_default();
        let path = parts.uri.path();
        let request = RestRequest { path, captures, query, media_type: None, body: Bytes::new() };
        return follow(link, cx, entry, &parts.headers, &request).await.unwrap_or_else(|err| {
            http::worded(&match err {
                Error::Refused(refusal) => *refusal,
                err => (style.refuse)(&RestFault::Error(&err), &request.captures),
            })
        });
    }
    let mut held = link.shared.room.begin();
    let answer = match take(link, &parts, body, style, &mut held).await {
        Ok(body) => {
            let request = RestRequest {
                path: parts.uri.path(),
                captures,
                query: parts.uri.query().unwrap_or_default(),
                media_type: parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()),
                body,
            };
            let merged = |request: &RestRequest<'_>| merged(entry, request);
            let answer = entry.call_rest(cx, &request, merged).await;
            answer.map_err(|err| match err {
                Error::Refused(refusal) => *refusal,
                err => (style.refuse)(&RestFault::Error(&err), &request.captures),
            })
        }
        Err(fault) => Err((style.refuse)(&fault.as_fault(), &captures)),
    };
    match answer {
        Ok(_) if rest.status == 204 => http::empty(StatusCode::NO_CONTENT),
        Ok((result, status)) => {
            let status = StatusCode::from_u16(status.unwrap_or(rest.status)).unwrap_or_default();
            http::json(status, String::from(Box::<str>::from(result)))
        }
        Err(refusal) => http::worded(&refusal),
    }
}

/// Says that there is no such path, in the words of the face that would have it.
fn nothing_at(link: &Link, path: &str) -> Answer {
    match link.shared.routes.style_at(path) {
        // Only a face that has a base path to itself speaks for all that is below.
        Some(style) if style.any_origin => {
            let err = Error::NotFound { kind: "path", id: path.to_owned() };
            http::worded(&(style.refuse)(&RestFault::Error(&err), &Captures::default()))
        }
        _ => http::plain(StatusCode::NOT_FOUND, "there is nothing at this path"),
    }
}

/// Follows a subscription.
async fn follow(
    link: &Arc<Link>,
    cx: Cx,
    entry: &Entry,
    headers: &HeaderMap,
    request: &RestRequest<'_>,
) -> Result<Answer> {
    // What is deep enough in the query is too deep one level further down.
    let mut params: Map<String, Value> = serde_json::from_str(&merged(entry, request)?)
        .map_err(|_| Error::params("", "nested too deeply"))?;
    if let Some(last) = sse::last_event_id(headers)?
        && entry.shape.field("since").is_some()
    {
        params.insert("since".to_owned(), last.into());
    }
    sse::answer(link, cx, entry, &Value::Object(params).to_string()).await
}

/// Why a body was not taken.
enum Untaken {
    MediaType,
    TooLarge(u32),
    Error(Error),
}

impl Untaken {
    fn as_fault(&self) -> RestFault<'_> {
        match self {
            Self::MediaType => RestFault::MediaType,
            Self::TooLarge(limit) => RestFault::TooLarge(*limit),
            Self::Error(err) => RestFault::Error(err),
        }
    }
}

/// Reads the body, if it is of a type and size that the route takes.
async fn take(
    link: &Link,
    parts: &Parts,
    body: Incoming,
    style: &RestStyle,
    held: &mut Held,
) -> Result<Bytes, Untaken> {
    let bodiless = hyper::body::Body::is_end_stream(&body);
    if !bodiless && !style.any_media_type && !http::is_json(parts.headers.get(CONTENT_TYPE)) {
        http::discard(body).await;
        return Err(Untaken::MediaType);
    }
    let limit = (style.max_body_bytes)(&link.shared.app.config);
    http::read(body, limit, held).await.map_err(|err| match err {
        Error::Limit { .. } => Untaken::TooLarge(limit),
        err => Untaken::Error(err),
    })
}

/// Merges body, query and path into the text of one object.
///
/// What two of them say must be the same: whoever looks at one of them only, such as a proxy that
/// admits requests by their path, must not be told something else than the method is.
pub(super) fn merged(entry: &Entry, request: &RestRequest<'_>) -> Result<String> {
    let body = std::str::from_utf8(&request.body)
        .map_err(|_| Error::params("", "the body is not UTF-8"))?;
    let body = if body.trim_ascii().is_empty() { "{}" } else { body };
    let body = match entry.def.spec.rest.and_then(|rest| rest.body) {
        Some(param) => {
            let whole = serde_json::from_str(body)
                .map_err(|err| Error::params(param, format!("the body must be JSON: {err}")))?;
            Members(vec![(param.to_owned(), whole)])
        }
        None => serde_json::from_str::<Members<'_>>(body)
            .map_err(|err| Error::params("", format!("the body must be a JSON object: {err}")))?,
    };
    let mut given: Vec<(Cow<'_, str>, Value)> = Vec::new();
    for pair in request.query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair_of_query(pair)?;
        let field = entry.shape.field(&name);
        let value = field.map_or_else(|| Value::from(&*text), |field| field.coerce(&text));
        let list = field.is_some_and(|field| field.is("array"));
        match given.iter_mut().find(|(taken, _)| *taken == name) {
            // A list may be given by naming it several times.
            Some((_, Value::Array(items))) if list => items.push(value),
            Some(_) => return Err(Error::params(name, "given twice")),
            None if list && !value.is_array() => given.push((name, Value::Array(vec![value]))),
            None => given.push((name, value)),
        }
    }
    for (name, text) in &request.captures.0 {
        let text =
            percent_decoded(text).ok_or_else(|| Error::params(*name, "malformed in the path"))?;
        let field = entry.shape.field(name);
        let value = field.map_or_else(|| Value::from(&*text), |field| field.coerce(&text));
        match given.iter().find(|(taken, _)| taken == name) {
            Some((_, same)) if *same == value => {}
            Some(_) => return Err(Error::params(*name, "not what the path says")),
            None => given.push((Cow::Borrowed(*name), value)),
        }
    }
    let mut object = String::from("{");
    let mut add = |name: &str, json: &dyn std::fmt::Display| {
        let comma = if object.len() > 1 { "," } else { "" };
        // Writing to a string does not fail.
        let _ = write!(object, "{comma}{}:{json}", Value::from(name));
    };
    for (name, json) in &body.0 {
        match given.iter().find(|(taken, _)| taken == name) {
            Some((_, value))
                if serde_json::from_str::<Value>(json.get()).ok().as_ref() == Some(value) => {}
            Some(_) => {
                return Err(Error::params(name, "not what the path or the query says"));
            }
            None => add(name, json),
        }
    }
    for (name, value) in &given {
        add(name, value);
    }
    object.push('}');
    Ok(object)
}

/// Name and value of one pair of a query.
fn pair_of_query(pair: &str) -> Result<(Cow<'_, str>, Cow<'_, str>)> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_decoded(&text).map(Cow::into_owned)
    };
    let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
    let name = decoded(name).ok_or_else(|| Error::params("", "the query is malformed"))?;
    match decoded(text) {
        Some(text) => Ok((name.into(), text.into())),
        None => Err(Error::params(name, "malformed in the query")),
    }
}

/// The members of an object in their order, values unread.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        reader.deserialize_map(Reader).map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face;

    fn merged(body: &str, query: &str, captures: &[(&str, &str)]) -> Value {
        let entry = face::entries().iter().find(|e| e.def.spec.name == "rpc.discover").unwrap();
        serde_json::from_str(&super::merged(entry, &request(body, query, captures)).unwrap())
            .unwrap()
    }

    fn request<'a>(body: &str, query: &'a str, captures: &[(&'a str, &'a str)]) -> RestRequest<'a> {
        let (captures, body) =
            (Captures(captures.to_vec()), Bytes::copy_from_slice(body.as_bytes()));
        RestRequest { path: "/", captures, query, media_type: None, body }
    }

    #[test]
    fn path_query_and_body_make_one_object() {
        let got = merged(r#"{"a":1,"d":"x y"}"#, "b=x+%2B&profile=7&d=x%20y&&", &[("c", "a%20b")]);
        let want =
            serde_json::json!({ "a": 1, "b": "x +", "profile": "7", "c": "a b", "d": "x y" });
        assert_eq!(got, want);
        assert_eq!(merged("", "", &[]), serde_json::json!({}));
        assert_eq!(merged(r#"{"c":"1"}"#, "c=1", &[("c", "1")]), serde_json::json!({ "c": "1" }));
    }

    #[test]
    fn what_path_query_and_body_say_differently_is_refused() {
        let entry = &face::entries()[0];
        for (body, query, path) in [
            (r#"{"c":2}"#, "", &[("c", "1")][..]),
            (r#"{"c":2}"#, "c=1", &[]),
            ("{}", "c=2", &[("c", "1")]),
        ] {
            assert!(super::merged(entry, &request(body, query, path)).is_err(), "{body} {query}");
        }
    }

    #[test]
    fn what_is_no_object_or_comes_twice_is_refused() {
        let entry = &face::entries()[0];
        assert!(super::merged(entry, &request("[1]", "", &[])).is_err());
        assert!(super::merged(entry, &request("{}", "a=1&a=2", &[])).is_err());
        assert!(super::merged(entry, &request("{}", "", &[("id", "%ff")])).is_err());
        for query in ["a=%ff", "a=%zz", "a=%", "%ff=1", "a=1&%C0%80=2"] {
            assert!(super::merged(entry, &request("{}", query, &[])).is_err(), "{query}");
        }
    }
}
