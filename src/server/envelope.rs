//! The JSON-RPC envelope: what a request is, and how an answer is written.

use std::borrow::Cow;

use jsonrpsee::types::ErrorObjectOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::Code;
use crate::error::bare;

/// A call as it came, nothing copied.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    /// The id as JSON text; none when no answer is wanted.
    pub(super) id: Option<&'a str>,
    pub(super) method: Cow<'a, str>,
    /// The params as JSON text, empty when left out.
    pub(super) params: &'a str,
}

/// A request that is none: the id to answer with, and the error.
#[derive(Debug)]
pub(super) struct Malformed<'a> {
    pub(super) id: &'a str,
    pub(super) error: ErrorObjectOwned,
}

impl<'a> Malformed<'a> {
    pub(super) fn new(code: Code, reason: impl Into<String>) -> Self {
        Self { id: "null", error: bare(code, reason) }
    }

    pub(super) fn reply(&self) -> String {
        failure(self.id, &self.error)
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
}

/// An explicit null is not the same as nothing.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(reader: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(reader).map(Some)
}

impl<'a> Envelope<'a> {
    /// Reads one request.
    pub(super) fn read(text: &'a str) -> Result<Self, Malformed<'a>> {
        let invalid = |reason: &str| Malformed::new(Code::InvalidRequest, reason);
        if !text.starts_with('{') {
            return Err(match serde_json::from_str::<&RawValue>(text) {
                Ok(_) => invalid("a request is an object"),
                Err(err) => Malformed::new(Code::ParseError, err.to_string()),
            });
        }
        let wire: Wire<'a> = serde_json::from_str(text).map_err(|err| {
            let code = if err.is_data() { Code::InvalidRequest } else { Code::ParseError };
            Malformed::new(code, err.to_string())
        })?;
        let id = wire.id.map(RawValue::get);
        if id.is_some_and(|id| !is_id(id)) {
            return Err(invalid("id must be a string, a non-negative integer or null"));
        }
        let echo = |reason: &str| Malformed { id: id.unwrap_or("null"), ..invalid(reason) };
        if wire.jsonrpc.is_none_or(|version| version.get() != "\"2.0\"") {
            return Err(echo("jsonrpc must be \"2.0\""));
        }
        let method = wire.method.and_then(|method| string(method.get()));
        let method = method.ok_or_else(|| echo("method must be a string"))?;
        Ok(Self { id, method, params: wire.params.map_or("", RawValue::get) })
    }
}

/// Whether JSON text is an id that may be used.
fn is_id(text: &str) -> bool {
    text == "null" || text.starts_with('"') || text.bytes().all(|b| b.is_ascii_digit())
}

/// The string that JSON text is, without a copy where nothing is escaped.
fn string(text: &str) -> Option<Cow<'_, str>> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(text).ok() } else { Some(inner.into()) }
}

/// The entries of a batch, unread.
pub(super) fn entries(text: &str, most: u32) -> Result<Vec<&RawValue>, Malformed<'static>> {
    let entries: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|err| Malformed::new(Code::ParseError, err.to_string()))?;
    if entries.is_empty() {
        return Err(Malformed::new(Code::InvalidRequest, "the batch is empty"));
    }
    if u32::try_from(entries.len()).is_ok_and(|count| count <= most) {
        return Ok(entries);
    }
    let what = "calls in one batch".to_owned();
    let error = crate::Error::Limit { what, limit: most.into() };
    Err(Malformed { id: "null", error: error.into() })
}

/// A good answer.
pub(super) fn success(id: &str, result: &str) -> String {
    let mut text = String::with_capacity(id.len() + result.len() + 36);
    text.push_str(r#"{"jsonrpc":"2.0","id":"#);
    text.push_str(id);
    text.push_str(r#","result":"#);
    text.push_str(result);
    text.push('}');
    text
}

/// An error as the answer.
pub(super) fn failure(id: &str, error: &ErrorObjectOwned) -> String {
    let error = serde_json::to_string(error)
        .unwrap_or_else(|_| r#"{"code":-32603,"message":"Internal error"}"#.to_owned());
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> (i32, String) {
        let refused = Envelope::read(text).unwrap_err();
        (refused.error.code(), refused.id.to_owned())
    }

    #[test]
    fn ids_are_strings_non_negative_integers_or_null() {
        for id in ["1", "0", "18446744073709551616", r#""a""#, r#""""#, "null"] {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"m","id":{id}}}"#);
            assert_eq!(Envelope::read(&text).unwrap().id, Some(id));
        }
        for id in ["-1", "1.5", "1e3", "{}", "[]", "true", "false"] {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"m","id":{id}}}"#);
            assert_eq!(code(&text), (-32600, "null".to_owned()), "{id}");
        }
        assert!(Envelope::read(r#"{"jsonrpc":"2.0","method":"m"}"#).unwrap().id.is_none());
    }

    #[test]
    fn what_is_no_request_is_told_apart_from_what_is_no_json() {
        assert_eq!(code("{}").0, -32600);
        assert_eq!(code("7").0, -32600);
        assert_eq!(code("[]").0, -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":"x","method":7}"#), (-32600, r#""x""#.to_owned()));
        assert_eq!(code(r#"{"jsonrpc":"1.0","id":3,"method":"m"}"#), (-32600, "3".to_owned()));
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":3,"id":4,"method":"m"}"#).0, -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","method""#).0, -32700);
        assert_eq!(code("nope").0, -32700);
        assert_eq!(code(r#"{"jsonrpc":"2.0","method":"m","id":1} x"#).0, -32700);
    }

    #[test]
    fn method_names_may_be_escaped() {
        let text = r#"{"jsonrpc":"2.0","method":"job\u002eload","params":null,"id":1}"#;
        let envelope = Envelope::read(text).unwrap();
        assert_eq!((&*envelope.method, envelope.params), ("job.load", "null"));
    }

    #[test]
    fn deep_params_are_no_danger() {
        let deep = "[".repeat(100_000) + "]".repeat(100_000).as_str();
        let text = format!(r#"{{"jsonrpc":"2.0","method":"m","params":{deep},"id":1}}"#);
        assert!(Envelope::read(&text).is_ok());
    }

    #[test]
    fn batches_have_bounds() {
        assert_eq!(entries("[]", 2).unwrap_err().error.code(), -32600);
        assert_eq!(entries("[1,2,3]", 2).unwrap_err().error.code(), -32005);
        assert_eq!(entries("[1,2", 2).unwrap_err().error.code(), -32700);
        assert_eq!(entries("[1,2]", 2).unwrap().len(), 2);
    }
}
