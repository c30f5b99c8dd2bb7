//! The REST gateway: one route per bound method, no code per method.

use std::borrow::Cow;
use std::fmt::Write as _;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::http::{self, Answer};
use super::link::Link;
use super::route::{Found, Tree};
use crate::method::{Entry, Rest};
use crate::{Error, Result};

/// All routes.
#[derive(Debug)]
pub(super) struct Routes(Tree<(&'static Entry, Rest)>);

impl Routes {
    pub(super) fn new(methods: &'static [Entry]) -> Self {
        let mut tree = Tree::default();
        for entry in methods {
            let Some(rest) = entry.def.spec.rest else { continue };
            if !tree.insert(rest.verb.as_str(), rest.path, (entry, rest)) {
                tracing::error!(method = entry.def.spec.name, path = rest.path, "route taken");
            }
        }
        Self(tree)
    }
}

/// Answers a request for a route, or says that there is none.
pub(super) async fn answer(link: &Link, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let (entry, rest, captures) =
        match link.shared.routes.0.find(parts.method.as_str(), parts.uri.path()) {
            Found::Route((entry, rest), captures) => (entry, rest, captures),
            Found::OtherVerbs(verbs) => return http::other_verbs(&verbs),
            Found::Nothing => {
                return http::plain(StatusCode::NOT_FOUND, "there is nothing at this path");
            }
        };
    let answer = match http::read(link, body).await {
        Ok(body) => match params(entry, &body, parts.uri.query().unwrap_or_default(), &captures) {
            Ok(params) => entry.call(link.cx(), &params).await,
            Err(err) => Err(err),
        },
        Err(err) => Err(err),
    };
    match answer {
        Ok(result) => {
            let status = StatusCode::from_u16(rest.status).unwrap_or_default();
            http::json(status, String::from(Box::<str>::from(result)))
        }
        Err(err) => http::refused(&err),
    }
}

/// Merges body, query and path into the text of one object; the later wins.
fn params(entry: &Entry, body: &[u8], query: &str, captures: &[(&str, &str)]) -> Result<String> {
    let body = std::str::from_utf8(body).map_err(|_| Error::params("", "the body is not UTF-8"))?;
    let body = if body.trim_ascii().is_empty() { "{}" } else { body };
    let body: Members<'_> = serde_json::from_str(body)
        .map_err(|err| Error::params("", format!("the body must be a JSON object: {err}")))?;
    let mut given: Vec<(Cow<'_, str>, Value)> = Vec::new();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
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
    for (name, text) in captures {
        let text = decoded(text).ok_or_else(|| Error::params(*name, "malformed in the path"))?;
        let field = entry.shape.field(name);
        given.retain(|(taken, _)| taken != name);
        given.push((
            Cow::Borrowed(*name),
            field.map_or_else(|| Value::from(&*text), |field| field.coerce(&text)),
        ));
    }
    let mut object = String::from("{");
    let mut add = |name: &str, json: &dyn std::fmt::Display| {
        let comma = if object.len() > 1 { "," } else { "" };
        // Writing to a string does not fail.
        let _ = write!(object, "{comma}{}:{json}", Value::from(name));
    };
    for (name, json) in &body.0 {
        if given.iter().all(|(taken, _)| taken != name) {
            add(name, json);
        }
    }
    for (name, value) in &given {
        add(name, value);
    }
    object.push('}');
    Ok(object)
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

/// Undoes percent-encoding; none when what results is not UTF-8.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face;

    fn merged(body: &str, query: &str, captures: &[(&str, &str)]) -> Value {
        let entry = face::entries().iter().find(|e| e.def.spec.name == "rpc.discover").unwrap();
        serde_json::from_str(&params(entry, body.as_bytes(), query, captures).unwrap()).unwrap()
    }

    #[test]
    fn the_path_wins_over_the_query_and_that_over_the_body() {
        let got = merged(r#"{"a":1,"b":[2],"c":3}"#, "b=x&profile=7", &[("c", "a%20b")]);
        assert_eq!(got, serde_json::json!({ "a": 1, "b": "x", "profile": "7", "c": "a b" }));
        assert_eq!(merged("", "", &[]), serde_json::json!({}));
    }

    #[test]
    fn broken_encodings_are_refused() {
        assert_eq!(decoded("a%2Fb").unwrap(), "a/b");
        assert!(decoded("%").is_none() && decoded("%zz").is_none() && decoded("%ff").is_none());
        let entry = &face::entries()[0];
        assert!(params(entry, b"[1]", "", &[]).is_err());
        assert!(params(entry, b"{}", "a=1&a=2", &[]).is_err());
    }
}
