//! Rows of compute groups.

use minicbor::{Decode, Encode};

use crate::model::Millis;

/// A compute group. Its secret is not kept.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct ComputeGroupRow {
    /// By which jobs name it; never that of another group, also after this one was removed.
    #[n(0)]
    pub number: u32,
    /// Random, so that equal secrets do not look equal.
    #[n(1)]
    pub salt: [u8; 16],
    /// What is derived from salt and secret.
    #[n(2)]
    pub derived: [u8; 32],
    /// When it was created.
    #[n(3)]
    pub created_at: Millis,
    /// When its secret was last set.
    #[n(4)]
    pub updated_at: Millis,
}

/// Without what the secret could be guessed by.
impl std::fmt::Debug for ComputeGroupRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ComputeGroupRow").field("number", &self.number).finish_non_exhaustive()
    }
}
