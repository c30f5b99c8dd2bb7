//! REST requests as a method sees them, and what a mirrored system does its own way.

use std::borrow::Cow;

use bytes::Bytes;

use crate::Error;
use crate::config::Config;
use crate::error::Refusal;

/// What the routes of one face do their own way.
#[derive(Debug)]
pub struct RestStyle {
    /// Largest request body, bytes.
    pub max_body_bytes: fn(&Config) -> u32,
    /// Bodies are JSON whatever `Content-Type` says.
    pub any_media_type: bool,
    /// `/path/` is `/path`.
    pub trailing_slash: bool,
    /// Pages of every origin may call: `Access-Control-Allow-Origin: *`.
    pub any_origin: bool,
    /// Words a refusal; `captures` are those of the path, as far as it led.
    pub refuse: fn(fault: &RestFault<'_>, captures: &Captures<'_>) -> Refusal,
}

/// Why a REST request is refused.
#[derive(Debug)]
pub enum RestFault<'a> {
    /// The path does not take this verb; these it takes.
    Verb(&'a [&'static str]),
    /// The body is not of a type that the route reads.
    MediaType,
    /// The body is larger than this many bytes.
    TooLarge(u32),
    /// The params do not fit, or the method failed. An [`Error::Refused`] never gets here.
    Error(&'a Error),
}

impl RestFault<'_> {
    /// The status, where the face does not choose another.
    pub fn status(&self) -> u16 {
        match self {
            Self::Verb(_) => 405,
            Self::MediaType => 415,
            Self::TooLarge(_) => 413,
            Self::Error(err) => err.http(),
        }
    }
}

/// What the variable segments of a path stand for, still percent-encoded.
#[derive(Clone, Debug, Default)]
pub struct Captures<'a>(pub Vec<(&'a str, &'a str)>);

impl Captures<'_> {
    /// The text of a capture, percent-decoded once; none when there is no such capture, or when
    /// what results is not UTF-8.
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let (_, text) = self.0.iter().find(|(taken, _)| *taken == name)?;
        percent_decoded(text)
    }
}

/// A request that a route takes.
#[derive(Debug)]
pub struct RestRequest<'a> {
    /// The path, still percent-encoded.
    pub path: &'a str,
    /// What the path says.
    pub captures: Captures<'a>,
    /// The query, without the question mark.
    pub query: &'a str,
    /// The value of `Content-Type`.
    pub media_type: Option<&'a str>,
    /// The body.
    pub body: Bytes,
}

/// Undoes percent-encoding; none when it is broken, or when what results is not UTF-8.
pub fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
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
        // Not a sign, which the number parser would take.
        let digits = std::str::from_utf8(digits).ok().filter(|two| !two.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

impl RestStyle {
    /// The core face's: the body of a refusal is the data of the JSON-RPC error.
    pub const CORE: Self = Self {
        max_body_bytes: |config| config.max_body_bytes,
        any_media_type: false,
        trailing_slash: false,
        any_origin: false,
        refuse: core_refusal,
    };
}

fn core_refusal(fault: &RestFault<'_>, _: &Captures<'_>) -> Refusal {
    let (code, reason) = match fault {
        RestFault::Verb(_) => {
            (crate::Code::MethodNotFound, "the path does not take this method".to_owned())
        }
        RestFault::MediaType => {
            (crate::Code::InvalidParams, "Content-Type must be application/json".to_owned())
        }
        RestFault::TooLarge(limit) => {
            let limit = u64::from(*limit);
            let err = Error::Limit { what: "bytes in a request".to_owned(), limit };
            return core_refusal(&RestFault::Error(&err), &Captures::default());
        }
        RestFault::Error(err) => {
            let body = err.data().as_object().cloned().unwrap_or_default();
            let refusal = Refusal::new(err.code(), err.http(), body);
            let challenge = matches!(err, Error::Unauthenticated).then_some("Bearer");
            return Refusal { retry_after: err.retry_after(), challenge, ..refusal };
        }
    };
    let status = fault.status();
    let mut body = serde_json::Map::new();
    body.insert("reason".to_owned(), reason.into());
    body.insert("http_status".to_owned(), status.into());
    Refusal::new(code, status, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_encodings_are_no_text() {
        assert_eq!(percent_decoded("a%2Fb").unwrap(), "a/b");
        for broken in ["%", "%z", "%zz", "%ff", "%+1", "a%2"] {
            assert!(percent_decoded(broken).is_none(), "{broken}");
        }
    }
}
