//! Every table in one list: prefix, key type, row type.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use minicbor::{Decode, Encode};

use super::core::Core;
use super::{Key, KeyBytes, StoreError};
use crate::model::flow::FlowStatus;
use crate::model::message::{MessageStatus, TransportStatus};
use crate::model::task::{AttemptState, JobStatus, Language};
use crate::model::{Millis, Triple};

/// Contexts by id.
pub const CONTEXTS: Table<u32, ContextRow> = Table::new(b'c', "contexts");
/// Actors by id.
pub const ACTORS: Table<u32, ActorRow> = Table::new(b'a', "actors");
/// Runners by context and id.
pub const RUNNERS: Table<(u32, u32), RunnerRow> = Table::new(b'r', "runners");
/// Flows by context and id, as their creators described them.
pub const FLOWS: Table<(u32, u32), FlowRow> = Table::new(b'f', "flows");
/// How the last run of a flow stands; absent while it was never started.
pub const FLOW_RUNS: Table<(u32, u32), FlowRunRow> = Table::new(b'F', "flow runs");
/// Jobs by context, caller and id, as their creators described them.
pub const JOBS: Table<Triple, JobRow> = Table::new(b'j', "jobs");
/// How the work of a job stands; absent while nothing has happened to it.
pub const TASKS: Table<Triple, TaskRow> = Table::new(b't', "tasks");
/// Attempts of a job before the last, by job and attempt.
pub const ATTEMPTS: Table<(u32, u32, u32, u32), AttemptRow> = Table::new(b'p', "attempts");
/// Log lines of a job, by job and line number.
pub const LOGS: Table<(u32, u32, u32, u32), LogRow> = Table::new(b'l', "logs");
/// Messages by context, caller and id, as their creators described them.
pub const MESSAGES: Table<Triple, MessageRow> = Table::new(b'm', "messages");
/// How the delivery of a message stands; absent while nothing has happened to it.
pub const MESSAGE_RUNS: Table<Triple, MessageRunRow> = Table::new(b'M', "message runs");
/// Groups with work to do, by context, kind, caller and id: what a restart has to read.
pub const ACTIVE: Table<(u32, u8, u32, u32), ()> = Table::new(b'x', "active");
/// Answers to `flow.submit` by context and digest of the idempotency key.
pub const IDEMPOTENCY: Table<(u32, [u8; 16]), IdempotencyRow> = Table::new(b'i', "idempotency");
/// The same by age.
pub const IDEMPOTENCY_AGE: Table<(u64, u32, [u8; 16]), ()> = Table::new(b'I', "idempotency age");
/// When readiness was last proved by a commit, milliseconds since the Unix epoch.
pub const PROBES: Table<u32, u64> = Table::new(b'z', "probes");

/// All of them.
pub(super) const ALL: &[AnyTable] = &[
    AnyTable::of(CONTEXTS),
    AnyTable::of(ACTORS),
    AnyTable::of(RUNNERS),
    AnyTable::of(FLOWS),
    AnyTable::of(FLOW_RUNS),
    AnyTable::of(JOBS),
    AnyTable::of(TASKS),
    AnyTable::of(ATTEMPTS),
    AnyTable::of(LOGS),
    AnyTable::of(MESSAGES),
    AnyTable::of(MESSAGE_RUNS),
    AnyTable::of(ACTIVE),
    AnyTable::of(IDEMPOTENCY),
    AnyTable::of(IDEMPOTENCY_AGE),
    AnyTable::of(PROBES),
];

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

/// A name for a slice of the key space.
#[derive(Debug)]
pub struct Table<K, V> {
    tag: u8,
    name: &'static str,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Table<K, V> {}

impl<K, V> Table<K, V> {
    pub(super) const fn new(tag: u8, name: &'static str) -> Self {
        Self { tag, name, types: PhantomData }
    }

