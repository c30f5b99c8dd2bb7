//! Params: the spellings that are accepted, and the fields they are made of.

use std::borrow::Cow;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::elements::first_elements;
use super::member::KeyIs;
use super::{Def, misfit};
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
    /// Whether members that are no field are refused.
    pub strict: bool,
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
            #[serde(rename = "additionalProperties")]
            additional: Option<Value>,
        }
        let mut schema = (def.params)(generator);
        for transform in generator.transforms_mut() {
            transform.transform(&mut schema);
        }
        let Declared { description: text, required, properties, additional } =
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
            strict: additional == Some(Value::Bool(false)),
        }
    }

    /// Turns whatever a client sent into the text of one JSON object.
    ///
    /// Accepted are `{…}`, `{"params": {…}}`, `[{…}]`, `[a, b, …]`, `null` and nothing. What is
    /// one object already is not copied.
    ///
    /// # Errors
    /// [`Error::Params`] for anything else, and for more values than there are fields.
    pub fn normalize<'a>(&self, text: &'a str) -> Result<Cow<'a, str>> {
        let text = text.trim_ascii();
        match text.as_bytes().first() {
            None => Ok("{}".into()),
            Some(b'{') => Ok(self.unwrapped(text).into()),
            Some(b'[') => {
                let most = self.fields.len();
                let items = first_elements(text, most.max(1));
                let items = items.map_err(|err| misfit::worded(&err))?;
                let too_many = || Error::params("", format!("at most {most} values"));
                match *items.ok_or_else(too_many)? {
                    [only] if self.stands_for_all(only.get()) => {
                        Ok(self.unwrapped(only.get()).into())
                    }
                    ref items => self.by_position(items),
                }
            }
            Some(_) if text == "null" => Ok("{}".into()),
            Some(_) => Err(Error::params("", "must be an object or an array")),
        }
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// What `{"params": …}` holds, where no parameter has that name.
    fn unwrapped<'a>(&self, text: &'a str) -> &'a str {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wrapped<'a> {
            #[serde(borrow)]
            params: &'a RawValue,
        }
        let wrapped = text
            .strip_prefix('{')
            .is_some_and(|rest| rest.trim_ascii_start().starts_with("\"params\""));
        if !wrapped || self.field("params").is_some() {
            return text;
        }
        match serde_json::from_str::<Wrapped<'a>>(text) {
            Ok(wrapped) if wrapped.params.get() == "null" => "{}",
            Ok(wrapped) if wrapped.params.get().starts_with('{') => wrapped.params.get(),
            _ => text,
        }
    }

    /// Whether one value of an array is all the params rather than the first of them.
    fn stands_for_all(&self, text: &str) -> bool {
        if !text.starts_with('{') {
            return false;
        }
        let mut reader = serde_json::Deserializer::from_str(self.unwrapped(text));
        let wanted = self.fields.iter().filter(|field| field.required).count();
        Members(self).deserialize(&mut reader).is_ok_and(|found| found == wanted)
    }

    fn by_position(&self, items: &[&RawValue]) -> Result<Cow<'static, str>> {
        if items.len() > self.fields.len() {
            let (got, most) = (items.len(), self.fields.len());
            return Err(Error::params("", format!("at most {most} values, not {got}")));
        }
        let length: usize = items.iter().map(|item| item.get().len() + 24).sum();
        let mut text = String::with_capacity(length + 2);
        for (field, item) in self.fields.iter().zip(items) {
            text.push(if text.is_empty() { '{' } else { ',' });
            text.push('"');
            // Field names are identifiers: nothing in them needs escaping.
            text.push_str(&field.name);
            text.push_str("\":");
            text.push_str(item.get());
        }
        text.push_str(if text.is_empty() { "{}" } else { "}" });
        Ok(text.into())
    }
}

/// Counts the required fields among an object's members.
struct Members<'a>(&'a Shape);

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<usize, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
        let is_required = |key: &str| self.0.field(key).is_some_and(|field| field.required);
        let mut found = 0;
        while let Some(required) = map.next_key_seed(KeyIs(is_required))? {
            found += usize::from(required);
            map.next_value::<IgnoredAny>()?;
        }
        Ok(found)
    }
}

