//! `runner`: runs jobs for a coordinator elsewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, oneshot};

use super::exit::{Exit, Failure, Result};
use super::peer::{self, Address, WS_URL, trust};
use super::serve::{Signals, log};
use super::{output, settings};
use crate::access::signing_key;
use crate::face::core::compute_group::JoinGroup;
use crate::model::Millis;
use crate::model::demand::demanded;
use crate::model::slices::{FunctionLanguage, PUBLIC_GROUP};
use crate::runner::Executors;
use crate::runner::agent::{Agent, Ended, SCRIPT_TYPES, Settings};
use crate::runner::executor::Limits;
use crate::runner::link::{LinkError, Proof, WebSocket};

/// For a runner of a compute group to be created.
const INTRODUCTION: Duration = Duration::from_secs(10);

/// `muster runner`.
pub(super) fn run(matches: &ArgMatches) -> Result {
    let config = settings::load(matches)?.config;
    log(&config)?;
    let need = |name: &str| {
        let given = matches.get_one::<u32>(name).copied();
        given.ok_or_else(|| Failure::usage(format!("--{name} is needed to run jobs")))
    };
    let groups = groups(matches)?;
    let joined = (!groups.is_empty()).then_some(PUBLIC_GROUP);
    let group = matches.get_one::<u32>("group").copied().or(joined);
    let (context_id, runner_id) = (group.map_or_else(|| need("context"), Ok)?, need("id")?);
    let url = matches.get_one::<String>("url").map_or(WS_URL, String::as_str);
    if !["ws://", "wss://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(Failure::usage(format!("{url}: must begin with ws:// or wss://")));
    }
    let limits = Limits { function_bytes: config.js_memory_bytes, ..Limits::default() };
    let executors = Arc::new(Executors::new(&limits, None));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (known, able) = if group.is_some() {
        let languages = runtime.block_on(executors.functions().languages());
        let able = runtime.block_on(executors.functions().capabilities());
        (languages.into_iter().map(FunctionLanguage::as_str).collect(), able)
    } else {
        (SCRIPT_TYPES.to_vec(), Map::new())
    };
    let settings = Settings {
        context_id,
        runner_id,
        script_types: script_types(matches, &known)?,
        slots: matches.get_one::<u32>("slots").copied().unwrap_or(1),
        capabilities: capabilities(matches, able)?,
        groups,
        labels: labels(matches)?,
        drain_limit: config.drain_timeout,
        now: clock,
    };
    let permits = usize::try_from(settings.slots).unwrap_or(Semaphore::MAX_PERMITS);
    let who = format!("runner {}/{} for {url}", settings.context_id, settings.runner_id);
    let link = WebSocket::new(url).trusting(trust(matches)?).proving(proof(matches)?);
    let agent = Agent::new(link, settings, executors, Arc::new(Semaphore::new(permits)));
    output::note(&who);
    if group.is_some() {
        let address =
            Address::at(url, trust(matches)?, INTRODUCTION).showing(peer::secret(matches)?);
        runtime.block_on(introduce(address, context_id, runner_id));
    }
    runtime.block_on(until_stopped(agent))
}

/// How it proves who it is: by its key, or else by a token.
fn proof(matches: &ArgMatches) -> Result<Proof> {
    let Some(path) = matches.get_one::<PathBuf>("key") else {
        return Ok(peer::secret(matches)?.map_or(Proof::Nothing, Proof::Secret));
    };
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|e| Failure::from(e).during(path.display()))?;
    let key = signing_key(&text).ok_or_else(|| {
        Failure::usage(format!("{}: must hold 64 hexadecimal digits", path.display()))
    })?;
    Ok(Proof::Key(Arc::new(key)))
}

async fn until_stopped(agent: Agent<WebSocket>) -> Result {
    let mut signals = Signals::listen()?;
    let (drain, drained) = oneshot::channel();
    let mut running = std::pin::pin!(agent.run(async {
        let _ = drained.await;
    }));
    let name = tokio::select! {
        ended = &mut running => return outcome(ended),
        name = signals.stop() => name,
    };
    output::note(&format!("{name}: finishing what is in hand"));
    let _ = drain.send(());
    tokio::select! {
        ended = running => outcome(ended),
        name = signals.stop() => Err(Failure::failed(format!("{name} again: stopped at once"))),
    }
}

