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

impl MessageStatus {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dispatched => "Dispatched",
            Self::Acknowledged => "Acknowledged",
            Self::Error => "Error",
            Self::Processed => "Processed",
        }
    }

    /// Whether it has ended.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Error | Self::Processed)
    }
}

impl TransportStatus {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "Queued",
            Self::Sent => "Sent",
            Self::Delivered => "Delivered",
            Self::Read => "Read",
            Self::Failed => "Failed",
        }
    }
}

/// What can happen to a message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It was written to a runner's socket.
    Sent,
    /// A runner confirmed it.
    Acknowledged,
    /// Work on one of its jobs began.
    Began,
    /// All its jobs ended: `true` when all of them well.
    Ended(bool),
}

/// Where a message stands after `progress`; the transport only goes forward, and an ended message
/// stays as it is.
pub fn step(
    status: MessageStatus,
    transport: TransportStatus,
    progress: Progress,
) -> (MessageStatus, TransportStatus) {
    use {MessageStatus as S, TransportStatus as T};
    if status.is_ended() {
        return (status, transport);
    }
    match progress {
        Progress::Sent => (status, transport.max(T::Sent)),
        Progress::Acknowledged => (S::Acknowledged, transport.max(T::Delivered)),
        Progress::Began => (S::Acknowledged, transport.max(T::Read)),
        Progress::Ended(true) => (S::Processed, transport.max(T::Read)),
        Progress::Ended(false) if transport < T::Delivered => (S::Error, T::Failed),
        Progress::Ended(false) => (S::Error, transport),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        use {MessageStatus as S, Progress as P, TransportStatus as T};
        let rows = [
            (S::Dispatched, T::Queued, P::Sent, S::Dispatched, T::Sent),
            (S::Dispatched, T::Sent, P::Acknowledged, S::Acknowledged, T::Delivered),
            (S::Acknowledged, T::Delivered, P::Sent, S::Acknowledged, T::Delivered),
            (S::Acknowledged, T::Delivered, P::Began, S::Acknowledged, T::Read),
            (S::Acknowledged, T::Read, P::Acknowledged, S::Acknowledged, T::Read),
            (S::Dispatched, T::Sent, P::Began, S::Acknowledged, T::Read),
            (S::Acknowledged, T::Read, P::Ended(true), S::Processed, T::Read),
            (S::Acknowledged, T::Read, P::Ended(false), S::Error, T::Read),
            (S::Dispatched, T::Queued, P::Ended(false), S::Error, T::Failed),
            (S::Processed, T::Read, P::Ended(false), S::Processed, T::Read),
            (S::Error, T::Failed, P::Acknowledged, S::Error, T::Failed),
        ];
        for (status, transport, progress, status_after, transport_after) in rows {
            let got = step(status, transport, progress);
            assert_eq!(
                got,
                (status_after, transport_after),
                "{status:?} {transport:?} {progress:?}"
            );
        }
    }
}
