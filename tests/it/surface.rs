//! Rules that every method keeps, checked over the whole table.

use std::collections::BTreeSet;
use std::fs::{read_dir, read_to_string};
use std::path::Path;

use muster::app::{Caller, Cx};
use muster::method::{Access, Run, codegen_document, document, openapi_document};
use muster::{Code, face};
use serde_json::Value;

#[test]
fn every_method_is_named_documented_and_bound() {
    let (mut names, mut routes) = (BTreeSet::new(), BTreeSet::new());
    for entry in face::entries() {
        let (spec, shape) = (entry.def.spec, &entry.shape);
        let name = spec.name;
        assert!(name.contains('.') && names.insert(name), "{name}: name");
        assert!(shape.summary.ends_with('.'), "{name}: a doc comment that ends in a full stop");
        // The compute face ignores what it does not know, as the system that it mirrors does.
        let strict = !name.starts_with("dcp.");
        assert_eq!(shape.strict, strict, "{name}: #[serde(deny_unknown_fields)]");
        let fields = &shape.fields;
        assert!(fields.is_sorted_by(|a, b| a.required >= b.required), "{name}: required first");
        for field in fields {
            assert!(!field.doc().is_empty(), "{name}: {} undocumented", field.name);
        }
        assert_eq!(matches!(entry.def.run, Run::Open(_)), spec.push.is_some(), "{name}: push");
        if spec.access.is_scoped() {
            let param = spec.scope.split('.').next().unwrap();
            assert!(shape.field(param).is_some(), "{name}: access needs {}", spec.scope);
        }
        if let Some(rest) = spec.rest {
            let path = rest.path.split('/').map(|s| if s.starts_with('{') { "{}" } else { s });
            let path: Vec<&str> = path.collect();
            let streams = spec.push.is_some();
            assert!(routes.insert((rest.verb.as_str(), path, streams)), "{name}: route taken");
            for capture in rest.path.split('{').skip(1).filter_map(|s| s.split('}').next()) {
                assert!(shape.field(capture).is_some(), "{name}: no param {capture}");
            }
        }
    }
}

/// Over the wire everybody is the operator while there is only loopback.
#[tokio::test]
async fn strangers_get_in_nowhere_but_where_it_says_so() {
    let server = crate::server::TestServer::start().await;
    for entry in face::entries().iter().filter(|e| e.def.spec.access != Access::Anyone) {
        let cx = Cx::inside(server.app.clone(), Caller::Anonymous);
        let refused = match entry.def.run {
            Run::Call(_) => entry.call(cx, "{}").await.map(drop),
            Run::Open(_) => entry.open(cx, "{}").await.map(drop),
        };
        let code = refused.expect_err(entry.def.spec.name).code();
        assert_eq!(code, Code::Unauthenticated, "{}", entry.def.spec.name);
    }
}

/// Two types of one name are told apart by a number, which would move.
#[test]
fn published_type_names_are_unique() {
    for name in document()["components"]["schemas"].as_object().unwrap().keys() {
        let last = name.chars().last().unwrap();
        assert!(!last.is_ascii_digit(), "{name}: add #[schemars(rename = \"…\")]");
    }
}

#[test]
fn every_implementation_is_in_the_table() {
    fn count(dir: &Path) -> usize {
        let files = read_dir(dir).unwrap().map(|f| f.unwrap().path());
        let written = |s: String| {
            s.matches("\nimpl Method for ").count() + s.matches("\nimpl Subscription for ").count()
        };
        files
            .map(|f| if f.is_dir() { count(&f) } else { written(read_to_string(f).unwrap()) })
            .sum()
    }
    let written = count(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/face"));
    assert_eq!(written, face::defs().count(), "one is missing from its METHODS");
}

#[test]
fn the_documents_name_everything_once_and_refer_to_what_is_there() {
    for document in [document(), codegen_document()] {
        let methods = document["methods"].as_array().unwrap();
        let names: BTreeSet<&str> = methods.iter().map(|m| m["name"].as_str().unwrap()).collect();
        assert_eq!(names.len(), methods.len(), "a method twice");
        for method in methods {
            let codes: Vec<_> = method["errors"].as_array().unwrap().iter().collect();
            let unique: BTreeSet<i64> = codes.iter().map(|e| e["code"].as_i64().unwrap()).collect();
            assert_eq!(unique.len(), codes.len(), "{}: an error twice", method["name"]);
            for param in method["params"].as_array().unwrap() {
                assert!(param["required"].is_boolean(), "{}", method["name"]);
            }
        }
        let text = document.to_string();
        for trap in ["prefixItems", "$defs", "patternProperties", "\"allOf\""] {
            assert!(!text.contains(trap), "{trap} is left");
        }
        check_references(&document, &document);
    }
}

fn check_references(value: &Value, document: &Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(to)) = members.get("$ref") {
                let there = document.pointer(to.strip_prefix('#').unwrap());
                assert!(there.is_some(), "{to} leads nowhere");
            }
            members.values().for_each(|member| check_references(member, document));
        }
        Value::Array(items) => items.iter().for_each(|item| check_references(item, document)),
        _ => {}
    }
}

/// `BLESS=1` rewrites the committed documents.
#[test]
fn the_published_documents_are_fresh() {
    for (file, document) in [("openrpc.json", document()), ("openapi.json", openapi_document())] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs").join(file);
        let fresh = serde_json::to_string_pretty(&document).unwrap() + "\n";
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &fresh).unwrap();
        }
        let fresh_there = read_to_string(&path).is_ok_and(|committed| committed == fresh);
        assert!(fresh_there, "specs/{file} is stale: BLESS=1 cargo test --test it fresh");
    }
}

#[test]
fn every_route_is_in_the_openapi_document_and_its_references_lead_somewhere() {
    let document = openapi_document();
    check_references(&document, &document);
    let mut ids = BTreeSet::new();
    for entry in face::entries() {
        let Some(rest) = entry.def.spec.rest else { continue };
        let verb = rest.verb.as_str().to_ascii_lowercase();
        for path in std::iter::once(&rest.path).chain(rest.also) {
            let operation = &document["paths"][*path][&verb];
            assert!(operation.is_object(), "{verb} {path}");
            ids.insert(operation["operationId"].as_str().unwrap().to_owned());
            for capture in path.split('/').filter(|part| part.starts_with('{')) {
                let name = capture.trim_matches(['{', '}']);
                let named = operation["parameters"].as_array().unwrap();
                let named = named.iter().any(|one| one["name"] == name && one["in"] == "path");
                assert!(named, "{path}: {name}");
            }
        }
    }
    let operations: usize = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|item| item.as_object().unwrap().len())
        .sum();
    assert_eq!(ids.len(), operations, "an operationId is used twice");
}
