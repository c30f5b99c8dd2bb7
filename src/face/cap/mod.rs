//! The catalogue of capabilities: which nodes offer a service, backed by signed passports; and
//! the log of what was revoked.
//!
//! - [`name`], [`signed`], [`passport`], [`presentation`], [`revocation`]: what the artifacts must be
//! - [`registration`], [`sweep`]: how registrations replace each other, and end
//! - [`offer`], [`feed`]: what is shown of it
//! - [`put`], [`get`], [`find`], [`revoke`], [`revocations`]: the methods

mod feed;
pub mod find;
pub mod get;
mod name;
mod offer;
mod passport;
pub mod presentation;
pub mod put;
mod registration;
pub mod revocation;
pub mod revocations;
pub mod revoke;
pub mod signed;
pub(super) mod sweep;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A registration as its node wrote it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CapabilityRegistration(pub Box<RawValue>);

/// A passport as its issuer wrote it: the text itself, which others check again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CapabilityPassport(pub Box<RawValue>);

/// A revocation as its signer wrote it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RevocationArtifact(pub Box<RawValue>);

/// The endpoints of a node, as its advertisement has them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeEndpoints(pub Box<RawValue>);

impl JsonSchema for CapabilityRegistration {
    fn schema_name() -> Cow<'static, str> {
        "CapabilityRegistration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "What a node sends to be found for a capability: its own signed \
                capability-advertisement.v1, a capability-passport.v1, and a number that orders \
                its registrations.",
            "required": ["advertisement", "sequence/no", "passport"],
            "properties": {
                "advertisement": { "type": "object" },
                "sequence/no": { "type": "integer", "minimum": 1 },
                "passport": { "type": "object" },
                "endorsement": { "type": ["object", "null"] },
            },
        })
    }
}

impl JsonSchema for CapabilityPassport {
    fn schema_name() -> Cow<'static, str> {
        "CapabilityPassport".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "A signed statement that a node may offer a capability \
                (capability-passport.v1).",
            "required": [
                "schema", "passport_id", "node_id", "capability_id", "scope", "issued_at",
                "expires_at", "issuer/participant_id", "issuer/node_id", "revocation_ref",
                "signature"
            ],
        })
    }
}

impl JsonSchema for RevocationArtifact {
    fn schema_name() -> Cow<'static, str> {
        "RevocationArtifact".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "A signed statement that something is void \
                (capability-passport-revocation.v1).",
            "required": ["schema", "revocation_id", "signature"],
        })
    }
}

impl JsonSchema for NodeEndpoints {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "NodeEndpoints".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": { "type": "object" } })
    }
}
