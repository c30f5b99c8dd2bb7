//! Settles schemas into the one form that is published: what a derive writes in several ways.

use serde_json::{Map, Value, json};

/// Rewrites every schema of a document: those of its components, and those below `member`.
pub(super) fn settle(document: &mut Value, member: &str) {
    merge_doubles(document);
    if let Some(value) = document.get_mut(member) {
        walk(value);
    }
    let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") else { return };
    for (name, schema) in schemas.iter_mut() {
        walk(schema);
        if let Value::Object(members) = schema {
            if name.ends_with("Params") {
                // Refused they are, but the seed document does not say so.
                members.shift_remove("additionalProperties");
            }
            if !members.contains_key("title") {
                members.shift_insert(0, "title".to_owned(), name.as_str().into());
            }
        }
    }
    schemas.sort_keys();
}

/// Calls that take the same params have types of the same name, which the generator numbers.
fn merge_doubles(document: &mut Value) {
    let Some(Value::Object(schemas)) = document.pointer("/components/schemas") else { return };
    let bare = |schema: &Value| {
        let mut schema = schema.clone();
        if let Value::Object(members) = &mut schema {
            members.shift_remove("description");
            members.shift_remove("title");
            for property in members.get_mut("properties").and_then(Value::as_object_mut).into_iter()
            {
                for (_, property) in property.iter_mut() {
                    if let Value::Object(members) = property {
                        members.shift_remove("description");
                    }
                }
            }
        }
        schema
    };
    let doubles: Vec<(String, String)> = schemas
        .iter()
        .filter_map(|(name, schema)| {
            let first = name.trim_end_matches(|c: char| c.is_ascii_digit());
            let same = first != name && schemas.get(first).is_some_and(|s| bare(s) == bare(schema));
            same.then(|| (name.clone(), first.to_owned()))
        })
        .collect();
    for (double, first) in doubles {
        if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") {
            schemas.shift_remove(&double);
        }
        let from = format!("#/components/schemas/{double}");
        redirect(document, &from, &format!("#/components/schemas/{first}"));
    }
}

fn redirect(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::Object(members) => {
            for (key, member) in members.iter_mut() {
                if key == "$ref" && member == from {
                    *member = to.into();
                } else {
                    redirect(member, from, to);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redirect(item, from, to)),
        _ => {}
    }
}

fn walk(value: &mut Value) {
    match value {
        Value::Object(members) => {
            integers(members);
            integer_keys(members);
            enumeration(members);
            optional_members(members);
            lone_reference(members);
            members.values_mut().for_each(walk);
        }
        Value::Array(items) => items.iter_mut().for_each(walk),
        _ => {}
    }
}

/// `format` says the range of 32 and 64 bits, `minimum` and `maximum` that of 8 and 16.
fn integers(members: &mut Map<String, Value>) {
    match members.get("format").and_then(Value::as_str) {
        Some("uint32" | "uint64") if members.get("minimum") == Some(&json!(0)) => {
            members.shift_remove("minimum");
        }
        Some("uint") => {
            members.shift_remove("minimum");
            members.insert("format".to_owned(), "uint64".into());
        }
        Some("uint8" | "uint16") => {
            members.shift_remove("format");
        }
        _ => {}
    }
}

/// A map with integer keys: in JSON its keys are strings.
fn integer_keys(members: &mut Map<String, Value>) {
    let Some(Value::Object(patterns)) = members.get("patternProperties") else { return };
    if let (1, Some((_, values))) = (patterns.len(), patterns.iter().next()) {
        let values = values.clone();
        members.shift_remove("patternProperties");
        members.insert("additionalProperties".to_owned(), values);
    }
}

/// Documented variants come as one schema each; published is a plain `enum`.
fn enumeration(members: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = members.get("oneOf") else { return };
    let mut names = Vec::new();
    let mut text = String::new();
    for variant in variants {
        if variant.get("type").is_none_or(|kind| kind != "string") {
            return;
        }
        let these = match (variant.get("const"), variant.get("enum")) {
            (Some(name), _) => vec![name.clone()],
            (None, Some(Value::Array(names))) => names.clone(),
            _ => return,
        };
        if let ([Value::String(name)], Some(Value::String(doc))) =
            (these.as_slice(), variant.get("description"))
        {
            text.push_str(&format!("\n- `{name}`: {doc}"));
        }
        names.extend(these);
    }
    members.shift_remove("oneOf");
    members.insert("type".to_owned(), "string".into());
    members.insert("enum".to_owned(), Value::Array(names));
    if !text.is_empty() {
        let lead = members.get("description").and_then(Value::as_str).unwrap_or_default();
        let text = format!("{lead}\n{text}");
        members.insert("description".to_owned(), text.trim_start().into());
    }
}

/// What may be left out need not also be null.
fn optional_members(members: &mut Map<String, Value>) {
    let required: Vec<Value> =
        members.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(Value::Object(properties)) = members.get_mut("properties") else { return };
    for (name, property) in properties.iter_mut() {
        if !required.iter().any(|one| one == name) {
            *property = without_null(property.take());
        }
    }
}

/// The schema without the choice of null.
pub(super) fn without_null(mut schema: Value) -> Value {
    let Value::Object(members) = &mut schema else { return schema };
    if let Some(Value::Array(kinds)) = members.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_slice() {
            let only = only.clone();
            members.insert("type".to_owned(), only);
        }
    }
    if members.get("default") == Some(&Value::Null) {
        members.shift_remove("default");
    }
    if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
        if let [only] = choices.as_slice() {
            let only = only.clone();
            members.shift_remove("anyOf");
            if let Value::Object(only) = only {
                members.extend(only);
            }
        }
    }
    schema
}

