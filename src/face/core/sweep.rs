//! Removal of all that lies below a key.

use minicbor::{Decode, Encode};

use crate::Result;
use crate::engine::Turn;
use crate::store::{Key, Table};

/// Rows read at once.
const PAGE: usize = 1_000;

/// A row of which nothing is read.
#[derive(Debug, Encode, Decode)]
pub(super) struct Any {}

/// Stages the removal of every row below `prefix`.
pub(super) fn remove_below<K: Key, V>(
    turn: &mut Turn<'_>,
    table: Table<K, V>,
    prefix: &impl Key,
) -> Result<()> {
    let keys = table.part::<Any>();
    let mut after = None;
    loop {
        let page = turn.page(keys, prefix, after.as_ref(), PAGE)?;
        let full = page.len() == PAGE;
        for (key, _) in page {
            turn.remove(table, &key);
            after = Some(key);
        }
        if !full {
            return Ok(());
        }
    }
}

/// Whether anything lies below `prefix`.
pub(super) fn anything_below<K: Key, V>(
    turn: &Turn<'_>,
    table: Table<K, V>,
    prefix: &impl Key,
) -> Result<bool> {
    Ok(!turn.page(table.part::<Any>(), prefix, None, 1)?.is_empty())
}
