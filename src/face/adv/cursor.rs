//! Places in the feed: when the store was born, and how many statements were accepted.

use std::fmt;

use crate::model::Millis;

const PREFIX: &str = "cur:";
/// Crockford's base32.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Digits of the time, and of the position.
const WIDTHS: [usize; 2] = [10, 16];
/// Letters and digits of any cursor, ours or not.
const LONGEST: usize = 64;

/// A place in the feed. Texts sort as places do.
///
/// The place before everything is the same in every store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// When the store was born; 0 before anything was accepted.
    pub born: Millis,
    /// How many statements were accepted up to there.
    pub position: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        for (mut number, width) in [self.born, self.position].into_iter().zip(WIDTHS) {
            let mut digits = [b'0'; 16];
            for digit in digits.iter_mut().take(width).rev() {
                let index = usize::try_from(number % 32).unwrap_or_default();
                *digit = DIGITS.get(index).copied().unwrap_or_default();
                number /= 32;
            }
            let text = digits.get(..width).and_then(|digits| std::str::from_utf8(digits).ok());
            f.write_str(text.unwrap_or_default())?;
        }
        Ok(())
    }
}

impl Cursor {
    /// Whether a text is a cursor of this or any other directory.
    pub fn is_cursor(text: &str) -> bool {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        text.strip_prefix(PREFIX)
            .is_some_and(|rest| (1..=LONGEST).contains(&rest.len()) && rest.bytes().all(allowed))
    }

    /// The place that a text names, when it is a text of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let (born, position) = digits.split_at_checked(WIDTHS[0])?;
        if position.len() != WIDTHS[1] {
            return None;
        }
        Some(Self { born: number(born)?, position: number(position)? })
    }
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().try_fold(0_u64, |number, digit| {
        let value = DIGITS.iter().position(|known| *known == digit)?;
        number.checked_mul(32)?.checked_add(u64::try_from(value).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_sorts_as_places_do() {
        let places = [
            Cursor::default(),
            Cursor { born: 0, position: 1 },
            Cursor { born: 1_900_000_000_000, position: 31 },
            Cursor { born: 1_900_000_000_000, position: 32 },
            Cursor { born: 1_900_000_000_000, position: u64::MAX },
            Cursor { born: 1_900_000_000_001, position: 0 },
        ];
        let texts: Vec<String> = places.iter().map(Cursor::to_string).collect();
        assert!(texts.is_sorted());
        for (place, text) in places.iter().zip(&texts) {
            assert_eq!(Cursor::parse(text), Some(*place));
            assert!(Cursor::is_cursor(text) && text.len() == 30);
        }
    }

    #[test]
    fn cursors_of_others_are_told_from_what_is_none() {
        for foreign in ["cur:01JQNODECUR001", "cur:x", "cur:_-", &format!("cur:{}", "Z".repeat(26))]
        {
            assert!(Cursor::is_cursor(foreign) && Cursor::parse(foreign).is_none(), "{foreign}");
        }
        let long = format!("cur:{}", "1".repeat(65));
        for wrong in ["", "cur:", "CUR:1", "cur:é", "cur:a b", "1", &long, "cur:1\n"] {
            assert!(!Cursor::is_cursor(wrong), "{wrong}");
        }
    }
}
