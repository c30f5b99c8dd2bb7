//! The OpenAPI document: the REST routes, read off the method table.

use std::net::SocketAddr;

use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::params::generator;
use super::{Access, Def, Field, Rest, Run, Shape, Verb, codegen_name, schema};
use crate::{Code, face};

/// Builds the document; it depends on nothing but the code.
///
/// See <https://spec.openapis.org/oas/v3.1.1>.
pub fn openapi_document() -> Value {
    let mut schemas = generator(false);
    let mut paths: Map<String, Value> = Map::new();
    for def in face::defs() {
        let Some(rest) = def.spec.rest else { continue };
        for (at, path) in std::iter::once(rest.path).chain(rest.also.iter().copied()).enumerate() {
            let operation = operation(def, rest, path, at, &mut schemas);
            let item = paths.entry(path.to_owned()).or_insert_with(|| json!({}));
            let Value::Object(verbs) = item else { continue };
            let verb = rest.verb.as_str().to_ascii_lowercase();
            match verbs.get_mut(&verb) {
                // A page of events and the events as they come share a path.
                Some(there) => join(there, &operation),
                None => drop(verbs.insert(verb, operation)),
            }
        }
    }
    let mut document = json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Muster",
            "version": env!("CARGO_PKG_VERSION"),
            "description": env!("CARGO_PKG_DESCRIPTION"),
            "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": "http://127.0.0.1:9652" }],
        "security": [{}, { "bearer": [] }, { "operator": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "operator": { "type": "apiKey", "in": "header", "name": "X-OCP-Operator-Token" },
            },
        },
    });
    schema::settle(&mut document, "paths");
    tuples(&mut document);
    if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") {
        schemas.insert("Problem".to_owned(), problem());
    }
    document
}

/// Lists of schemas by position: OpenAPI has the newer word for them.
fn tuples(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::Array(_)) = members.get("items")
                && let Some(items) = members.shift_remove("items")
            {
                members.insert("prefixItems".to_owned(), items);
            }
            members.values_mut().for_each(tuples);
        }
        Value::Array(items) => items.iter_mut().for_each(tuples),
        _ => {}
    }
}

/// The document with the address that is really served.
pub fn openapi_at(mut document: Value, http: SocketAddr) -> Value {
    if let Some(there) = document.get_mut("servers") {
        *there = json!([{ "url": format!("http://{http}") }]);
    }
    document
}

fn problem() -> Value {
    json!({
        "title": "Problem",
        "description": "Why a request was refused; further members say more.",
        "type": "object",
        "properties": {
            "reason": { "type": "string", "description": "What is wrong, or a word for it." },
            "field": { "type": "string", "description": "The parameter that does not fit." },
            "http_status": { "type": "integer", "description": "The status of the answer." },
        },
        "additionalProperties": true,
    })
}

fn operation(def: &Def, rest: Rest, path: &str, at: usize, schemas: &mut SchemaGenerator) -> Value {
    let name = def.spec.name;
    let Shape { summary, description, fields, .. } = Shape::of(def, schemas);
    let output = (def.output)(schemas).to_value();
    let captured = |field: &Field| path.contains(&format!("{{{}}}", field.name));
    let (in_path, others): (Vec<Field>, Vec<Field>) = fields.into_iter().partition(captured);
    let bodiless = matches!(rest.verb, Verb::Get | Verb::Delete);
    let mut parameters: Vec<Value> =
        in_path.into_iter().map(|field| parameter(field, "path")).collect();
    let mut operation = json!({
        // The further paths of a route are operations of their own.
        "operationId": match at { 0 => codegen_name(name), at => format!("{}_{at}", codegen_name(name)) },
        "tags": [name.split('.').next().unwrap_or(name)],
        "summary": summary,
        "x-method": name,
        "x-access": def.spec.access.name(),
    });
    let Value::Object(members) = &mut operation else { return operation };
    if !description.is_empty() {
        members.insert("description".to_owned(), description.into());
    }
    if def.spec.access == Access::Anyone {
        members.insert("security".to_owned(), json!([]));
    }
    let whole = rest.body.and_then(|body| others.iter().find(|field| field.name == body).cloned());
    if let Some(field) = whole {
        let content = json!({ "application/json": { "schema": field.schema } });
        members.insert("requestBody".to_owned(), json!({ "required": true, "content": content }));
    } else if bodiless {
        parameters.extend(others.into_iter().map(|field| parameter(field, "query")));
    } else if !others.is_empty() {
        members.insert("requestBody".to_owned(), body(others));
    }
    if !parameters.is_empty() {
        members.insert("parameters".to_owned(), parameters.into());
    }
    let takes_body = members.contains_key("requestBody");
    members.insert("responses".to_owned(), responses(def, rest, takes_body, &output));
    operation
}

fn parameter(field: Field, place: &str) -> Value {
    let description = field.doc().to_owned();
    json!({
        "name": field.name,
        "in": place,
        "required": field.required || place == "path",
        "description": description,
        "schema": schema::without_null(field.schema),
    })
}

/// The body: one object of what is not in the path.
fn body(fields: Vec<Field>) -> Value {
    let required: Vec<Value> = fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name.clone().into())
        .collect();
    let needed = !required.is_empty();
    let properties: Map<String, Value> = fields
        .into_iter()
        .map(|field| match field.required {
            true => (field.name, field.schema),
            false => (field.name, schema::without_null(field.schema)),
        })
        .collect();
    let mut object = json!({ "type": "object", "properties": properties });
    if let (true, Value::Object(members)) = (needed, &mut object) {
        members.insert("required".to_owned(), required.into());
    }
    json!({ "required": needed, "content": { "application/json": { "schema": object } } })
}

const TOO_LARGE: (u16, &str) = (413, "The body is larger than what is taken here.");

fn responses(def: &Def, rest: Rest, takes_body: bool, output: &Value) -> Value {
    let good = match def.run {
        Run::Open(_) => json!({
            "description": "The events, as they come (server-sent events).",
            "content": { "text/event-stream": { "schema": { "type": "string" }, "x-item": output } },
        }),
        Run::Call(_) if rest.status == 204 => json!({ "description": "Done." }),
        Run::Call(_) => json!({
            "description": "The result.",
            "content": { "application/json": { "schema": output } },
        }),
    };
    let mut responses = Map::new();
    responses.insert(rest.status.to_string(), good);
    let problem =
        json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
    let mut statuses: Vec<Code> = vec![Code::InvalidParams];
    statuses.extend(def.spec.access.errors().iter().chain(def.spec.errors));
    for code in statuses {
        let refused = json!({ "description": code.description().trim(), "content": problem });
        responses.entry(code.http().to_string()).or_insert(refused);
    }
    let unread: &[_] = match takes_body {
        true if rest.style.any_media_type => &[TOO_LARGE],
        true => &[TOO_LARGE, (415, "The body is not of a type that is read here.")],
        false => &[],
    };
    for (status, description) in unread.iter().chain(rest.more) {
        let content = match status {
            ..300 => json!({ "application/json": { "schema": output } }),
            _ => problem.clone(),
        };
        let answer = json!({ "description": description, "content": content });
        responses.entry(status.to_string()).or_insert(answer);
    }
    responses.into()
}

/// Two operations at one path and verb: what the first answers, or the events where they are
/// asked for.
fn join(there: &mut Value, other: &Value) {
    let kinds = |operation: &Value| operation.pointer("/responses/200/content").cloned();
    let (Some(Value::Object(more)), Some(Value::Object(content))) =
        (kinds(other), there.pointer_mut("/responses/200/content"))
    else {
        return;
    };
    content.extend(more);
}
