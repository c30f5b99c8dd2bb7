//! What actors may do in contexts: remembered, and forgotten when a context changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use rustc_hash::FxBuildHasher;
use tokio::sync::watch;

use crate::store::{CONTEXTS, ContextRow, Store, StoreError};

/// Contexts that are remembered at most.
const CONTEXTS_REMEMBERED: usize = 10_000;
/// Entries of their lists that are remembered at most.
const ENTRIES_REMEMBERED: usize = 1 << 20;

/// What an actor may do in a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// See what is in it: readers and admins.
    Reader,
    /// Run its jobs and report on them: executors and admins.
    Executor,
    /// Change everything in it: admins.
    Admin,
    /// Any of these.
    Member,
}

/// Who may do what, context by context.
#[derive(Debug)]
pub struct Roles {
    store: Arc<Store>,
    known: Arc<Known>,
}

#[derive(Debug)]
struct Known {
    lists: RwLock<Lists>,
    /// Grows with each change of any context.
    version: AtomicU64,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Lists {
    contexts: HashMap<u32, Arc<Members>, FxBuildHasher>,
    entries: usize,
}

/// The lists of a context, sorted.
#[derive(Debug)]
struct Members {
    admins: Box<[u32]>,
    readers: Box<[u32]>,
    executors: Box<[u32]>,
}

impl Roles {
    /// Follows the contexts of a store.
    pub(super) fn new(store: &Arc<Store>) -> Self {
        let known = Arc::new(Known {
            lists: RwLock::default(),
            version: AtomicU64::new(1),
            changed: watch::Sender::new(1),
        });
        let told = Arc::clone(&known);
        store.watch(CONTEXTS, move |context, _| told.forget(context));
        Self { store: Arc::clone(store), known }
    }

    /// Whether the actor may do that in the context; nobody may in one that does not exist.
    ///
    /// # Errors
    /// Storage errors.
    pub fn permit(&self, actor: u32, role: Role, context: u32) -> Result<bool, StoreError> {
        let held = self.known.lists.read().contexts.get(&context).cloned();
        let members = match held {
            Some(members) => members,
            None => {
                // What changes while it is read must not be remembered.
                let version = self.version();
                let Some(row) = self.store.get(CONTEXTS, &context)? else { return Ok(false) };
                let members = Arc::new(Members::new(row));
                self.known.remember(context, &members, version);
                members
            }
        };
        Ok(members.permit(actor, role))
    }

    /// A number that grows with each change of any context.
    pub(super) fn version(&self) -> u64 {
        self.known.version.load(Ordering::Acquire)
    }

    /// Tells of each change.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.known.changed.subscribe()
    }
}

impl Known {
    fn forget(&self, context: u32) {
        let mut lists = self.lists.write();
        let version = self.version.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(members) = lists.contexts.remove(&context) {
            lists.entries = lists.entries.saturating_sub(members.len());
        }
        drop(lists);
        self.changed.send_replace(version);
    }

    fn remember(&self, context: u32, members: &Arc<Members>, version: u64) {
        let mut lists = self.lists.write();
        if self.version.load(Ordering::Acquire) != version {
            return;
        }
        let full = lists.contexts.len() >= CONTEXTS_REMEMBERED
            || lists.entries.saturating_add(members.len()) > ENTRIES_REMEMBERED;
        if full {
            *lists = Lists::default();
        }
        if lists.contexts.insert(context, Arc::clone(members)).is_none() {
            lists.entries += members.len();
        }
    }
}

impl Members {
    fn new(row: ContextRow) -> Self {
        let sorted = |mut list: Vec<u32>| {
            list.sort_unstable();
            list.into_boxed_slice()
        };
        Self {
            admins: sorted(row.admins),
            readers: sorted(row.readers),
            executors: sorted(row.executors),
        }
    }

    fn len(&self) -> usize {
        self.admins.len() + self.readers.len() + self.executors.len()
    }

    fn permit(&self, actor: u32, role: Role) -> bool {
        let is_in = |list: &[u32]| list.binary_search(&actor).is_ok();
        is_in(&self.admins)
            || match role {
                Role::Admin => false,
                Role::Reader => is_in(&self.readers),
                Role::Executor => is_in(&self.executors),
                Role::Member => is_in(&self.readers) || is_in(&self.executors),
            }
    }
}

impl ContextRow {
    /// Whether the actor is on one of its lists.
    pub fn names(&self, actor: u32) -> bool {
        [&self.admins, &self.readers, &self.executors].iter().any(|list| list.contains(&actor))
    }
}
