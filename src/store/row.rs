//! What the tables hold: rows, with numbered fields so that later ones can be added.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use crate::model::Millis;
use crate::model::flow::FlowStatus;
use crate::model::message::{MessageStatus, TransportStatus};
use crate::model::task::{AttemptState, JobStatus, Language};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ContextRow {
    /// Actors that may change everything in it.
    #[n(0)]
    pub admins: Vec<u32>,
    /// Actors that may read it.
    #[n(1)]
    pub readers: Vec<u32>,
    /// Actors that may run and report its jobs.
    #[n(2)]
    pub executors: Vec<u32>,
    /// When it was first created.
    #[n(3)]
    pub created_at: Millis,
    /// When it last changed.
    #[n(4)]
    pub updated_at: Millis,
}

/// A security principal.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ActorRow {
    /// Its public key as the client wrote it.
    #[n(0)]
    pub pubkey: String,
    /// Where it can be reached, as the client wrote it.
    #[n(1)]
    pub address: Vec<String>,
    /// When it was first created.
    #[n(2)]
    pub created_at: Millis,
    /// When it last changed.
    #[n(3)]
    pub updated_at: Millis,
}

/// A runner as its creator described it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RunnerRow {
    /// Its public key as the client wrote it.
    #[n(0)]
    pub pubkey: String,
    /// Where it can be reached, as the client wrote it.
    #[n(1)]
    pub address: String,
    /// Its topic.
    #[n(2)]
    pub topic: String,
    /// May be served by the built-in runner.
    #[n(3)]
    pub local: bool,
    /// When it was first created.
    #[n(4)]
    pub created_at: Millis,
    /// When it last changed.
    #[n(5)]
    pub updated_at: Millis,
}

/// A flow as its creator described it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FlowRow {
    /// The actor whose jobs it groups.
    #[n(0)]
    pub caller_id: u32,
    /// Its jobs, in the order and with the repetitions that the client sent.
    #[n(1)]
    pub jobs: Vec<u32>,
    /// Environment of all its jobs.
    #[n(2)]
    pub env_vars: BTreeMap<String, String>,
    /// The result it was created with.
    #[n(3)]
    pub result: BTreeMap<String, String>,
    /// When it was first created.
    #[n(4)]
    pub created_at: Millis,
    /// When its creator last changed it.
    #[n(5)]
    pub updated_at: Millis,
}

/// How the last run of a flow stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FlowRunRow {
    /// Where it stands.
    #[n(0)]
    pub status: FlowStatus,
    /// When the run began.
    #[n(1)]
    pub started_at: Option<Millis>,
    /// When the run ended.
    #[n(2)]
    pub finished_at: Option<Millis>,
    /// When this row last changed.
    #[n(3)]
    pub updated_at: Millis,
    /// Stop everything at the first job that fails for good.
    #[n(4)]
    pub fail_fast: bool,
    /// Why it ended in error.
    #[n(5)]
    pub reason: Option<String>,
    /// Whether any of its jobs left a result, so that a reader can skip looking.
    #[n(6)]
    pub has_results: bool,
}

/// A job as its creator described it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct JobRow {
    /// What to run.
    #[n(0)]
    pub script: String,
    /// Its language.
    #[n(1)]
    pub language: Language,
    /// Bound on one attempt, seconds; 0 is none.
    #[n(2)]
    pub timeout: u32,
    /// Attempts after the first.
    #[n(3)]
    pub retries: u8,
    /// Its environment.
    #[n(4)]
    pub env_vars: BTreeMap<String, String>,
    /// The result it was created with.
    #[n(5)]
    pub result: BTreeMap<String, String>,
    /// Gates, as the client wrote them.
    #[n(6)]
    pub prerequisites: Vec<String>,
    /// Jobs that must finish first, as the client wrote them.
    #[n(7)]
    pub depends: Vec<u32>,
    /// When it was first created.
    #[n(8)]
    pub created_at: Millis,
    /// When its creator last changed it.
    #[n(9)]
    pub updated_at: Millis,
}

