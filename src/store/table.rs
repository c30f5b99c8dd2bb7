//! Every table in one list: prefix, key type, row type.

use std::marker::PhantomData;
use std::sync::Arc;

use minicbor::{Decode, Encode};

use super::core::Core;
use super::row::{
    ActorRow, AttemptRow, ContextRow, FlowRow, FlowRunRow, IdempotencyRow, JobRow, LogRow,
    MessageRow, MessageRunRow, RunnerRow, TaskRow,
};
use super::row_access::{ApiKeyRow, SessionRow, TokenRow};
use super::row_capability::{CapabilityRow, OfferRow, RevocationRow};
use super::row_directory::{DirectoryRow, NodeRow, StatementRow};
use super::row_group::ComputeGroupRow;
use super::row_identity::{AccountRow, IdentityRow, KeystoreKeyRow};
use super::row_webhook::WebhookRow;
use super::work::{SliceFailureRow, TextsRow, WorkEventRow, WorkRow, WorkRunRow, WorkSourceRow};
use super::{Key, KeyBytes, StoreError};
use crate::model::address::Address;
use crate::model::work::Batch;
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
/// Open jobs by id.
pub const WORKS: Table<Address, WorkRow> = Table::new(b'U', "open jobs");
/// The same by owner, the newest first: the key has the complement of `made`.
pub const WORKS_OF: Table<(Address, u64), Address> = Table::new(b'u', "open jobs by owner");
/// Functions of open jobs, by number.
pub const WORK_SOURCES: Table<u32, WorkSourceRow> = Table::new(b'S', "work functions");
/// How open jobs stand, by number.
pub const WORK_RUNS: Table<u32, WorkRunRow> = Table::new(b'y', "open job runs");
/// Batches that have not ended, by open job and number.
pub const BATCHES: Table<(u32, u32), Batch> = Table::new(b'Y', "slice batches");
/// Inputs of slices, by open job and the last slice of a row.
pub const INPUTS: Table<(u32, u64), TextsRow> = Table::new(b'q', "slice inputs");
/// Results of slices, by open job and the last slice of a row.
pub const RESULTS: Table<(u32, u64), TextsRow> = Table::new(b'Q', "slice results");
/// Slices that failed, by open job, [`AGAIN`] or [`FAILED`], and first slice.
pub const SLICE_FAILURES: Table<(u32, u8, u64), SliceFailureRow> =
    Table::new(b'N', "slice failures");
/// Events of open jobs, by number and the last event of a row.
pub const WORK_EVENTS: Table<(u32, u64), WorkEventRow> = Table::new(b'n', "open job events");

