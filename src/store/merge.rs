//! Rows of several layers, read as one.

use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Bound;

use super::batch::{Changes, Value};
use super::state::Found;
use super::{KeyBytes, StoreError};

/// Rows of several layers in key order; where two have the same key, the upper one counts.
pub(super) struct Merge<'m> {
    maps: Vec<Peekable<btree_map::Range<'m, KeyBytes, Option<Value>>>>,
    disk: sled::Iter,
    next: Option<(sled::IVec, sled::IVec)>,
    prefix: &'m KeyBytes,
    /// The key of the last row that was handed out.
    pub(super) last: Option<KeyBytes>,
    started: bool,
}

impl<'m> Merge<'m> {
    pub(super) fn new(
        maps: &[&'m Changes],
        disk: &sled::Tree,
        prefix: &'m KeyBytes,
        start: Bound<&[u8]>,
    ) -> Self {
        let range = |map: &&'m Changes| map.range::<[u8], _>((start, Bound::Unbounded)).peekable();
        Self {
            maps: maps.iter().map(range).collect(),
            disk: disk.range::<&[u8], _>((start, Bound::Unbounded)),
            next: None,
            prefix,
            last: None,
            started: false,
        }
    }

    /// The next row; one without a value has been removed.
    pub(super) fn next(&mut self) -> Result<Option<(KeyBytes, Option<Found>)>, StoreError> {
        if !self.started {
            self.started = true;
            self.next = self.disk.next().transpose()?;
        }
        let upper =
            self.maps.iter_mut().filter_map(|map| map.peek().map(|(key, _)| key.as_slice()));
        let lowest = upper.chain(self.next.as_ref().map(|(key, _)| &**key)).min();
        let Some(key) = lowest.filter(|key| key.starts_with(self.prefix.as_slice())) else {
            return Ok(None);
        };
        let key = KeyBytes::from(key);
        let mut found: Option<Option<Found>> = None;
        for map in &mut self.maps {
            if let Some((_, value)) = map.next_if(|(other, _)| **other == key) {
                found.get_or_insert_with(|| value.clone().map(Found::Memory));
            }
        }
        if self.next.as_ref().is_some_and(|(other, _)| **other == *key.as_slice()) {
            let row = std::mem::replace(&mut self.next, self.disk.next().transpose()?);
            if let Some((_, value)) = row {
                found.get_or_insert(Some(Found::Disk(value)));
            }
        }
        self.last = Some(key.clone());
        Ok(Some((key, found.flatten())))
    }
}
