//! Challenges to be signed. None is remembered until it has been: whoever asks for many fills
//! nothing.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;

use super::principal;
use super::secret::random;
use crate::app::Caller;
use crate::model::Millis;
use crate::{Error, Result};

/// How long a challenge may be signed, milliseconds.
const LIFETIME: Millis = 60_000;
/// Signed challenges that are remembered at most, until they have expired.
const USED: usize = 1 << 16;
/// Expiry, kind, context, id, nonce.
const BODY: usize = 8 + 1 + 4 + 4 + 16;

/// Text to be signed, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The text.
    pub text: String,
    /// When it is too late, Unix milliseconds.
    pub expires_at: Millis,
}

/// Makes challenges, and knows its own again.
pub struct Challenges {
    /// Dies with the process, and its challenges with it.
    key: [u8; 32],
    /// Those that were signed, by expiry.
    used: Mutex<BTreeMap<(Millis, [u8; 16]), ()>>,
}

impl std::fmt::Debug for Challenges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Challenges").finish_non_exhaustive()
    }
}

impl Challenges {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { key: random()?, used: Mutex::default() })
    }

    /// A challenge for one who says who he is; whether there is such a one is not asked.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn make(&self, caller: Caller, now: Millis) -> Result<Challenge> {
        let expires_at = now.saturating_add(LIFETIME);
        let (kind, context, id) = principal::parts(caller);
        let nonce: [u8; 16] = random()?;
        let mut bytes = Vec::with_capacity(BODY + 32);
        bytes.extend_from_slice(&expires_at.to_be_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(&context.to_be_bytes());
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&nonce);
        let seal = blake3::keyed_hash(&self.key, &bytes);
        bytes.extend_from_slice(seal.as_bytes());
        Ok(Challenge { text: URL_SAFE_NO_PAD.encode(bytes), expires_at })
    }

    /// Whether a text is a challenge of ours for that caller, still to be signed.
    pub fn knows(&self, text: &str, caller: Caller, now: Millis) -> bool {
        self.open(text, caller, now).is_some_and(|used| !self.used.lock().contains_key(&used))
    }

    /// Uses a challenge up, once its signature has been found good; whether it was the first time.
    ///
    /// # Errors
    /// [`Error::Limit`] when too many were signed of late.
    pub fn spend(&self, text: &str, caller: Caller, now: Millis) -> Result<bool> {
        let Some(mark) = self.open(text, caller, now) else { return Ok(false) };
        let mut used = self.used.lock();
        let live = used.split_off(&(now.saturating_add(1), [0; 16]));
        *used = live;
        if used.len() >= USED {
            let limit = u64::try_from(USED).unwrap_or(u64::MAX);
            return Err(Error::Limit { what: "sign-ins in a minute".to_owned(), limit });
        }
        Ok(used.insert(mark, ()).is_none())
    }

    fn open(&self, text: &str, caller: Caller, now: Millis) -> Option<(Millis, [u8; 16])> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == BODY + 32)?;
        let (body, seal) = bytes.split_at_checked(BODY)?;
        let right = blake3::keyed_hash(&self.key, body);
        let seal: [u8; 32] = seal.try_into().ok()?;
        // Compared in constant time.
        if right != seal {
            return None;
        }
        let expires_at = Millis::from_be_bytes(*body.first_chunk()?);
        let (kind, context, id) = principal::parts(caller);
        let mut named = vec![kind];
        named.extend_from_slice(&context.to_be_bytes());
        named.extend_from_slice(&id.to_be_bytes());
        let meant = body.get(8..17)? == named.as_slice();
        (meant && now < expires_at).then(|| Some((expires_at, *body.last_chunk()?))).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_counts_once_for_one_caller_and_for_a_while() {
        let challenges = Challenges::new().unwrap();
        let (actor, other) = (Caller::Actor(7), Caller::Runner(0, 7));
        let made = challenges.make(actor, 1_000).unwrap();
        assert!(challenges.knows(&made.text, actor, 1_000));
        assert!(!challenges.knows(&made.text, other, 1_000), "of another");
        assert!(!challenges.knows(&made.text, actor, made.expires_at), "expired");
        assert!(!Challenges::new().unwrap().knows(&made.text, actor, 1_000), "foreign");
        for cut in 0..made.text.len() {
            assert!(!challenges.knows(&made.text[..cut], actor, 1_000), "truncated");
        }
        assert!(challenges.spend(&made.text, actor, 1_001).unwrap());
        assert!(!challenges.spend(&made.text, actor, 1_002).unwrap(), "replayed");
        assert!(!challenges.knows(&made.text, actor, 1_002));
    }

    #[test]
    fn what_has_expired_is_not_remembered() {
        let challenges = Challenges::new().unwrap();
        for now in [0, 1, 2] {
            let made = challenges.make(Caller::Actor(1), now * LIFETIME).unwrap();
            assert!(challenges.spend(&made.text, Caller::Actor(1), now * LIFETIME).unwrap());
            assert_eq!(challenges.used.lock().len(), 1);
        }
    }
}
