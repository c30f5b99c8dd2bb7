//! The core face: the objects and names of the seed document.

pub mod actor;
pub mod api_key;
pub(in crate::face) mod aside;
mod attachment;
pub mod audit;
pub mod auth;
mod batch_parcel;
mod batch_remote;
mod bounds;
pub mod compute_group;
pub mod context;
pub mod events;
pub mod flow;
pub mod flow_drawing;
pub mod flow_graph;
pub mod flow_progress;
pub mod flow_runs;
pub mod follow;
pub mod job;
pub mod job_history;
pub mod job_runs;
mod members;
pub mod message;
mod message_kind;
pub mod page;
mod parcel;
pub mod runner;
pub mod runner_language;
pub mod runner_sessions;
mod sweep;
pub mod system;
pub mod system_backup;
pub mod system_stats;
pub mod token;

pub use message_kind::MessageKind;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::engine::Turn;
use crate::model;
use crate::model::Millis;
use crate::store::Draft;
use crate::{Error, Result};

/// Enumerations of the wire that have a twin in the model, published as the seed document has
/// them: one `enum` list, not one schema per value.
macro_rules! words {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident $(= $twin:path)? {
            $($(#[doc = $about:literal])+ $variant:ident,)+
        }
    )+) => { $(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[doc = $about])+ $variant,)+ }

        impl $name {
            /// As it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)+ }
            }

            /// Reads the word of the wire.
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $(stringify!($variant) => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let about = [
                    concat!($($doc),+).trim().to_owned(),
                    $(concat!("`", stringify!($variant), "`:", $($about),+).to_owned(),)+
                ];
                json_schema!({
                    "description": about.join("\n\n"),
                    "type": "string",
                    "enum": [$(stringify!($variant)),+],
                })
            }
        }

        words!(@twin $name $($twin)? { $($variant)+ });
    )+ };
    (@twin $name:ident { $($variant:ident)+ }) => {};
    (@twin $name:ident $twin:path { $($variant:ident)+ }) => {
        impl From<$twin> for $name {
            fn from(value: $twin) -> Self {
                use $twin as Twin;
                match value { $(Twin::$variant => Self::$variant,)+ }
            }
        }
        impl From<$name> for $twin {
            fn from(value: $name) -> Self {
                use $twin as Twin;
                match value { $($name::$variant => Twin::$variant,)+ }
            }
        }
    };
}

words! {
    /// The language of a script.
    ScriptType = model::task::Language {
        /// A Rhai script.
        Osis,
        /// A Rhai script.
        Sal,
        /// A V program.
        V,
        /// A Python program.
        Python,
    }
    /// Where a flow stands.
    FlowStatus = model::flow::FlowStatus {
        /// Never started.
        Dispatched,
        /// Has jobs to run.
        Started,
        /// Ended badly, or was cancelled.
        Error,
        /// Ended well.
        Finished,
    }
    /// Where a job stands.
    JobStatus = model::task::JobStatus {
        /// May be given to a runner, or has been and did not begin.
        Dispatched,
        /// Something holds it back.
        WaitingForPrerequisites,
        /// A runner works on it.
        Started,
        /// Ended badly, or was cancelled.
        Error,
        /// Ended well.
        Finished,
    }
    /// How an attempt stands.
    AttemptState = model::task::AttemptState {
        /// Given to a runner.
        Leased,
        /// The runner works on it.
        Running,
        /// Ended well.
        Finished,
        /// Ended badly.
        Error,
        /// Its runner was lost, or never acknowledged it.
        Lost,
        /// Withdrawn.
        Cancelled,
    }
    /// Where a message stands.
    MessageStatus = model::message::MessageStatus {
        /// Waits for its runner or its readers.
        Dispatched,
        /// A runner has it.
        Acknowledged,
        /// Ended badly.
        Error,
        /// Ended well.
        Processed,
    }
    /// How far a message got on its way to a runner.
    TransportStatus = model::message::TransportStatus {
        /// No runner yet.
        Queued,
        /// Written to a socket.
        Sent,
        /// The runner confirmed it.
        Delivered,
        /// Work began.
        Read,
        /// Given up.
        Failed,
    }
    /// The format of a message's text.
    MessageFormatType {
        /// HTML.
        Html,
        /// Plain text.
        Text,
        /// Markdown.
        Md,
    }
    /// What a message is for.
    MessageType {
        /// Carries jobs.
        Job,
        /// A line of a conversation.
        Chat,
        /// A letter.
        Mail,
    }
}

/// IPv4 or IPv6 textual address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct IpAddr(pub String);

/// The answer of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    /// Always true.
    pub deleted: bool,
}

impl Deleted {
    const DONE: Self = Self { deleted: true };
}

/// Seconds since the Unix epoch, as the seed's objects have it.
fn seconds(at: Millis) -> i64 {
    i64::try_from(at / 1_000).unwrap_or(i64::MAX)
}

/// Logs a change: `kind`, the context, the subject, and `data` as JSON.
fn tell(
    turn: &mut Turn<'_>,
    kind: &'static str,
    context_id: Option<u32>,
    subject: String,
    data: &impl Serialize,
) -> Result<()> {
    let data = serde_json::to_string(data).map_err(|e| Error::Bug(e.to_string()))?;
    turn.emit(Draft { kind, context_id, subject, group: None, data });
    Ok(())
}

/// Refuses what is to be created in a context that does not exist.
fn context_must_exist(turn: &mut Turn<'_>, context_id: u32) -> Result<()> {
    if turn.context_exists(context_id)? { Ok(()) } else { Err(context::not_found(context_id)) }
}

/// Refuses a context in an object that is not the one in the params.
fn context_must_agree(params: u32, object: u32, field: &str) -> Result<()> {
    if params == object {
        return Ok(());
    }
    Err(Error::params(field, format!("must equal the params' context_id, {params}")))
}
