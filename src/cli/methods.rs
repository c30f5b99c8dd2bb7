//! `call`, and one command per method, read off the method table.

use std::io::Read;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value, json};

use super::exit::{Failure, Result};
use super::peer::{Address, HTTP_URL};
use super::{arguments, block_on, output};
use crate::face;
use crate::method::{Def, Entry, Field, Run, codegen_document, document};

/// A file named by `@` may be this large.
const FILE_BYTES: u64 = 256 << 20;
/// Flags of ours that a method's parameter may not take.
const TAKEN: &[&str] = &["json", "url", "timeout", "help", "token", "token-file"];

/// Whether a method has a command: all but subscriptions, which `watch` opens.
pub(super) fn is_command(def: &Def) -> bool {
    matches!(def.run, Run::Call(_))
}

/// Adds a namespace's methods to its command; with their arguments only when `full`.
pub(super) fn attach(command: Command, names: &[&'static str], full: bool) -> Command {
    names.iter().fold(command, |command, name| {
        let words: Vec<&'static str> = name.split('.').skip(1).collect();
        nest(command, &words, name, full)
    })
}

/// A name of more than two words nests: `mesh.jobs.list` is `muster mesh jobs list`.
fn nest(parent: Command, words: &[&'static str], name: &'static str, full: bool) -> Command {
    let Some((word, rest)) = words.split_first() else { return parent };
    if rest.is_empty() {
        let by_hand = parent.find_subcommand(word).is_some();
        return if by_hand { parent } else { parent.subcommand(leaf(word, name, full)) };
    }
    let known = parent.find_subcommand(word).is_some();
    let parent = if known { parent } else { parent.subcommand(Command::new(*word)) };
    parent.mut_subcommand(*word, |child| nest(child.subcommand_required(true), rest, name, full))
}

fn leaf(word: &'static str, name: &'static str, full: bool) -> Command {
    let command = Command::new(word);
    let Some(entry) = full.then(|| entry(name)).flatten() else { return command };
    let args = entry.shape.fields.iter().map(|field| {
        Arg::new(argument(field))
            .long(flag(field))
            .value_name(placeholder(field))
            .required(field.required)
            .allow_negative_numbers(true)
            // Signatures and tokens may begin with a hyphen.
            .allow_hyphen_values(takes(field, "string"))
            .action(if takes(field, "array") { ArgAction::Append } else { ArgAction::Set })
            .help(help(field))
    });
    let command = command.about(&entry.shape.summary).args(args);
    let command = match entry.shape.description.as_str() {
        "" => command,
        more => command.long_about(format!("{}\n\n{more}", entry.shape.summary)),
    };
    let reach = [arguments::url(HTTP_URL), arguments::ca(), arguments::timeout()];
    command.args(reach).arg(arguments::json())
}

/// What a parameter is; of an object, also what it is made of.
fn help(field: &Field) -> String {
    let members = field.schema.get("properties").and_then(Value::as_object);
    let names = members.map(|members| members.keys().map(String::as_str).collect::<Vec<_>>());
    match names {
        Some(names) => format!("{} Members: {}", field.doc(), names.join(", ")),
        None => field.doc().to_owned(),
    }
}

/// The id of a parameter's argument, which no argument of ours has.
fn argument(field: &Field) -> String {
    format!("param {}", field.name)
}

/// The words of a parameter's name with hyphens between them: `job-id` for `job_id` and `jobId`.
fn flag(field: &Field) -> String {
    let mut flag = String::with_capacity(field.name.len() + 4);
    for letter in field.name.chars() {
        match letter {
            '_' => flag.push('-'),
            letter if letter.is_ascii_uppercase() => {
                flag.push('-');
                flag.push(letter.to_ascii_lowercase());
            }
            letter => flag.push(letter),
        }
    }
    if TAKEN.contains(&flag.as_str()) { format!("param-{flag}") } else { flag }
}

fn takes(field: &Field, kind: &str) -> bool {
    match field.schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|known| known == kind),
        known => known.is_some_and(|known| known == kind),
    }
}

fn placeholder(field: &Field) -> &'static str {
    let kinds = [("integer", "N"), ("number", "N"), ("string", "TEXT"), ("boolean", "BOOL")];
    let found = kinds.iter().find(|(kind, _)| takes(field, kind));
    found.map_or("JSON", |(_, name)| name)
}

fn entry(name: &str) -> Option<&'static Entry> {
    face::entries().iter().find(|entry| entry.def.spec.name == name)
}

/// The command of a method.
pub(super) fn by_name(namespace: &str, matches: &ArgMatches) -> Result {
    let (mut name, mut matches) = (namespace.to_owned(), matches);
    while let Some((word, inner)) = matches.subcommand() {
        (name, matches) = (format!("{name}.{word}"), inner);
    }
    let entry = entry(&name).ok_or_else(|| Failure::usage(format!("there is no method {name}")))?;
    let params = params(entry, matches)?;
    let address = Address::of(matches)?;
    let answer = block_on(async { address.connect().await?.call(&name, params).await })?;
    output::answer(&answer, matches.get_flag("json"))
}