impl Field {
    /// Its documentation.
    pub fn doc(&self) -> &str {
        self.schema.get("description").and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether its schema, or a choice of it, names the JSON type `kind`, such as `array`.
    pub fn is(&self, kind: &str) -> bool {
        names(&self.schema, kind)
    }

    /// Turns text from a URL or a command line into the JSON this field takes.
    pub fn coerce(&self, text: &str) -> Value {
        match serde_json::from_str::<Value>(text) {
            // Who has nothing to say there leaves the param out.
            Ok(value) if !self.is("string") && !value.is_null() => value,
            _ => text.into(),
        }
    }
}

fn names(schema: &Value, kind: &str) -> bool {
    let named = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|one| one == kind),
        one => one.is_some_and(|one| one == kind),
    };
    let choices = ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(*key)?.as_array());
    named || choices.flatten().any(|choice| names(choice, kind))
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

    fn shape(fields: &[(&str, bool)]) -> Shape {
        let field = |&(name, required): &(&str, bool)| Field {
            name: name.into(),
            required,
            schema: json!({}),
        };
        Shape {
            summary: String::new(),
            description: String::new(),
            fields: fields.iter().map(field).collect(),
            strict: true,
        }
    }

    fn read(shape: &Shape, text: &str) -> Value {
        serde_json::from_str(&shape.normalize(text).unwrap()).unwrap()
    }

    #[test]
    fn every_spelling_means_the_same() {
        let shape = shape(&[("id", true), ("job", true), ("note", false)]);
        let want = json!({ "id": 1, "job": { "a": 2 } });
        for text in [
            r#"{"id":1,"job":{"a":2}}"#,
            r#"{"params":{"id":1,"job":{"a":2}}}"#,
            r#"{ "params" : {"id":1,"job":{"a":2}} }"#,
            r#"[{"id":1,"job":{"a":2}}]"#,
            r#"[{"job":{"a":2},"id":1}]"#,
            r#"[{"params":{"id":1,"job":{"a":2}}}]"#,
            r#" [ 1 , {"a":2} ] "#,
        ] {
            assert_eq!(read(&shape, text), want, "{text}");
        }
        assert_eq!(read(&shape, r#"[{"a":2}]"#), json!({ "id": { "a": 2 } }), "by position");
        for nothing in ["", " ", "null", "[]", "{}", r#"{"params":null}"#] {
            assert_eq!(read(&shape, nothing), json!({}), "{nothing}");
        }
        for wrong in ["[1,2,3,4]", "7", "\"x\"", "true", "nul"] {
            assert!(shape.normalize(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_parameter_called_params_is_not_unwrapped() {
        let shape = shape(&[("params", true)]);
        let text = r#"{"params":{"a":1}}"#;
        assert_eq!(read(&shape, text), json!({ "params": { "a": 1 } }));
    }

    #[test]
    fn other_members_beside_params_are_left_for_the_refusal() {
        let shape = shape(&[("id", true)]);
        let text = r#"{"params":{"id":1},"x":2}"#;
        assert_eq!(read(&shape, text), json!({ "params": { "id": 1 }, "x": 2 }));
    }

    #[test]
    fn one_object_is_all_the_params_when_none_is_required() {
        let shape = shape(&[("limit", false)]);
        assert_eq!(read(&shape, r#"[{"limit":3}]"#), json!({ "limit": 3 }));
        assert_eq!(read(&shape, "[3]"), json!({ "limit": 3 }));
    }

    #[test]
    fn text_of_a_url_becomes_what_the_field_takes() {
        let field =
            |kind| Field { name: "f".into(), required: true, schema: json!({ "type": kind }) };
        assert_eq!(field(json!("string")).coerce("7"), json!("7"));
        assert_eq!(field(json!(["string", "null"])).coerce("7"), json!("7"));
        assert_eq!(field(json!(["integer", "null"])).coerce("null"), json!("null"));
        let choice = json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] });
        let choice = Field { name: "f".into(), required: false, schema: choice };
        assert_eq!(choice.coerce("7"), json!("7"));
        assert_eq!(field(json!("integer")).coerce("7"), json!(7));
        assert_eq!(field(json!("integer")).coerce("x"), json!("x"), "refused later, by name");
        assert_eq!(field(json!("array")).coerce("[1]"), json!([1]));
    }
}
