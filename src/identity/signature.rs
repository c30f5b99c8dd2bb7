//! Signatures: their one text, and the one strict verifier.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::Signature;

use super::PublicKey;

/// Bytes of a signature.
pub const BYTES: usize = 64;

/// The 64 bytes that unpadded base64url stands for; none when it is not the one text of them.
pub fn from_text(text: &str) -> Option<[u8; BYTES]> {
    // The decoder takes neither padding nor spare bits that are set.
    let bytes = (text.len() == 86).then(|| URL_SAFE_NO_PAD.decode(text).ok())??;
    bytes.try_into().ok()
}

/// Unpadded base64url.
pub fn to_text(signature: &[u8; BYTES]) -> String {
    URL_SAFE_NO_PAD.encode(signature)
}

impl PublicKey {
    /// Whether the holder of this key signed `message`.
    ///
    /// Strict: one signature has one sequence of bytes (the scalar below the group's order, a
    /// canonical point not of small order), so nobody can make another out of it.
    pub fn verifies(&self, message: &[u8], signature: &[u8; BYTES]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}
