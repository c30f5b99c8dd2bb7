//! Reads params, and says in the caller's terms why they do not fit.

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Reads a params type off one JSON object.
///
/// # Errors
/// [`Error::Params`] with the path of the field and what it must be.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    // The path is worked out only when there is something to say.
    serde_json::from_str(text).map_err(|_| {
        let mut reader = serde_json::Deserializer::from_str(text);
        match serde_path_to_error::deserialize::<_, T>(&mut reader) {
            Err(err) => explain(&err.path().to_string(), &err.inner().to_string()),
            Ok(_) => Error::params("", "one JSON object"),
        }
    })
}

/// A reader's own words in the caller's terms.
pub(super) fn worded(err: &serde_json::Error) -> Error {
    explain("", &err.to_string())
}

fn explain(path: &str, message: &str) -> Error {
    let path = path.trim_matches('.');
    let message = message.rsplit_once(" at line ").map_or(message, |(text, _)| text);
    let below = |field: &str| match path {
        "" | "?" => field.to_owned(),
        path if path == field || path.ends_with(&format!(".{field}")) => path.to_owned(),
        path => format!("{path}.{field}"),
    };
    if let Some(field) = quoted(message, "missing field ") {
        return Error::params(below(field), "required");
    }
    if let Some(field) = quoted(message, "unknown field ") {
        let known = message.split_once("expected ").map_or("no such field", |(_, known)| known);
        return Error::params(below(field), format!("unknown; expected {known}"));
    }
    if let Some(field) = quoted(message, "duplicate field ") {
        return Error::params(below(field), "given twice");
    }
    if message.starts_with("recursion limit") {
        return Error::params(path, "nested too deeply");
    }
    let split = message.split_once(", expected ").or_else(|| message.split_once("; expected "));
    match split {
        Some((got, wanted)) => {
            let got = got.split_once(": ").map_or(got, |(_, got)| got);
            let got = got.strip_prefix("unknown variant ").unwrap_or(got);
            Error::params(path, format!("must be {}, not {}", plain(wanted), shortened(got)))
        }
        None => Error::params(path, shortened(message)),
    }
}

/// What stands in backticks after `lead`.
fn quoted<'a>(message: &'a str, lead: &str) -> Option<&'a str> {
    let rest = message.strip_prefix(lead)?.strip_prefix('`')?;
    Some(rest.split_once('`').map_or(rest, |(name, _)| name))
}

/// Types of the language in words.
fn plain(wanted: &str) -> &str {
    match wanted {
        "u8" => "an integer from 0 to 255",
        "u16" => "an integer from 0 to 65535",
        "u32" => "an integer from 0 to 4294967295",
        "u64" | "usize" => "an integer from 0 to 18446744073709551615",
        "i32" => "an integer from -2147483648 to 2147483647",
        "i64" => "a whole number of 64 bits",
        "a sequence" => "an array",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

/// Long values are not echoed in full.
fn shortened(text: &str) -> String {
    const MOST: usize = 120;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Create {
        context_id: u32,
        job: Job,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Job {
        retries: u8,
        kind: Kind,
        #[serde(default)]
        depends: Vec<u32>,
        #[serde(default)]
        env: BTreeMap<String, String>,
    }

    #[derive(Debug, Deserialize)]
    enum Kind {
        Osis,
        Sal,
    }

    fn refusal(text: &str) -> (String, String) {
        match parse::<Create>(text) {
            Err(Error::Params { field, reason }) => (field, reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_refusal_names_the_field_and_what_it_must_be() {
        let cases = [
            (r#"{"context_id":1}"#, "job", "required"),
            (r#"{"context_id":1,"job":{"kind":"Osis"}}"#, "job.retries", "required"),
            (
                r#"{"context_id":1,"job":{"kind":"Osis","retries":300}}"#,
                "job.retries",
                "must be an integer from 0 to 255, not integer `300`",
            ),
            (
                r#"{"context_id":1,"job":{"kind":"Perl","retries":3}}"#,
                "job.kind",
                "must be `Osis` or `Sal`, not `Perl`",
            ),
            (
                r#"{"context_id":1,"job":{"kind":"Sal","retries":3,"depends":[1,-2]}}"#,
                "job.depends[1]",
                "must be an integer from 0 to 4294967295, not integer `-2`",
            ),
            (
                r#"{"context_id":1,"job":{"kind":"Sal","retries":3,"env":{"A":1}}}"#,
                "job.env.A",
                "must be a string, not integer `1`",
            ),
            (r#"{"context_id":1,"jobs":{}}"#, "jobs", "unknown; expected `context_id` or `job`"),
            (r#"{"context_id":1,"context_id":2}"#, "context_id", "given twice"),
        ];
        for (text, field, reason) in cases {
            assert_eq!(refusal(text), (field.to_owned(), reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn unknown_members_inside_objects_are_ignored() {
        assert!(
            parse::<Create>(r#"{"context_id":1,"job":{"kind":"Sal","retries":3,"new":[]}}"#)
                .is_ok()
        );
    }

    #[test]
    fn long_values_are_cut() {
        let text = format!(r#"{{"context_id":"{}"}}"#, "é".repeat(10_000));
        assert!(refusal(&text).1.len() < 600);
    }
}
