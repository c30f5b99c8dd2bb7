//! What the directory's tables hold.

use minicbor::{Decode, Encode};

use crate::model::Millis;

/// What is known of a node that publishes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeRow {
    /// The highest sequence number accepted; it outlives the statement that had it.
    #[n(0)]
    pub sequence: u64,
    /// Where the current statement is; none when it has expired and was swept.
    #[n(1)]
    pub position: Option<u64>,
    /// When the last statement is void.
    #[n(2)]
    pub expires_at: Millis,
    /// When every older honest statement is void, too, and the number may be forgotten.
    #[n(3)]
    pub forget_at: Millis,
    /// Digest of the current statement's federation.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub federation: Option<[u8; 16]>,
}

/// A statement as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StatementRow {
    /// The key of its node.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub node: [u8; 32],
    /// When it is void.
    #[n(1)]
    pub expires_at: Millis,
    /// The same as it was written.
    #[n(2)]
    pub expires_text: String,
    /// Its number.
    #[n(3)]
    pub sequence: u64,
    /// Its federation.
    #[n(4)]
    pub federation: Option<String>,
    /// The text as it came.
    #[n(5)]
    pub text: String,
}

/// What one feed of the directory counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct DirectoryRow {
    /// When its first entry was accepted: tells this store from others.
    #[n(0)]
    pub born: Millis,
    /// Entries accepted so far, never counted down.
    #[n(1)]
    pub position: u64,
    /// Nodes of which something is kept; or entries that are, where these are what is bounded.
    #[n(2)]
    pub nodes: u64,
}
