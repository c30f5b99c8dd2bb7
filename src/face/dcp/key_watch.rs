//! Subscriptions that an API key has opened, and that end with it.

use std::future::ready;
use std::sync::Arc;

use futures_util::stream::{StreamExt, iter, once, select};
use serde_json::json;
use serde_json::value::to_raw_value;

use super::api_key;
use super::identity::key_presented;
use super::unauthenticated;
use crate::Result;
use crate::app::{App, Cx};
use crate::method::{Items, Note};
use crate::model::address::Address;
use crate::store::{Follower, KEYSTORE_KEYS, Next};

/// The items for as long as the API key counts that was presented for them, if one was; the last one
/// then says why there are no more.
///
/// # Errors
/// 401 when it does not count any more already; storage errors.
pub(super) fn while_key_counts(
    cx: &Cx,
    auth: Option<&str>,
    owner: Address,
    mut items: Items,
) -> Result<Items> {
    let Some(key) = key_presented(cx, auth) else { return Ok(items) };
    let app = Arc::clone(&cx.app);
    // In this order no revocation falls between.
    let follower = app.store.follow(None)?;
    if !counts(&app, &key)? {
        return Err(unauthenticated());
    }
    let ended = json!({ "ended": { "reason": "the credentials were revoked" } });
    let ended = to_raw_value(&ended).ok().map(Note::Item);
    let revoked = once(until_revoked(app, follower, key, api_key::subject(owner)));
    let ending = revoked.flat_map(move |()| iter([ended.clone(), None]));
    let notes = items.notes.map(Some).chain(once(ready(None)));
    let notes = select(notes, ending).take_while(|note| ready(note.is_some()));
    items.notes = notes.filter_map(ready).boxed();
    Ok(items)
}

fn counts(app: &App, key: &[u8; 32]) -> Result<bool> {
    Ok(app.store.get(KEYSTORE_KEYS, key)?.is_some())
}

async fn until_revoked(app: Arc<App>, mut follower: Follower, key: [u8; 32], subject: String) {
    loop {
        let page = follower.next().await;
        let concerned = match page {
            Next::Events(page) => page.iter().any(|event| event.subject == subject),
            Next::Lagged => true,
            // The coordinator stops, and everything else with it.
            Next::Closed => std::future::pending().await,
        };
        if !concerned {
            continue;
        }
        match app.store.follow(None) {
            Ok(newer) => follower = newer,
            Err(_) => std::future::pending().await,
        }
        match counts(&app, &key) {
            Ok(true) => {}
            Ok(false) => return,
            Err(err) => {
                tracing::error!(error = %err, "an API key cannot be read");
                return;
            }
        }
    }
}
