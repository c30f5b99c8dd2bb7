//! What the tables of the capability catalogue and of the revocations hold.

use minicbor::{Decode, Encode};

use crate::model::Millis;

/// What is known of a capability that a node offers; what is read of it often.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CapabilityRow {
    /// The number of its registration.
    #[n(0)]
    pub sequence: u64,
    /// The name of its passport.
    #[n(1)]
    pub passport_id: String,
    /// The key of who issued that.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub issuer: [u8; 32],
    /// When the passport is void; none: never.
    #[n(3)]
    pub expires_at: Option<Millis>,
    /// The capability without its anchor.
    #[n(4)]
    pub name: String,
    /// Where its offer is among those of that name.
    #[n(5)]
    pub position: u64,
}

/// A registration as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OfferRow {
    /// The key of its node.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub node: [u8; 32],
    /// The capability, with its anchor if it has one.
    #[n(1)]
    pub capability_id: String,
    /// The number of the registration.
    #[n(2)]
    pub sequence: u64,
    /// The name of the passport.
    #[n(3)]
    pub passport_id: String,
    /// The key of who issued that.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub issuer: [u8; 32],
    /// The node of who issued that.
    #[n(5)]
    pub issuer_node: String,
    /// The profile that the passport names.
    #[n(6)]
    pub profile: Option<String>,
    /// When the passport is void; none: never.
    #[n(7)]
    pub expires_at: Option<Millis>,
    /// The same as it was written.
    #[n(8)]
    pub expires_text: Option<String>,
    /// When the node published the advertisement, as it was written.
    #[n(9)]
    pub published_text: String,
    /// The passport as it came.
    #[n(10)]
    pub passport: String,
}

/// A revocation as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RevocationRow {
    /// What kind of thing it revokes.
    #[n(0)]
    pub family: String,
    /// The text as it came.
    #[n(1)]
    pub text: String,
}
