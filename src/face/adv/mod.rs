//! The directory: where nodes say, signed, how they can be reached.
//!
//! - [`advertisement`], [`contract`], [`endpoint`], [`instant`]: what an advertisement must be
//! - [`refusal`]: refusals in the directory's words, and the style of its routes
//! - [`cursor`]: places in the feed
//! - [`accept`], [`sweep`]: how accepted statements replace each other, and end
//! - [`put`], [`get`], [`list`], [`subscribe`]: the methods
//! - [`own`]: this node's own advertisement

pub(in crate::face) mod accept;
pub mod advertisement;
pub(in crate::face) mod contract;
mod cursor;
mod endpoint;
pub mod get;
pub(in crate::face) mod instant;
pub mod list;
pub mod own;
pub mod put;
pub(in crate::face) mod refusal;
pub mod subscribe;
pub mod sweep;
#[cfg(test)]
mod vectors;

use std::borrow::Cow;

pub use cursor::Cursor;
pub use refusal::{CATALOGUE_STYLE, Reason, Rejection};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// An advertisement as its node wrote it: the text itself, since other spellings of the same would
/// not be the same to everybody.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeAdvertisement(pub Box<RawValue>);

impl JsonSchema for NodeAdvertisement {
    fn schema_name() -> Cow<'static, str> {
        "NodeAdvertisement".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "A node's signed statement of where it can be reached \
                (node-advertisement.v1). Its members are exactly those that the node signed.",
            "required": [
                "schema/v", "advertisement/id", "node/id", "sequence/no", "advertised-at",
                "expires-at", "key/alg", "key/public", "endpoints", "transports/supported",
                "signature"
            ],
        })
    }
}
