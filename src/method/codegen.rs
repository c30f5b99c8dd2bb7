//! The code-generation profile: the same document in what the official generators can digest.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::document;

/// The document for code generators.
///
/// Names have `_` for `.`, and are served as aliases. Parameters are flat, integers have their
/// range instead of a format, tuples are arrays of a fixed length, and every schema has a title
/// of its own.
pub fn codegen_document() -> Value {
    let plain = document();
    let schemas = plain.pointer("/components/schemas").cloned().unwrap_or_default();
    let mut document = plain;
    let mut taken = BTreeSet::new();
    if let Some(Value::Array(methods)) = document.get_mut("methods") {
        for method in methods {
            let Value::Object(method) = method else { continue };
            let name = method.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            taken.insert(pascal(&name));
            flatten(method, &schemas);
            unreserve(method);
            method.insert("name".to_owned(), codegen_name(&name).into());
            method.insert("x-alias-of".to_owned(), name.into());
        }
    }
    adapt(&mut document);
    title_all(&mut document, &mut taken);
    document
}

/// The alias under which a method is served to generated clients.
pub fn codegen_name(name: &str) -> String {
    name.replace('.', "_")
}

fn pascal(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| {
                format!("{}{}", first.to_ascii_uppercase(), letters.as_str())
            })
        })
        .collect()
}

/// Words that a parameter of a generated function cannot be called, among the names of ours.
const RESERVED: &[&str] = &["arguments", "public"];

/// Renames parameters that are reserved words; a method takes them by these names, too.
fn unreserve(method: &mut Map<String, Value>) {
    let Some(Value::Array(params)) = method.get_mut("params") else { return };
    for name in params.iter_mut().filter_map(|param| param.get_mut("name")) {
        if let Some(word) = RESERVED.iter().find(|word| *name == **word) {
            *name = format!("{word}_").into();
        }
    }
}

/// Replaces the one parameter `params` by the members of its type.
fn flatten(method: &mut Map<String, Value>, schemas: &Value) {
    let Some(Value::Array(params)) = method.get("params") else { return };
    let [only] = params.as_slice() else { return };
    let reference = only.pointer("/schema/$ref").and_then(Value::as_str).unwrap_or_default();
    let (Some("params"), Some(kind)) =
        (only.get("name").and_then(Value::as_str), reference.rsplit('/').next())
    else {
        return;
    };
    let Some(kind) = schemas.get(kind) else { return };
    let required = kind.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let properties = kind.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let flat = properties.into_iter().map(|(name, schema)| {
        let required = required.iter().any(|one| *one == name);
        json!({ "name": name, "required": required, "schema": schema })
    });
    let flat = flat.collect();
    method.insert("params".to_owned(), Value::Array(flat));
}

fn adapt(value: &mut Value) {
    match value {
        Value::Object(members) => {
            ranges(members);
            tuples(members);
            identifiers(members);
            if members.contains_key("$ref") {
                // Draft 7 ignores what stands beside a reference, and the generator chokes on it.
                members.retain(|key, _| key == "$ref");
            }
            members.values_mut().for_each(adapt);
        }
        Value::Array(items) => items.iter_mut().for_each(adapt),
        _ => {}
    }
}

fn ranges(members: &mut Map<String, Value>) {
    if !members.contains_key("type") {
        return;
    }
    let Some(Value::String(format)) = members.get("format") else { return };
    let range = match format.as_str() {
        "uint32" => (Some(json!(0)), Some(json!(u32::MAX))),
        "int32" => (Some(json!(i32::MIN)), Some(json!(i32::MAX))),
        "uint64" | "uint" => (Some(json!(0)), None),
        "int64" | "int" | "float" | "double" => (None, None),
        _ => return,
    };
    members.shift_remove("format");
    for (bound, value) in [("minimum", range.0), ("maximum", range.1)] {
        if let (Some(value), false) = (value, members.contains_key(bound)) {
            members.insert(bound.to_owned(), value);
        }
    }
}