/// `allOf` around one reference is how draft 7 hangs a description on it.
fn lone_reference(members: &mut Map<String, Value>) {
    let Some(Value::Array(all)) = members.get("allOf") else { return };
    if let [only] = all.as_slice()
        && let Some(reference) = only.get("$ref").cloned()
    {
        members.shift_remove("allOf");
        members.insert("$ref".to_owned(), reference);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(mut value: Value) -> Value {
        walk(&mut value);
        value
    }

    #[test]
    fn documented_variants_become_an_enum() {
        let derived = json!({ "description": "How.", "oneOf": [
            { "type": "string", "const": "A", "description": "First." },
            { "type": "string", "enum": ["B", "C"] },
        ]});
        let want = json!({
            "description": "How.\n\n- `A`: First.", "type": "string", "enum": ["A", "B", "C"]
        });
        assert_eq!(walked(derived), want);
    }

    #[test]
    fn optional_members_lose_their_null_and_required_ones_keep_it() {
        let derived = json!({ "required": ["b"], "properties": {
            "a": { "type": ["integer", "null"], "format": "uint32", "minimum": 0, "default": null },
            "b": { "type": ["integer", "null"] },
            "c": { "anyOf": [{ "$ref": "#/x" }, { "type": "null" }] },
        }});
        let want = json!({ "required": ["b"], "properties": {
            "a": { "type": "integer", "format": "uint32" },
            "b": { "type": ["integer", "null"] },
            "c": { "$ref": "#/x" },
        }});
        assert_eq!(walked(derived), want);
    }

    #[test]
    fn maps_by_integer_are_plain_maps() {
        let derived = json!({
            "type": "object", "patternProperties": { "^\\d+$": { "type": "string" } },
            "additionalProperties": false,
        });
        let want = json!({ "type": "object", "additionalProperties": { "type": "string" } });
        assert_eq!(walked(derived), want);
    }

    #[test]
    fn types_of_one_name_and_form_are_one() {
        let form = |text: &str| json!({ "type": "object", "description": text });
        let mut document = json!({
            "methods": [{ "a": { "$ref": "#/components/schemas/Load2" } }],
            "components": { "schemas": { "Load": form("x"), "Load2": form("y") } },
        });
        settle(&mut document, "methods");
        assert_eq!(document["methods"][0]["a"]["$ref"], "#/components/schemas/Load");
        assert_eq!(document["components"]["schemas"].as_object().unwrap().len(), 1);
    }
}
