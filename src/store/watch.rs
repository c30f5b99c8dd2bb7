//! Those who keep something of a table in memory, and are told when it changes.

use std::fmt;
use std::ops::Bound;

use parking_lot::RwLock;

use super::batch::Batch;
use super::core::Core;
use super::{Key, Row, Table};

type Tell = Box<dyn Fn(&Core, &[u8], Option<&[u8]>) + Send + Sync>;

struct Watcher {
    tag: u8,
    tell: Tell,
}

/// Everyone who is told.
#[derive(Default)]
pub(super) struct Watchers(RwLock<Vec<Watcher>>);

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers").field("count", &self.0.read().len()).finish()
    }
}

impl Watchers {
    pub(super) fn add<K: Key + 'static, V: Row + 'static>(
        &self,
        table: Table<K, V>,
        told: impl Fn(K, Option<V>) + Send + Sync + 'static,
    ) {
        let tell = move |core: &Core, key: &[u8], value: Option<&[u8]>| {
            let read = table.parse(key).and_then(|key| {
                Ok((key, value.map(|stored| core.decode(table, stored)).transpose()?))
            });
            match read {
                Ok((key, row)) => told(key, row),
                Err(err) => tracing::error!(%err, "a committed row cannot be read back"),
            }
        };
        self.0.write().push(Watcher { tag: table.tag(), tell: Box::new(tell) });
    }

    /// Tells of what was committed.
    pub(super) fn tell(&self, core: &Core, batches: &[Batch]) {
        let watchers = self.0.read();
        for batch in batches.iter().filter(|batch| !batch.changes.is_empty()) {
            for watcher in &*watchers {
                let (from, to) = ([watcher.tag], [watcher.tag.saturating_add(1)]);
                let range = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
                for (key, value) in batch.changes.range::<[u8], _>(range) {
                    (watcher.tell)(core, key.as_slice(), value.as_deref());
                }
            }
        }
    }
}