/// Leaves out members whose names are no identifiers: the generator writes names as they are. An
/// object that has any is published as one that may have others.
fn identifiers(members: &mut Map<String, Value>) {
    let fits = |name: &str| {
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    let Some(Value::Object(properties)) = members.get_mut("properties") else { return };
    let all = properties.len();
    properties.retain(|name, _| fits(name));
    if properties.len() == all {
        return;
    }
    if let Some(Value::Array(required)) = members.get_mut("required") {
        required.retain(|name| name.as_str().is_some_and(fits));
    }
    members.insert("additionalProperties".to_owned(), true.into());
}

fn tuples(members: &mut Map<String, Value>) {
    let Some(Value::Array(items)) = members.get("items") else { return };
    let (count, first) = (items.len(), items.first().cloned().unwrap_or_else(|| json!({})));
    let plain = |item: &Value| (item.get("type").cloned(), item.get("$ref").cloned());
    let uniform = items.iter().all(|item| plain(item) == plain(&first));
    members.insert("items".to_owned(), if uniform { first } else { json!({}) });
    for bound in ["minItems", "maxItems"] {
        if !members.contains_key(bound) {
            members.insert(bound.to_owned(), count.into());
        }
    }
}

/// Gives every schema a title that neither another schema nor a method's type has.
fn title_all(document: &mut Value, taken: &mut BTreeSet<String>) {
    if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") {
        for (name, schema) in schemas.iter_mut() {
            retitle(schema, &pascal(name), taken);
        }
        for (name, schema) in schemas.iter_mut() {
            title_parts(schema, &pascal(name), taken);
        }
    }
    let Some(Value::Array(methods)) = document.get_mut("methods") else { return };
    for method in methods {
        let name = method.get("name").and_then(Value::as_str).map(pascal).unwrap_or_default();
        if let Some(Value::Array(params)) = method.get_mut("params") {
            for param in params {
                let part = param.get("name").and_then(Value::as_str).map(pascal);
                let path = format!("{name}{}", part.unwrap_or_default());
                if let Some(schema) = param.get_mut("schema") {
                    title_tree(schema, &path, taken);
                }
            }
        }
        for (place, part) in [("/result/schema", "Result"), ("/x-notification/schema", "Item")] {
            if let Some(schema) = method.pointer_mut(place) {
                title_tree(schema, &format!("{name}{part}"), taken);
            }
        }
    }
}

fn retitle(schema: &mut Value, wanted: &str, taken: &mut BTreeSet<String>) {
    let Value::Object(members) = schema else { return };
    if members.contains_key("$ref") {
        return;
    }
    let mut title = wanted.to_owned();
    while !taken.insert(title.clone()) {
        title.push_str("Data");
    }
    members.shift_remove("title");
    members.shift_insert(0, "title".to_owned(), title.into());
}

fn title_tree(schema: &mut Value, path: &str, taken: &mut BTreeSet<String>) {
    retitle(schema, path, taken);
    title_parts(schema, path, taken);
}

fn title_parts(schema: &mut Value, path: &str, taken: &mut BTreeSet<String>) {
    let Value::Object(members) = schema else { return };
    for (key, member) in members.iter_mut() {
        match (key.as_str(), member) {
            ("properties", Value::Object(properties)) => {
                for (name, property) in properties.iter_mut() {
                    title_tree(property, &format!("{path}{}", pascal(name)), taken);
                }
            }
            ("items", items @ Value::Object(_)) => title_tree(items, &format!("{path}Item"), taken),
            ("additionalProperties", values @ Value::Object(_)) => {
                title_tree(values, &format!("{path}Value"), taken);
            }
            ("anyOf" | "oneOf" | "allOf", Value::Array(choices)) => {
                for (at, choice) in choices.iter_mut().enumerate() {
                    title_tree(choice, &format!("{path}Choice{}", at + 1), taken);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_identifiers_and_types_are_pascal_case() {
        assert_eq!(codegen_name("flow.dag"), "flow_dag");
        assert_eq!(pascal("flow.dag"), "FlowDag");
        assert_eq!(pascal("context_id"), "ContextId");
    }

    #[test]
    fn only_identifiers_are_left_and_reserved_words_are_not() {
        let mut schema = json!({ "properties": { "a": {}, "b/c": {} }, "required": ["a", "b/c"] });
        adapt(&mut schema);
        let left =
            json!({ "properties": { "a": {} }, "required": ["a"], "additionalProperties": true });
        assert_eq!(schema, left);
        let mut method = json!({ "params": [{ "name": "public" }, { "name": "args" }] });
        unreserve(method.as_object_mut().unwrap());
        assert_eq!(method, json!({ "params": [{ "name": "public_" }, { "name": "args" }] }));
    }

    #[test]
    fn integers_get_ranges_and_tuples_lengths() {
        let mut schema = json!({ "type": "array", "items": [
            { "type": "integer", "format": "uint32" }, { "type": "integer", "format": "uint32" },
        ]});
        adapt(&mut schema);
        let item = json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX });
        let want = json!({ "type": "array", "items": item, "minItems": 2, "maxItems": 2 });
        assert_eq!(schema, want);
    }

    #[test]
    fn no_two_schemas_share_a_title() {
        fn titles(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("title").and_then(Value::as_str).map(str::to_owned));
                    members.values().for_each(|member| titles(member, found));
                }
                Value::Array(items) => items.iter().for_each(|item| titles(item, found)),
                _ => {}
            }
        }
        let document = codegen_document();
        let mut found = Vec::new();
        titles(&document["components"], &mut found);
        titles(&document["methods"], &mut found);
        let unique: BTreeSet<_> = found.iter().collect();
        assert_eq!(unique.len(), found.len());
    }
}
