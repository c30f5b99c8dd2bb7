//! The contract of `node-advertisement.v1`: which members there are, and what they hold.

use super::endpoint;
use super::instant::{self, Instant};
use super::refusal::{Reason, Rejection};
use crate::identity::Json;
use crate::identity::public::{is_multibase, is_node_id};

/// Longest `advertisement/id`, bytes.
const ID: usize = 256;
/// Longest `federation/id`, bytes.
const FEDERATION: usize = 128;
/// Most endpoints.
const ENDPOINTS: usize = 32;

/// What a statement that keeps the contract says.
#[derive(Debug)]
pub(super) struct Contract<'a> {
    pub(super) advertisement_id: &'a str,
    pub(super) node_id: &'a str,
    pub(super) sequence: u64,
    pub(super) advertised_at: Instant,
    pub(super) expires_at: Instant,
    pub(super) expires_text: &'a str,
    pub(super) key: &'a str,
    pub(super) federation: Option<&'a str>,
    pub(super) signature: &'a str,
}

type Result<T = (), E = Rejection> = std::result::Result<T, E>;

/// A breach of the contract.
pub(in crate::face) fn violation(detail: impl Into<String>) -> Rejection {
    Rejection::new(Reason::SchemaViolation, detail)
}

/// Checks the form of a statement: the version first, addresses of endpoints last.
pub(super) fn check(statement: &Json) -> Result<Contract<'_>> {
    if statement.members().is_none() {
        return Err(violation("must be an object"));
    }
    version(statement)?;
    let of = Object { value: statement, path: "" };
    let node_id = of.text("node/id")?;
    if !is_node_id(node_id) {
        return Err(violation("node/id must be node:did:key:z and base58 digits"));
    }
    of.word("key/alg", "ed25519")?;
    let key = of.text("key/public")?;
    if !is_multibase(key) {
        return Err(violation("key/public must be z and base58 digits"));
    }
    let (advertised_at, _) = of.instant("advertised-at")?;
    let (expires_at, expires_text) = of.instant("expires-at")?;
    let contract = Contract {
        advertisement_id: of.bounded("advertisement/id", ID)?,
        node_id,
        sequence: of.integer("sequence/no")?,
        advertised_at,
        expires_at,
        expires_text,
        key,
        federation: match statement.get("federation/id") {
            Some(_) => Some(of.bounded("federation/id", FEDERATION)?),
            None => None,
        },
        signature: signature(statement)?,
    };
    transports(statement)?;
    succession(statement)?;
    if statement.get("policy_annotations").is_some_and(|notes| notes.members().is_none()) {
        return Err(violation("policy_annotations must be an object"));
    }
    endpoints(statement)?;
    Ok(contract)
}

/// Checks the version of the contract.
pub(in crate::face) fn version(statement: &Json) -> Result {
    match statement.get("schema/v") {
        Some(Json::Unsigned(1)) => Ok(()),
        Some(Json::Unsigned(_) | Json::Negative(_)) => {
            Err(Rejection::new(Reason::VersionUnsupported, "schema/v must be 1"))
        }
        _ => Err(violation("schema/v must be an integer")),
    }
}

/// The text of a statement's signature.
pub(in crate::face) fn signature(statement: &Json) -> Result<&str> {
    let Some(signature @ Json::Object(members)) = statement.get("signature") else {
        return Err(violation("signature must be an object"));
    };
    // The signature covers everything but itself: nothing else may hide there.
    if members.len() != 2 {
        return Err(violation("signature must have the members alg and value, and no other"));
    }
    let of = Object { value: signature, path: "signature: " };
    of.word("alg", "ed25519")?;
    of.text("value").and_then(|value| of.filled("value", value))
}

fn transports(statement: &Json) -> Result {
    match statement.get("transports/supported") {
        Some(Json::Array(items)) => match items.as_slice() {
            [Json::String(only)] if only == "wss" => Ok(()),
            _ => Err(violation("transports/supported must be [\"wss\"]")),
        },
        _ => Err(violation("transports/supported must be an array")),
    }
}

