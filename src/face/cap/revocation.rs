//! Whether something is a revocation by somebody who may say so: pure, and not cheap.

use serde::{Deserialize, Serialize};

use super::name::CapabilityName;
use super::signed::{
    id, is_ahead, is_signed, node_id, object, participant, participant_key, schema, signable,
};
use crate::config::Directory;
use crate::face::adv::accept::digest;
use crate::face::adv::contract::violation;
use crate::face::adv::instant::{self, Instant};
use crate::face::adv::{Reason, Rejection};
use crate::identity::public::{NODE_PREFIX, raw_of_node_id};
use crate::identity::{Json, PublicKey};
use crate::model::Millis;
use crate::store::{BY_ISSUER, BY_SUBJECT};

/// The contract of revocations of passports.
pub const PASSPORT: &str = "capability-passport-revocation.v1";
/// The contract of revocations of endorsements.
pub const ENDORSEMENT: &str = "federation-service-endorsement-revocation.v1";
/// Longest reason, bytes.
const REASON: usize = 1_024;

/// What kind of thing is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactFamily {
    /// A passport for a capability.
    CapabilityPassport,
    /// An endorsement of a service by a federation.
    FederationServiceEndorsement,
}

impl ArtifactFamily {
    /// As it appears on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::CapabilityPassport => "capability-passport",
            Self::FederationServiceEndorsement => "federation-service-endorsement",
        }
    }

    /// The family of that word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::CapabilityPassport, Self::FederationServiceEndorsement]
            .into_iter()
            .find(|family| family.word() == word)
    }

    /// The family of what a revocation of this contract revokes.
    pub fn of(revocation: &Json) -> Option<Self> {
        match revocation.get("schema")?.as_str()? {
            ENDORSEMENT => Some(Self::FederationServiceEndorsement),
            _ => Some(Self::CapabilityPassport),
        }
    }
}

/// An authentic revocation.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// Its name.
    pub revocation_id: String,
    /// What it revokes: the id of a passport, or of a delegation.
    pub target: String,
    /// The key of the node that this is about.
    pub node: Option<[u8; 32]>,
    /// The capability.
    pub capability_id: String,
    /// Whether the issuer says so, or the subject: [`BY_ISSUER`], [`BY_SUBJECT`].
    pub by: u8,
    /// The key of who says so.
    pub signer: PublicKey,
    revoked_at: Instant,
}

impl Revocation {
    /// Checks the form and the signature.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn read(value: &Json) -> Result<Self, Rejection> {
        let of = object(Some(value), "")?;
        schema(&of, PASSPORT)?;
        let revocation_id = id(&of, "revocation_id", "passport-revocation:")?.to_owned();
        let (passport, delegation) = (value.get("passport_id"), value.get("target_id"));
        let target = match (passport, delegation) {
            (Some(_), None) => id(&of, "passport_id", "passport:capability:")?,
            (None, Some(_)) => id(&of, "target_id", "delegation:key:")?,
            _ => return Err(violation("passport_id or target_id must be there, and not both")),
        };
        let node_id = node_id(&of, "node_id")?;
        let capability_id = of.text("capability_id")?;
        if CapabilityName::parse(capability_id).is_none() {
            return Err(of.must("capability_id", "name, name@anchor or ~name@anchor"));
        }
        let (revoked_at, _) = of.instant("revoked_at")?;
        match value.get("reason") {
            None | Some(Json::Null) => {}
            Some(_) => drop(of.bounded("reason", REASON)?),
        }
        let issuer = value.get("issuer/participant_id").is_some();
        let (by, key) = match (of.text("signed_by")?, issuer) {
            ("issuer", _) => (BY_ISSUER, participant(&of, "issuer/participant_id")?),
            ("subject", false) => (BY_SUBJECT, node_id),
            ("subject", true) => {
                return Err(of.must("issuer/participant_id", "absent where the subject signs"));
            }
            _ => return Err(of.must("signed_by", "issuer or subject")),
        };
        let signature = signable(&of)?;
        let signer = match key.strip_prefix(NODE_PREFIX) {
            Some(digits) => PublicKey::from_multibase(digits)
                .map_err(|err| Rejection::new(Reason::IssuerInvalid, err.to_string()))?,
            None => participant_key(key)?,
        };
        if !is_signed(value, &signer, signature) {
            return Err(Reason::SignatureInvalid.into());
        }
        Ok(Self {
            revocation_id,
            target: target.to_owned(),
            node: raw_of_node_id(node_id),
            capability_id: capability_id.to_owned(),
            by,
            signer,
            revoked_at,
        })
    }

    /// Checks that it is not from the future.
    ///
    /// # Errors
    /// [`Reason::RevokedInFuture`].
    pub fn check_time(&self, now: Millis, rules: &Directory) -> Result<(), Rejection> {
        if is_ahead(self.revoked_at, instant::of_millis(now), rules.tolerance) {
            return Err(Reason::RevokedInFuture.into());
        }
        Ok(())
    }

    /// Where it is remembered that this signer revoked this.
    pub fn key(&self) -> (u8, [u8; 16], [u8; 32]) {
        (self.by, digest(&self.target), *self.signer.as_bytes())
    }
}

/// Where it would be remembered that a passport is revoked: by its issuer, or by its node.
///
/// Ids are not unique between issuers, so a stranger's revocation of an id means nothing.
pub(super) fn keys_of(
    passport_id: &str,
    issuer: [u8; 32],
    node: [u8; 32],
) -> [(u8, [u8; 16], [u8; 32]); 2] {
    let digest = digest(passport_id);
    [(BY_ISSUER, digest, issuer), (BY_SUBJECT, digest, node)]
}
