//! What runners can execute, as it stands on the wire.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::engine::Skill;
use crate::model::slices::{FunctionLanguage, is_group};
use crate::model::task::Language;
use crate::{Error, Result};

/// What a runner can execute.
///
/// In an ordinary context: a value of `ScriptType`. In a compute group, where work functions are
/// called: `JavaScript` or `Python`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RunnerLanguage {
    /// Rhai scripts.
    Osis,
    /// Rhai scripts.
    Sal,
    /// V programs.
    V,
    /// Python programs, or work functions in Python.
    Python,
    /// Work functions in JavaScript.
    JavaScript,
}

impl JsonSchema for RunnerLanguage {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RunnerLanguage".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What a runner can execute: a value of `ScriptType` in an ordinary \
                context; `JavaScript` or `Python` in a compute group, where work functions are \
                called.",
            "type": "string",
            "enum": ["Osis", "Sal", "V", "Python", "JavaScript"],
        })
    }
}

/// What these words mean for a runner of the context.
///
/// # Errors
/// [`Error::Params`] for one that means nothing there.
pub(super) fn skills(context: u32, languages: &[RunnerLanguage]) -> Result<Vec<Skill>> {
    use RunnerLanguage as L;
    let skill = |language: &L| match (language, is_group(context)) {
        (L::Osis, false) => Ok(Skill::Script(Language::Osis)),
        (L::Sal, false) => Ok(Skill::Script(Language::Sal)),
        (L::V, false) => Ok(Skill::Script(Language::V)),
        (L::Python, false) => Ok(Skill::Script(Language::Python)),
        (L::Python, true) => Ok(Skill::Function(FunctionLanguage::Python)),
        (L::JavaScript, true) => Ok(Skill::Function(FunctionLanguage::JavaScript)),
        (L::JavaScript, false) => {
            Err(Error::params("script_types", "JavaScript is for compute groups"))
        }
        (L::Osis | L::Sal | L::V, true) => {
            Err(Error::params("script_types", "JavaScript or Python in a compute group"))
        }
    };
    let mut skills = languages.iter().map(skill).collect::<Result<Vec<_>>>()?;
    skills.sort_unstable();
    skills.dedup();
    Ok(skills)
}

impl From<Skill> for RunnerLanguage {
    fn from(skill: Skill) -> Self {
        match skill {
            Skill::Script(Language::Osis) => Self::Osis,
            Skill::Script(Language::Sal) => Self::Sal,
            Skill::Script(Language::V) => Self::V,
            Skill::Script(Language::Python) | Skill::Function(FunctionLanguage::Python) => {
                Self::Python
            }
            Skill::Function(FunctionLanguage::JavaScript) => Self::JavaScript,
        }
    }
}
