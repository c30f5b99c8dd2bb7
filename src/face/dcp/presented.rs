//! What an `Authorization` header, or the member `auth`, presents.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::keystore::Keystore;
use super::secret::Secret;

/// Longest header text, bytes: that of the largest keystore, and a password.
pub(super) const MOST_TEXT: usize = 64 << 10;
/// Digits of an API key.
pub(super) const KEY_DIGITS: usize = 20;
/// Padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What is presented, not yet believed.
#[derive(Debug)]
pub(super) enum Presented<'t> {
    /// A keystore and its password, still encoded.
    Basic(&'t str),
    /// The digest of an API key, and its secret.
    Bearer([u8; 32], &'t str),
}

impl<'t> Presented<'t> {
    /// Tells the schemes apart.
    pub(super) fn read(text: &'t str) -> Option<Self> {
        if text.len() > MOST_TEXT {
            return None;
        }
        let (scheme, rest) = text.trim_ascii_start().split_once(' ')?;
        let rest = rest.trim_ascii_start();
        if scheme.eq_ignore_ascii_case("Basic") {
            Some(Self::Basic(rest.trim_ascii_end()))
        } else if scheme.eq_ignore_ascii_case("Bearer") {
            let (key, secret) = rest.split_once('.')?;
            Some(Self::Bearer(key_digest(key)?, secret))
        } else {
            None
        }
    }
}

/// The digest under which an API key is kept; none when it is not 20 hexadecimal digits.
pub(super) fn key_digest(key: &str) -> Option<[u8; 32]> {
    let right = key.len() == KEY_DIGITS && key.bytes().all(|c| c.is_ascii_hexdigit());
    right.then(|| Sha256::digest(key.to_ascii_lowercase()).into())
}

/// Takes Basic credentials apart: one JSON value, one colon, and all the rest is the password.
pub(super) fn basic(encoded: &str) -> Option<(Keystore, Secret)> {
    let decoded = Zeroizing::new(BASE64.decode(encoded).ok()?);
    let text = std::str::from_utf8(&decoded).ok()?;
    let (keystore, end) = Keystore::read_prefix(text)?;
    // White space after the value belongs to it.
    let password =
        text.get(end..)?.trim_start_matches([' ', '\t', '\r', '\n']).strip_prefix(':')?;
    Some((keystore, Secret::new(password.to_owned())))
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
    use proptest::prelude::*;

    use super::*;
    use crate::face::dcp::keystore_unlock::sample;

    const HEADER: &str = include_str!("../../../tests/it/dcp_keystore.header");

    fn password(text: &str) -> Option<String> {
        basic(&BASE64_STANDARD.encode(text)).map(|(_, password)| password.to_string())
    }

    #[test]
    fn the_sample_header_is_read() {
        let Some(Presented::Basic(encoded)) = Presented::read(HEADER.trim()) else { panic!() };
        let (keystore, password) = basic(encoded).unwrap();
        assert_eq!(keystore, Keystore::read(&sample().to_string()).unwrap());
        assert_eq!(&*password, "correct horse");
    }

    #[test]
    fn passwords_may_hold_anything() {
        let keystore = sample().to_string();
        for text in ["", ":", "a:b:c", ":}:", " leading", "trailing ", "ünï", "\n", "{}"] {
            assert_eq!(password(&format!("{keystore}:{text}")).as_deref(), Some(text), "{text}");
        }
        let pretty = serde_json::to_string_pretty(&sample()).unwrap();
        assert_eq!(password(&format!("\n{pretty}\n:a:b")).as_deref(), Some("a:b"));
    }

    #[test]
    fn what_is_not_a_keystore_and_a_colon_is_refused() {
        let keystore = sample().to_string();
        for text in [
            keystore.clone(),
            format!("{keystore}x:pw"),
            format!("{keystore}{keystore}:pw"),
            format!("{keystore},:pw"),
            format!("x{keystore}:pw"),
            keystore[..keystore.len() - 1].to_owned() + ":pw",
            "user:password".to_owned(),
            ":".to_owned(),
            "{}:pw".to_owned(),
            "[]:pw".to_owned(),
            "null:pw".to_owned(),
            "\"\":pw".to_owned(),
            "[".repeat(40_000),
        ] {
            assert!(password(&text).is_none(), "{text:.60}");
        }
    }

    #[test]
    fn padding_is_optional_and_garbage_is_refused() {
        let keystore = sample().to_string();
        for password in ["a", "ab", "abc"] {
            let text = format!("{keystore}:{password}");
            for encoded in [BASE64_STANDARD.encode(&text), BASE64_STANDARD_NO_PAD.encode(&text)] {
                assert_eq!(&*basic(&encoded).unwrap().1, password);
                let cut = encoded.trim_end_matches('=').len();
                assert!(basic(&format!("{}*", &encoded[..cut - 1])).is_none());
                assert!(basic(&encoded.replace('e', "é")).is_none());
            }
        }
        for garbage in ["", "=", "a", "!!!!", "////", "AAAA AAAA", "=AAA"] {
            assert!(basic(garbage).is_none(), "{garbage}");
        }
    }

    proptest! {
        #[test]
        fn any_password_comes_out_as_it_went_in(text in any::<String>()) {
            let whole = format!("{}:{text}", sample());
            prop_assert_eq!(password(&whole), Some(text));
        }

        #[test]
        fn nothing_that_is_shown_breaks_the_reading(
            at in 0..700_usize, put in any::<String>(), header in any::<String>(),
        ) {
            let mut text = sample().to_string();
            while !text.is_char_boundary(at.min(text.len())) {
                text.push(' ');
            }
            text.insert_str(at.min(text.len()), &put);
            let _ = password(&format!("{text}:pw"));
            if let Some(Presented::Basic(encoded)) = Presented::read(&header) {
                let _ = basic(encoded);
            }
        }
    }

    #[test]
    fn schemes_are_told_apart_in_any_case() {
        let basic = |text| matches!(Presented::read(text), Some(Presented::Basic("YQ==")));
        assert!(basic("Basic YQ=="));
        assert!(basic("basic  YQ== "));
        let key = "0123456789abcdef0123";
        let text = format!("bearer {}.a.b.", key.to_uppercase());
        let Some(Presented::Bearer(digest, secret)) = Presented::read(&text) else { panic!() };
        assert_eq!((Some(digest), secret), (key_digest(key), "a.b."));
        for wrong in [
            "",
            "Basic",
            "Digest x",
            "Bearer 0123.x",
            "Bearer 0123456789abcdef0123",
            "Bearer .x",
            "Bearer 0123456789abcdef012g.x",
            "Bearer 0123456789abcdef01234.x",
        ] {
            assert!(Presented::read(wrong).is_none(), "{wrong}");
        }
        let long = format!("Basic {}", "A".repeat(10 << 20));
        assert!(Presented::read(&long).is_none());
    }
}
