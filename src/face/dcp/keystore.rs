//! Version 3 keystores: what stands in one, and what it may cost to unlock it.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::model::address::{Address, hex_bytes};

/// Most memory that the table of scrypt may take, bytes.
const MOST_TABLE: u64 = 256 << 20;
/// Most memory that scrypt may take in all: the rest matters only for parameters that nobody has.
const MOST_MEMORY: u64 = 320 << 20;
/// Most rounds over that table.
const MOST_PARALLEL: u64 = 4;
/// Most rounds of PBKDF2.
const MOST_ROUNDS: u64 = 2_000_000;
/// Longest text of a keystore, bytes.
pub(super) const MOST_TEXT: usize = 48 << 10;

/// A keystore that can be unlocked at a bearable cost.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keystore {
    /// Whose it says it is.
    pub(super) address: Option<Address>,
    /// What its owner calls it.
    pub(super) label: Option<String>,
    pub(super) iv: [u8; 16],
    pub(super) ciphertext: [u8; 32],
    pub(super) mac: [u8; 32],
    pub(super) salt: Vec<u8>,
    pub(super) derivation: Derivation,
}

/// How a password becomes a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Derivation {
    Scrypt { log_n: u8, r: u32, p: u32 },
    Pbkdf2 { rounds: u32 },
}

/// Nothing of it: whoever has one can guess passwords.
impl fmt::Debug for Keystore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keystore(…)")
    }
}

impl Keystore {
    /// Reads one off the start of a text; answers where it ends.
    pub(super) fn read_prefix(text: &str) -> Option<(Self, usize)> {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Written>();
        let written = values.next()?.ok()?;
        Some((Self::of(written)?, values.byte_offset()))
    }

    /// Reads one that is all of a text.
    pub(super) fn read(text: &str) -> Option<Self> {
        let written = (text.len() <= MOST_TEXT).then(|| serde_json::from_str(text).ok())??;
        Self::of(written)
    }

    /// Memory for unlocking it, bytes.
    pub(super) fn memory(&self) -> u64 {
        match self.derivation {
            Derivation::Scrypt { log_n, r, p } => {
                128 * u64::from(r) * ((1 << log_n) + u64::from(p))
            }
            Derivation::Pbkdf2 { .. } => 0,
        }
    }

    fn of(written: Written) -> Option<Self> {
        let Written { version, address, label, crypto } = written;
        let Crypto { cipher, cipherparams, ciphertext, kdf, kdfparams, mac } = crypto;
        if version != 3 || cipher != "aes-128-ctr" || kdfparams.dklen != 32 {
            return None;
        }
        let address = match address {
            Some(text) => Some(Address::parse(&text)?),
            None => None,
        };
        Some(Self {
            address,
            label: label.and_then(|label| label.as_str().map(str::to_owned)),
            iv: hex_bytes(&cipherparams.iv)?,
            ciphertext: hex_bytes(&ciphertext)?,
            mac: hex_bytes(&mac)?,
            derivation: derivation(&kdf, &kdfparams)?,
            salt: salt(&kdfparams.salt)?,
        })
    }
}

fn derivation(kdf: &str, params: &KdfParams) -> Option<Derivation> {
    match kdf {
        "scrypt" => {
            let (n, r, p) = (params.n?, params.r?, params.p?);
            let table = r.checked_mul(128)?.checked_mul(n)?;
            let memory = r.checked_mul(128)?.checked_mul(n.checked_add(p)?)?;
            let bearable = table <= MOST_TABLE && memory <= MOST_MEMORY;
            if n < 2 || !n.is_power_of_two() || r == 0 || !bearable {
                return None;
            }
            let p = Some(p).filter(|p| (1..=MOST_PARALLEL).contains(p))?;
            Some(Derivation::Scrypt {
                log_n: n.trailing_zeros().try_into().ok()?,
                r: r.try_into().ok()?,
                p: p.try_into().ok()?,
            })
        }
        "pbkdf2" if params.prf.as_deref() == Some("hmac-sha256") => {
            let rounds = params.c.filter(|rounds| (1..=MOST_ROUNDS).contains(rounds))?;
            Some(Derivation::Pbkdf2 { rounds: rounds.try_into().ok()? })
        }
        _ => None,
    }
}

fn salt(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let byte = |pair: &[u8; 2]| {
        let [byte] = hex_bytes(std::str::from_utf8(pair).ok()?)?;
        Some(byte)
    };
    pairs.iter().map(byte).collect()
}

