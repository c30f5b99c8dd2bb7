//! Public keys: 32 bytes, `z6Mk…`, `did:key:z6Mk…`, `node:did:key:z6Mk…`.

use std::fmt;

use ed25519_dalek::VerifyingKey;

/// What stands before the multibase text in the id of a node.
pub const NODE_PREFIX: &str = "node:did:key:";
/// Longest text that is looked at as an id.
const LONGEST: usize = 256;
/// The multicodec of an Ed25519 public key.
const CODEC: [u8; 2] = [0xed, 0x01];

/// A public key that is fit for use: a point in its one canonical encoding, not of small order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub(super) VerifyingKey);

/// Why something is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not `z` and base58 of a prefix and 32 bytes.
    #[error("not the multibase text of an Ed25519 public key")]
    Text,
    /// The bytes are no point, or not in the canonical encoding.
    #[error("not a canonical curve point")]
    Point,
    /// The point is of small order: anybody could sign for it.
    #[error("a point of small order")]
    SmallOrder,
}

impl PublicKey {
    /// Checks 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::Point`], [`KeyError::SmallOrder`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        if !is_canonical(bytes) {
            return Err(KeyError::Point);
        }
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Point)?;
        if key.is_weak() { Err(KeyError::SmallOrder) } else { Ok(Self(key)) }
    }

    /// Reads `z6Mk…`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_multibase(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&raw_of_multibase(text).ok_or(KeyError::Text)?)
    }

    /// Reads any of the spellings `z6Mk…`, `did:key:z6Mk…` and `node:did:key:z6Mk…`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let rest = text.strip_prefix("node:").unwrap_or(text);
        Self::from_multibase(rest.strip_prefix("did:key:").unwrap_or(rest))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// `z6Mk…`
    pub fn multibase(&self) -> String {
        multibase(self.as_bytes())
    }

    /// `did:key:z6Mk…`
    pub fn did(&self) -> String {
        format!("did:key:{}", self.multibase())
    }

    /// `node:did:key:z6Mk…`
    pub fn node_id(&self) -> String {
        format!("{NODE_PREFIX}{}", self.multibase())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.multibase())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.multibase())
    }
}

/// Whether a text has the form of a node's id; the key in it may be none.
pub fn is_node_id(text: &str) -> bool {
    text.len() <= LONGEST && text.strip_prefix(NODE_PREFIX).is_some_and(is_multibase)
}

/// Whether a text is `z` and base58 digits, at least one.
pub fn is_multibase(text: &str) -> bool {
    text.strip_prefix('z').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(is_digit))
}

/// The 32 bytes that the id of a node stands for, in the one spelling they have; whether they are
/// a key is not looked at.
pub fn raw_of_node_id(text: &str) -> Option<[u8; 32]> {
    raw_of_multibase(text.strip_prefix(NODE_PREFIX)?)
}

/// The id of the node with these 32 bytes.
pub fn node_id_of_raw(raw: &[u8; 32]) -> String {
    format!("{NODE_PREFIX}{}", multibase(raw))
}

fn raw_of_multibase(text: &str) -> Option<[u8; 32]> {
    if text.len() > LONGEST {
        return None;
    }
    let digits = text.strip_prefix('z')?;
    let mut bytes = [0_u8; 34];
    let length = bs58::decode(digits).onto(&mut bytes).ok()?;
    let (codec, raw) = bytes.split_first_chunk::<2>()?;
    // Base58 has one spelling only: digits of value zero at the front are bytes of value zero.
    (length == bytes.len() && *codec == CODEC).then_some(raw)?.try_into().ok()
}

fn multibase(raw: &[u8; 32]) -> String {
    let mut bytes = [0_u8; 34];
    let (codec, rest) = bytes.split_at_mut(CODEC.len());
    codec.copy_from_slice(&CODEC);
    rest.copy_from_slice(raw);
    format!("z{}", bs58::encode(bytes).into_string())
}

const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() && !matches!(byte, b'0' | b'O' | b'I' | b'l')
}

/// Whether the y coordinate is below 2^255 - 19: a larger one is another spelling of a smaller.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = bytes;
    high & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff) || *low < 0xed
}
