//! A batch in the making: reads see what it has staged, and it can step back.

use std::sync::Arc;

use super::batch::{Batch, Changes, Logged, Position, Value};
use super::blob::LARGE;
use super::core::Core;
use super::state::Walk;
use super::{Encoded, Key, KeyBytes, Row, StoreError, Table};
use crate::model::Millis;
use crate::model::event::{By, Event};

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
    events: usize,
}

/// A batch in the making.
///
/// It reads what it has staged itself, what the batches before it have changed although they are
/// still on their way to disk, and the state.
#[derive(Debug)]
pub struct Tx<'a> {
    core: &'a Core,
    before: Position,
    in_flight: Vec<Arc<Changes>>,
    staged: Changes,
    /// What was staged before, for each change since the last mark.
    undo: Vec<(KeyBytes, Option<Option<Value>>)>,
    events: Vec<Arc<Logged>>,
    by: Option<Arc<By>>,
    large: bool,
    buffer: Vec<u8>,
}

impl<'a> Tx<'a> {
    pub(super) fn new(core: &'a Core) -> Self {
        let (before, in_flight) = core.pipeline.begin();
        Self {
            core,
            before,
            in_flight,
            staged: Changes::new(),
            undo: vec![],
            events: vec![],
            by: None,
            large: false,
            buffer: vec![],
        }
    }

    /// Whether there is a row.
    pub fn has<K: Key, V>(&self, table: Table<K, V>, key: &K) -> Result<bool, StoreError> {
        let key = table.key(key);
        let mut layers = std::iter::once(&self.staged).chain(self.in_flight.iter().map(|c| &**c));
        match layers.find_map(|changes| changes.get(&key)) {
            Some(staged) => Ok(staged.is_some()),
            None => Ok(self.core.state.get(&key)?.is_some()),
        }
    }

    /// Reads one value.
    pub fn get<K: Key, V: Row>(
        &self,
        table: Table<K, V>,
        key: &K,
    ) -> Result<Option<V>, StoreError> {
        let key = table.key(key);
        let mut layers = std::iter::once(&self.staged).chain(self.in_flight.iter().map(|c| &**c));
        if let Some(staged) = layers.find_map(|changes| changes.get(&key)) {
            return staged.as_deref().map(|bytes| self.core.decode(table, bytes)).transpose();
        }
        let found = self.core.state.get(&key)?;
        found.map(|bytes| self.core.decode(table, &bytes)).transpose()
    }

    /// At most `limit` rows below `prefix` and after `after`, in key order, staged ones included.
    pub fn page<K: Key, V: Row, P: Key>(
        &self,
        table: Table<K, V>,
        prefix: &P,
        after: Option<&K>,
        limit: usize,
    ) -> Result<Vec<(K, V)>, StoreError> {
        let mut above = vec![&self.staged];
        above.extend(self.in_flight.iter().map(|changes| &**changes));
        let mut walk = Walk::new(table.prefix(prefix), after.map(|key| table.key(key)));
        let (mut found, mut rows) = (Vec::new(), Vec::new());
        while rows.len() < limit {
            let more = self.core.state.rows(&above, &mut walk, limit - rows.len(), &mut found)?;
            for (key, value) in found.drain(..) {
                rows.push((table.parse(key.as_slice())?, self.core.decode(table, &value)?));
            }
            if !more {
                break;
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
        let bytes = table.encode(value, &mut self.buffer)?;
        self.large |= bytes.len() > LARGE;
        self.stage(table.key(key), Some(bytes));
        Ok(())
    }

    /// Stages a value that was encoded before.
    pub fn put_encoded<K: Key, V>(&mut self, table: Table<K, V>, key: &K, value: &Encoded<V>) {
        self.large |= value.bytes.len() > LARGE;
        self.stage(table.key(key), Some(Arc::clone(&value.bytes)));
    }

    /// Stages a removal.
    pub fn remove<K: Key, V>(&mut self, table: Table<K, V>, key: &K) {
        self.stage(table.key(key), None);
    }

    /// Appends to the event log.
    pub fn emit(&mut self, at: Millis, draft: Draft) {
        let Draft { kind, context_id, subject, group, data } = draft;
        let seq = self.position().seq + 1;
        let by = self.by.clone();
        let event = Event { seq, at, kind: kind.into(), context_id, subject, group, data, by };
        self.events.push(Arc::new(Logged::new(event)));
    }

    /// Says on whose behalf the next events happen.
    pub(crate) fn act_for(&mut self, by: Option<Arc<By>>) {
        self.by = by;
    }

    /// Where the batch stands now, for [`Tx::rollback`]. An earlier mark is void from here on.
    pub(crate) fn mark(&mut self) -> Mark {
        self.undo.clear();
        Mark { events: self.events.len() }
    }

    /// Takes back what was staged since `mark`, which must be the last one taken.
    pub(crate) fn rollback(&mut self, mark: Mark) {
        for (key, before) in self.undo.drain(..).rev() {
            match before {
                Some(staged) => self.staged.insert(key, staged),
                None => self.staged.remove(&key),
            };
        }
        self.events.truncate(mark.events);
    }

    /// Whether nothing has been staged.
    pub(crate) fn is_empty(&self) -> bool {
        self.staged.is_empty() && self.events.is_empty()
    }

    /// How many rows and events have been staged, to end a batch before it is too large.
    pub(crate) fn len(&self) -> usize {
        self.staged.len() + self.events.len()
    }

    pub(super) fn finish(self) -> Batch {
        Batch {
            number: self.before.number + 1,
            seq_before: self.before.seq,
            events: self.events,
            changes: Arc::new(self.staged),
            large: self.large,
        }
    }

    fn position(&self) -> Position {
        let count = u64::try_from(self.events.len()).unwrap_or(u64::MAX);
        Position { number: self.before.number + 1, seq: self.before.seq.saturating_add(count) }
    }

    fn stage(&mut self, key: KeyBytes, value: Option<Value>) {
        let before = self.staged.insert(key.clone(), value);
        self.undo.push((key, before));
    }
}
