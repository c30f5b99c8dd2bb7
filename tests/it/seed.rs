//! The document holds the seed document, to the letter where clients can tell.

use muster::method::document;
use serde_json::Value;

fn seed() -> Value {
    serde_json::from_str(include_str!("../../specs/openrpc-seed.json")).unwrap()
}

/// Everything in `want` is in `got` with the same value, descriptions and titles aside.
///
/// One exception: the seed's `message_type` refers to `ScriptType` with `MessageType` beside it,
/// and both are taken.
fn compare(want: &Value, got: &Value, path: &str, wrong: &mut Vec<String>) {
    if path.ends_with("/properties/message_type") {
        let got = got["anyOf"].as_array().map_or(Value::Null, |choices| choices[0].clone());
        assert_eq!(&got, want, "{path}");
        return;
    }
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            for (key, want) in want.iter().filter(|(key, _)| *key != "description") {
                match got.get(key) {
                    Some(got) => compare(want, got, &format!("{path}/{key}"), wrong),
                    None => wrong.push(format!("{path}/{key} is missing")),
                }
            }
            let own = ["description", "title", "examples", "default"];
            for key in got.keys().filter(|key| !own.contains(&key.as_str())) {
                if !want.contains_key(key) {
                    wrong.push(format!("{path}/{key} is not in the seed"));
                }
            }
        }
        (Value::Array(want), Value::Array(got)) if path.ends_with("required") => {
            let sorted = |list: &[Value]| {
                let mut list: Vec<String> = list.iter().map(Value::to_string).collect();
                list.sort();
                list
            };
            if sorted(want) != sorted(got) {
                wrong.push(format!("{path}: {got:?}, not {want:?}"));
            }
        }
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
            for (at, (want, got)) in want.iter().zip(got).enumerate() {
                compare(want, got, &format!("{path}/{at}"), wrong);
            }
        }
        (want, got) if want == got => {}
        (want, got) => wrong.push(format!("{path}: {got}, not {want}")),
    }
}

#[test]
fn every_schema_of_the_seed_is_published_as_it_is_there() {
    let (seed, ours) = (seed(), document());
    let mut wrong = Vec::new();
    let (want, got) = (&seed["components"]["schemas"], &ours["components"]["schemas"]);
    for (name, want) in want.as_object().unwrap() {
        match got.get(name) {
            Some(got) => compare(want, got, name, &mut wrong),
            None => wrong.push(format!("{name} is missing")),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_method_of_the_seed_is_published_with_its_errors() {
    let (seed, ours) = (seed(), document());
    let mut wrong = Vec::new();
    let errors = &seed["components"]["errors"];
    for want in seed["methods"].as_array().unwrap() {
        let name = &want["name"];
        let got = ours["methods"].as_array().unwrap().iter().find(|m| m["name"] == *name);
        let Some(got) = got else {
            wrong.push(format!("{name} is missing"));
            continue;
        };
        for part in ["params", "result"] {
            let mut got = got[part].clone();
            strip_required(&mut got);
            compare(&want[part], &got, &format!("{name}/{part}"), &mut wrong);
        }
        for error in want["errors"].as_array().unwrap() {
            let error = &errors[error["$ref"].as_str().unwrap().rsplit('/').next().unwrap()];
            if !got["errors"].as_array().unwrap().contains(error) {
                wrong.push(format!("{name}: {error} is not listed"));
            }
        }
    }
    for (name, want) in errors.as_object().unwrap() {
        compare(want, &ours["components"]["errors"][name], name, &mut wrong);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The seed does not say which parameters are required; the wire does.
fn strip_required(descriptors: &mut Value) {
    match descriptors {
        Value::Array(many) => many.iter_mut().for_each(strip_required),
        Value::Object(one) => drop(one.shift_remove("required")),
        _ => {}
    }
}
