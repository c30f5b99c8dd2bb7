//! One turn of a web hook: a page of results is sent, and how far that went is stored.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{StreamExt, iter};

use super::webhook_page::{self, Due};
use crate::Result;
use crate::app::App;
use crate::face::core::aside::aside;
use crate::model::Millis;
use crate::model::address::Address;
use crate::outbound::Url;
use crate::store::{WEBHOOKS, WebhookRow};

/// Names a web hook: its job, and its place in the job's list.
pub(super) type Key = (Address, u32);

/// Requests to one web hook at once.
const AT_ONCE: usize = 8;
/// For one request.
const REQUEST: Duration = Duration::from_secs(10);
/// How long a result that is not taken is tried again, milliseconds.
pub(super) const PATIENCE: Millis = 3_600_000;

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// There is nothing left to send.
    Idle,
    /// There may be more.
    More,
    /// Something was not taken; it is to be tried again, but not at once.
    Failing,
}

/// Sends what comes next.
///
/// Results go out in the order of their events, a few at a time. What comes after one that is not
/// taken waits for it, but no longer than an hour.
///
/// # Errors
/// Storage errors.
pub(super) async fn turn(app: &Arc<App>, key: Key) -> Result<Ended> {
    let Some(row) = app.store.get(WEBHOOKS, &key)? else { return Ok(Ended::Idle) };
    let allowed = &app.config.compute.webhook_allow;
    // It was allowed when the job was deployed; it waits until it is again.
    let Some(url) = Url::parse(&row.url).filter(|url| allowed.contain(url.origin())) else {
        return Ok(Ended::Idle);
    };
    let (store, seq) = (Arc::clone(&app.store), row.seq);
    let page = aside(move || webhook_page::read(&store, key.0, seq)).await?;
    if page.passed == row.seq {
        return Ok(Ended::Idle);
    }
    // While nothing is taken there, one request shows whether that has changed.
    let at_once = if row.failing_since.is_some() { 1 } else { AT_ONCE };
    let sent: Vec<_> =
        page.due.iter().map(|due| send(Arc::clone(app), url.clone(), due.body.clone())).collect();
    let mut sending = iter(sent).buffered(at_once).zip(iter(&page.due));
    let (mut taken, mut untaken) = (0_u64, None);
    let mut next = WebhookRow { failing_since: None, ..row.clone() };
    while let Some((answer, due)) = sending.next().await {
        if let Err(reason) = answer {
            untaken = Some((due, reason));
            break;
        }
        taken += 1;
        next.seq = due.seq;
    }
    drop(sending);
    app.metrics.hooked("sent", taken);
    let ended = match untaken {
        None => {
            next.seq = page.passed;
            Ended::More
        }
        Some((due, reason)) => {
            app.metrics.hooked("failed", 1);
            let since = if taken == 0 { row.failing_since } else { None };
            next.failing_since = Some(since.unwrap_or((app.now)()));
            let lost = give_up(&mut next, &page.due, due.seq, (app.now)());
            app.metrics.hooked("lost", lost);
            // Not the URL, which may hold a secret.
            let (job, origin) = (key.0.to_string(), url.origin().to_string());
            if lost > 0 {
                tracing::warn!(job, origin, lost, reason, "a web hook took no results for an hour");
            } else if row.failing_since.is_none() {
                tracing::warn!(job, origin, reason, "a web hook does not take results");
            }
            Ended::Failing
        }
    };
    if next != row {
        app.engine.change(move |turn| Ok(turn.put(WEBHOOKS, &key, &next)?)).await?;
    }
    Ok(ended)
}

/// Passes over results, from the one of event `from` on, that have been there, and were not taken,
/// for too long; answers how many.
fn give_up(row: &mut WebhookRow, due: &[Due], from: u64, now: Millis) -> u64 {
    let over = |since: Millis| now.saturating_sub(since) >= PATIENCE;
    if !row.failing_since.is_some_and(over) {
        return 0;
    }
    let late = due.iter().skip_while(|due| due.seq < from).take_while(|due| over(due.at));
    let mut lost = 0;
    for due in late {
        row.seq = due.seq;
        lost += 1;
    }
    row.lost = row.lost.saturating_add(lost);
    lost
}

/// Sends one; why it was not taken.
async fn send(app: Arc<App>, url: Url, body: Bytes) -> std::result::Result<(), String> {
    use std::fmt::Write;
    let mut signature = "ed25519=".to_owned();
    for byte in app.node.sign(&body) {
        // Writing to a string does not fail.
        let _ = write!(signature, "{byte:02x}");
    }
    match app.outbound.post(&url, ("x-signature", &signature), body, REQUEST).await {
        Ok(answer) if answer.is_good() => Ok(()),
        Ok(answer) => Err(format!("answered {}", answer.status)),
        Err(err) => Err(err.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_given_up_when_they_and_the_failing_are_an_hour_old() {
        let due = |seq, at| Due { seq, at, body: Bytes::new() };
        let page = [due(3, 0), due(4, 10), due(5, 20)];
        let row = WebhookRow { seq: 2, failing_since: Some(10), ..WebhookRow::default() };
        let after = |now: Millis| {
            let mut row = row.clone();
            let lost = give_up(&mut row, &page, 3, now);
            assert_eq!(row.lost, lost);
            row.seq
        };
        assert_eq!(after(0), 2);
        assert_eq!(after(PATIENCE + 9), 2, "it has not failed for an hour");
        assert_eq!(after(PATIENCE + 10), 4);
        assert_eq!(after(PATIENCE + 20), 5);
        let mut row = row;
        assert_eq!(give_up(&mut row, &page, 4, PATIENCE + 15), 1, "what came before was taken");
        let mut fresh = WebhookRow::default();
        assert_eq!(give_up(&mut fresh, &page, 3, PATIENCE * 9), 0);
    }
}
