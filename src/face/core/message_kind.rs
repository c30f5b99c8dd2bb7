//! The two enumerations that a message's type may come from.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{MessageType, ScriptType};

/// What a message is for: a value of `ScriptType` or of `MessageType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Carries scripts of this type.
    Script(ScriptType),
    /// Something else.
    Message(MessageType),
}

impl MessageKind {
    /// As it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Script(kind) => kind.as_str(),
            Self::Message(kind) => kind.as_str(),
        }
    }

    /// Reads the word of the wire.
    pub fn from_word(word: &str) -> Option<Self> {
        let message = || MessageType::from_word(word).map(Self::Message);
        ScriptType::from_word(word).map(Self::Script).or_else(message)
    }
}

impl Serialize for MessageKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MessageKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const WORDS: &[&str] = &["Osis", "Sal", "V", "Python", "Job", "Chat", "Mail"];
        let word = String::deserialize(deserializer)?;
        Self::from_word(&word).ok_or_else(|| serde::de::Error::unknown_variant(&word, WORDS))
    }
}

impl JsonSchema for MessageKind {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MessageKind".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let script = generator.subschema_for::<ScriptType>();
        let message = generator.subschema_for::<MessageType>();
        json_schema!({ "anyOf": [script, message] })
    }
}