/// As it is written; other members do not matter.
#[derive(Deserialize)]
struct Written {
    version: u64,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    label: Option<Value>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
}

#[derive(Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    kdf: String,
    kdfparams: KdfParams,
    mac: String,
}

#[derive(Deserialize)]
struct CipherParams {
    iv: String,
}

#[derive(Deserialize)]
struct KdfParams {
    dklen: u64,
    salt: String,
    #[serde(default)]
    n: Option<u64>,
    #[serde(default)]
    r: Option<u64>,
    #[serde(default)]
    p: Option<u64>,
    #[serde(default)]
    c: Option<u64>,
    #[serde(default)]
    prf: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::face::dcp::keystore_unlock::sample;

    fn read(text: &Value) -> Option<Keystore> {
        Keystore::read(&text.to_string())
    }

    #[test]
    fn parameters_that_cost_too_much_or_make_no_sense_are_refused() {
        let good = sample();
        assert!(read(&good).is_some());
        for (member, value) in [
            ("n", json!(1_u64 << 30)),
            ("n", json!(u64::MAX)),
            ("n", json!(1_u64 << 63)),
            ("n", json!(1_000)),
            ("n", json!(0)),
            ("n", json!(1)),
            ("n", json!(-1024)),
            ("n", json!(1024.5)),
            ("n", json!("1024")),
            ("n", json!(null)),
            ("r", json!(0)),
            ("r", json!(1_u64 << 40)),
            ("r", json!(u64::MAX)),
            ("p", json!(0)),
            ("p", json!(5)),
            ("p", json!(u64::MAX)),
            ("dklen", json!(31)),
            ("dklen", json!(64)),
            ("dklen", json!(u64::MAX)),
            ("salt", json!("abc")),
            ("salt", json!("zz")),
            ("salt", json!("é")),
        ] {
            let mut bad = good.clone();
            bad["crypto"]["kdfparams"][member] = value.clone();
            assert_eq!(read(&bad), None, "{member}: {value}");
        }
        let mut most = good.clone();
        most["crypto"]["kdfparams"]["n"] = json!(262_144);
        most["crypto"]["kdfparams"]["p"] = json!(4);
        assert!(read(&most).is_some(), "exactly 256 MiB");
        most["crypto"]["kdfparams"]["n"] = json!(2);
        most["crypto"]["kdfparams"]["r"] = json!(1 << 20);
        assert_eq!(read(&most), None, "the table is small, the blocks are not");
    }

    #[test]
    fn rounds_of_pbkdf2_are_bounded() {
        let with = |rounds: Value, prf: &str| {
            let mut keystore = sample();
            keystore["crypto"]["kdf"] = json!("pbkdf2");
            keystore["crypto"]["kdfparams"] =
                json!({ "dklen": 32, "salt": "ab", "c": rounds, "prf": prf });
            read(&keystore)
        };
        assert!(with(json!(1), "hmac-sha256").is_some());
        assert!(with(json!(2_000_000), "hmac-sha256").is_some());
        for rounds in [json!(0), json!(2_000_001), json!(u64::MAX), json!(-1), json!(null)] {
            assert_eq!(with(rounds.clone(), "hmac-sha256"), None, "{rounds}");
        }
        assert_eq!(with(json!(1), "hmac-sha512"), None);
    }

    #[test]
    fn other_members_that_do_not_fit_are_refused_and_unknown_ones_ignored() {
        for (path, value) in [
            ("/version", json!(1)),
            ("/version", json!("3")),
            ("/address", json!("12")),
            ("/address", json!(5)),
            ("/crypto", json!(null)),
            ("/crypto/cipher", json!("aes-256-ctr")),
            ("/crypto/cipherparams", json!({})),
            ("/crypto/cipherparams/iv", json!("00")),
            ("/crypto/ciphertext", json!("00")),
            ("/crypto/mac", json!("00")),
            ("/crypto/kdf", json!("argon2")),
        ] {
            let mut bad = sample();
            *bad.pointer_mut(path).unwrap() = value.clone();
            assert_eq!(read(&bad), None, "{path}: {value}");
        }
        let mut odd = sample();
        odd["label"] = json!(7);
        odd["timestamp"] = json!([1]);
        odd["more"] = json!({ "a": 1 });
        assert_eq!(read(&odd).unwrap().label, None);
        odd["label"] = json!("Savings");
        assert_eq!(read(&odd).unwrap().label.as_deref(), Some("Savings"));
        assert_eq!(format!("{:?}", read(&odd).unwrap()), "Keystore(…)");
    }
}
