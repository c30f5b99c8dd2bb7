//! The JSON-RPC envelope, checked before jsonrpsee reads it.
//!
//! jsonrpsee takes a call with an odd id for a notification, and answers what is no request without
//! `data` and with codes of its own. Such messages are replaced, here, by a call of a method that
//! nobody else can name and that is answered with the right error.

use std::borrow::Cow;
use std::sync::LazyLock;

use jsonrpsee::types::ErrorObjectOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::Code;
use crate::error::bare;
use crate::method::first_elements;

/// The method that answers with the error in its params; nobody can guess its name.
pub(super) static REFUSED: LazyLock<String> = LazyLock::new(|| {
    let letters = std::iter::repeat_with(fastrand::alphanumeric).take(24);
    format!("refused.{}", letters.collect::<String>())
});

/// A call that is answered with `error`, under an id given as JSON text.
pub(super) fn refusal(id: &str, error: &ErrorObjectOwned) -> String {
    let (method, error) = (REFUSED.as_str(), text_of(error));
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{error}}}"#)
}

/// A message that jsonrpsee may read: as it is, where nothing is wrong with it.
pub(super) fn admitted(message: &[u8], max_batch: u32) -> Cow<'_, [u8]> {
    let refused = |refused: &Malformed<'_>| Cow::Owned(refused.call().into_bytes());
    let Ok(text) = std::str::from_utf8(message) else {
        return refused(&Malformed::new(Code::ParseError, "not UTF-8"));
    };
    let text = text.trim_ascii();
    if !text.starts_with('[') {
        return match check(text) {
            Ok(()) => Cow::Borrowed(text.as_bytes()),
            Err(malformed) => refused(&malformed),
        };
    }
    let entries = match entries(text, max_batch) {
        Ok(entries) => entries,
        Err(malformed) => return refused(&malformed),
    };
    if entries.iter().all(|entry| check(entry.get()).is_ok()) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut batch = String::with_capacity(text.len());
    for entry in entries {
        batch.push(if batch.is_empty() { '[' } else { ',' });
        match check(entry.get()) {
            Ok(()) => batch.push_str(entry.get()),
            Err(malformed) => batch.push_str(&malformed.call()),
        }
    }
    batch.push(']');
    Cow::Owned(batch.into_bytes())
}

/// A request that is none: the id to answer with, and the error.
#[derive(Debug)]
struct Malformed<'a> {
    id: &'a str,
    error: ErrorObjectOwned,
}

impl<'a> Malformed<'a> {
    fn new(code: Code, reason: impl Into<String>) -> Self {
        Self { id: "null", error: bare(code, reason) }
    }

    fn call(&self) -> String {
        refusal(self.id, &self.error)
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
    /// Not looked at, but it may be there only once.
    #[serde(borrow, default, rename = "params", deserialize_with = "present")]
    _params: Option<&'a RawValue>,
}

/// An explicit null is not the same as nothing.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(reader: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(reader).map(Some)
}

/// Checks one request.
fn check(text: &str) -> Result<(), Malformed<'_>> {
    let invalid = |reason: &str| Malformed::new(Code::InvalidRequest, reason);
    if !text.starts_with('{') {
        return Err(match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => invalid("a request is an object"),
            Err(err) => Malformed::new(Code::ParseError, err.to_string()),
        });
    }
    let wire: Wire<'_> = serde_json::from_str(text).map_err(|err| {
        let code = if err.is_data() { Code::InvalidRequest } else { Code::ParseError };
        Malformed::new(code, err.to_string())
    })?;
    let id = wire.id.map(RawValue::get);
    if id.is_some_and(|id| !is_id(id)) {
        return Err(invalid("id must be a string, a non-negative integer of 64 bits or null"));
    }
    let echo = |reason: &str| Malformed { id: id.unwrap_or("null"), ..invalid(reason) };
    if wire.jsonrpc.is_none_or(|version| version.get() != "\"2.0\"") {
        return Err(echo("jsonrpc must be \"2.0\""));
    }
    if !wire.method.is_some_and(|method| is_string(method.get())) {
        return Err(echo("method must be a string"));
    }
    Ok(())
}

/// Whether JSON text is an id that may be used.
fn is_id(text: &str) -> bool {
    text == "null" || is_string(text) || text.parse::<u64>().is_ok()
}

/// Whether JSON text is a string, and one without halves of characters.
fn is_string(text: &str) -> bool {
    text.starts_with('"') && (!text.contains("\\u") || serde_json::from_str::<String>(text).is_ok())
}

/// The entries of a batch, unread.
fn entries(text: &str, most: u32) -> Result<Vec<&RawValue>, Malformed<'static>> {
    let room = usize::try_from(most).unwrap_or(usize::MAX);
    let entries = first_elements(text, room)
        .map_err(|err| Malformed::new(Code::ParseError, err.to_string()))?;
    if entries.as_ref().is_some_and(Vec::is_empty) {
        return Err(Malformed::new(Code::InvalidRequest, "the batch is empty"));
    }
    if let Some(entries) = entries {
        return Ok(entries);
    }
    let what = "calls in one batch".to_owned();
    let error = crate::Error::Limit { what, limit: most.into() };
    Err(Malformed { id: "null", error: error.into() })
}

/// An error as the answer.
pub(super) fn failure(id: &str, error: &ErrorObjectOwned) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{}}}"#, text_of(error))
}

fn text_of(error: &ErrorObjectOwned) -> String {
    serde_json::to_string(error)
        .unwrap_or_else(|_| r#"{"code":-32603,"message":"Internal error"}"#.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> (i32, String) {
        let refused = check(text).unwrap_err();
        (refused.error.code(), refused.id.to_owned())
    }

    #[test]
    fn ids_are_strings_non_negative_integers_or_null() {
        for id in ["1", "0", "18446744073709551615", r#""a""#, r#""""#, "null", r#""\u00e4""#] {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"m","id":{id}}}"#);
            assert_eq!(admitted(text.as_bytes(), 1), text.as_bytes());
        }
        for id in ["-1", "1.5", "1e3", "{}", "[]", "true", "18446744073709551616", r#""\ud800""#] {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"m","id":{id}}}"#);
            assert_eq!(code(&text), (-32600, "null".to_owned()), "{id}");
        }
        assert!(check(r#"{"jsonrpc":"2.0","method":"m"}"#).is_ok());
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
    fn deep_params_are_no_danger() {
        let deep = "[".repeat(100_000) + "]".repeat(100_000).as_str();
        let text = format!(r#"{{"jsonrpc":"2.0","method":"m","params":{deep},"id":1}}"#);
        assert!(check(&text).is_ok());
    }

    #[test]
    fn batches_have_bounds() {
        assert_eq!(entries("[]", 2).unwrap_err().error.code(), -32600);
        assert_eq!(entries("[1,2,3]", 2).unwrap_err().error.code(), -32005);
        assert_eq!(entries("[1,2", 2).unwrap_err().error.code(), -32700);
        assert_eq!(entries("[1,2]", 2).unwrap().len(), 2);
    }

    #[test]
    fn only_what_is_malformed_is_replaced() {
        let good = r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#;
        let batch = format!(" [{good},{{}},{good}]");
        let batch = admitted(batch.as_bytes(), 3);
        let batch: Vec<&RawValue> = serde_json::from_slice(&batch).unwrap();
        assert_eq!((batch[0].get(), batch[2].get()), (good, good));
        assert!(check(batch[1].get()).is_ok());
        assert!(batch[1].get().contains(REFUSED.as_str()));
    }
}
