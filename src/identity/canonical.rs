//! Canonical JSON (RFC 8785): sorted keys, no white space, one spelling of each number.

use super::Json;

/// The canonical form of a value, without one of its members when it is an object.
///
/// Numbers are those of JavaScript there: integers beyond 2^53 lose their last digits, so two
/// different contents can have one form.
///
/// # Errors
/// When a number has no such form.
pub fn encode_without(value: &Json, left_out: &[&str]) -> Result<Vec<u8>, serde_json::Error> {
    let mut plain = serde_json::Value::from(value);
    if let serde_json::Value::Object(members) = &mut plain {
        members.retain(|key, _| !left_out.contains(&key.as_str()));
    }
    serde_json_canonicalizer::to_vec(&plain)
}
