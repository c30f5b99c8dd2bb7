//! Remembers for a while what a header text unlocked to.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::model::Millis;
use crate::model::address::Address;

/// How long, milliseconds (specification of the compute face, section 4.1).
const REMEMBERED: Millis = 10 * 60_000;
/// Most texts at once; the oldest goes.
const MOST: usize = 10_000;

/// The digest of a header text; the text itself is not kept.
pub(super) type TextDigest = [u8; 32];

/// What texts unlocked to. It says the same for every coordinator of the process: a text is a
/// keystore with its password, or names an API key that only one of them has.
pub(super) static UNLOCKED: Mutex<Option<Unlocked>> = Mutex::new(None);

/// The digest of a text.
pub(super) fn digest(text: &str) -> TextDigest {
    Sha256::digest(text).into()
}

/// What `text` unlocked to within the last ten minutes.
pub(super) fn recall(text: &TextDigest, now: Millis) -> Option<Address> {
    UNLOCKED.lock().as_mut()?.recall(text, now)
}

/// Remembers it from now on.
pub(super) fn remember(text: TextDigest, address: Address, now: Millis) {
    UNLOCKED.lock().get_or_insert_default().remember(text, address, now);
}

/// Addresses by digest, and in the order in which they go.
#[derive(Debug, Default)]
pub(super) struct Unlocked {
    addresses: HashMap<TextDigest, (Address, Millis)>,
    order: VecDeque<(TextDigest, Millis)>,
}

impl Unlocked {
    fn recall(&mut self, text: &TextDigest, now: Millis) -> Option<Address> {
        self.forget(now);
        let (address, since) = self.addresses.get(text)?;
        // A clock that was set back makes nothing last longer.
        (*since <= now && now - since < REMEMBERED).then_some(*address)
    }

    fn remember(&mut self, text: TextDigest, address: Address, now: Millis) {
        self.forget(now);
        self.addresses.insert(text, (address, now));
        self.order.push_back((text, now));
        while self.order.len() > MOST {
            self.drop_oldest();
        }
    }

    fn forget(&mut self, now: Millis) {
        while self.order.front().is_some_and(|(_, since)| now.saturating_sub(*since) >= REMEMBERED)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((text, since)) = self.order.pop_front() else { return };
        // It may have been remembered anew since.
        if self.addresses.get(&text).is_some_and(|(_, newer)| *newer == since) {
            self.addresses.remove(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: usize) -> TextDigest {
        digest(&number.to_string())
    }

    #[test]
    fn an_unlock_is_remembered_for_ten_minutes() {
        let (mut unlocked, address) = (Unlocked::default(), Address([7; 20]));
        unlocked.remember(text(1), address, 1_000);
        assert_eq!(unlocked.recall(&text(1), 1_000 + REMEMBERED - 1), Some(address));
        assert_eq!(unlocked.recall(&text(2), 1_001), None);
        assert_eq!(unlocked.recall(&text(1), 999), None, "the clock was set back");
        unlocked.remember(text(1), address, 5_000);
        assert_eq!(unlocked.recall(&text(1), 1_000 + REMEMBERED), Some(address), "anew");
        assert_eq!(unlocked.recall(&text(1), 5_000 + REMEMBERED), None);
        assert!(unlocked.addresses.is_empty() && unlocked.order.is_empty());
    }

    #[test]
    fn the_oldest_of_too_many_goes() {
        let mut unlocked = Unlocked::default();
        for number in 0..=MOST {
            unlocked.remember(text(number), Address([0; 20]), 1);
        }
        assert_eq!((unlocked.addresses.len(), unlocked.order.len()), (MOST, MOST));
        assert!(unlocked.recall(&text(0), 1).is_none());
        assert!(unlocked.recall(&text(MOST), 1).is_some());
    }
}