/// Its form only: it has no effect.
fn succession(statement: &Json) -> Result {
    let Some(succession) = statement.get("succession") else { return Ok(()) };
    if succession.members().is_none() {
        return Err(violation("succession must be an object"));
    }
    let of = Object { value: succession, path: "succession: " };
    if !is_node_id(of.text("successor/node-id")?) {
        return Err(violation("succession: successor/node-id must be the id of a node"));
    }
    for proof in ["proof/current", "proof/successor"] {
        if succession.get(proof).is_some() {
            of.text(proof).and_then(|text| of.filled(proof, text))?;
        }
    }
    Ok(())
}

fn endpoints(statement: &Json) -> Result {
    let Some(Json::Array(endpoints)) = statement.get("endpoints") else {
        return Err(violation("endpoints must be an array"));
    };
    if endpoints.is_empty() || endpoints.len() > ENDPOINTS {
        return Err(violation(format!("endpoints must be 1 to {ENDPOINTS} objects")));
    }
    let mut urls = Vec::with_capacity(endpoints.len());
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = format!("endpoints/{index}: ");
        if endpoint.members().is_none() {
            return Err(violation(format!("{path}must be an object")));
        }
        let of = Object { value: endpoint, path: &path };
        urls.push(of.text("endpoint/url")?);
        of.word("endpoint/transport", "wss")?;
        if !matches!(of.text("endpoint/role")?, "listener" | "relay") {
            return Err(violation(format!("{path}endpoint/role must be listener or relay")));
        }
        of.integer("endpoint/priority")?;
    }
    match urls.into_iter().enumerate().find_map(|(index, url)| Some((index, endpoint::fault(url)?)))
    {
        None => Ok(()),
        Some((index, fault)) => Err(Rejection::new(
            Reason::EndpointInvalid,
            format!("endpoints/{index}: endpoint/url: {fault}"),
        )),
    }
}

/// An object, and how its place is told.
pub(in crate::face) struct Object<'a, 'p> {
    pub(in crate::face) value: &'a Json,
    pub(in crate::face) path: &'p str,
}

impl<'a> Object<'a, '_> {
    pub(in crate::face) fn must(&self, name: &str, what: &str) -> Rejection {
        violation(format!("{}{name} must be {what}", self.path))
    }

    pub(in crate::face) fn text(&self, name: &str) -> Result<&'a str> {
        let text = self.value.get(name).and_then(Json::as_str);
        text.ok_or_else(|| self.must(name, "a string"))
    }

    pub(in crate::face) fn filled(&self, name: &str, text: &'a str) -> Result<&'a str> {
        if text.is_empty() { Err(self.must(name, "not empty")) } else { Ok(text) }
    }

    pub(in crate::face) fn bounded(&self, name: &str, most: usize) -> Result<&'a str> {
        let text = self.text(name)?;
        if (1..=most).contains(&text.len()) {
            return Ok(text);
        }
        Err(self.must(name, &format!("1 to {most} bytes")))
    }

    pub(in crate::face) fn word(&self, name: &str, wanted: &str) -> Result {
        if self.value.get(name).and_then(Json::as_str) == Some(wanted) {
            return Ok(());
        }
        Err(self.must(name, wanted))
    }

    pub(in crate::face) fn integer(&self, name: &str) -> Result<u64> {
        let number = self.value.get(name).and_then(Json::as_u64);
        number.ok_or_else(|| self.must(name, "an integer from 0 to 18446744073709551615"))
    }

    pub(in crate::face) fn instant(&self, name: &str) -> Result<(Instant, &'a str)> {
        let text = self.text(name)?;
        let at = instant::parse(text).ok_or_else(|| self.must(name, "an RFC 3339 date-time"))?;
        Ok((at, text))
    }
}
