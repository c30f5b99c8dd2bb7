//! Amounts of credit: decimal numbers on the wire, millionths inside.

use std::fmt;

/// Millionths in one.
const UNIT: u64 = 1_000_000;
/// Digits after the point that are kept.
const PLACES: usize = 6;

/// An amount, which may be owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Credit(pub i64);

/// Reads a decimal number from 0 up, in millionths; what is finer counts as one more, and what is
/// too large as the largest. None when it is no such number.
pub fn millionths(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(rest) {
        return of_float(text.parse().ok()?);
    }
    let (kept, finer) = rest.split_at_checked(PLACES).unwrap_or((rest, ""));
    let part: u64 = format!("{kept:0<PLACES$}").parse().ok()?;
    let up = u64::from(finer.bytes().any(|byte| byte != b'0'));
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX);
    Some(whole.saturating_mul(UNIT).saturating_add(part + up))
}

/// Numbers in JSON may have an exponent.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates"
)]
fn of_float(number: f64) -> Option<u64> {
    (number >= 0.0).then(|| (number * 1e6).ceil() as u64)
}

impl fmt::Display for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0.unsigned_abs() / UNIT, self.0.unsigned_abs() % UNIT);
        let sign = if self.0 < 0 { "-" } else { "" };
        let text = format!("{sign}{whole}.{part:0>PLACES$}");
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_numbers_are_read_and_written() {
        for (text, want) in [
            ("0", 0),
            ("1", 1_000_000),
            ("0.5", 500_000),
            ("12.000001", 12_000_001),
            ("0.0000001", 1),
            ("1e3", 1_000_000_000),
            ("1e300", u64::MAX),
            ("99999999999999999999999999", u64::MAX),
        ] {
            assert_eq!(millionths(text), Some(want), "{text}");
        }
        for wrong in ["", "x", "-1", "1.x", "NaN"] {
            assert_eq!(millionths(wrong), None, "{wrong}");
        }
        for (amount, text) in [
            (0, "0"),
            (10_000_000, "10"),
            (1_500_000, "1.5"),
            (-1, "-0.000001"),
            (-3_000_000, "-3"),
        ] {
            assert_eq!(Credit(amount).to_string(), text);
        }
    }
}
