//! Whether a text is an advertisement that its node has signed, and is fresh: pure, and not cheap.

use super::contract;
use super::instant::{self, Instant};
use super::refusal::{Reason, Rejection};
use crate::config::Directory;
use crate::identity::json::{DEPTH, JsonError};
use crate::identity::{Json, KeyError, PublicKey, cbor, signature};
use crate::model::Millis;

/// What stands before the encoding in the signed bytes.
pub const DOMAIN: &[u8] = b"node-advertisement.v1\0";
/// The member that holds the signature, and which it does not cover.
pub const SIGNATURE: &str = "signature";

/// An authentic statement.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The key of the node.
    pub node: PublicKey,
    /// Its `node/id`.
    pub node_id: String,
    /// Its `advertisement/id`.
    pub advertisement_id: String,
    /// Its `sequence/no`.
    pub sequence: u64,
    /// Its `federation/id`.
    pub federation: Option<String>,
    /// When it expires, as it was written.
    pub expires_text: String,
    pub(super) advertised_at: Instant,
    pub(super) expires_at: Instant,
}

impl Statement {
    /// Reads a text and checks everything that does not depend on the time: steps 4 to 13 of the
    /// specification but the fifth.
    ///
    /// `slot` is the node it must be about; when it is none, it becomes what the text says as soon
    /// as that is known.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn read(
        text: &[u8],
        slot: &mut Option<String>,
        rules: &Directory,
    ) -> Result<Self, Rejection> {
        if text.len() > usize::try_from(rules.max_bytes).unwrap_or(usize::MAX) {
            return Err(Reason::TooLarge.into());
        }
        let depth = usize::try_from(rules.max_depth).unwrap_or(DEPTH);
        let statement = Json::read(text, depth).map_err(unreadable)?;
        let contract = contract::check(&statement)?;
        let slot = slot.get_or_insert_with(|| contract.node_id.to_owned());
        if contract.node_id != *slot {
            return Err(Reason::NodeIdMismatch.into());
        }
        if contract.node_id.strip_prefix("node:did:key:") != Some(contract.key) {
            return Err(Reason::KeyMismatch.into());
        }
        let node = PublicKey::from_multibase(contract.key).map_err(no_key)?;
        let genuine = signature::from_text(contract.signature)
            .is_some_and(|signature| node.verifies(&signed_bytes(&statement), &signature));
        if !genuine {
            return Err(Reason::SignatureInvalid.into());
        }
        let served = rules.federations.is_empty()
            || contract.federation.is_some_and(|own| rules.federations.iter().any(|f| f == own));
        if !served {
            return Err(Reason::FederationNotServed.into());
        }
        Ok(Self {
            node,
            node_id: contract.node_id.to_owned(),
            advertisement_id: contract.advertisement_id.to_owned(),
            sequence: contract.sequence,
            federation: contract.federation.map(str::to_owned),
            expires_text: contract.expires_text.to_owned(),
            advertised_at: contract.advertised_at,
            expires_at: contract.expires_at,
        })
    }

    /// Whether it may be accepted at this time: step 14.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check_time(&self, now: Millis, rules: &Directory) -> Result<(), Rejection> {
        let now = instant::of_millis(now);
        let reason = if self.expires_at <= self.advertised_at {
            Reason::ValidityInverted
        } else if self.expires_at <= now {
            Reason::Expired
        } else if self.advertised_at > now + instant::of(rules.tolerance) {
            Reason::InFuture
        } else if self.expires_at - self.advertised_at > instant::of(rules.max_lifetime) {
            Reason::TooLong
        } else {
            return Ok(());
        };
        Err(reason.into())
    }

    /// The first moment of our clock at which it is void.
    pub fn expires(&self) -> Millis {
        instant::to_millis(self.expires_at)
    }

    /// When every older honest statement of the node is void as well.
    pub fn outlived(&self, rules: &Directory) -> Millis {
        let ceiling = self.advertised_at + instant::of(rules.max_lifetime);
        instant::to_millis(ceiling.max(self.expires_at))
    }
}

/// What a node signs: the domain, and the encoding of everything but the signature.
pub fn signed_bytes(statement: &Json) -> Vec<u8> {
    let mut bytes = DOMAIN.to_vec();
    bytes.extend_from_slice(&cbor::encode_without(statement, SIGNATURE));
    bytes
}

/// Why a text was not read, in the directory's words.
pub(in crate::face) fn unreadable(err: JsonError) -> Rejection {
    let reason = match err {
        JsonError::Malformed(_) => Reason::JsonMalformed,
        JsonError::TooDeep(_) => Reason::NestingTooDeep,
        JsonError::DuplicateKey(_) => Reason::DuplicateKey,
        JsonError::Number(_) => Reason::NumberInvalid,
    };
    Rejection::new(reason, err.to_string())
}

fn no_key(err: KeyError) -> Rejection {
    Rejection::new(Reason::KeyInvalid, err.to_string())
}
