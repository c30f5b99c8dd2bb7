//! Pages of lists: cursors, limits, and filters that look at a bounded number of rows.

use std::fmt::Write;
use std::ops::ControlFlow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::store::{Key, KeyBytes, Row, Store, Table};
use crate::{Error, Result};

/// Rows that one call looks at, however few of them pass its filter.
const LOOKED_AT: usize = 10_000;
/// Bytes after which a page ends early; one object may exceed it.
const PAGE_BYTES: usize = 4 << 20;
/// Objects on a page when the client does not say.
const DEFAULT_LIMIT: u32 = 100;
/// Most objects on a page.
pub(super) const MAX_LIMIT: u32 = 1_000;

/// One page of a list, in ascending order of ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    /// The objects; with a filter there may be fewer than asked for, even none, before the end.
    pub items: Vec<T>,
    /// The `cursor` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The number of objects that a page may have.
///
/// # Errors
/// [`Error::Params`] outside 1..=1000.
pub(super) fn limit(asked: Option<u32>) -> Result<usize> {
    let limit = asked.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Error::params("limit", format!("must be an integer from 1 to {MAX_LIMIT}")));
    }
    usize::try_from(limit).map_err(|_| Error::params("limit", "too large"))
}

/// Which page is wanted of which rows.
#[derive(Debug)]
pub(super) struct Cut<K> {
    after: Option<K>,
    limit: usize,
}

impl<K: Key> Cut<K> {
    /// Reads the params of a list; `prefix` is what all keys of the list begin with.
    ///
    /// # Errors
    /// [`Error::Params`] when the limit is out of range or the cursor is not of this list.
    pub(super) fn new(prefix: &impl Key, cursor: Option<&str>, asked: Option<u32>) -> Result<Self> {
        let limit = limit(asked)?;
        let bad = || Error::params("cursor", "the `next` of an earlier page of this list");
        let after = cursor.map(|text| read_cursor(prefix, text).ok_or_else(bad)).transpose()?;
        Ok(Self { after, limit })
    }

    /// Collects the page: `view` turns a row into an object with its size in bytes, or into
    /// nothing when the filter does not let it pass.
    pub(super) fn collect<V: Row, P: Key, T>(
        self,
        store: &Store,
        table: Table<K, V>,
        prefix: &P,
        mut view: impl FnMut(&K, V) -> Result<Option<(T, usize)>>,
    ) -> Result<Page<T>> {
        let (mut items, mut bytes, mut looked_at) = (Vec::new(), 0_usize, 0_usize);
        let (mut last, mut more, mut failed) = (None, false, None);
        store.scan(table, prefix, self.after.as_ref(), |key, row| {
            let full = items.len() == self.limit || bytes >= PAGE_BYTES;
            if looked_at == LOOKED_AT {
                more = true;
                return ControlFlow::Break(());
            }
            looked_at += 1;
            match view(&key, row) {
                Err(err) => {
                    failed = Some(err);
                    ControlFlow::Break(())
                }
                // One that passes but has no room: there is a next page, and it starts with it.
                Ok(Some(_)) if full => {
                    more = true;
                    ControlFlow::Break(())
                }
                Ok(object) => {
                    last = Some(key);
                    if let Some((object, size)) = object {
                        items.push(object);
                        bytes = bytes.saturating_add(size);
                    }
                    ControlFlow::Continue(())
                }
            }
        })?;
        if let Some(err) = failed {
            return Err(err);
        }
        let next = last.filter(|_| more).map(|key| write_cursor(&key));
        Ok(Page { items, next })
    }
}

fn write_cursor(key: &impl Key) -> String {
    let mut bytes = KeyBytes::new();
    key.encode(&mut bytes);
    let bytes = bytes.as_slice();
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn read_cursor<K: Key>(prefix: &impl Key, text: &str) -> Option<K> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).filter(|_| !c.is_uppercase()).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    let mut begin = KeyBytes::new();
    prefix.encode(&mut begin);
    if !rest.is_empty() || !bytes.starts_with(begin.as_slice()) {
        return None;
    }
    let mut left = bytes.as_slice();
    K::decode(&mut left).filter(|_| left.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_within_its_list_only() {
        let text = write_cursor(&(7_u32, 42_u32, 3_u32));
        assert_eq!(read_cursor(&7_u32, &text), Some((7_u32, 42_u32, 3_u32)));
        assert_eq!(read_cursor(&(7_u32, 42_u32), &text), Some((7_u32, 42_u32, 3_u32)));
        assert_eq!(read_cursor::<(u32, u32, u32)>(&8_u32, &text), None);
        assert_eq!(read_cursor::<(u32, u32)>(&7_u32, &text), None);
        for bad in ["", "0", "zz", "0000000G", "é", &text.to_uppercase(), &text[1..]] {
            assert_eq!(read_cursor::<(u32, u32, u32)>(&7_u32, bad), None, "{bad}");
        }
    }

    #[test]
    fn a_limit_is_between_one_and_a_thousand() {
        assert_eq!(limit(None).unwrap(), 100);
        assert_eq!(limit(Some(1)).unwrap(), 1);
        assert_eq!(limit(Some(1_000)).unwrap(), 1_000);
        assert!(limit(Some(0)).is_err());
        assert!(limit(Some(1_001)).is_err());
    }
}
