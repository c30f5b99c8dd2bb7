//! Maps of texts that are read strictly: a name that comes twice is refused.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// Reads a map of texts.
///
/// # Errors
/// When a name comes twice, as for the fields of a struct: whoever reads on might take the other one.
pub fn texts<'de, D: Deserializer<'de>>(reader: D) -> Result<BTreeMap<String, String>, D::Error> {
    reader.deserialize_map(Texts)
}

/// The same for one that may be left out or `null`.
///
/// # Errors
/// As [`texts`].
pub fn optional_texts<'de, D: Deserializer<'de>>(
    reader: D,
) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    struct Given(BTreeMap<String, String>);
    impl<'de> Deserialize<'de> for Given {
        fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
            texts(reader).map(Self)
        }
    }
    Ok(Option::<Given>::deserialize(reader)?.map(|given| given.0))
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some((name, text)) = map.next_entry::<String, String>()? {
            if texts.contains_key(&name) {
                return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
            }
            texts.insert(name, text);
        }
        Ok(texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Both {
        #[serde(deserialize_with = "texts")]
        env: BTreeMap<String, String>,
        #[serde(default, deserialize_with = "optional_texts")]
        labels: Option<BTreeMap<String, String>>,
    }

    #[test]
    fn a_name_that_comes_twice_is_refused_however_it_is_spelled() {
        let read = serde_json::from_str::<Both>;
        let good = read(r#"{"env":{"A":"1","B":"2"},"labels":{"x":"y"}}"#).unwrap();
        assert_eq!((good.env.len(), good.labels.map(|labels| labels.len())), (2, Some(1)));
        assert!(read(r#"{"env":{},"labels":null}"#).unwrap().labels.is_none());
        assert!(read(r#"{"env":{}}"#).unwrap().labels.is_none());
        for twice in [
            r#"{"env":{"A":"1","A":"1"}}"#,
            r#"{"env":{"A":"1","\u0041":"2"}}"#,
            r#"{"env":{},"labels":{"x":"1","y":"2","x":"3"}}"#,
        ] {
            let refusal = read(twice).unwrap_err().to_string();
            assert!(refusal.starts_with("duplicate field"), "{refusal}");
        }
    }
}
