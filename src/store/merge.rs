//! Rows of several layers, read as one.

use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Bound;

use super::batch::{Changes, Value};
use super::disk::Disk;
use super::state::Found;
use super::{KeyBytes, StoreError};

/// A place in sled, and the row that comes next there.
///
/// It sees sled as it was, more or less: what sled is given later it may miss.
pub(super) struct Place {
    rows: sled::Iter,
    next: Option<(sled::IVec, sled::IVec)>,
}

impl Place {
    pub(super) fn new(disk: &Disk, start: Bound<&[u8]>) -> Result<Self, StoreError> {
        let mut rows = disk.range(start);
        let next = rows.next().transpose()?;
        Ok(Self { rows, next })
    }

    fn advance(&mut self) -> Result<Option<(sled::IVec, sled::IVec)>, StoreError> {
        Ok(std::mem::replace(&mut self.next, self.rows.next().transpose()?))
    }
}

/// Rows of several layers in key order; where two have the same key, the upper one counts.
pub(super) struct Merge<'m> {
    maps: Vec<Peekable<btree_map::Range<'m, KeyBytes, Option<Value>>>>,
    disk: &'m Disk,
    place: &'m mut Place,
    prefix: &'m [u8],
    /// The key of the last row that was handed out.
    pub(super) last: Option<KeyBytes>,
}

impl<'m> Merge<'m> {
    /// The place must be at `start` as well.
    pub(super) fn new(
        maps: &[&'m Changes],
        (disk, place): (&'m Disk, &'m mut Place),
        prefix: &'m KeyBytes,
        start: Bound<&[u8]>,
    ) -> Self {
        let prefix = prefix.as_slice();
        let range = |map: &&'m Changes| map.range::<[u8], _>((start, Bound::Unbounded)).peekable();
        // A layer without such rows would be looked at once per row.
        let mut maps: Vec<_> = maps.iter().map(range).collect();
        maps.retain_mut(|map| {
            map.peek().is_some_and(|(key, _)| key.as_slice().starts_with(prefix))
        });
        Self { maps, disk, place, prefix, last: None }
    }

    /// The next row; one without a value has been removed.
    pub(super) fn next(&mut self) -> Result<Option<(KeyBytes, Option<Found>)>, StoreError> {
        if self.maps.is_empty() {
            return self.next_of_disk();
        }
        let upper =
            self.maps.iter_mut().filter_map(|map| map.peek().map(|(key, _)| key.as_slice()));
        let lowest = upper.chain(self.place.next.as_ref().map(|(key, _)| &**key)).min();
        let Some(key) = lowest.filter(|key| key.starts_with(self.prefix)) else {
            return Ok(None);
        };
        let key = KeyBytes::from(key);
        let mut found: Option<Option<Found>> = None;
        for map in &mut self.maps {
            if let Some((_, value)) = map.next_if(|(other, _)| **other == key) {
                found.get_or_insert_with(|| value.clone().map(Found::Memory));
            }
        }
        if self.place.next.as_ref().is_some_and(|(other, _)| **other == *key.as_slice())
            && let Some((_, value)) = self.place.advance()?
            && found.is_none()
        {
            found = Some(self.disk.passed(key.as_slice(), value)?);
        }
        self.last = Some(key.clone());
        Ok(Some((key, found.flatten())))
    }

    fn next_of_disk(&mut self) -> Result<Option<(KeyBytes, Option<Found>)>, StoreError> {
        if self.place.next.as_ref().is_none_or(|(key, _)| !key.starts_with(self.prefix)) {
            return Ok(None);
        }
        let Some((key, value)) = self.place.advance()? else { return Ok(None) };
        let found = self.disk.passed(&key, value)?;
        let key = KeyBytes::from(&*key);
        self.last = Some(key.clone());
        Ok(Some((key, found)))
    }
}
