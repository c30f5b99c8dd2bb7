//! Every valid secret, in memory: read at the start, and told of each commit.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use super::grant::{Grant, Means};
use super::principal;
use super::secret::{Secret, digest};
use crate::app::Caller;
use crate::model::Millis;
use crate::store::{
    API_KEYS, ApiKeyRow, OPERATOR_TOKENS, SESSIONS, SessionRow, Store, StoreError, TokenRow,
};

/// The first half of a digest: what rows are found by.
type Short = [u8; 16];

/// Every valid secret.
#[derive(Debug)]
pub struct Keyring {
    held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    grants: RwLock<HashMap<Short, Entry>>,
    /// Tokens that are stored.
    stored: AtomicUsize,
    /// Tokens that the configuration names.
    configured: usize,
    /// What everybody on this machine has while there is no token.
    loopback: Mutex<Arc<Grant>>,
}

#[derive(Debug)]
struct Entry {
    digest: blake3::Hash,
    grant: Arc<Grant>,
}

impl Keyring {
    /// Reads what is stored, and follows it from now on.
    pub(super) fn open(store: &Arc<Store>, configured: &[Secret]) -> Result<Self, StoreError> {
        let held = Arc::new(Held {
            grants: RwLock::default(),
            stored: AtomicUsize::new(0),
            configured: configured.len(),
            loopback: Mutex::new(of_loopback()),
        });
        for secret in configured {
            let grant = Grant::new(Caller::Operator, Means::Token, "configured", [0; 16], None);
            held.insert(secret.digest(), grant);
        }
        held.follow(store);
        store.scan(OPERATOR_TOKENS, &(), None, |key, row| {
            held.token(key, Some(row));
            ControlFlow::Continue(())
        })?;
        store.scan(SESSIONS, &(), None, |key, row| {
            held.session(key, Some(row));
            ControlFlow::Continue(())
        })?;
        store.scan(API_KEYS, &(), None, |key, row| {
            held.api_key(key, Some(row));
            ControlFlow::Continue(())
        })?;
        Ok(Self { held })
    }

    /// What a secret grants.
    pub fn look_up(&self, secret: &str, now: Millis) -> Option<Arc<Grant>> {
        let digest = digest(secret);
        let grants = self.held.grants.read();
        // Comparing digests takes constant time, though it tells nothing of the secret.
        let entry = grants.get(&short(&digest)).filter(|entry| entry.digest == digest)?;
        entry.grant.is_good(now).then(|| Arc::clone(&entry.grant))
    }

    /// What everybody on this machine has; none once there is a token.
    pub fn of_loopback(&self) -> Option<Arc<Grant>> {
        (!self.has_tokens()).then(|| Arc::clone(&self.held.loopback.lock()))
    }

    /// Whether there is an operator's token, stored or configured.
    pub fn has_tokens(&self) -> bool {
        self.held.configured > 0 || self.held.stored.load(Ordering::Acquire) > 0
    }

    /// How many tokens the configuration names.
    pub fn configured(&self) -> usize {
        self.held.configured
    }

    /// How many sessions, keys and tokens there are.
    pub fn len(&self) -> usize {
        self.held.grants.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn of_loopback() -> Arc<Grant> {
    Grant::new(Caller::Operator, Means::Loopback, "", [0; 16], None)
}

/// The first half of a digest: what the row of a secret is found by.
pub fn short(digest: &[u8; 32]) -> Short {
    digest.first_chunk().copied().unwrap_or_default()
}

impl Held {
    fn follow(self: &Arc<Self>, store: &Arc<Store>) {
        let held = Arc::clone(self);
        store.watch(OPERATOR_TOKENS, move |key, row| held.token(key, row));
        let held = Arc::clone(self);
        store.watch(SESSIONS, move |key, row| held.session(key, row));
        let held = Arc::clone(self);
        store.watch(API_KEYS, move |key, row| held.api_key(key, row));
    }

    fn token(&self, key: Short, row: Option<TokenRow>) {
        let Some(row) = row else {
            if self.remove(&key) {
                self.stored.fetch_sub(1, Ordering::AcqRel);
            }
            return;
        };
        let grant = Grant::new(Caller::Operator, Means::Token, &row.name, key, None);
        if self.insert(row.digest, grant) {
            self.stored.fetch_add(1, Ordering::AcqRel);
        }
        // Whoever was trusted for where he sits is so no longer.
        std::mem::replace(&mut *self.loopback.lock(), of_loopback()).end();
    }

    fn session(&self, key: (u8, u32, u32, Short), row: Option<SessionRow>) {
        let (kind, context, id, key) = key;
        match (row, principal::caller(kind, context, id)) {
            (Some(row), Some(caller)) => {
                let grant = Grant::new(caller, Means::Session, "", key, Some(row.expires_at));
                self.insert(row.digest, grant);
            }
            _ => {
                self.remove(&key);
            }
        }
    }

    fn api_key(&self, (actor, key): (u32, Short), row: Option<ApiKeyRow>) {
        match row {
            Some(row) => {
                let caller = Caller::Actor(actor);
                let grant = Grant::new(caller, Means::ApiKey, &row.name, key, row.expires_at);
                self.insert(row.digest, grant);
            }
            None => {
                self.remove(&key);
            }
        }
    }

    /// Whether it was not there before.
    fn insert(&self, digest: [u8; 32], grant: Arc<Grant>) -> bool {
        let entry = Entry { digest: digest.into(), grant };
        let before = self.grants.write().insert(short(&digest), entry);
        before.map(|before| before.grant.end()).is_none()
    }

    fn remove(&self, key: &Short) -> bool {
        let before = self.grants.write().remove(key);
        before.map(|before| before.grant.end()).is_some()
    }
}
