//! `key`: this node's key, which signs and verifies without a running coordinator.

use std::io::Read;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, ValueHint};
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Value, json};

use super::arguments::{json as json_flag, with};
use super::exit::{Exit, Failure, Result};
use super::{output, settings};
use crate::identity::json::DEPTH;
use crate::identity::{Json, KeyFileError, NodeKey, PublicKey, canonical, cbor, signature};

/// Most that is read.
const LARGEST: u64 = 64 << 20;
/// The member that holds a signature.
const SIGNATURE: &str = "signature";

/// Its command.
pub(super) fn command() -> Command {
    let file = || {
        Arg::new("file")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .value_hint(ValueHint::FilePath)
            .help("What to read; standard input when left out or -")
    };
    let form = || {
        let forms = PossibleValuesParser::new(["bytes", "json", "cbor"]);
        Arg::new("form")
            .long("form")
            .value_name("FORM")
            .value_parser(forms)
            .default_value("bytes")
            .help(
                "bytes: what is read, as it is; json, cbor: a JSON artifact without its member \
             `signature`, as canonical JSON or deterministic CBOR",
            )
    };
    let domain = || {
        Arg::new("domain")
            .long("domain")
            .value_name("TEXT")
            .help("Goes before the bytes, with a zero byte, such as node-advertisement.v1")
    };
    let data_dir = |command: Command| with(command, &["data_dir"]);
    Command::new("key")
        .about("Shows this node's key, signs and verifies with it")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(data_dir(
            Command::new("show").about("Prints the public key in its spellings").arg(json_flag()),
        ))
        .subcommand(data_dir(
            Command::new("sign")
                .about("Prints a signature, or the artifact with its signature in it")
                .args([file(), form(), domain()]),
        ))
        .subcommand(data_dir(
            Command::new("verify")
                .about("Checks a signature; exit code 4 when it is not good")
                .args([file(), form(), domain()])
                .arg(
                    Arg::new("key")
                        .long("key")
                        .value_name("KEY")
                        .help("Whose: z6Mk…, did:key:… or node:did:key:… [default: this node's]"),
                )
                .arg(
                    Arg::new("signature")
                        .long("signature")
                        .value_name("TEXT")
                        // One in 64 begins with a hyphen.
                        .allow_hyphen_values(true)
                        .help("The signature, where it is not in the artifact"),
                ),
        ))
}

/// `muster key show|sign|verify`.
pub(super) fn key(matches: &ArgMatches) -> Result {
    let (action, matches) = matches.subcommand().ok_or_else(|| Failure::usage("name an action"))?;
    let dir = settings::load(matches)?.config.data_dir;
    match action {
        "show" => {
            let key = NodeKey::load(&dir)?;
            let shown = json!({
                "node_id": key.node_id(),
                "did": key.public().did(),
                "public": key.public().multibase(),
            });
            output::answer(&shown, matches.get_flag("json"))
        }
        "sign" => sign(&NodeKey::load(&dir)?, matches),
        _ => {
            let key = match matches.get_one::<String>("key") {
                Some(text) => PublicKey::from_text(text)
                    .map_err(|err| Failure::usage(format!("--key: {err}")))?,
                None => *NodeKey::load(&dir)?.public(),
            };
            verify(&key, matches)
        }
    }
}

fn sign(key: &NodeKey, matches: &ArgMatches) -> Result {
    let input = Input::read(matches)?;
    let value = signature::to_text(&key.sign(&input.message(matches)?));
    let Some(artifact) = input.artifact else { return output::line(&value) };
    let mut signed = Value::from(&artifact);
    if let Value::Object(members) = &mut signed {
        members.remove(SIGNATURE);
        members.insert(SIGNATURE.to_owned(), json!({ "alg": "ed25519", "value": value }));
    }
    output::line(&signed.to_string())
}

fn verify(key: &PublicKey, matches: &ArgMatches) -> Result {
    let input = Input::read(matches)?;
    let inside = input.artifact.as_ref().and_then(|artifact| artifact.get(SIGNATURE));
    let inside = inside.and_then(|signature| signature.get("value")).and_then(Json::as_str);
    let given = matches.get_one::<String>("signature").map(|text| text.trim());
    let text = given.or(inside).ok_or_else(|| Failure::usage("there is no signature"))?;
    let good = signature::from_text(text).is_some_and(|bytes| {
        input.message(matches).is_ok_and(|message| key.verifies(&message, &bytes))
    });
    if good {
        output::line("good")
    } else {
        Err(Failure::new(Exit::Denied, "the signature is not good"))
    }
}

/// What is signed.
struct Input {
    bytes: Vec<u8>,
    artifact: Option<Json>,
}

impl Input {
    fn read(matches: &ArgMatches) -> Result<Self> {
        let mut bytes = Vec::new();
        match matches.get_one::<PathBuf>("file").filter(|path| path.as_os_str() != "-") {
            Some(path) => {
                let file = std::fs::File::open(path).map_err(|err| {
                    let exit = if path.exists() { Exit::Failed } else { Exit::NotFound };
                    Failure::new(exit, format!("{}: {err}", path.display()))
                })?;
                file.take(LARGEST + 1).read_to_end(&mut bytes)?;
            }
            None => {
                std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes)?;
            }
        }
        if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
            return Err(Failure::usage(format!("at most {LARGEST} bytes")));
        }
        if form(matches) == "bytes" {
            return Ok(Self { bytes, artifact: None });
        }
        let artifact = Json::read(&bytes, DEPTH).map_err(|err| Failure::usage(err.to_string()))?;
        if artifact.members().is_none() {
            return Err(Failure::usage("an artifact is a JSON object"));
        }
        Ok(Self { bytes, artifact: Some(artifact) })
    }

    /// The bytes that the signature is over.
    fn message(&self, matches: &ArgMatches) -> Result<Vec<u8>> {
        let content = match &self.artifact {
            None => self.bytes.clone(),
            Some(artifact) if form(matches) == "cbor" => cbor::encode_without(artifact, SIGNATURE),
            Some(artifact) => canonical::encode_without(artifact, &[SIGNATURE])
                .map_err(|err| Failure::usage(format!("no canonical form: {err}")))?,
        };
        let Some(domain) = matches.get_one::<String>("domain") else { return Ok(content) };
        Ok([domain.as_bytes(), &[0], &content].concat())
    }
}

fn form(matches: &ArgMatches) -> &str {
    matches.get_one::<String>("form").map_or("bytes", String::as_str)
}

impl From<KeyFileError> for Failure {
    fn from(err: KeyFileError) -> Self {
        let exit = match err {
            KeyFileError::Missing(_) => Exit::NotFound,
            KeyFileError::Open { .. } => Exit::Denied,
            _ => Exit::Failed,
        };
        Self::new(exit, err.to_string())
    }
}
