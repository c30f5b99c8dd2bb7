//! The work function of a deploy: its source, and what language that is in.

use serde_json::{Map, Value};

use super::job_body::Problems;
use crate::model::slices::FunctionLanguage;
use crate::runner::functions::check_function;

/// The source without what does not belong to it, and its language; what is wrong is noted.
pub(super) fn read(
    work: Option<&Value>,
    problems: &mut Problems,
) -> Option<(String, FunctionLanguage)> {
    let Some(work) = work.filter(|work| !work.is_null()) else {
        problems.add("work: required");
        return None;
    };
    let Some(work) = work.as_object() else {
        problems.add("work: must be an object");
        return None;
    };
    let language = language(work, problems);
    let source = match work.get("function") {
        None | Some(Value::Null) => {
            problems.add("work.function: required");
            return None;
        }
        Some(Value::String(source)) => bare(source),
        Some(_) => {
            problems.add("work.function: must be text");
            return None;
        }
    };
    if source.is_empty() {
        problems.add("work.function: must not be empty");
        return None;
    }
    let language = language?;
    match check_function(language, source) {
        Ok(()) => Some((source.to_owned(), language)),
        Err(err) => {
            problems.add(format!("work.function: {err}"));
            None
        }
    }
}

/// A source without white space around it and semicolons at its end.
fn bare(source: &str) -> &str {
    source.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace())
}

fn language(work: &Map<String, Value>, problems: &mut Problems) -> Option<FunctionLanguage> {
    use FunctionLanguage::{JavaScript, Python};
    let before = problems.messages.len();
    let said = match work.get("language") {
        None | Some(Value::Null) => None,
        Some(Value::String(word)) => match word.trim().to_ascii_lowercase().as_str() {
            "js" | "javascript" | "" => Some(JavaScript),
            "py" | "python" => Some(Python),
            "ts" | "typescript" | "r" => {
                problems.add(format!("work.language: this server has no runners for `{word}`"));
                None
            }
            _ => {
                problems.add(format!("work.language: `{word}` is not known"));
                None
            }
        },
        Some(_) => {
            problems.add("work.language: must be text");
            None
        }
    };
    let runtime = runtime(work.get("runtime"), problems);
    if problems.messages.len() > before {
        return None;
    }
    match (said, runtime) {
        (Some(said), Some(runtime)) if said != runtime => {
            problems.add("work: the language and the runtime do not agree");
            None
        }
        (said, runtime) => Some(said.or(runtime).unwrap_or(JavaScript)),
    }
}

fn runtime(runtime: Option<&Value>, problems: &mut Problems) -> Option<FunctionLanguage> {
    let members = match runtime {
        None | Some(Value::Null) => return None,
        Some(Value::Object(members)) => members,
        Some(_) => {
            problems.add("work.runtime: must be an object");
            return None;
        }
    };
    if members.get("version").is_some_and(|version| !version.is_string() && !version.is_null()) {
        problems.add("work.runtime.version: must be text");
    }
    if members.get("custom").is_some_and(|custom| !custom.is_boolean() && !custom.is_null()) {
        problems.add("work.runtime.custom: must be true or false");
    }
    match members.get("name") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => match name.as_str() {
            "map-basic" => Some(FunctionLanguage::JavaScript),
            "pyodide" => Some(FunctionLanguage::Python),
            _ => {
                problems.add(format!("work.runtime.name: this server has no runners for `{name}`"));
                None
            }
        },
        Some(_) => {
            problems.add("work.runtime.name: must be text");
            None
        }
    }
}
