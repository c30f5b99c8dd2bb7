//! This node's own advertisement: made, signed, published and kept fresh.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::advertisement::{SIGNATURE, signed_bytes};
use super::instant;
use super::put::Put;
use crate::app::{App, Caller, Cx};
use crate::config::OwnAdvertisement;
use crate::identity::json::DEPTH;
use crate::identity::{Json, NodeKey, signature};
use crate::method::Method;
use crate::model::Millis;
use crate::{Error, Result};

/// How long to wait before the next try when an advertisement was not taken.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Makes and signs an advertisement.
///
/// # Errors
/// [`Error::Bug`] when it is not JSON.
pub fn make(
    key: &NodeKey,
    own: &OwnAdvertisement,
    sequence: u64,
    now: Millis,
) -> Result<Box<RawValue>> {
    let bug = |err: &dyn std::fmt::Display| Error::Bug(err.to_string());
    let endpoint = |(priority, url): (usize, &String)| {
        json!({
            "endpoint/url": url, "endpoint/transport": "wss", "endpoint/role": "listener",
            "endpoint/priority": priority,
        })
    };
    let endpoints: Vec<Value> = own.endpoints.iter().enumerate().map(endpoint).collect();
    let lifetime = Millis::try_from(own.lifetime.as_millis()).unwrap_or(Millis::MAX);
    let mut statement = json!({
        "schema/v": 1,
        "advertisement/id": format!("adv:{}", uuid::Uuid::now_v7()),
        "node/id": key.node_id(),
        "sequence/no": sequence,
        "advertised-at": instant::written(now),
        "expires-at": instant::written(now.saturating_add(lifetime)),
        "key/alg": "ed25519",
        "key/public": key.public().multibase(),
        "endpoints": endpoints,
        "transports/supported": ["wss"],
    });
    if let Some(federation) = &own.federation {
        insert(&mut statement, "federation/id", federation.as_str().into());
    }
    let read = Json::read(statement.to_string().as_bytes(), DEPTH).map_err(|err| bug(&err))?;
    let value = signature::to_text(&key.sign(&signed_bytes(&read)));
    insert(&mut statement, SIGNATURE, json!({ "alg": "ed25519", "value": value }));
    to_raw_value(&statement).map_err(|err| bug(&err))
}

fn insert(statement: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = statement {
        members.insert(name.to_owned(), value);
    }
}

/// Publishes this node's own advertisement, and again after a third of its lifetime, until the
/// coordinator stops; does nothing where no endpoint is configured.
pub async fn keep_fresh(app: Arc<App>) {
    let own = &app.config.directory.own;
    if own.endpoints.is_empty() {
        return;
    }
    let mut stopping = app.stopping.subscribe();
    // The clock counts on over restarts, and so do the numbers.
    let mut sequence = (app.now)();
    loop {
        sequence = sequence.max((app.now)());
        let wait = match publish(&app, sequence).await {
            Ok(()) => refresh_after(own.lifetime),
            Err(Error::Refused(refusal)) => {
                let current = refusal.body.get("current/sequence-no").and_then(Value::as_u64);
                let reason = refusal.body.get("reason").and_then(Value::as_str);
                tracing::warn!(reason, "this node's advertisement was refused");
                match current {
                    Some(current) if current < u64::MAX => {
                        sequence = current;
                        Duration::from_secs(1)
                    }
                    _ => TRY_AGAIN.min(refresh_after(own.lifetime)),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "this node's advertisement was not published");
                TRY_AGAIN.min(refresh_after(own.lifetime))
            }
        };
        sequence = sequence.saturating_add(1);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

/// A third of the lifetime, give or take a tenth of that, so that nodes do not march in step.
fn refresh_after(lifetime: Duration) -> Duration {
    (lifetime / 3).mul_f64(0.9 + 0.2 * fastrand::f64())
}

async fn publish(app: &Arc<App>, sequence: u64) -> Result<()> {
    let statement = make(&app.node, &app.config.directory.own, sequence, (app.now)())?;
    let cx = Cx::inside(Arc::clone(app), Caller::Anonymous);
    Put::new(statement).call(cx).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::advertisement::Statement;
    use super::*;
    use crate::config::Directory;

    #[test]
    fn what_is_made_is_accepted() {
        let key = NodeKey::generate().unwrap();
        let own = OwnAdvertisement {
            endpoints: vec!["wss://a.example/x".to_owned(), "wss://b.example".to_owned()],
            lifetime: Duration::from_secs(600),
            federation: Some("fed:a".to_owned()),
        };
        let now = 1_900_000_000_123;
        let text = make(&key, &own, 7, now).unwrap();
        let rules = Directory::default();
        let read = Statement::read(text.get().as_bytes(), &mut None, &rules).unwrap();
        read.check_time(now, &rules).unwrap();
        assert_eq!((read.sequence, read.federation.as_deref()), (7, Some("fed:a")));
        for _ in 0..100 {
            let wait = refresh_after(own.lifetime).as_secs();
            assert!((180..=220).contains(&wait), "{wait}");
        }
    }
}
