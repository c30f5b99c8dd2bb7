//! What is followed with an API key ends with the key.

use std::future::ready;
use std::sync::Arc;

use futures_util::stream::StreamExt;
use serde_json::json;
use serde_json::value::to_raw_value;

use super::identity::Identity;
use crate::app::App;
use crate::method::{Items, Note};
use crate::store::KEYSTORE_KEYS;

/// Items for as long as the key that proved the identity is there; the last one says why there are
/// no more. Nothing is told after a revocation; who hears nothing learns of it with the next item.
pub(super) fn while_good(app: &Arc<App>, identity: &Identity, mut items: Items) -> Items {
    let Some(key) = identity.key else { return items };
    let app = Arc::clone(app);
    let notes = items.notes.scan(false, move |ended, note| {
        if *ended {
            return ready(None);
        }
        let good = app.store.get(KEYSTORE_KEYS, &key).is_ok_and(|row| row.is_some());
        *ended = !good;
        ready(if good { Some(note) } else { farewell() })
    });
    items.notes = notes.boxed();
    items
}

fn farewell() -> Option<Note> {
    to_raw_value(&json!({ "ended": { "reason": "the API key was revoked" } })).ok().map(Note::Item)
}
