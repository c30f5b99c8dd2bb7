//! The seam: whoever can append a batch expecting a number decides what happened.
//!
//! The journal is the truth, the state is what its batches add up to. The local one
//! ([`super::segment`]) serves one coordinator on one machine. A replicated one (a table in
//! `PostgreSQL`, a NATS `JetStream` stream) implements the same few methods; its engine checks the
//! expected number, which fences off a coordinator that does not know yet that it was replaced.

use std::fmt;
use std::ops::ControlFlow;

use super::StoreError;
use super::batch::{Batch, Position};

/// What a reader of batches does with each, and whether it wants more.
pub type Visit<'a> = &'a mut dyn FnMut(Batch) -> ControlFlow<()>;

/// A durable, ordered list of batches.
pub trait Journal: fmt::Debug + Send + Sync {
    /// Makes the batches durable, in order, all or none of them.
    ///
    /// The first must be the one after [`Journal::last`], the others must follow it.
    ///
    /// # Errors
    /// [`StoreError::Superseded`] when the first is not the next, or why it could not be written.
    /// Then nothing was appended, and appending may be tried again.
    fn append(&self, batches: &[Batch]) -> Result<(), StoreError>;

    /// What comes before the oldest batch that is kept.
    fn first(&self) -> Position;

    /// How far it is.
    fn last(&self) -> Position;

    /// Hands over every batch with a number above `after`, in order, until `visit` breaks.
    ///
    /// A coordinator catches up this way at its start, a copy follows by doing it again and again.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when one of them cannot be read, [`StoreError::Forgotten`] when
    /// the first one is no longer kept.
    fn read(&self, after: u64, visit: Visit<'_>) -> Result<(), StoreError>;

    /// The same without changes, from the batch that holds the event after `seq`.
    ///
    /// # Errors
    /// As [`Journal::read`].
    fn read_events(&self, seq: u64, visit: Visit<'_>) -> Result<(), StoreError>;

    /// Lets go of what is needed no more: batches up to `done`, unless they hold later events.
    ///
    /// # Errors
    /// When it cannot be deleted; it is tried again the next time.
    fn forget(&self, done: Position) -> Result<(), StoreError>;

    /// Disk space it takes, bytes.
    fn bytes(&self) -> u64;
}
