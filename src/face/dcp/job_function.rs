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
            // A comment behind the last semicolon keeps it from being the last.
            let shorter = bare(without_last_comments(source));
            if language == FunctionLanguage::JavaScript
                && shorter != source
                && check_function(language, shorter).is_ok()
            {
                return Some((shorter.to_owned(), language));
            }
            problems.add(format!("work.function: {err}"));
            None
        }
    }
}

/// A source in JavaScript without what may be comments at its end, or is inside of some text: then
/// what is left does not parse.
fn without_last_comments(source: &str) -> &str {
    let mut rest = source.trim_end();
    loop {
        let line = rest.rfind('\n').map_or(0, |end| end + 1);
        let begin = if rest.ends_with("*/") {
            rest.rfind("/*")
        } else {
            let in_line = rest.get(line..).and_then(|text| text.find("//"));
            in_line.map(|at| line + at)
        };
        match begin.and_then(|begin| rest.get(..begin)) {
            Some(shorter) => rest = shorter.trim_end(),
            None => return rest,
        }
    }
}

/// A source without white space around it, the byte order mark of a file, and semicolons at its end.
fn bare(source: &str) -> &str {
    let source = source.trim_start_matches(|c: char| c == '\u{feff}' || c.is_whitespace());
    source.trim_end_matches(|c: char| c == ';' || c.is_whitespace())
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(source: &str) -> Option<String> {
        read(Some(&json!({ "function": source })), &mut Problems::default()).map(|(kept, _)| kept)
    }

    #[test]
    fn semicolons_at_the_end_go_also_from_before_comments() {
        for source in [
            "(x) => x",
            "\u{feff}\n (x) => x ;\n; ",
            "(x) => x; // that is all",
            "(x) => x; /* that */ // is\n\n// all; of it\n",
            "(x) => x;/* that\n * is all\n */;",
        ] {
            assert_eq!(kept(source).as_deref(), Some("(x) => x"), "{source}");
        }
        for source in ["(x) => x // so", "(x) => 'a; // b'", "(x) => `\n// ${x}`"] {
            assert_eq!(kept(source).as_deref(), Some(source));
        }
        for source in
            ["(x) => x; y // so", "(x) => 'a; // b", "// nothing", "; // nothing", "/* */"]
        {
            assert_eq!(kept(source), None, "{source}");
        }
    }
}
