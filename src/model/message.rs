//! The life of a transport message.

use minicbor::{Decode, Encode};

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum MessageStatus {
    /// Waits for its runner.
    #[n(0)]
    Dispatched,
    /// A runner has it.
    #[n(1)]
    Acknowledged,
    /// Ended badly.
    #[n(2)]
    Error,
    /// Ended well.
    #[n(3)]
    Processed,
}

/// How far a message got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum TransportStatus {
    /// No runner yet.
    #[n(0)]
    Queued,
    /// Written to a socket.
    #[n(1)]
    Sent,
    /// The runner confirmed it.
    #[n(2)]
    Delivered,
    /// Work began.
    #[n(3)]
    Read,
    /// Given up.
    #[n(4)]
    Failed,
}
