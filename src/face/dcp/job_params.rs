//! Bodies and queries of job routes, read by hand: what is wrong is said in this face's words.

use serde_json::{Map, Value};

use super::refuse;
use crate::Result;
use crate::method::RestRequest;

/// The members of a body that may be left out, for routes whose bodies are small.
///
/// # Errors
/// 400 when it is no JSON object.
pub(super) fn members(body: &[u8]) -> Result<Map<String, Value>> {
    if body.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body)
        .map_err(|err| refuse(400, format!("the body must be a JSON object: {}", shape(&err))))
}

/// The values of a name in the query, in order.
pub(super) fn query(request: &RestRequest<'_>, name: &str) -> Vec<String> {
    form_urlencoded::parse(request.query.as_bytes())
        .filter(|(given, _)| given == name)
        .map(|(_, value)| value.into_owned())
        .collect()
}

/// The last value of a name in the query, as the JSON of a text.
pub(super) fn query_text(request: &RestRequest<'_>, name: &str) -> Option<Value> {
    query(request, name).pop().map(Value::String)
}

/// A whole number in JSON, or the digits of one.
///
/// # Errors
/// 400 outside of the range, which `range` words.
pub(super) fn whole(
    field: &str,
    value: Option<&Value>,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>> {
    let number = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) if text.bytes().all(|c| c.is_ascii_digit()) => text.parse().ok(),
        Some(_) => None,
    };
    let fits = number.filter(|number| range.contains(number));
    let (least, most) = range.into_inner();
    let wrong = || {
        let bounds = match most {
            u64::MAX => format!("from {least} up"),
            most => format!("from {least} to {most}"),
        };
        refuse(400, format!("{field}: must be a whole number {bounds}"))
    };
    fits.map(Some).ok_or_else(wrong)
}

/// What is wrong with a text that is not JSON, or JSON of another type, without what stands in it.
pub(super) fn shape(err: &serde_json::Error) -> String {
    match err.classify() {
        serde_json::error::Category::Data => "it is of another type".to_owned(),
        _ => format!("line {}, column {}", err.line(), err.column()),
    }
}