/// In the key of a slice failure: to be tried again.
pub const AGAIN: u8 = 0;
/// In the key of a slice failure: for good.
pub const FAILED: u8 = 1;
/// Identities of the compute face that have accounts or API keys.
pub const IDENTITIES: Table<Address, IdentityRow> = Table::new(b'b', "identities");
/// Payment accounts by identity and number, in order of creation.
pub const ACCOUNTS: Table<(Address, u32), AccountRow> = Table::new(b'B', "accounts");
/// The same by what they can be found by: `ACCOUNT_BY_ADDRESS` or `ACCOUNT_BY_NAME`.
pub const ACCOUNT_INDEX: Table<(Address, u8, String), u32> = Table::new(b'G', "account index");
/// API keys by the SHA-256 digest of their digits.
pub const KEYSTORE_KEYS: Table<[u8; 32], KeystoreKeyRow> = Table::new(b'g', "keystore API keys");
/// Compute groups by key.
pub const COMPUTE_GROUPS: Table<String, ComputeGroupRow> = Table::new(b'J', "compute groups");
/// Where results of open jobs are sent, by job and place in its list.
pub const WEBHOOKS: Table<(Address, u32), WebhookRow> = Table::new(b'K', "webhooks");
/// Nodes that publish in the directory, by key.
pub const NODES: Table<[u8; 32], NodeRow> = Table::new(b'd', "nodes");
/// Current statements of nodes, in the order in which they were accepted.
pub const STATEMENTS: Table<u64, StatementRow> = Table::new(b'D', "statements");
/// The same by digest of the federation.
pub const FEDERATIONS: Table<([u8; 16], u64), ()> = Table::new(b'E', "federations");
/// When something of a node ends: its statement, or else what is left of it.
pub const NODES_DUE: Table<(Millis, [u8; 32]), ()> = Table::new(b'e', "nodes due");
/// What the directory counts: one row for each of its feeds.
pub const DIRECTORY: Table<u8, DirectoryRow> = Table::new(b'h', "directory");
/// Capabilities by node and id.
pub const CAPABILITIES: Table<([u8; 32], String), CapabilityRow> = Table::new(b'H', "capabilities");
/// Offers of capabilities by name without anchor, in the order in which they were accepted.
pub const OFFERS: Table<(String, u64), OfferRow> = Table::new(b'V', "offers");
/// When offers expire.
pub const OFFERS_DUE: Table<(Millis, [u8; 32], String), ()> = Table::new(b'v', "offers due");
/// Revocations in the order in which they were accepted.
pub const REVOCATIONS: Table<u64, RevocationRow> = Table::new(b'W', "revocations");
/// The same by [`BY_ISSUER`] or [`BY_SUBJECT`], digest of what is revoked, and who says so.
pub const REVOKED: Table<(u8, [u8; 16], [u8; 32]), u64> = Table::new(b'w', "revoked");

/// In the key of what is revoked: by who issued it.
pub const BY_ISSUER: u8 = 0;
/// In the key of what is revoked: by the node that it is about.
pub const BY_SUBJECT: u8 = 1;

/// Operators' tokens by the first half of their digest.
pub const OPERATOR_TOKENS: Table<[u8; 16], TokenRow> = Table::new(b'o', "operator tokens");
/// Sessions by kind, context and id of who signed in, and the first half of their digest.
pub const SESSIONS: Table<(u8, u32, u32, [u8; 16]), SessionRow> = Table::new(b's', "sessions");
/// API keys by actor and the first half of their digest.
pub const API_KEYS: Table<(u32, [u8; 16]), ApiKeyRow> = Table::new(b'k', "API keys");

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
    AnyTable::of(WORKS),
    AnyTable::of(WORKS_OF),
    AnyTable::of(WORK_SOURCES),
    AnyTable::of(WORK_RUNS),
    AnyTable::of(BATCHES),
    AnyTable::of(INPUTS),
    AnyTable::of(RESULTS),
    AnyTable::of(SLICE_FAILURES),
    AnyTable::of(WORK_EVENTS),
    AnyTable::of(OPERATOR_TOKENS),
    AnyTable::of(SESSIONS),
    AnyTable::of(API_KEYS),
    AnyTable::of(IDENTITIES),
    AnyTable::of(ACCOUNTS),
    AnyTable::of(ACCOUNT_INDEX),
    AnyTable::of(KEYSTORE_KEYS),
    AnyTable::of(WEBHOOKS),
    AnyTable::of(COMPUTE_GROUPS),
    AnyTable::of(NODES),
    AnyTable::of(STATEMENTS),
    AnyTable::of(FEDERATIONS),
    AnyTable::of(NODES_DUE),
    AnyTable::of(DIRECTORY),
    AnyTable::of(CAPABILITIES),
    AnyTable::of(OFFERS),
    AnyTable::of(OFFERS_DUE),
    AnyTable::of(REVOCATIONS),
    AnyTable::of(REVOKED),
];

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

    pub(super) const fn tag(&self) -> u8 {
        self.tag
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

impl<V> Clone for Encoded<V> {
    fn clone(&self) -> Self {
        Self { bytes: Arc::clone(&self.bytes), of: PhantomData }
    }
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
