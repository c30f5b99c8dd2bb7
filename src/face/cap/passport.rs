//! Whether something is a passport that its issuer has signed: pure, and not cheap.

use super::name::CapabilityName;
use super::signed::{
    id, instant_or_null, is_ahead, is_signed, node_id, object, participant, participant_key,
    schema, signable, texts,
};
use crate::config::Directory;
use crate::face::adv::contract::Object;
use crate::face::adv::instant::{self, Instant};
use crate::face::adv::{Reason, Rejection};
use crate::identity::{Json, PublicKey};
use crate::model::Millis;

/// The contract that it keeps.
pub(super) const SCHEMA: &str = "capability-passport.v1";
/// The capability whose scope names accounts.
const LEDGER: &str = "network-ledger";
/// Where faults of it are told.
const PATH: &str = "passport: ";

/// A passport that keeps the contract; whether it is genuine is still to be seen.
#[derive(Clone, Copy, Debug)]
pub struct Passport<'a> {
    /// Its name.
    pub passport_id: &'a str,
    /// The node that it is for.
    pub node_id: &'a str,
    /// What that node may offer.
    pub capability_id: &'a str,
    /// The same in its parts.
    pub name: CapabilityName<'a>,
    /// Who says so.
    pub issuer: &'a str,
    /// The node of who says so.
    pub issuer_node: &'a str,
    /// The profile of the capability, where it names one by a text.
    pub profile: Option<&'a str>,
    /// When it expires, as it was written; none: never.
    pub expires_text: Option<&'a str>,
    issued_at: Instant,
    expires_at: Option<Instant>,
    value: &'a Json,
    signature: &'a str,
}

impl<'a> Passport<'a> {
    /// Checks its form.
    ///
    /// # Errors
    /// The first breach of the contract.
    pub fn read(value: Option<&'a Json>) -> Result<Self, Rejection> {
        let of = object(value, PATH)?;
        schema(&of, SCHEMA)?;
        let capability_id = of.text("capability_id")?;
        let name = CapabilityName::parse(capability_id)
            .ok_or_else(|| of.must("capability_id", "name, name@anchor or ~name@anchor"))?;
        let expires = instant_or_null(&of, "expires_at")?;
        match of.value.get("revocation_ref") {
            Some(Json::Null | Json::String(_)) => {}
            _ => return Err(of.must("revocation_ref", "a string or null")),
        }
        let passport = Self {
            passport_id: id(&of, "passport_id", "passport:capability:")?,
            node_id: node_id(&of, "node_id")?,
            capability_id,
            name,
            issuer: participant(&of, "issuer/participant_id")?,
            issuer_node: node_id(&of, "issuer/node_id")?,
            profile: of.value.get("capability_profile").and_then(Json::as_str),
            expires_text: expires.map(|(_, text)| text),
            issued_at: of.instant("issued_at")?.0,
            expires_at: expires.map(|(at, _)| at),
            value: of.value,
            signature: signable(&of)?,
        };
        scope(&of, capability_id)?;
        Ok(passport)
    }

    /// Checks that the issuer signed it, and answers with the issuer's key.
    ///
    /// # Errors
    /// [`Reason::IssuerInvalid`], [`Reason::PassportSignature`].
    pub fn authentic(&self) -> Result<PublicKey, Rejection> {
        let key = participant_key(self.issuer)?;
        if is_signed(self.value, &key, self.signature) {
            return Ok(key);
        }
        Err(Reason::PassportSignature.into())
    }

    /// Checks that it is in force.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check_time(&self, now: Millis, rules: &Directory) -> Result<(), Rejection> {
        let now = instant::of_millis(now);
        let reason = if self.expires_at.is_some_and(|end| end <= self.issued_at) {
            Reason::PassportInverted
        } else if self.expires_at.is_some_and(|end| end <= now) {
            Reason::PassportExpired
        } else if is_ahead(self.issued_at, now, rules.tolerance) {
            Reason::PassportInFuture
        } else {
            return Ok(());
        };
        Err(reason.into())
    }

    /// The first moment of our clock at which it is void; none: it never is.
    pub fn expires(&self) -> Option<Millis> {
        self.expires_at.map(instant::to_millis)
    }
}

/// Accounts are named for the ledger, and for nothing else.
fn scope(of: &Object<'_, '_>, capability_id: &str) -> Result<(), Rejection> {
    let scope = object(of.value.get("scope"), "passport: scope ")?;
    let accounts = scope.value.get("account_namespaces").is_some();
    match (capability_id == LEDGER, accounts) {
        (true, _) if texts(&scope, "account_namespaces")?.is_empty() => {
            Err(scope.must("account_namespaces", "not empty"))
        }
        (false, true) => Err(scope.must("account_namespaces", "absent but for network-ledger")),
        _ => Ok(()),
    }
}
