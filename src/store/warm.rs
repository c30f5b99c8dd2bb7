//! Keeps sled's cache within its bounds.
//!
//! Sled notes which pages were used in 256 queues, and only when 64 uses have come together in
//! one does it see how much the pages of that queue take, and lets go of some. Uses of 16,384
//! pages in random order can thus go unseen: of large rows, hundreds of megabytes. So now and
//! then rows used lately are read again, which are in memory: that fills the queues.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::KeyBytes;

/// Rows to a page of sled, at most.
const ROWS: u64 = 16;
/// All of the uses that sled does not see may be of pages this large.
const FREE_BYTES: u64 = 4 << 10;
/// Growth after which some rows are read again …
const TURN_BYTES: u64 = 1 << 20;
/// … so many; with [`TURNS`] turns every queue is filled, on average.
const READS: usize = 256;
const TURNS: u64 = 64;
/// One in so many bytes of growth chooses a row to be read again.
const SAMPLE_BYTES: u64 = 32 << 10;
/// Rows to be read again. Enough of them are on pages of all the queues.
const ROWS_KEPT: usize = 1024;

/// How much the cache may have grown unseen, and what to read against that.
#[derive(Debug, Default)]
pub(super) struct Warm {
    grown: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    rows: Vec<(sled::Tree, KeyBytes)>,
    /// The next to be replaced.
    oldest: usize,
    /// The next to be read.
    next: usize,
}

impl Warm {
    /// A row has been used, somewhere: its page, of such rows, may be new to the cache.
    pub(super) fn used(&self, tree: &sled::Tree, key: &[u8], bytes: usize) {
        let page = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(ROWS);
        self.grown(tree, key, page.saturating_sub(FREE_BYTES));
    }

    /// The cache may have grown by so much, which has to do with this row.
    pub(super) fn grown(&self, tree: &sled::Tree, key: &[u8], bytes: u64) {
        let before = self.grown.fetch_add(bytes, Ordering::Relaxed);
        let crossed = |unit: u64| (before.wrapping_add(bytes) / unit).saturating_sub(before / unit);
        if crossed(SAMPLE_BYTES) == 0 {
            return;
        }
        // Whoever has it now does the same.
        let Some(mut kept) = self.kept.try_lock() else { return };
        kept.keep(tree, key);
        for _ in 0..crossed(TURN_BYTES).min(TURNS) {
            kept.read();
        }
    }
}

impl Kept {
    fn keep(&mut self, tree: &sled::Tree, key: &[u8]) {
        let row = (tree.clone(), KeyBytes::from(key));
        match self.rows.get_mut(self.oldest) {
            Some(old) => *old = row,
            None => self.rows.push(row),
        }
        self.oldest = (self.oldest + 1) % ROWS_KEPT;
    }

    fn read(&mut self) {
        for _ in 0..READS {
            let Some((tree, key)) = self.rows.get(self.next) else {
                self.next = 0;
                return;
            };
            // Whether it can be read is for those to say who want it.
            let _ = tree.contains_key(key);
            self.next = (self.next + 1) % self.rows.len().max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (sled::Db, sled::Tree) {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let rows = db.open_tree("rows").unwrap();
        (db, rows)
    }

    #[test]
    fn rows_on_small_pages_are_free() {
        let ((_db, rows), warm) = (tree(), Warm::default());
        for _ in 0..100_000 {
            warm.used(&rows, b"row", 256);
        }
        assert!(warm.kept.lock().rows.is_empty());
    }

    #[test]
    fn rows_to_be_read_again_are_the_latest_and_bounded_in_number() {
        let ((_db, rows), warm) = (tree(), Warm::default());
        for number in 0..3_000_u32 {
            warm.used(&rows, &number.to_be_bytes(), 64 << 10);
        }
        let kept = warm.kept.lock();
        assert_eq!(kept.rows.len(), ROWS_KEPT);
        let oldest = kept.rows.iter().map(|(_, key)| key.as_slice().to_vec()).min().unwrap();
        assert_eq!(oldest, 1_976_u32.to_be_bytes());
    }

    #[test]
    fn turns_go_round_the_rows() {
        let ((_db, rows), warm) = (tree(), Warm::default());
        for number in 0..100_u32 {
            warm.grown(&rows, &number.to_be_bytes(), SAMPLE_BYTES);
        }
        // 3 MiB and some more: three turns, over as many rows as there were then.
        let kept = warm.kept.lock();
        assert_eq!(kept.rows.len(), 100);
        assert!(kept.next > 0 && kept.next < 100, "{}", kept.next);
    }
}
