//! Rows of secrets: what is kept of each, and never the secret itself.

use minicbor::{Decode, Encode};

use crate::model::Millis;

/// An operator's token.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TokenRow {
    /// What the operator calls it.
    #[n(0)]
    pub name: String,
    /// The digest of the secret.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub digest: [u8; 32],
    /// When it was created.
    #[n(2)]
    pub created_at: Millis,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SessionRow {
    /// The digest of the secret.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub digest: [u8; 32],
    /// When it began.
    #[n(1)]
    pub created_at: Millis,
    /// When it ends.
    #[n(2)]
    pub expires_at: Millis,
}

/// An API key of an actor.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ApiKeyRow {
    /// What it is called.
    #[n(0)]
    pub name: String,
    /// The digest of the secret.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub digest: [u8; 32],
    /// When it was created.
    #[n(2)]
    pub created_at: Millis,
    /// When it ends; none: when it is revoked.
    #[n(3)]
    pub expires_at: Option<Millis>,
}
