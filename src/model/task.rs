//! The unit of work every face maps onto, as one pure transition function.

use minicbor::{Decode, Encode};

/// The language of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Language {
    /// A Rhai script.
    #[n(0)]
    Osis,
    /// A Rhai script.
    #[n(1)]
    Sal,
    /// A V program.
    #[n(2)]
    V,
    /// A Python program.
    #[n(3)]
    Python,
}

/// Where a job stands, as the core face says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum JobStatus {
    /// May be given to a runner, or has been and did not begin.
    #[n(0)]
    Dispatched,
    /// Something holds it back.
    #[n(1)]
    WaitingForPrerequisites,
    /// A runner works on it.
    #[n(2)]
    Started,
    /// Ended badly, or was cancelled.
    #[n(3)]
    Error,
    /// Ended well.
    #[n(4)]
    Finished,
}

/// How an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum AttemptState {
    /// Given to a runner.
    #[n(0)]
    Leased,
    /// The runner works on it.
    #[n(1)]
    Running,
    /// Ended well.
    #[n(2)]
    Finished,
    /// Ended badly.
    #[n(3)]
    Error,
    /// Its runner was lost, or never acknowledged it.
    #[n(4)]
    Lost,
    /// Withdrawn.
    #[n(5)]
    Cancelled,
}