    /// The same rows, decoded into a type that names only some of their fields.
    ///
    /// For reads only: a row written through it would lose the other fields.
    pub const fn part<W>(self) -> Table<K, W> {
        Table::new(self.tag, self.name)
    }

    pub(super) const fn name(&self) -> &'static str {
        self.name
    }
}

impl<K: Key, V> Table<K, V> {
    pub(super) fn key(&self, key: &K) -> KeyBytes {
        self.prefix(key)
    }

    /// What the keys below `prefix`, the leading part of a key, begin with.
    pub(super) fn prefix<P: Key>(&self, prefix: &P) -> KeyBytes {
        let mut out = KeyBytes::new();
        out.push(self.tag);
        prefix.encode(&mut out);
        out
    }

    pub(super) fn parse(&self, bytes: &[u8]) -> Result<K, StoreError> {
        let mut rest = bytes.get(1..).unwrap_or_default();
        K::decode(&mut rest).filter(|_| rest.is_empty()).ok_or(StoreError::Key(self.name))
    }
}

/// A value that a table can hold.
pub trait Row: Encode<()> + for<'b> Decode<'b, ()> {}
impl<T: Encode<()> + for<'b> Decode<'b, ()>> Row for T {}

/// First byte of a stored value that follows in full.
pub(super) const PLAIN: u8 = 0;
/// First byte of a stored value that is kept as a file of its own; its digest follows.
pub(super) const BLOB: u8 = 1;

impl<K, V: Row> Table<K, V> {
    /// The value as it is stored. `buffer` is scratch space.
    pub(super) fn encode(&self, value: &V, buffer: &mut Vec<u8>) -> Result<Arc<[u8]>, StoreError> {
        buffer.clear();
        buffer.push(PLAIN);
        minicbor::encode(value, &mut *buffer)
            .map_err(|e| StoreError::Value { table: self.name, reason: e.to_string() })?;
        Ok(Arc::from(buffer.as_slice()))
    }

    /// The value made ready to be stored, outside of the one thread that stores.
    ///
    /// # Errors
    /// When it does not encode.
    pub fn encoded(&self, value: &V) -> Result<Encoded<V>, StoreError> {
        Ok(Encoded { bytes: self.encode(value, &mut Vec::with_capacity(512))?, of: PhantomData })
    }

    /// The value, from what follows its first byte.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<V, StoreError> {
        minicbor::decode(bytes)
            .map_err(|e| StoreError::Value { table: self.name, reason: e.to_string() })
    }
}

/// A value as it is stored.
pub struct Encoded<V> {
    pub(super) bytes: Arc<[u8]>,
    of: PhantomData<fn() -> V>,
}

impl<V> std::fmt::Debug for Encoded<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoded").field("bytes", &self.bytes.len()).finish()
    }
}

impl<V: Row> Encoded<V> {
    /// Reads it back.
    ///
    /// # Errors
    /// When it does not decode.
    pub fn read<K>(&self, table: Table<K, V>) -> Result<V, StoreError> {
        table.decode(self.bytes.get(1..).unwrap_or_default())
    }
}

/// A table without its types.
#[derive(Debug)]
pub(super) struct AnyTable {
    pub(super) tag: u8,
    name: &'static str,
    /// Whether a row of it, key and stored value, decodes.
    pub(super) check: CheckRow,
}

type CheckRow = fn(&Core, &AnyTable, &[u8], &[u8]) -> Result<(), StoreError>;

impl AnyTable {
    const fn of<K: Key, V: Row>(table: Table<K, V>) -> Self {
        let Table { tag, name, .. } = table;
        let check = |core: &Core, this: &Self, key: &[u8], value: &[u8]| {
            let table = Table::<K, V>::new(this.tag, this.name);
            table.parse(key)?;
            core.decode(table, value).map(drop)
        };
        Self { tag, name, check }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_is_used_twice() {
        let mut tags: Vec<u8> = ALL.iter().map(|table| table.tag).collect();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), ALL.len());
        assert!(!tags.contains(&0), "the state keeps its own rows there");
    }
}
