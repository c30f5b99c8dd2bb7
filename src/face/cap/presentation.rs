//! The advertisement in which a node names its capabilities: pure, and not cheap.

use super::name::CapabilityName;
use super::passport::Passport;
use super::signed::{ID, is_ahead, node_id, object, texts};
use crate::config::Directory;
use crate::face::adv::advertisement::SIGNATURE;
use crate::face::adv::contract::{self, Object, violation};
use crate::face::adv::instant::{self, Instant};
use crate::face::adv::{Reason, Rejection};
use crate::identity::{Json, PublicKey, cbor, signature};
use crate::model::Millis;

/// What stands before the encoding in the signed bytes.
pub const DOMAIN: &[u8] = b"capability-advertisement.v1\0";
/// Most capabilities that are presented at once.
const PRESENTED: usize = 256;
/// Longest version of the protocol, bytes.
const VERSION: usize = 64;
/// Where faults of it are told.
const PATH: &str = "advertisement: ";

/// An advertisement that keeps the contract; whether it is genuine is still to be seen.
#[derive(Clone, Copy, Debug)]
pub struct Presentation<'a> {
    /// The node that it is about.
    pub node_id: &'a str,
    /// When it was published, as it was written.
    pub published_text: &'a str,
    published_at: Instant,
    presented: &'a [Json],
    value: &'a Json,
    signature: &'a str,
}

/// What a node signs: the domain, and the encoding of everything but the signature.
pub fn signed_bytes(statement: &Json) -> Vec<u8> {
    let mut bytes = DOMAIN.to_vec();
    bytes.extend_from_slice(&cbor::encode_without(statement, SIGNATURE));
    bytes
}

impl<'a> Presentation<'a> {
    /// Checks its form.
    ///
    /// # Errors
    /// The first breach of the contract.
    pub fn read(value: Option<&'a Json>) -> Result<Self, Rejection> {
        let of = object(value, PATH)?;
        contract::version(of.value)?;
        of.bounded("advertisement/id", ID)?;
        of.bounded("protocol/version", VERSION)?;
        let (published_at, published_text) = of.instant("published-at")?;
        texts(&of, "transport/profiles")?;
        texts(&of, "messages/supported")?;
        if !texts(&of, "capabilities/core")?.contains(&"core/messaging") {
            return Err(of.must("capabilities/core", "a list that has core/messaging"));
        }
        Ok(Self {
            node_id: node_id(&of, "node/id")?,
            published_text,
            published_at,
            presented: presented(&of)?,
            value: of.value,
            signature: contract::signature(of.value)?,
        })
    }

    /// Checks that the node signed it.
    ///
    /// # Errors
    /// [`Reason::PresentationSignature`].
    pub fn authentic(&self, node: &PublicKey) -> Result<(), Rejection> {
        let genuine = signature::from_text(self.signature)
            .is_some_and(|signature| node.verifies(&signed_bytes(self.value), &signature));
        if genuine { Ok(()) } else { Err(Reason::PresentationSignature.into()) }
    }

    /// Checks that it is neither from the future nor older than any advertisement may become.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check_time(&self, now: Millis, rules: &Directory) -> Result<(), Rejection> {
        let now = instant::of_millis(now);
        if is_ahead(self.published_at, now, rules.tolerance) {
            return Err(Reason::PresentationInFuture.into());
        }
        if self.published_at + instant::of(rules.max_lifetime) <= now {
            return Err(Reason::PresentationOld.into());
        }
        Ok(())
    }

    /// Checks that it names the capability, by this passport.
    ///
    /// # Errors
    /// [`Reason::NotPresented`], [`Reason::OtherPassport`].
    pub fn presents(&self, passport: &Passport<'_>, whole: &Json) -> Result<(), Rejection> {
        let mut others = false;
        for item in self.presented {
            if item.get("capability/id").and_then(Json::as_str) != Some(passport.capability_id) {
                continue;
            }
            let same = match item.get("passport") {
                Some(Json::String(id)) => id == passport.passport_id,
                // The order of members means nothing.
                Some(own) => cbor::encode(own) == cbor::encode(whole),
                None => false,
            };
            if same {
                return Ok(());
            }
            others = true;
        }
        Err(if others { Reason::OtherPassport } else { Reason::NotPresented }.into())
    }
}

/// The capabilities, each in good form.
fn presented<'a>(of: &Object<'a, '_>) -> Result<&'a [Json], Rejection> {
    let Some(Json::Array(items)) = of.value.get("capabilities/presented") else {
        return Err(of.must("capabilities/presented", "an array"));
    };
    if items.len() > PRESENTED {
        return Err(of.must("capabilities/presented", &format!("at most {PRESENTED} objects")));
    }
    for (index, item) in items.iter().enumerate() {
        let path = format!("advertisement: capabilities/presented/{index}: ");
        let of = object(Some(item), &path)?;
        let name = CapabilityName::parse(of.text("capability/id")?)
            .ok_or_else(|| of.must("capability/id", "name, name@anchor or ~name@anchor"))?;
        if !name.is_on_the_wire_as(of.text("wire/name")?) {
            return Err(of.must("wire/name", "the class and the name of the capability"));
        }
        of.bounded("assertion/kind", ID)?;
        match of.value.get("passport") {
            Some(Json::String(_) | Json::Object(_)) => {}
            _ => return Err(violation(format!("{path}passport must be an object or its id"))),
        }
    }
    Ok(items)
}