fn outcome(ended: Ended) -> Result {
    match ended {
        Ended::Drained => Ok(()),
        Ended::Abandoned(count) => {
            Err(Failure::new(Exit::TimedOut, format!("{count} jobs did not end in time")))
        }
        Ended::Replaced => {
            Err(Failure::new(Exit::Conflict, "another process attached as the same runner"))
        }
        Ended::Refused(LinkError::Refused { code, message }) => {
            Err(Failure::answered(code, &message, None))
        }
        Ended::Refused(err) => Err(Failure::new(Exit::Unreachable, err.to_string())),
    }
}

/// A compute group is there without being created, and so is a runner of it, for whoever may create
/// one; else attaching says what is wrong.
async fn introduce(address: Address, context: u32, id: u32) {
    let Ok(peer) = address.connect().await else { return };
    let loaded = peer.call("runner.load", json!({ "context_id": context, "id": id })).await;
    if loaded.is_err_and(|failure| failure.is_not_found()) {
        let runner = json!({
            "id": id, "pubkey": "none", "address": "127.0.0.1", "topic": "", "local": false
        });
        let params = json!({ "context_id": context, "runner": runner });
        if let Err(failure) = peer.call("runner.create", params).await {
            output::note(&format!("runner {context}/{id} cannot be created: {}", failure.message));
        }
    }
}

/// Those of the languages known that are wanted; all of them unless said.
fn script_types(matches: &ArgMatches, known: &[&'static str]) -> Result<Vec<&'static str>> {
    let Some(wanted) = matches.get_many::<String>("script_types") else {
        return Ok(known.to_vec());
    };
    let wanted: Vec<&String> = wanted.collect();
    if let Some(unknown) = wanted.iter().find(|word| !known.contains(&word.as_str())) {
        let known = known.join(", ");
        return Err(Failure::usage(format!("--script-types {unknown}: must be of {known}")));
    }
    Ok(known.iter().copied().filter(|known| wanted.iter().any(|word| word == known)).collect())
}

/// What the built-in executors can do, and what the operator says besides.
fn capabilities(matches: &ArgMatches, mut able: Map<String, Value>) -> Result<Map<String, Value>> {
    let Some(text) = matches.get_one::<String>("capabilities") else { return Ok(able) };
    let wrong = |reason: String| Failure::usage(format!("--capabilities: {reason}"));
    let said: Map<String, Value> =
        serde_json::from_str(text).map_err(|_| wrong("must be a JSON object".to_owned()))?;
    able.extend(said);
    demanded(&able).map_err(wrong)?;
    Ok(able)
}

/// The compute groups that it serves: those of the flags, or else of the file or the environment.
fn groups(matches: &ArgMatches) -> Result<Vec<JoinGroup>> {
    let mut lines: Vec<String> =
        matches.get_many::<String>("join").into_iter().flatten().cloned().collect();
    if let Some(path) = matches.get_one::<PathBuf>("join_file") {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|e| Failure::from(e).during(path.display()))?;
        lines.extend(text.lines().map(str::to_owned));
    }
    if lines.is_empty()
        && let Ok(text) = std::env::var("MUSTER_JOIN")
    {
        lines.extend(text.lines().map(str::to_owned));
    }
    let lines = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
    let groups = lines.map(|line| {
        // The line is not repeated: there is a secret in it.
        let pair = line.split_once(':');
        let (key, secret) =
            pair.ok_or_else(|| Failure::usage("a compute group is joined by KEY:SECRET"))?;
        Ok(JoinGroup { join_key: key.to_owned(), join_secret: secret.to_owned() })
    });
    groups.collect()
}

fn labels(matches: &ArgMatches) -> Result<BTreeMap<String, String>> {
    let given = matches.get_many::<String>("labels").into_iter().flatten();
    let pairs = given.map(|label| {
        let (key, value) = label
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--label {label}: must be NAME=VALUE")))?;
        Ok((key.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

/// There is no coordinator in this process whose clock to ask.
fn clock() -> Millis {
    jiff::Timestamp::now().as_millisecond().try_into().unwrap_or_default()
}