/// How the work of a job stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TaskRow {
    /// Where it stands.
    #[n(0)]
    pub status: JobStatus,
    /// When this row last changed.
    #[n(1)]
    pub updated_at: Millis,
    /// The last attempt, unless there was none yet.
    #[n(2)]
    pub attempt: Option<AttemptRow>,
    /// Failed attempts of the present run, which its retries are counted against.
    #[n(3)]
    pub failures: u32,
    /// Attempts lost in a row, which use up no retry.
    #[n(4)]
    pub losses: u32,
    /// Earliest start of the next attempt, while backing off.
    #[n(5)]
    pub not_before: Option<Millis>,
    /// Plain gates that were satisfied, as positions in `prerequisites`.
    #[n(6)]
    pub satisfied: Vec<u32>,
    /// What the last attempt left, as the text of a JSON object of strings.
    #[n(7)]
    pub result: Option<String>,
    /// Why it was cancelled, or given up without an attempt of its own.
    #[n(8)]
    pub reason: Option<String>,
    /// Log lines stored so far.
    #[n(9)]
    pub log_lines: u32,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AttemptRow {
    /// Its number, from 1.
    #[n(0)]
    pub attempt: u32,
    /// The runner that has, or had, it.
    #[n(1)]
    pub runner_id: u32,
    /// Random; tells apart attempts of one number that a crash or a new life of the job repeats.
    #[n(2)]
    pub nonce: u32,
    /// How it stands.
    #[n(3)]
    pub state: AttemptState,
    /// When it was given out.
    #[n(4)]
    pub leased_at: Millis,
    /// Whether the runner confirmed that it has it.
    #[n(5)]
    pub acknowledged: bool,
    /// When work began.
    #[n(6)]
    pub started_at: Option<Millis>,
    /// When it ended.
    #[n(7)]
    pub ended_at: Option<Millis>,
    /// Why it failed.
    #[n(8)]
    pub error: Option<String>,
    /// Whether the coordinator ended it, against which no report counts any more.
    #[n(9)]
    pub withdrawn: Option<bool>,
}

/// A log line.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogRow {
    /// When it was reported.
    #[n(0)]
    pub at: Millis,
    /// The attempt that wrote it.
    #[n(1)]
    pub attempt: u32,
    /// Its stream, such as `stdout`.
    #[n(2)]
    pub stream: String,
    /// The text.
    #[n(3)]
    pub line: String,
}

/// A message as its creator described it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MessageRow {
    /// Its text.
    #[n(0)]
    pub message: String,
    /// Its type, one of the values of `ScriptType` and `MessageType`.
    #[n(1)]
    pub message_type: String,
    /// Its format, a value of `MessageFormatType`.
    #[n(2)]
    pub message_format_type: String,
    /// Bound on the whole message, seconds; 0 is none.
    #[n(3)]
    pub timeout: u32,
    /// Bound on the acknowledgement, seconds; 0 is none.
    #[n(4)]
    pub timeout_ack: u32,
    /// Bound on the result, seconds; 0 is none.
    #[n(5)]
    pub timeout_result: u32,
    /// Ids of its jobs, which are stored as jobs of its caller.
    #[n(6)]
    pub jobs: Vec<u32>,
    /// Log lines it was created with.
    #[n(7)]
    pub logs: Vec<String>,
    /// When it was first created.
    #[n(8)]
    pub created_at: Millis,
    /// When its creator last changed it.
    #[n(9)]
    pub updated_at: Millis,
}

/// How the delivery of a message stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MessageRunRow {
    /// Where it stands.
    #[n(0)]
    pub status: MessageStatus,
    /// How far it got.
    #[n(1)]
    pub transport: TransportStatus,
    /// When delivery began.
    #[n(2)]
    pub started_at: Millis,
    /// When this row last changed.
    #[n(3)]
    pub updated_at: Millis,
    /// Log lines that runners added.
    #[n(4)]
    pub logs: Vec<String>,
    /// Why it ended in error.
    #[n(5)]
    pub reason: Option<String>,
}

/// What a `flow.submit` with an idempotency key did.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct IdempotencyRow {
    /// Digest of the request.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub request: [u8; 32],
    /// The flow it made.
    #[n(1)]
    pub flow_id: u32,
    /// When.
    #[n(2)]
    pub at: Millis,
}
