//! `watch`: prints events as they happen, over lost connections.

use std::time::Duration;

use clap::ArgMatches;
use futures_util::stream::StreamExt;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::exit::{Exit, Failure, Result};
use super::peer::{Address, Peer};
use super::{block_on, output};

/// The pause before the first attempt to connect again; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// So many attempts in a row bridge about a minute.
const ATTEMPTS: u32 = 16;
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is watched.
#[derive(Debug)]
pub(super) struct Feed {
    method: &'static str,
    params: Map<String, Value>,
    /// The subject whose end is waited for.
    subject: Option<String>,
}

/// What is to be done after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Wait for the next one.
    GoOn,
    /// That was it.
    Stop,
}

/// `muster watch`.
pub(super) fn watch(matches: &ArgMatches) -> Result {
    let feed = Feed::of(matches)?;
    let address = Address::of(matches)?;
    let json = matches.get_flag("json");
    let until_done = matches.get_flag("until-done");
    if until_done && feed.subject.is_none() {
        return Err(Failure::usage("--until-done needs --flow or --job"));
    }
    let since = matches.get_one::<u64>("since").copied();
    block_on(async {
        let follow = feed.follow(&address, since, |event| {
            let line = if json { event.to_string() } else { human(event) };
            output::line(&line)?;
            match ended(event, feed.subject.as_deref()).filter(|_| until_done) {
                None => Ok(After::GoOn),
                Some(true) => Ok(After::Stop),
                Some(false) => Err(Failure::new(Exit::WorkFailed, "")),
            }
        });
        tokio::select! {
            done = follow => done,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })
}

/// Whether the subject ended with this event, and if so, whether well.
fn ended(event: &Value, subject: Option<&str>) -> Option<bool> {
    let kind = event.get("kind")?.as_str()?;
    if !kind.ends_with(".status") || event.get("subject")?.as_str() != subject {
        return None;
    }
    match event.get("data")?.get("to")?.as_str()? {
        "Finished" => Some(true),
        "Error" => Some(false),
        _ => None,
    }
}

/// An event as one line.
pub(super) fn human(event: &Value) -> String {
    let text = |name: &str| output::scalar(name, event.get(name).unwrap_or(&Value::Null));
    let time = text("at");
    let time = time.split_once('T').map_or(time.as_str(), |(_, time)| time.trim_end_matches('Z'));
    let data = event.get("data").and_then(Value::as_object);
    let member = |name: &str| data.and_then(|data| data.get(name));
    let change = match (member("from"), member("to")) {
        (Some(from), Some(to)) => {
            format!("{} → {}", output::scalar("", from), output::scalar("", to))
        }
        (None, Some(to)) => output::scalar("", to),
        _ => String::new(),
    };
    // Of an object that was created, what its subject says already and what is nested is left out.
    let told = |key: &str| {
        let stamp = key.ends_with("_at") && change.is_empty();
        stamp || matches!(key, "from" | "to" | "id" | "caller_id" | "context_id" | "script")
    };
    let rest = data
        .into_iter()
        .flatten()
        .filter(|(key, value)| !told(key) && !value.is_object() && !value.is_array());
    let rest = rest.map(|(key, value)| format!("{key}={}", output::scalar(key, value)));
    let rest = rest.collect::<Vec<_>>().join(" ");
    let line = format!(
        "{:>6}  {time:<15}  {:<16}  {:<16}  {change} {rest}",
        text("seq"),
        text("kind"),
        text("subject")
    );
    output::clean(line.trim_end()).replace('\n', "⏎")
}

impl Feed {
    /// The flow's own events and those of its jobs.
    pub(super) fn flow(context: u32, id: u32) -> Self {
        let ids = [("context_id", context), ("id", id)];
        Self {
            method: "flow.subscribe",
            params: ids.map(|(name, id)| (name.to_owned(), id.into())).into_iter().collect(),
            subject: Some(format!("flow/{context}/{id}")),
        }
    }

    fn of(matches: &ArgMatches) -> Result<Self> {
        let text = |name: &str| matches.get_one::<String>(name);
        if let Some(path) = text("flow") {
            return match *numbers(path, "flow")? {
                [context, id] => Ok(Self::flow(context, id)),
                _ => Err(Failure::usage("--flow must be CONTEXT/ID")),
            };
        }
        let mut params = Map::new();
        let mut set = |name: &str, value: Value| params.insert(name.to_owned(), value);
        if let Some(path) = text("job") {
            let [context, caller, id] = *numbers(path, "job")? else {
                return Err(Failure::usage("--job must be CONTEXT/CALLER/ID"));
            };
            set("context_id", context.into());
            set("caller_id", caller.into());
            set("id", id.into());
            set("logs", matches.get_flag("logs").into());
            let subject = Some(format!("job/{context}/{caller}/{id}"));
            return Ok(Self { method: "job.subscribe", params, subject });
        }
        if let Some(path) = text("messages") {
            match *numbers(path, "messages")? {
                [context] => {
                    set("context_id", context.into());
                }
                [context, caller] => {
                    set("context_id", context.into());
                    set("caller_id", caller.into());
                }
                _ => return Err(Failure::usage("--messages must be CONTEXT or CONTEXT/CALLER")),
            }
            return Ok(Self { method: "message.subscribe", params, subject: None });
        }
        if let Some(context) = matches.get_one::<u32>("context") {
            set("context_id", (*context).into());
        }
        if let Some(kinds) = matches.get_many::<String>("kind") {
            set("kinds", kinds.map(String::as_str).collect());
        }
        if let Some(subject) = text("subject") {
            set("subject", subject.as_str().into());
        }
        Ok(Self { method: "events.subscribe", params, subject: None })
    }

    /// Hands every event to `visit` until it says stop. A connection that is lost, or a
    /// subscription that fell behind, is opened again where it ended.
    pub(super) async fn follow(
        &self,
        address: &Address,
        since: Option<u64>,
        mut visit: impl FnMut(&Value) -> Result<After>,
    ) -> Result {
        let peer = address.connect_for_push().await?;
        // Known before anything is missed: "from now on" would be another now after a reconnect.
        let mut since = match since {
            Some(since) => since,
            None => latest(&peer).await?,
        };
        let mut peer = Some(peer);
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let outcome = self.once(address, peer.take(), &mut since, &mut visit).await;
            let cause = match outcome {
                Ok(After::Stop) => return Ok(()),
                Ok(After::GoOn) => None,
                Err(err) if err.exit == Exit::Unreachable => Some(err),
                Err(err) => return Err(err),
            };
            failures = if begun.elapsed() > LONGEST_PAUSE { 1 } else { failures + 1 };
            if failures > ATTEMPTS {
                let lost = || Failure::new(Exit::Unreachable, "the subscription keeps ending");
                return Err(cause.unwrap_or_else(lost));
            }
            if failures == 2 {
                output::note(&format!("connection lost after event {since}, trying again"));
            }
            let doubled = FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(5));
            tokio::time::sleep(doubled.min(LONGEST_PAUSE)).await;
        }
    }

    /// One connection's worth; says to go on when it ended without `visit` having said stop.
    async fn once(
        &self,
        address: &Address,
        peer: Option<Peer>,
        since: &mut u64,
        visit: &mut impl FnMut(&Value) -> Result<After>,
    ) -> Result<After> {
        let peer = match peer {
            Some(peer) => peer,
            None => address.connect_for_push().await?,
        };
        let mut events = peer.subscribe(self.method, self.params(*since)).await?;
        while let Some(event) = events.next().await {
            if event.get("lagged").is_some() {
                break;
            }
            *since = event.get("seq").and_then(Value::as_u64).unwrap_or(*since);
            if visit(&event)? == After::Stop {
                return Ok(After::Stop);
            }
        }
        Ok(After::GoOn)
    }

    /// The params of the subscription, from `since` on.
    pub(super) fn params(&self, since: u64) -> Value {
        let mut params = self.params.clone();
        params.insert("since".to_owned(), since.into());
        Value::Object(params)
    }
}

