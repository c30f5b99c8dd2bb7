//! What the fields of the seed's objects may hold.

use std::collections::BTreeMap;

use super::IpAddr;
use crate::model::environment;
use crate::{Error, Result};

/// Bytes of one environment entry, its `=` and its final zero: what Linux passes to a process.
const ENV_ENTRY: usize = 128 << 10;
/// Bytes of a whole environment, which must leave room for arguments within Linux's 2 MiB.
const ENV_TOTAL: usize = 1 << 20;
/// Ids in one list.
pub(super) const IDS: usize = 2_000_000;
/// Entries of a short list, such as addresses or prerequisites.
pub(super) const ENTRIES: usize = 10_000;
/// Bytes of a short text, such as a topic or a prerequisite.
pub(super) const SHORT_TEXT: usize = 4_096;
/// Bytes of a public key.
const PUBKEY: usize = 512;

/// A list of at most `limit` entries.
pub(super) fn count(field: &str, entries: usize, limit: usize) -> Result<()> {
    if entries <= limit {
        return Ok(());
    }
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    Err(Error::Limit { what: format!("entries of {field}"), limit })
}

/// A text of at most `limit` bytes.
pub(super) fn length(field: impl FnOnce() -> String, text: &str, limit: usize) -> Result<()> {
    if text.len() <= limit {
        return Ok(());
    }
    Err(Error::params(field(), format!("at most {limit} bytes")))
}

/// A public key as clients write it; only sign-in asks whether it is one.
pub(super) fn pubkey(field: &str, key: &str) -> Result<()> {
    if (1..=PUBKEY).contains(&key.len()) {
        return Ok(());
    }
    Err(Error::params(field, format!("1 to {PUBKEY} bytes")))
}

/// A name: letters, digits, `.`, `_` and `-`, at most 64 of them.
pub(super) fn name(field: &str, name: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(fits) {
        return Ok(());
    }
    Err(Error::params(field, "1 to 64 letters, digits, `.`, `_` or `-`"))
}

/// The text of an address.
pub(super) fn address(field: impl FnOnce() -> String, address: &IpAddr) -> Result<()> {
    match address.0.parse::<std::net::IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::params(field(), "an IPv4 or IPv6 address as text")),
    }
}

/// An environment that a process can hold.
pub(super) fn environment(field: &str, vars: &BTreeMap<String, String>) -> Result<()> {
    environment::check(vars.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .map_err(|err| Error::params(field, err.to_string()))?;
    let mut total = 0_usize;
    for (name, value) in vars {
        let size = name.len() + value.len() + 2;
        if size > ENV_ENTRY {
            let reason = format!("at most {ENV_ENTRY} bytes with its name");
            return Err(Error::params(format!("{field}.{name}"), reason));
        }
        total += size;
    }
    if total > ENV_TOTAL {
        return Err(Error::params(field, format!("at most {ENV_TOTAL} bytes in all")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str, value: &str) -> Result<()> {
        environment("job.env_vars", &BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn an_environment_that_no_process_can_hold_is_refused() {
        assert!(env("A", "any text = fine\n").is_ok());
        for (name, value) in [("", ""), ("A=B", ""), ("A\0", ""), ("A", "\0")] {
            assert!(env(name, value).is_err(), "{name:?} {value:?}");
        }
        assert!(env("A", &"x".repeat(ENV_ENTRY - 3)).is_ok());
        assert!(env("A", &"x".repeat(ENV_ENTRY - 2)).is_err());
        let many = (0..9).map(|i| (format!("V{i}"), "x".repeat(ENV_ENTRY - 10))).collect();
        assert!(environment("env_vars", &many).is_err());
    }

    #[test]
    fn addresses_are_read_as_both_families() {
        for text in ["127.0.0.1", "::1", "fe80::1"] {
            assert!(address(|| "a".to_owned(), &IpAddr(text.to_owned())).is_ok(), "{text}");
        }
        for text in ["", "localhost", "1.2.3", "1.2.3.4:80", "::1%eth0", " ::1"] {
            assert!(address(|| "a".to_owned(), &IpAddr(text.to_owned())).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_has_between_one_and_512_bytes() {
        assert!(pubkey("k", "").is_err());
        assert!(pubkey("k", &"x".repeat(512)).is_ok());
        assert!(pubkey("k", &"x".repeat(513)).is_err());
    }
}
