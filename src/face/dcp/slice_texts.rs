//! Slices as clients send them: a JSON array, or one to a line.

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::refuse;
use crate::Result;
use crate::engine::Slices;

/// The media type of one slice to a line.
const LINES: &str = "application/x-ndjson";

/// The elements of a JSON array, ready to be stored.
///
/// # Errors
/// 400 when it is no array.
pub(super) fn of_array(field: &str, array: Option<&RawValue>) -> Result<Slices> {
    let wrong = || refuse(400, format!("{field}: must be an array"));
    let text = array.ok_or_else(wrong)?.get();
    if !text.trim_ascii_start().starts_with('[') {
        return Err(wrong());
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_seq(Elements).map_err(|_| wrong())?
}

/// Takes slices over one after another: a list of where they are could take more memory than they do.
struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Result<Slices>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut failed = None;
        let slices = Slices::new(std::iter::from_fn(|| {
            let element = elements.next_element::<&RawValue>();
            element
                .unwrap_or_else(|err| {
                    failed = Some(err);
                    None
                })
                .map(RawValue::get)
        }));
        failed.map_or(Ok(slices), Err)
    }
}

/// The lines of a text that are not blank, each one slice.
///
/// # Errors
/// 400 naming the line that is not JSON.
pub(super) fn of_lines(text: &str) -> Result<Slices> {
    let mut wrong = None;
    let lines = (1_u64..).zip(text.lines().map(str::trim_ascii));
    let lines = lines.filter(|(_, line)| !line.is_empty());
    let slices = Slices::new(lines.map_while(|(number, line)| {
        let slice = serde_json::from_str::<&RawValue>(line);
        slice.map_err(|_| wrong = Some(number)).ok().map(RawValue::get)
    }));
    match wrong {
        Some(number) => Err(refuse(400, format!("line {number}: must be one JSON value"))),
        None => slices,
    }
}

/// Whether a media type says that there is one slice to a line.
pub(super) fn is_lines(media_type: Option<&str>) -> bool {
    let essence = media_type.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(LINES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_and_lines_give_the_same() {
        let array = RawValue::from_string(" [1, {\"a\": [2]}, null] ".to_owned()).unwrap();
        assert_eq!(of_array("slices", Some(&array)).unwrap().len(), 3);
        assert_eq!(of_lines("1\n\n {\"a\": [2]}\r\nnull").unwrap().len(), 3);
        assert!(of_lines("").unwrap().is_empty());
        assert!(of_lines("1 2").is_err());
        for wrong in ["{}", "1", "\"[\"", "null"] {
            let wrong = RawValue::from_string(wrong.to_owned()).unwrap();
            assert_eq!(of_array("slices", Some(&wrong)).unwrap_err().http(), 400);
        }
        assert!(of_array("slices", None).is_err());
    }

    #[test]
    fn the_type_of_lines_may_have_parameters() {
        assert!(is_lines(Some("application/x-ndjson")));
        assert!(is_lines(Some("Application/X-NDJSON; charset=utf-8")));
        assert!(!is_lines(Some("application/json")));
        assert!(!is_lines(None));
    }
}
