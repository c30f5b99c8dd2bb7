//! Texts that prove who somebody is. Only their digests are kept.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::{Error, Result};

/// Random bytes of a secret.
const BYTES: usize = 32;

/// What a secret of ours is for: the letter in it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An operator's token.
    Token,
    /// A session.
    Session,
    /// An API key.
    ApiKey,
    /// The secret of a compute group; nobody signs in by it.
    Group,
}

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Token => "muster_o_",
            Self::Session => "muster_s_",
            Self::ApiKey => "muster_k_",
            Self::Group => "muster_g_",
        }
    }
}

/// A text that proves who somebody is; never shown but by [`Secret::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Makes one of 256 random bits.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn random(kind: Kind) -> Result<Self> {
        let bytes: [u8; BYTES] = random()?;
        Ok(Self(format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// One that somebody else chose.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one who is to have it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn digest(&self) -> [u8; 32] {
        digest(&self.0)
    }
}

/// What is kept of a secret: with so many random bits, a plain hash tells nothing of it, and
/// looking it up by its hash takes as long whatever was guessed.
pub(super) fn digest(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// Whether a text claims to be a secret of ours.
pub(super) fn is_ours(text: &str) -> bool {
    [Kind::Token, Kind::Session, Kind::ApiKey].iter().any(|kind| text.starts_with(kind.prefix()))
}

/// Random bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|err| Error::Bug(format!("random numbers: {err}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown_by_accident_and_never_the_same() {
        let (one, other) =
            (Secret::random(Kind::Token).unwrap(), Secret::random(Kind::Token).unwrap());
        assert_ne!(one, other);
        assert_eq!(format!("{one:?}"), "Secret(…)");
        assert!(is_ours(one.reveal()) && one.reveal().len() == 9 + 43);
        assert!(!is_ours("other"));
    }
}
