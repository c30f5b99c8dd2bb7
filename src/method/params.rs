//! Params: the spellings that are accepted, and the fields they are made of.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Def;
use crate::{Error, Result};

/// A method's documentation and fields, as its params type declares them.
#[derive(Clone, Debug)]
pub struct Shape {
    /// First paragraph of the doc comment.
    pub summary: String,
    /// The rest of it.
    pub description: String,
    /// In order, required ones first.
    pub fields: Vec<Field>,
}

/// One parameter.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name on the wire.
    pub name: String,
    /// Whether it must be given.
    pub required: bool,
    /// Its schema.
    pub schema: Value,
}

impl Shape {
    pub(super) fn of(def: &Def, generator: &mut SchemaGenerator) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Declared {
            description: String,
            required: Vec<String>,
            properties: serde_json::Map<String, Value>,
        }
        let mut schema = (def.params)(generator);
        for transform in generator.transforms_mut() {
            transform.transform(&mut schema);
        }
        let Declared { description: text, required, properties } =
            serde_json::from_value(schema.to_value()).unwrap_or_default();
        let (summary, description) = text.split_once("\n\n").unwrap_or((&text, ""));
        let fields = properties.into_iter().map(|(name, schema)| {
            let required = required.contains(&name);
            Field { name, required, schema }
        });
        Self {
            summary: summary.replace('\n', " "),
            description: description.to_owned(),
            fields: fields.collect(),
        }
    }

    /// Turns whatever a client sent into one JSON object.
    ///
    /// Accepted are `{…}`, `{"params": {…}}`, `[{…}]`, `[a, b, …]`, and nothing.
    pub fn normalize<'a>(&self, text: &'a str) -> Result<Cow<'a, str>> {
        let text = text.trim();
        let bad = |e: serde_json::Error| Error::params("", e.to_string());
        match text.as_bytes().first() {
            None | Some(b'n') => Ok("{}".into()),
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).map_err(bad)?;
                match *items {
                    [only] if self.is_flat(only.get()) => Ok(only.get().into()),
                    _ => self.by_position(&items),
                }
            }
            Some(_) if text.contains("\"params\"") && self.field("params").is_none() => {
                let outer: BTreeMap<&str, &RawValue> = serde_json::from_str(text).map_err(bad)?;
                let inner = outer.get("params").filter(|_| outer.len() == 1);
                Ok(inner.map_or(text, |inner| inner.get()).into())
            }
            Some(_) => Ok(text.into()),
        }
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    fn is_flat(&self, text: &str) -> bool {
        let object = serde_json::from_str::<BTreeMap<&str, &RawValue>>(text);
        object.is_ok_and(|object| object.keys().all(|key| self.field(key).is_some()))
    }

    fn by_position(&self, items: &[&RawValue]) -> Result<Cow<'static, str>> {
        if items.len() > self.fields.len() {
            let (got, max) = (items.len(), self.fields.len());
            return Err(Error::params("", format!("{got} params, at most {max} expected")));
        }
        let pairs = self.fields.iter().map(|f| f.name.as_str()).zip(items);
        let object: BTreeMap<&str, &&RawValue> = pairs.collect();
        let text = serde_json::to_string(&object).map_err(|e| Error::Bug(e.to_string()))?;
        Ok(text.into())
    }
}

impl Field {
    /// Its documentation.
    pub fn doc(&self) -> &str {
        self.schema.get("description").and_then(Value::as_str).unwrap_or_default()
    }

    /// Turns text from a URL or a command line into the JSON this field takes.
    pub fn coerce(&self, text: &str) -> Value {
        let string = match self.schema.get("type") {
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "string"),
            kind => kind.is_some_and(|kind| kind == "string"),
        };
        match serde_json::from_str(text) {
            Ok(value) if !string => value,
            _ => text.into(),
        }
    }
}

/// Draft 7 is what OpenRPC speaks.
pub(super) fn generator(inline: bool) -> SchemaGenerator {
    let settings = SchemaSettings::draft07().with(|s| {
        s.definitions_path = "/components/schemas".into();
        s.meta_schema = None;
        s.inline_subschemas = inline;
    });
    settings.into_generator()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_spelling_means_the_same() {
        let field = |name: &str| Field { name: name.into(), required: true, schema: json!({}) };
        let fields = vec![field("id"), field("job")];
        let shape = Shape { summary: String::new(), description: String::new(), fields };
        let read =
            |text| -> Value { serde_json::from_str(&shape.normalize(text).unwrap()).unwrap() };
        let want = json!({ "id": 1, "job": { "a": 2 } });
        for text in [
            r#"{"id":1,"job":{"a":2}}"#,
            r#"{"params":{"id":1,"job":{"a":2}}}"#,
            r#"[{"id":1,"job":{"a":2}}]"#,
            r#"[1,{"a":2}]"#,
        ] {
            assert_eq!(read(text), want, "{text}");
        }
        assert_eq!(read(r#"[{"a":2}]"#), json!({ "id": { "a": 2 } }), "not flat: by position");
        assert_eq!(read("null"), json!({}));
        assert!(shape.normalize("[1,2,3]").is_err());
    }
}
