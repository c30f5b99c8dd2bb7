//! What is shown of a registration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::revocation::keys_of;
use super::{CapabilityPassport, NodeEndpoints};
use crate::app::App;
use crate::face::adv::get::current;
use crate::store::{OfferRow, REVOKED};
use crate::{Error, Result};

/// A capability that a node offers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CapabilityOffer {
    /// The capability, with its anchor if it has one.
    pub capability_id: String,
    /// The passport.
    pub passport: CapabilityPassport,
    /// Whether a federation endorses it.
    pub official: bool,
    /// By what it does.
    pub endorsement: Option<Map<String, Value>>,
    /// The number of the registration.
    #[serde(rename = "sequence/no")]
    pub sequence_no: u64,
    /// When the node published it, as it was written.
    pub published_at: String,
    /// When the passport is void, as it was written; none: never.
    pub expires_at: Option<String>,
}

impl CapabilityOffer {
    /// Shows what is stored.
    pub(super) fn of(row: OfferRow) -> Result<Self> {
        Ok(Self {
            capability_id: row.capability_id,
            passport: CapabilityPassport(raw(row.passport)?),
            // No endorsement can be checked here, so there is none.
            official: false,
            endorsement: None,
            sequence_no: row.sequence,
            published_at: row.published_text,
            expires_at: row.expires_text,
        })
    }
}

/// Whether an offer is to be seen: neither expired nor revoked.
pub(super) fn is_in_force(app: &App, row: &OfferRow) -> Result<bool> {
    if row.expires_at.is_some_and(|end| end <= (app.now)()) {
        return Ok(false);
    }
    for key in keys_of(&row.passport_id, row.issuer, row.node) {
        if app.store.get(REVOKED, &key)?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where a node listens, as its current advertisement says; nothing when it has none.
pub(super) fn endpoints_of(app: &App, node: &[u8; 32]) -> Result<NodeEndpoints> {
    #[derive(Deserialize)]
    struct Listening {
        endpoints: Box<RawValue>,
    }
    let Some(text) = current(app, node)? else { return Ok(NodeEndpoints(raw("[]".to_owned())?)) };
    let read: serde_json::Result<Listening> = serde_json::from_str(&text);
    read.map(|read| NodeEndpoints(read.endpoints)).map_err(|err| Error::Bug(err.to_string()))
}

fn raw(text: String) -> Result<Box<RawValue>> {
    RawValue::from_string(text).map_err(|err| Error::Bug(err.to_string()))
}
