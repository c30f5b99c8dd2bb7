//! Secrets of compute groups: chosen by people, so what is kept of them is slow to guess by.

use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::Secret;
use super::secret::random;
use crate::Result;

/// Rounds of the derivation: a few milliseconds.
const ROUNDS: u32 = 20_000;

/// What is kept of the secret of a compute group.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JoinProof {
    /// Random.
    pub salt: [u8; 16],
    /// Derived from salt and secret.
    pub derived: [u8; 32],
}

impl std::fmt::Debug for JoinProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinProof(…)")
    }
}

impl JoinProof {
    /// What is to be kept of a secret. Takes milliseconds of a processor.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn of(secret: &Secret) -> Result<Self> {
        let salt = random()?;
        Ok(Self { salt, derived: derived(&salt, secret) })
    }

    /// Whether this is the secret. Takes milliseconds of a processor, however wrong it is.
    pub fn fits(&self, secret: &Secret) -> bool {
        derived(&self.salt, secret).ct_eq(&self.derived).into()
    }
}

fn derived(salt: &[u8; 16], secret: &Secret) -> [u8; 32] {
    let mut derived = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(secret.reveal().as_bytes(), salt, ROUNDS, &mut derived);
    derived
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_itself_fits_and_equal_ones_do_not_look_equal() {
        let secret = Secret::new("open sesame");
        let proof = JoinProof::of(&secret).unwrap();
        assert!(proof.fits(&secret));
        for wrong in ["", "open sesame ", "Open sesame"] {
            assert!(!proof.fits(&Secret::new(wrong)), "{wrong}");
        }
        assert_ne!(JoinProof::of(&secret).unwrap(), proof);
        assert_eq!(format!("{proof:?} {secret:?}"), "JoinProof(…) Secret(…)");
    }
}
