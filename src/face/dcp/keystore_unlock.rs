//! A keystore and its password become an address.

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use k256::SecretKey;
use k256::elliptic_curve::sec1::ToSec1Point;
use sha2::Sha256;
use sha3::{Digest, Keccak256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::keystore::{Derivation, Keystore};
use crate::model::address::Address;

/// Unlocks a keystore; none when the password is wrong or its parts do not belong together.
///
/// Takes long: not for a thread that serves connections.
pub(super) fn unlock(keystore: &Keystore, password: &str) -> Option<Address> {
    let derived = derive(keystore, password)?;
    let (cipher_key, mac_key) = derived.split_first_chunk::<16>()?;
    let mac = Keccak256::new().chain_update(mac_key).chain_update(keystore.ciphertext).finalize();
    if !bool::from(mac.as_slice().ct_eq(&keystore.mac)) {
        return None;
    }
    let mut private = Zeroizing::new(keystore.ciphertext);
    Ctr128BE::<Aes128>::new(cipher_key.into(), &keystore.iv.into())
        .apply_keystream(private.as_mut_slice());
    let address = address_of(&private)?;
    keystore.address.is_none_or(|said| said == address).then_some(address)
}

fn derive(keystore: &Keystore, password: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut derived = Zeroizing::new([0; 32]);
    let (password, salt) = (password.as_bytes(), keystore.salt.as_slice());
    match keystore.derivation {
        Derivation::Scrypt { log_n, r, p } => {
            let params = scrypt::Params::new(log_n, r, p).ok()?;
            scrypt::scrypt(password, salt, &params, derived.as_mut_slice()).ok()?;
        }
        Derivation::Pbkdf2 { rounds } => {
            pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, derived.as_mut_slice());
        }
    }
    Some(derived)
}

/// The address of a private key; none when it is no key of the curve.
fn address_of(private: &[u8; 32]) -> Option<Address> {
    // It wipes itself.
    let secret = SecretKey::from_slice(private).ok()?;
    let point = secret.public_key().to_sec1_point(false);
    // Its first byte only says that it is not compressed.
    let digest = Keccak256::digest(point.as_bytes().get(1..)?);
    digest.as_slice().last_chunk().copied().map(Address)
}

/// The sample of the specification; its password is `correct horse`.
#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    serde_json::from_str(include_str!("../../../tests/it/dcp_keystore.json")).unwrap()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use serde_json::{Value, json};

    use super::*;

    const ADDRESS: &str = "0x3c283b5a559b2d02bc279e02f7e3a73ecc52f827";

    fn unlocked(keystore: &Value, password: &str) -> Option<String> {
        let keystore = Keystore::read(&keystore.to_string()).unwrap();
        unlock(&keystore, password).map(|address| address.to_string())
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    #[test]
    fn the_sample_unlocks_with_its_password_only() {
        assert_eq!(unlocked(&sample(), "correct horse").as_deref(), Some(ADDRESS));
        for wrong in ["", "correct horse ", "Correct horse", "correct hors", "é"] {
            assert_eq!(unlocked(&sample(), wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_address_may_be_missing_but_not_another() {
        let mut keystore = sample();
        keystore.as_object_mut().unwrap().remove("address");
        assert_eq!(unlocked(&keystore, "correct horse").as_deref(), Some(ADDRESS));
        keystore["address"] = json!(ADDRESS.to_uppercase().replace("0X", "0x"));
        assert_eq!(unlocked(&keystore, "correct horse").as_deref(), Some(ADDRESS));
        keystore["address"] = json!(ADDRESS.replace('3', "4"));
        assert_eq!(unlocked(&keystore, "correct horse"), None);
    }

    #[test]
    fn what_was_tampered_with_does_not_unlock() {
        for path in ["/crypto/ciphertext", "/crypto/mac", "/crypto/kdfparams/salt"] {
            let mut bad = sample();
            let text = bad.pointer(path).unwrap().as_str().unwrap().to_owned();
            let flipped = if text.starts_with('0') { "1" } else { "0" };
            *bad.pointer_mut(path).unwrap() = json!(format!("{flipped}{}", &text[1..]));
            assert_eq!(unlocked(&bad, "correct horse"), None, "{path}");
        }
        let mut bad = sample();
        bad["crypto"]["cipherparams"]["iv"] = json!("00000000000000000000000000000000");
        assert_eq!(
            unlocked(&bad, "correct horse"),
            None,
            "it is not under the mac, the address is"
        );
    }

    /// The vector of the format's own definition, where the password is `testpassword`.
    #[test]
    fn pbkdf2_unlocks_too() {
        let keystore = json!({
            "version": 3, "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
            "crypto": {
                "cipher": "aes-128-ctr",
                "cipherparams": { "iv": "6087dab2f9fdbbfaddc31a909735c1e6" },
                "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
                "kdf": "pbkdf2",
                "kdfparams": {
                    "c": 262_144, "dklen": 32, "prf": "hmac-sha256",
                    "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
                },
                "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
            },
        });
        let address = "0x008aeeda4d805471df9b2a5b0f38a0c3bcba786b";
        assert_eq!(unlocked(&keystore, "testpassword").as_deref(), Some(address));
        assert_eq!(unlocked(&keystore, "testpasswore"), None);
    }

    /// A zero or too large key encrypted with every right part around it.
    #[test]
    fn a_key_outside_of_the_curve_does_not_unlock() {
        for private in [[0_u8; 32], [0xff; 32]] {
            let mut keystore = Keystore::read(&sample().to_string()).unwrap();
            keystore.address = None;
            let derived = derive(&keystore, "x").unwrap();
            let (cipher_key, mac_key) = derived.split_first_chunk::<16>().unwrap();
            keystore.ciphertext = private;
            Ctr128BE::<Aes128>::new(cipher_key.into(), &keystore.iv.into())
                .apply_keystream(&mut keystore.ciphertext);
            let mac = Keccak256::new().chain_update(mac_key).chain_update(keystore.ciphertext);
            keystore.mac = mac.finalize().into();
            assert_eq!(unlock(&keystore, "x"), None, "{}", hex(&private));
        }
    }

    /// `cargo test --release --lib unlocking -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn unlocking_takes_so_long() {
        for n in [1_024, 262_144] {
            let mut keystore = sample();
            keystore["crypto"]["kdfparams"]["n"] = json!(n);
            let keystore = Keystore::read(&keystore.to_string()).unwrap();
            let watch = crate::telemetry::Stopwatch::start();
            let _ = unlock(&keystore, "correct horse");
            println!("scrypt n={n}: {:.3} s", watch.elapsed().as_secs_f64());
        }
    }

    #[test]
    fn the_address_of_the_first_key_is_the_known_one() {
        let mut one = [0; 32];
        one[31] = 1;
        let known = "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf";
        assert_eq!(address_of(&one).unwrap().to_string(), known);
    }
}
