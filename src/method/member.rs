//! Single members of a JSON object, found without reading the others.

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Whether a key is one that is looked for, without a copy of the key.
pub(super) struct KeyIs<F>(pub(super) F);

impl<'de, F: Fn(&str) -> bool> DeserializeSeed<'de> for KeyIs<F> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<F: Fn(&str) -> bool> Visitor<'_> for KeyIs<F> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok((self.0)(key))
    }
}

/// What stands under a name in an object, unread; none where nothing does.
///
/// # Errors
/// When the text is no object, or has the name twice: what is looked at here must be what is read
/// later.
pub(super) fn member<'a>(text: &'a str, name: &str) -> serde_json::Result<Option<&'a RawValue>> {
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_map(Member(name))
}

struct Member<'a>(&'a str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(KeyIs(|key: &str| key == self.0))? {
            if !is_it {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value()?).is_some() {
                return Err(A::Error::custom(format_args!("duplicate field `{}`", self.0)));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_however_it_is_spelled_and_once_only() {
        let at = |text| member(text, "a").map(|found| found.map(RawValue::get));
        assert_eq!(at(r#"{"b":{"a":2},"a": [1] ,"c":"x"}"#).unwrap(), Some("[1]"));
        assert_eq!(at(r#"{"\u0061":1}"#).unwrap(), Some("1"));
        assert_eq!(at(r#"{"b":1}"#).unwrap(), None);
        assert_eq!(at("{}").unwrap(), None);
        for wrong in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":1}"#, "[]", "1", r#"{"a":1"#, ""] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }
}
