//! Addresses of the compute face: who deploys, and who pays.

use std::fmt;

use minicbor::{Decode, Encode};

/// The last 20 bytes of the Keccak-256 digest of a secp256k1 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Address(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 20],
);

impl Address {
    /// Reads 40 hexadecimal digits in any case, with or without `0x` before them.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        hex_bytes(digits).map(Self)
    }

    /// The first eight digits: what an account is called as long as nobody gave it a name.
    pub fn short(&self) -> String {
        self.to_string().chars().skip(2).take(8).collect()
    }
}

/// `0x` and 40 lower-case digits.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Reads exactly so many bytes as hexadecimal digits in any case.
pub fn hex_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |c: &u8| char::from(*c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_leniently_and_written_in_one_way() {
        let want = "0x94e619279c5780ff20ece07faa719e3d66111a88";
        for text in [
            want,
            "94E619279C5780fF20ECe07fAA719e3D66111A88",
            "0X94E619279C5780FF20ECE07FAA719E3D66111A88",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), want, "{text}");
        }
        assert_eq!(Address::parse(want).unwrap().short(), "94e61927");
        for wrong in ["", "0x", &want[..41], &format!("{want}0"), &want.replace('9', "g"), "+", "é"]
        {
            assert_eq!(Address::parse(wrong), None, "{wrong}");
        }
    }
}
