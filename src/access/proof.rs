//! Keys and signatures of those who sign in.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::identity::{NodeKey, PublicKey, signature};
use crate::model::address::hex_bytes;

/// What stands before a challenge in the text that is signed, so that no other signature of the
/// key is one of a sign-in.
pub const SIGN_IN: &str = "muster-sign-in.v1";

/// The ed25519 key that a text stands for: 64 hexadecimal digits, base64 of either alphabet,
/// `z6Mk…`, `did:key:z6Mk…` or `node:did:key:z6Mk…`. No text is read in two ways: their lengths
/// differ.
pub fn key_of(text: &str) -> Option<PublicKey> {
    match hex_bytes(text).or_else(|| base64_bytes(text)) {
        Some(bytes) => PublicKey::from_bytes(&bytes).ok(),
        None => PublicKey::from_text(text).ok(),
    }
}

/// Whether the signature, in hexadecimal or base64 of either alphabet, is the key's, of the
/// challenge.
pub fn signs(key: &PublicKey, challenge: &str, signature: &str) -> bool {
    let bytes = hex_bytes(signature).or_else(|| base64_bytes(signature));
    bytes.is_some_and(|bytes| key.verifies(&signed_text(challenge), &bytes))
}

/// What base64 of either alphabet stands for, padded or not, where it is so many bytes.
fn base64_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bare = text.trim_end_matches('=');
    // The decoders take neither padding nor spare bits that are set.
    let bytes = URL_SAFE_NO_PAD.decode(bare).or_else(|_| STANDARD_NO_PAD.decode(bare)).ok()?;
    let padded = text.len() == bare.len() || text.len() == N.div_ceil(3) * 4;
    bytes.try_into().ok().filter(|_| padded)
}

/// The signature of a challenge, in base64url.
pub fn signed_by(key: &NodeKey, challenge: &str) -> String {
    signature::to_text(&key.sign(&signed_text(challenge)))
}

/// The signing key that a text stands for: its 32 byte seed as 64 hexadecimal digits.
pub fn signing_key(text: &str) -> Option<NodeKey> {
    let seed = Zeroizing::new(hex_bytes::<32>(text.trim())?);
    Some(NodeKey::from_secret(&seed))
}

fn signed_text(challenge: &str) -> Vec<u8> {
    [SIGN_IN.as_bytes(), b"\0", challenge.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_signature_of_the_challenge_is_good_and_nothing_else_is() {
        let key = NodeKey::from_secret(&[7; 32]);
        let public = key_of(&hex(key.public().as_bytes())).unwrap();
        let text = signed_by(&key, "abc");
        let hex = hex(&signature::from_text(&text).unwrap());
        let standard = text.replace('-', "+").replace('_', "/");
        let (padded, upper) = (format!("{standard}=="), hex.to_uppercase());
        for spelling in [&text, &format!("{text}=="), &standard, &padded, &hex, &upper] {
            assert!(signs(&public, "abc", spelling), "{spelling}");
        }
        assert!(!signs(&public, "abd", &hex), "of another challenge");
        assert!(!signs(NodeKey::from_secret(&[8; 32]).public(), "abc", &hex), "of another key");
        for cut in [0, 1, 64, 127] {
            assert!(!signs(&public, "abc", &hex[..cut]), "truncated");
        }
        let plain = signature::to_text(&key.sign(b"abc"));
        assert!(!signs(&public, "abc", &plain), "for another purpose");
    }

    #[test]
    fn a_key_that_signs_everything_is_none() {
        // The neutral element does so in the eyes of a lenient verifier.
        let mut small = [0; 32];
        small[0] = 1;
        assert_eq!(key_of(&hex(&small)), None);
    }

    #[test]
    fn keys_are_read_in_all_their_spellings() {
        let hex = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29";
        let key = key_of(hex).unwrap();
        assert_eq!(key_of(&hex.to_uppercase()), Some(key));
        assert_eq!(key_of("did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"), Some(key));
        let raw = key.as_bytes();
        for spelling in [
            key.multibase(),
            key.node_id(),
            URL_SAFE_NO_PAD.encode(raw),
            STANDARD_NO_PAD.encode(raw),
            format!("{}=", STANDARD_NO_PAD.encode(raw)),
        ] {
            assert_eq!(key_of(&spelling), Some(key), "{spelling}");
        }
        for bad in [
            &format!("{}==", STANDARD_NO_PAD.encode(raw)),
            &STANDARD_NO_PAD.encode(&raw[1..]),
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
