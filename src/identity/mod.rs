//! Who a node is, and what is signed: keys, their spellings, strict JSON, deterministic bytes.
//!
//! - [`json`]: JSON read so that nothing is lost or guessed
//! - [`cbor`], [`canonical`]: one sequence of bytes for one content
//! - [`public`]: public keys and their spellings
//! - [`signature`]: the text of a signature, and the one strict verifier
//! - [`node`]: this node's own key, and the one signer

pub mod canonical;
pub mod cbor;
pub mod json;
pub mod node;
pub mod public;
pub mod signature;
#[cfg(test)]
mod tests;

pub use json::{Json, JsonError};
pub use node::{KeyFileError, NodeKey};
pub use public::{KeyError, PublicKey};
