//! What passports and revocations have in common: strict reading, and signatures over canonical
//! JSON.

use crate::face::adv::advertisement::{SIGNATURE, unreadable};
use crate::face::adv::contract::{Object, violation};
use crate::face::adv::instant::{self, Instant};
use crate::face::adv::{Reason, Rejection};
use crate::identity::{Json, PublicKey, canonical, signature};

/// The member in which a delegated key proves that it may sign; the signature does not cover it.
const DELEGATION: &str = "issuer_delegation";
/// Before the multibase text in the id of a participant.
const PARTICIPANT: &str = "participant:did:key:";
/// Most that an integer can be where numbers are those of JavaScript.
const SAFE: u64 = (1 << 53) - 1;
/// Longest id, bytes.
pub(super) const ID: usize = 256;

type Result<T = (), E = Rejection> = std::result::Result<T, E>;

/// Reads a text of at most `most` bytes strictly.
pub(super) fn read(text: &[u8], most: usize, depth: usize) -> Result<Json> {
    if text.len() > most {
        return Err(Reason::TooLarge.into());
    }
    Json::read(text, depth).map_err(unreadable)
}

/// Checks the name of the contract that a statement keeps.
pub(super) fn schema(of: &Object<'_, '_>, wanted: &str) -> Result {
    let (family, _) = wanted.rsplit_once('.').unwrap_or((wanted, ""));
    let found = of.text("schema")?;
    if found == wanted {
        return Ok(());
    }
    let version = found.strip_prefix(family).and_then(|rest| rest.strip_prefix(".v"));
    if version.is_some_and(|version| version.parse::<u32>().is_ok()) {
        let detail = format!("{}schema must be {wanted}", of.path);
        return Err(Rejection::new(Reason::VersionUnsupported, detail));
    }
    Err(of.must("schema", wanted))
}

/// An id with something after its prefix.
pub(super) fn id<'a>(of: &Object<'a, '_>, name: &str, prefix: &str) -> Result<&'a str> {
    let text = of.bounded(name, ID)?;
    if text.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()) {
        return Ok(text);
    }
    Err(of.must(name, &format!("{prefix} and more")))
}

/// The id of a node, whatever its key.
pub(super) fn node_id<'a>(of: &Object<'a, '_>, name: &str) -> Result<&'a str> {
    let text = of.text(name)?;
    if crate::identity::public::is_node_id(text) {
        return Ok(text);
    }
    Err(of.must(name, "node:did:key:z and base58 digits"))
}

/// The id of a participant.
pub(super) fn participant<'a>(of: &Object<'a, '_>, name: &str) -> Result<&'a str> {
    let text = of.bounded(name, ID)?;
    let key = text.strip_prefix(PARTICIPANT);
    if key.is_some_and(crate::identity::public::is_multibase) {
        return Ok(text);
    }
    Err(of.must(name, "participant:did:key:z and base58 digits"))
}

/// The key of a participant.
pub(super) fn participant_key(id: &str) -> Result<PublicKey> {
    let key = id.strip_prefix(PARTICIPANT).unwrap_or(id);
    PublicKey::from_multibase(key)
        .map_err(|err| Rejection::new(Reason::IssuerInvalid, err.to_string()))
}

/// The participant with this key.
pub(super) fn participant_id(key: &[u8; 32]) -> String {
    let node = crate::identity::public::node_id_of_raw(key);
    let digits = node.strip_prefix(crate::identity::public::NODE_PREFIX).unwrap_or_default();
    format!("{PARTICIPANT}{digits}")
}

/// A member that is a date-time or `null`.
pub(super) fn instant_or_null<'a>(
    of: &Object<'a, '_>,
    name: &str,
) -> Result<Option<(Instant, &'a str)>> {
    match of.value.get(name) {
        Some(Json::Null) => Ok(None),
        Some(Json::String(_)) => of.instant(name).map(Some),
        _ => Err(of.must(name, "an RFC 3339 date-time or null")),
    }
}

/// A member that is a list of texts with something in them.
pub(super) fn texts<'a>(of: &Object<'a, '_>, name: &str) -> Result<Vec<&'a str>> {
    let Some(Json::Array(items)) = of.value.get(name) else {
        return Err(of.must(name, "an array"));
    };
    let text = |item: &'a Json| item.as_str().filter(|text| !text.is_empty());
    let texts = items.iter().map(text).collect::<Option<Vec<_>>>();
    texts.ok_or_else(|| of.must(name, "an array of strings that are not empty"))
}

/// Checks what does not depend on who signed: that a signature is there, that nobody stands in
/// for the signer, and that the canonical form loses nothing.
pub(super) fn signable<'a>(of: &Object<'a, '_>) -> Result<&'a str> {
    let signature = crate::face::adv::contract::signature(of.value)?;
    if !has_safe_integers(of.value) {
        let detail = format!("{}integers beyond 2^53 do not survive canonical JSON", of.path);
        return Err(Rejection::new(Reason::NumberInvalid, detail));
    }
    match of.value.get(DELEGATION) {
        None | Some(Json::Null) => Ok(signature),
        Some(_) => {
            let detail = format!("{}{DELEGATION} is not supported: sign as issuer", of.path);
            Err(Rejection::new(Reason::DelegationUnsupported, detail))
        }
    }
}

/// What is signed: canonical JSON of everything but the signature, and the proof of a delegate.
pub fn signed_bytes(statement: &Json) -> Option<Vec<u8>> {
    canonical::encode_without(statement, &[SIGNATURE, DELEGATION]).ok()
}

/// Whether the holder of a key signed a statement.
pub(super) fn is_signed(statement: &Json, key: &PublicKey, signature_text: &str) -> bool {
    signature::from_text(signature_text).is_some_and(|signature| {
        signed_bytes(statement).is_some_and(|bytes| key.verifies(&bytes, &signature))
    })
}

/// Whether a time lies further ahead than clocks may differ.
pub(super) fn is_ahead(at: Instant, now: Instant, tolerance: std::time::Duration) -> bool {
    at > now + instant::of(tolerance)
}

/// The depth is bounded by the reader.
fn has_safe_integers(value: &Json) -> bool {
    match value {
        Json::Unsigned(number) => *number <= SAFE,
        Json::Negative(number) => number.unsigned_abs() <= SAFE,
        Json::Array(items) => items.iter().all(has_safe_integers),
        Json::Object(members) => members.iter().all(|(_, value)| has_safe_integers(value)),
        Json::Null | Json::Bool(_) | Json::Float(_) | Json::String(_) => true,
    }
}

/// An object, told of as `path`.
pub(super) fn object<'a, 'p>(value: Option<&'a Json>, path: &'p str) -> Result<Object<'a, 'p>> {
    match value {
        Some(value @ Json::Object(_)) => Ok(Object { value, path }),
        _ => Err(violation(format!("{path}must be an object"))),
    }
}