/// The number of the last event.
pub(super) async fn latest(peer: &Peer) -> Result<u64> {
    let page = peer.call("events.list", json!({ "limit": 1 })).await?;
    let latest = page.get("latest").and_then(Value::as_u64);
    latest.ok_or_else(|| Failure::failed("events.list does not name the latest event"))
}

fn numbers(path: &str, flag: &str) -> Result<Box<[u32]>> {
    let parts = path.split('/').map(str::parse::<u32>).collect::<Result<_, _>>();
    parts.map_err(|_| Failure::usage(format!("--{flag}: ids separated by slashes, not `{path}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = json!({
            "seq": 7, "at": 1_700_000_000_500_u64, "kind": "job.status", "context_id": 1, "subject": "job/1/42/3",
            "data": { "from": "Started", "to": "Error", "attempt": 2, "reason": "a\nb" }
        });
        assert_eq!(
            human(&event),
            "     7  22:13:20.5       job.status        job/1/42/3        \
             Started → Error attempt=2 reason=a⏎b"
        );
    }

    #[test]
    fn the_end_of_a_subject_is_its_own_status() {
        let event = |subject: &str, to: &str| json!({ "kind": "flow.status", "subject": subject, "data": { "to": to } });
        assert_eq!(ended(&event("flow/1/7", "Finished"), Some("flow/1/7")), Some(true));
        assert_eq!(ended(&event("flow/1/7", "Error"), Some("flow/1/7")), Some(false));
        assert_eq!(ended(&event("flow/1/7", "Started"), Some("flow/1/7")), None);
        assert_eq!(ended(&event("flow/1/8", "Finished"), Some("flow/1/7")), None);
    }

    #[test]
    fn paths_of_ids_are_checked() {
        assert_eq!(*numbers("1/42/3", "job").unwrap(), [1, 42, 3]);
        assert!(numbers("1/x", "flow").is_err());
        assert!(numbers("1/", "flow").is_err());
    }
}
