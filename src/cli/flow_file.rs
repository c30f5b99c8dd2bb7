//! The format of flow files: TOML or JSON, jobs by name.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer};

use super::exit::{Failure, Result};

/// A flow file larger than this is none.
const FILE_BYTES: u64 = 64 << 20;

/// A flow file, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowFile {
    /// What it is called in messages; the file's name unless said.
    pub(super) name: Option<String>,
    /// For readers of the file.
    #[serde(default, rename = "description")]
    _description: String,
    /// The context it runs in.
    #[serde(default = "one")]
    pub(super) context: u32,
    /// The actor that asks for it.
    #[serde(default = "one")]
    pub(super) caller: u32,
    /// The flow's id.
    #[serde(default = "one")]
    pub(super) id: u32,
    /// Stop everything as soon as one job has failed for good.
    #[serde(default)]
    pub(super) fail_fast: bool,
    /// Environment of all jobs.
    #[serde(default)]
    pub(super) env: BTreeMap<String, Text>,
    /// What jobs have that do not say otherwise.
    #[serde(default)]
    pub(super) defaults: Defaults,
    /// The jobs.
    pub(super) jobs: Vec<JobEntry>,
    /// What to print at the end, as `job.key`; all results unless said.
    pub(super) output: Option<String>,
}

/// What jobs have that do not say otherwise.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Defaults {
    pub(super) script_type: Option<ScriptType>,
    #[serde(default)]
    pub(super) retries: u8,
    #[serde(default)]
    pub(super) timeout: u32,
}

/// One job, or one job per input file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobEntry {
    /// What other jobs of the file call it.
    pub(super) name: String,
    /// Its id; counted on from the one before unless said.
    pub(super) id: Option<u32>,
    /// The program.
    pub(super) script: Option<String>,
    /// The file that holds the program, relative to the flow file.
    pub(super) script_file: Option<String>,
    /// The program's language; told from the ending of `script_file` unless said.
    pub(super) script_type: Option<ScriptType>,
    /// Names of the jobs that must have finished first.
    #[serde(default)]
    pub(super) depends: Vec<String>,
    /// Further attempts after the first.
    pub(super) retries: Option<u8>,
    /// Bound on one attempt, seconds; 0: none.
    pub(super) timeout: Option<u32>,
    /// Gates that must be open first.
    #[serde(default)]
    pub(super) prerequisites: Vec<String>,
    /// Environment, over that of the flow.
    #[serde(default)]
    pub(super) env: BTreeMap<String, Text>,
    /// Files, relative to the flow file; the last part may hold `*` and `?`. One job per file.
    pub(super) inputs_from: Option<OneOrMore>,
    /// Split larger files at line ends into parts of at most so many bytes, one job each.
    pub(super) split_bytes: Option<usize>,
}

/// The languages, by their names on the wire and by those that people use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum ScriptType {
    /// Rhai.
    #[serde(alias = "osis", alias = "Rhai", alias = "rhai")]
    Osis,
    /// Rhai.
    #[serde(alias = "sal")]
    Sal,
    /// V.
    #[serde(alias = "v")]
    V,
    /// Python.
    #[serde(alias = "python")]
    Python,
}

impl ScriptType {
    /// As the wire has it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Osis => "Osis",
            Self::Sal => "Sal",
            Self::V => "V",
            Self::Python => "Python",
        }
    }

    /// By the ending of a file.
    pub(super) fn of_file(path: &str) -> Option<Self> {
        match Path::new(path).extension()?.to_str()? {
            "rhai" => Some(Self::Osis),
            "py" => Some(Self::Python),
            "v" => Some(Self::V),
            _ => None,
        }
    }
}

/// A text, or a number or truth value that stands for its text.
#[derive(Debug)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "must be a text, a number, true or false")]
        enum Scalar {
            Text(String),
            Whole(i64),
            Real(f64),
            Truth(bool),
        }
        Ok(Self(match Scalar::deserialize(from)? {
            Scalar::Text(text) => text,
            Scalar::Whole(number) => number.to_string(),
            Scalar::Real(number) => number.to_string(),
            Scalar::Truth(truth) => truth.to_string(),
        }))
    }
}

/// One pattern or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "must be a pattern or a list of patterns")]
pub(super) enum OneOrMore {
    /// One.
    One(String),
    /// Several.
    More(Vec<String>),
}

impl OneOrMore {
    /// All of them.
    pub(super) fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(more) => more,
        }
    }
}

fn one() -> u32 {
    1
}

impl FlowFile {
    /// Reads a file: JSON when its name ends so, else TOML.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = read_text(path, FILE_BYTES)?;
        let is_json = path.extension().is_some_and(|ending| ending == "json");
        Self::parse(&text, is_json).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))
    }

    /// Reads the text of a file.
    pub(super) fn parse(text: &str, is_json: bool) -> Result<Self, String> {
        if is_json {
            serde_json::from_str(text).map_err(|e| e.to_string())
        } else {
            toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())
        }
    }
}

/// Reads a text file of at most `most` bytes; a failure names the file.
pub(super) fn read_text(path: &Path, most: u64) -> Result<String> {
    let named = |e: std::io::Error| {
        let missing = e.kind() == std::io::ErrorKind::NotFound;
        let mut failure = Failure::from(e).during(path.display());
        if missing {
            failure.exit = super::exit::Exit::NotFound;
        }
        failure
    };
    let size = std::fs::metadata(path).map_err(named)?.len();
    if size > most {
        let path = path.display();
        return Err(Failure::usage(format!("{path}: {size} bytes, at most {most}")));
    }
    let bytes = std::fs::read(path).map_err(named)?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("{}: is not UTF-8 text", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_json_mean_the_same() {
        let toml =
            "id = 7\n[env]\nTOP = 12\n[[jobs]]\nname = 'a'\nscript = '1'\nscript_type = 'rhai'";
        let json = r#"{ "id": 7, "env": { "TOP": 12 },
            "jobs": [{ "name": "a", "script": "1", "script_type": "Osis" }] }"#;
        let toml = FlowFile::parse(toml, false).unwrap();
        let json = FlowFile::parse(json, true).unwrap();
        assert_eq!(format!("{toml:?}"), format!("{json:?}"));
        assert_eq!((toml.context, toml.caller, toml.id), (1, 1, 7));
        assert_eq!(toml.env["TOP"].0, "12");
    }

    #[test]
    fn a_misspelled_member_is_refused_by_name() {
        let said = FlowFile::parse("[[jobs]]\nname = 'a'\ndepend = []", false).unwrap_err();
        assert!(said.contains("depend"), "{said}");
        let said = FlowFile::parse("[[jobs]]\nname = 'a'\nretries = 256", false).unwrap_err();
        assert!(said.contains("256"), "{said}");
    }
}
