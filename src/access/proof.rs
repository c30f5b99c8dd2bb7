//! Keys and signatures of those who sign in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

/// What stands before a challenge in the text that is signed, so that no other signature of the
/// key is one of a sign-in.
pub const SIGN_IN: &str = "muster-sign-in.v1";
/// The name of ed25519 keys in a multicodec.
const ED25519: [u8; 2] = [0xed, 0x01];

/// The ed25519 key that a text stands for: 64 hexadecimal digits, or `did:key:z6Mk…`.
pub fn key_of(text: &str) -> Option<[u8; 32]> {
    if let Some(multibase) = text.strip_prefix("did:key:z") {
        let bytes = from_base58(multibase)?;
        return bytes.strip_prefix(&ED25519)?.try_into().ok();
    }
    from_hex(text)
}

/// Whether the signature, in hexadecimal or base64url, is the key's, of the challenge.
///
/// Strict: no second encoding of a signature, no key of small order.
pub fn signs(key: &[u8; 32], challenge: &str, signature: &str) -> bool {
    let bytes = from_hex::<64>(signature).or_else(|| {
        let bytes = URL_SAFE_NO_PAD.decode(signature.trim_end_matches('=')).ok()?;
        bytes.try_into().ok()
    });
    let Some(bytes) = bytes else { return false };
    let Ok(key) = VerifyingKey::from_bytes(key) else { return false };
    key.verify_strict(&signed_text(challenge), &Signature::from_bytes(&bytes)).is_ok()
}

/// The signature of a challenge, in hexadecimal.
pub fn signed_by(key: &SigningKey, challenge: &str) -> String {
    let signature = key.sign(&signed_text(challenge)).to_bytes();
    signature.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The signing key that a text stands for: its 32 byte seed as 64 hexadecimal digits.
pub fn signing_key(text: &str) -> Option<SigningKey> {
    from_hex::<32>(text.trim()).map(|seed| SigningKey::from_bytes(&seed))
}

fn signed_text(challenge: &str) -> Vec<u8> {
    [SIGN_IN.as_bytes(), b"\0", challenge.as_bytes()].concat()
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes?.try_into().ok()
}

/// Reads base58 as Bitcoin writes it; no more than a key is long.
fn from_base58(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    if text.len() > 64 {
        return None;
    }
    let mut bytes: Vec<u8> = Vec::new();
    for letter in text.bytes() {
        let mut carry = u32::try_from(DIGITS.iter().position(|digit| *digit == letter)?).ok()?;
        for byte in &mut bytes {
            carry += u32::from(*byte) * 58;
            *byte = u8::try_from(carry & 0xff).unwrap_or_default();
            carry >>= 8;
        }
        while carry > 0 {
            bytes.push(u8::try_from(carry & 0xff).unwrap_or_default());
            carry >>= 8;
        }
    }
    bytes.extend(text.bytes().take_while(|letter| *letter == b'1').map(|_| 0));
    bytes.reverse();
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_of_the_challenge_is_good_and_nothing_else_is() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = key.verifying_key().to_bytes();
        let hex = signed_by(&key, "abc");
        assert!(signs(&public, "abc", &hex) && signs(&public, "abc", &hex.to_uppercase()));
        let raw: [u8; 64] = from_hex(&hex).unwrap();
        assert!(signs(&public, "abc", &URL_SAFE_NO_PAD.encode(raw)));
        assert!(!signs(&public, "abd", &hex), "of another challenge");
        assert!(!signs(&[8; 32], "abc", &hex), "of another key");
        for cut in [0, 1, 64, 127] {
            assert!(!signs(&public, "abc", &hex[..cut]), "truncated");
        }
        let plain = key.sign(b"abc").to_bytes();
        assert!(!signs(&public, "abc", &URL_SAFE_NO_PAD.encode(plain)), "for another purpose");
        // The neutral element signs everything in the eyes of a lenient verifier.
        let mut small = [0; 32];
        small[0] = 1;
        let mut forged = [0; 64];
        forged[0] = 1;
        assert!(!signs(&small, "abc", &URL_SAFE_NO_PAD.encode(forged)), "of a small key");
    }

    #[test]
    fn keys_are_read_in_both_spellings() {
        let key =
            key_of("3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29").unwrap();
        assert_eq!(key_of("did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"), Some(key));
        for bad in [
            "",
            "did:key:z",
            "did:key:z0",
            "3b6a",
            "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
        ] {
            assert_eq!(key_of(bad), None, "{bad}");
        }
    }
}
