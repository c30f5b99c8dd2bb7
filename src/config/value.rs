//! Texts become values; a text that does not fit is answered with what it must be.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing_subscriber::filter::Targets;

pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("must be an IP address such as 127.0.0.1, not `{text}`"))
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("must be a port, 0 to 65535, not `{text}`"))
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("must be a path, not empty".to_owned());
    }
    Ok(PathBuf::from(text))
}

/// A path, or nothing.
#[expect(clippy::unnecessary_wraps, reason = "read as the others are")]
pub(super) fn optional_path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok(Some(text).filter(|text| !text.is_empty()).map(PathBuf::from))
}

pub(super) fn shown(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

pub(super) fn number(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let value = text.replace('_', "").parse().ok().filter(|value| range.contains(value));
    value.ok_or_else(|| match *range.end() {
        u64::MAX => format!("must be a whole number from {}, not `{text}`", range.start()),
        end => format!("must be a whole number, {} to {end}, not `{text}`", range.start()),
    })
}

pub(super) fn small(text: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    let wide = u64::from(*range.start())..=u64::from(*range.end());
    number(text, wide)?.try_into().map_err(|_| "too large".to_owned())
}

pub(super) fn bytes(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let text = text.trim();
    let (digits, unit) = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1_u64 << 30)]
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?.trim_end(), *unit)))
        .unwrap_or((text, 1));
    let value = digits.replace('_', "").parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    value.filter(|value| range.contains(value)).ok_or_else(|| {
        let (start, end) = range.into_inner();
        format!("must be bytes, {start} to {end} (such as 512KiB or 10MiB), not `{text}`")
    })
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    /// Ten years: anything longer is a mistake, and sums of such times cannot overflow.
    const MOST: f64 = 315_576_000.0;
    let value = text.parse::<f64>().ok().filter(|value| (0.0..=MOST).contains(value));
    value
        .and_then(|value| Duration::try_from_secs_f64(value).ok())
        .ok_or_else(|| format!("must be seconds, 0 or more (such as 30 or 0.5), not `{text}`"))
}

pub(super) fn positive(text: &str) -> Result<Duration, String> {
    let value = seconds(text)?;
    if value.is_zero() { Err("must be more than 0 seconds".to_owned()) } else { Ok(value) }
}

pub(super) fn in_seconds(value: Duration) -> String {
    value.as_secs_f64().to_string()
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("must be true or false, not `{text}`")),
    }
}

pub(super) fn level(text: &str) -> Result<String, String> {
    let filter: Result<Targets, _> = text.parse();
    match filter {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        _ => {
            Err(format!("must be off, error, warn, info, debug, trace or directives, not `{text}`"))
        }
    }
}

/// Texts between commas.
pub(super) fn list(text: &str) -> Vec<String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_units_and_times_take_fractions() {
        assert_eq!(bytes("10MiB", 0..=u64::MAX), Ok(10 << 20));
        assert_eq!(bytes("64 KiB", 0..=u64::MAX), Ok(64 << 10));
        assert!(bytes("99999999999GiB", 0..=u64::MAX).is_err());
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
    }
}