fn params(entry: &Entry, matches: &ArgMatches) -> Result<Value> {
    let mut params = Map::new();
    for field in &entry.shape.fields {
        let Some(texts) = matches.get_many::<String>(&argument(field)) else { continue };
        let texts: Vec<String> = texts.map(|text| expand(text)).collect::<Result<_>>()?;
        params.insert(field.name.clone(), value(field, &texts)?);
    }
    Ok(Value::Object(params))
}

/// A list is written as JSON, or by repeating the flag.
fn value(field: &Field, texts: &[String]) -> Result<Value> {
    match texts {
        [text] if !takes(field, "array") || text.trim_start().starts_with('[') => {
            let value = field.coerce(text);
            if takes(field, "object") && value.is_string() {
                return Err(Failure::usage(format!("--{}: must be a JSON object", flag(field))));
            }
            Ok(value)
        }
        texts => {
            let item = field.schema.get("items").cloned().unwrap_or_default();
            let item = Field { name: field.name.clone(), required: true, schema: item };
            Ok(texts.iter().map(|text| item.coerce(text)).collect())
        }
    }
}

/// `@file` and `@-` stand for what is in there; `@@` for one `@`.
fn expand(text: &str) -> Result<String> {
    let Some(path) = text.strip_prefix('@') else { return Ok(text.to_owned()) };
    if path.starts_with('@') {
        return Ok(path.to_owned());
    }
    let mut source: Box<dyn Read> = match path {
        "-" => Box::new(std::io::stdin()),
        path => Box::new(std::fs::File::open(path).map_err(|e| Failure::from(e).during(path))?),
    };
    let mut text = String::new();
    let read = source.by_ref().take(FILE_BYTES).read_to_string(&mut text);
    read.map_err(|e| Failure::from(e).during(path))?;
    Ok(text)
}

/// `muster call METHOD [PARAMS]`.
pub(super) fn call(matches: &ArgMatches) -> Result {
    let method = matches.get_one::<String>("method").cloned().unwrap_or_default();
    let params = match matches.get_one::<String>("params") {
        None => json!({}),
        Some(text) => serde_json::from_str(&expand(text)?)
            .map_err(|e| Failure::usage(format!("PARAMS is not JSON: {e}")))?,
    };
    if !params.is_object() && !params.is_array() {
        return Err(Failure::usage("PARAMS must be a JSON object or array"));
    }
    let address = Address::of(matches)?;
    let answer = block_on(async { address.connect().await?.call(&method, params).await })?;
    output::answer(&answer, matches.get_flag("json"))
}

/// `muster methods`.
pub(super) fn list(matches: &ArgMatches) -> Result {
    let rows = face::entries().iter().map(|entry| (entry.def.spec.name, &entry.shape.summary));
    if matches.get_flag("json") {
        let items: Vec<Value> =
            rows.map(|(name, summary)| json!({ "method": name, "summary": summary })).collect();
        return output::line(&output::json(&json!({ "items": items })));
    }
    let rows: Vec<_> = rows.map(|(name, summary)| vec![name.to_owned(), summary.clone()]).collect();
    output::line(&output::aligned(&rows))
}

/// `muster openrpc`.
pub(super) fn openrpc(matches: &ArgMatches) -> Result {
    let document = match matches.get_one::<String>("profile") {
        None => document(),
        Some(_) => codegen_document(),
    };
    let text = serde_json::to_string_pretty(&document);
    output::line(&text.map_err(|e| Failure::failed(e.to_string()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, schema: Value) -> Field {
        Field { name: name.into(), required: false, schema }
    }

    #[test]
    fn words_become_params() {
        let id = field("id", json!({ "type": "integer" }));
        assert_eq!(value(&id, &["7".into()]).unwrap(), json!(7));
        let name = field("reason", json!({ "type": ["string", "null"] }));
        assert_eq!(value(&name, &["7".into()]).unwrap(), json!("7"));
        let kinds = field("kinds", json!({ "type": "array", "items": { "type": "string" } }));
        assert_eq!(value(&kinds, &["a".into(), "b".into()]).unwrap(), json!(["a", "b"]));
        assert_eq!(value(&kinds, &["a".into()]).unwrap(), json!(["a"]));
        assert_eq!(value(&kinds, &[r#"["a"]"#.into()]).unwrap(), json!(["a"]));
        let actor = field("actor", json!({ "type": "object" }));
        assert!(value(&actor, &["{broken".into()]).is_err());
    }

    #[test]
    fn a_parameter_never_takes_a_flag_of_ours() {
        assert_eq!(flag(&field("timeout", json!({}))), "param-timeout");
        assert_eq!(flag(&field("context_id", json!({}))), "context-id");
        assert_eq!(flag(&field("webHookUrls", json!({}))), "web-hook-urls");
    }

    #[test]
    fn long_names_nest() {
        let command = attach(Command::new("mesh"), &["mesh.jobs.list", "mesh.jobs.get"], false);
        let jobs = command.find_subcommand("jobs").unwrap();
        assert!(jobs.find_subcommand("list").is_some() && jobs.find_subcommand("get").is_some());
    }

    #[test]
    fn an_at_sign_reads_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "[1]").unwrap();
        assert_eq!(expand(&format!("@{}", path.display())).unwrap(), "[1]");
        assert_eq!(expand("@@home").unwrap(), "@home");
        assert!(expand("@/no/such/file").is_err());
    }
}
