//! Elements of a JSON array, unread, where there may be only so many.

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The elements of an array; none when there are more than `most`, which are then not kept: each
/// takes 16 bytes, and may have two.
///
/// # Errors
/// When the text is no array, or not JSON.
pub(crate) fn first_elements(
    text: &str,
    most: usize,
) -> serde_json::Result<Option<Vec<&RawValue>>> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let elements = reader.deserialize_seq(First(most))?;
    reader.end()?;
    Ok(elements)
}

struct First(usize);

impl<'de> Visitor<'de> for First {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut kept = Vec::new();
        while kept.len() < self.0 {
            match elements.next_element()? {
                Some(element) => kept.push(element),
                None => return Ok(Some(kept)),
            }
        }
        if elements.next_element::<IgnoredAny>()?.is_none() {
            return Ok(Some(kept));
        }
        drop(kept);
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_there_may_be_are_kept_and_all_are_read() {
        let read = |text| {
            let read = first_elements(text, 2).map_err(drop);
            read.map(|kept| kept.map(|kept| kept.iter().map(|one| one.get()).collect::<Vec<_>>()))
        };
        assert_eq!(read("[]"), Ok(Some(vec![])));
        assert_eq!(read(" [1 , {\"a\":[2]}] "), Ok(Some(vec!["1", "{\"a\":[2]}"])));
        assert_eq!(read("[1,2,3]"), Ok(None));
        for wrong in ["", "[", "[1,2,3", "[1,2,x]", "[1] 2", "{}", "1"] {
            assert_eq!(read(wrong), Err(()), "{wrong}");
        }
    }
}
