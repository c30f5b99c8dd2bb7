//! The state of a group of tasks and its failure rules.

use minicbor::{Decode, Encode};

/// Where a flow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum FlowStatus {
    /// Never started.
    #[n(0)]
    Dispatched,
    /// Has jobs to run.
    #[n(1)]
    Started,
    /// Ended badly.
    #[n(2)]
    Error,
    /// Ended well.
    #[n(3)]
    Finished,
}
