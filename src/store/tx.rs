//! A batch in the making: reads see what it has staged, and it can step back.

use std::collections::BTreeMap;

use super::{Key, Row, StoreError, Table};
use crate::model::Millis;
use crate::model::event::Event;

type Staged = Option<Vec<u8>>;

/// An event to be, before it has a number.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What the change is called.
    pub kind: &'static str,
    /// The tenant.
    pub context_id: Option<u32>,
    /// What it is about.
    pub subject: String,
    /// The subject of the group it is part of.
    pub group: Option<String>,
    /// What happened, as JSON text.
    pub data: String,
}

/// A place in a batch to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    undo: usize,
    events: usize,
}

/// A batch in the making.
#[derive(Debug)]
pub struct Tx<'a> {
    tree: &'a sled::Tree,
    staged: BTreeMap<Vec<u8>, Staged>,
    undo: Vec<(Vec<u8>, Option<Staged>)>,
    events: Vec<Event>,
    latest: u64,
}

impl<'a> Tx<'a> {
    pub(super) fn new(tree: &'a sled::Tree, latest: u64) -> Self {
        Self { tree, staged: BTreeMap::new(), undo: vec![], events: vec![], latest }
    }

    /// Reads one value.
    pub fn get<K: Key, V: Row>(
        &self,
        table: Table<K, V>,
        key: &K,
    ) -> Result<Option<V>, StoreError> {
        let key = table.key(key);
        match self.staged.get(&key) {
            Some(staged) => staged.as_deref().map(|bytes| table.decode(bytes)).transpose(),
            None => self.tree.get(key)?.map(|bytes| table.decode(&bytes)).transpose(),
        }
    }

    /// At most `limit` rows below `prefix` and after `after`, in key order, staged ones included.
    pub fn page<K: Key, V: Row, P: Key>(
        &self,
        table: Table<K, V>,
        prefix: &P,
        after: Option<&K>,
        limit: usize,
    ) -> Result<Vec<(K, V)>, StoreError> {
        let mut low = vec![table.tag()];
        prefix.encode(&mut low);
        let start = after.map_or(low.clone(), |key| table.key(key));
        let mut rows = Vec::new();
        for row in self.tree.range(start..) {
            let (key, value) = row?;
            if !key.starts_with(&low) || rows.len() == limit {
                break;
            }
            let parsed = table.parse(&key)?;
            if after.is_none_or(|after| table.key(after) != key.as_ref()) {
                rows.push((parsed, table.decode(&value)?));
            }
        }
        Ok(rows)
    }

    /// Stages a value.
    pub fn put<K: Key, V: Row>(
        &mut self,
        table: Table<K, V>,
        key: &K,
        value: &V,
    ) -> Result<(), StoreError> {
        let bytes = table.encode(value)?;
        self.stage(table.key(key), Some(bytes));
        Ok(())
    }

    /// Stages a removal.
    pub fn remove<K: Key, V>(&mut self, table: Table<K, V>, key: &K) {
        self.stage(table.key(key), None);
    }

    /// Appends to the event log.
    pub fn emit(&mut self, at: Millis, draft: Draft) {
        let Draft { kind, context_id, subject, group, data } = draft;
        self.latest += 1;
        let kind = kind.to_owned();
        self.events.push(Event { seq: self.latest, at, kind, context_id, subject, group, data });
    }

    /// Where the batch stands now, for [`Tx::rollback`].
    pub(crate) fn mark(&self) -> Mark {
        Mark { undo: self.undo.len(), events: self.events.len() }
    }

    /// Takes back what was staged since `mark`.
    pub(crate) fn rollback(&mut self, mark: Mark) {
        for (key, before) in self.undo.drain(mark.undo..).rev() {
            match before {
                Some(staged) => self.staged.insert(key, staged),
                None => self.staged.remove(&key),
            };
        }
        self.latest -= u64::try_from(self.events.len() - mark.events).unwrap_or_default();
        self.events.truncate(mark.events);
    }

    pub(super) fn finish(self) -> (sled::Batch, Vec<Event>) {
        let mut batch = sled::Batch::default();
        for (key, value) in self.staged {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        (batch, self.events)
    }

    fn stage(&mut self, key: Vec<u8>, value: Staged) {
        let before = self.staged.insert(key.clone(), value);
        self.undo.push((key, before));
    }
}
