//! Whether what was read outside the engine still holds inside it.
//!
//! A large plan is read and computed before the engine is asked to start it. A reader takes the
//! version of the context first; the engine compares it with the version of what has been staged.
//! A change that is staged and not yet durable makes the two differ, and the reader tries again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Contexts share counters; a collision only costs a reader another try.
const SHARDS: usize = 64;

/// The versions of what is durable.
#[derive(Clone, Debug)]
pub(super) struct Versions(Arc<[AtomicU64]>);

/// The versions of what is staged.
#[derive(Debug)]
pub(super) struct StagedVersions {
    durable: Versions,
    staged: Vec<u64>,
    changed: Vec<usize>,
}

impl Versions {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| AtomicU64::new(0)).collect())
    }

    /// The version of what is durable in the context.
    pub(super) fn of(&self, context: u32) -> u64 {
        self.0.get(shard(context)).map_or(0, |version| version.load(Ordering::Acquire))
    }

    /// Publishes what a durable batch has changed.
    pub(super) fn publish(&self, changed: &[(usize, u64)]) {
        for (shard, version) in changed {
            if let Some(published) = self.0.get(*shard) {
                published.store(*version, Ordering::Release);
            }
        }
    }
}

impl StagedVersions {
    pub(super) fn new(durable: Versions) -> Self {
        Self { durable, staged: vec![0; SHARDS], changed: Vec::new() }
    }

    pub(super) fn bump(&mut self, context: u32) {
        let shard = shard(context);
        if let Some(version) = self.staged.get_mut(shard) {
            *version = version.wrapping_add(1);
            self.changed.push(shard);
        }
    }

    pub(super) fn staged(&self, context: u32) -> u64 {
        self.staged.get(shard(context)).copied().unwrap_or_default()
    }

    /// What the batch in the making changes; to be published once it is durable.
    pub(super) fn take(&mut self) -> Vec<(usize, u64)> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        let version = |shard: &usize| self.staged.get(*shard).copied().unwrap_or_default();
        changed.iter().map(|shard| (*shard, version(shard))).collect()
    }

    /// After a failed batch: makes every plan that was read before it wrong.
    pub(super) fn reset(&mut self) {
        self.changed.clear();
        for (shard, version) in self.staged.iter_mut().enumerate() {
            *version = version.wrapping_add(1);
            self.durable.publish(&[(shard, *version)]);
        }
    }
}

fn shard(context: u32) -> usize {
    usize::try_from(context).unwrap_or_default() % SHARDS
}
