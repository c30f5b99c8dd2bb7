//! `runner`: runs jobs for a coordinator elsewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ArgMatches;
use tokio::sync::{Semaphore, oneshot};

use super::exit::{Exit, Failure, Result};
use super::peer::{self, WS_URL, trust};
use super::serve::{Signals, log};
use super::{output, settings};
use crate::access::signing_key;
use crate::model::Millis;
use crate::runner::Executors;
use crate::runner::agent::{Agent, Ended, SCRIPT_TYPES, Settings};
use crate::runner::executor::Limits;
use crate::runner::link::{LinkError, Proof, WebSocket};

/// `muster runner`.
pub(super) fn run(matches: &ArgMatches) -> Result {
    let config = settings::load(matches)?.config;
    log(&config)?;
    let need = |name: &str| {
        let given = matches.get_one::<u32>(name).copied();
        given.ok_or_else(|| Failure::usage(format!("--{name} is needed to run jobs")))
    };
    let settings = Settings {
        context_id: need("context")?,
        runner_id: need("id")?,
        script_types: script_types(matches),
        slots: matches.get_one::<u32>("slots").copied().unwrap_or(1),
        labels: labels(matches)?,
        drain_limit: config.drain_timeout,
        now: clock,
    };
    let url = matches.get_one::<String>("url").map_or(WS_URL, String::as_str);
    if !["ws://", "wss://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(Failure::usage(format!("{url}: must begin with ws:// or wss://")));
    }
    let permits = usize::try_from(settings.slots).unwrap_or(Semaphore::MAX_PERMITS);
    let executors = Arc::new(Executors::new(&Limits::default(), None));
    let who = format!("runner {}/{} for {url}", settings.context_id, settings.runner_id);
    let link = WebSocket::new(url).trusting(trust(matches)?).proving(proof(matches)?);
    let agent = Agent::new(link, settings, executors, Arc::new(Semaphore::new(permits)));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    output::note(&who);
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
    Ok(Proof::Key(key))
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

fn script_types(matches: &ArgMatches) -> Vec<&'static str> {
    let Some(wanted) = matches.get_many::<String>("script_types") else {
        return SCRIPT_TYPES.to_vec();
    };
    let wanted: Vec<&String> = wanted.collect();
    SCRIPT_TYPES.into_iter().filter(|known| wanted.iter().any(|word| word == known)).collect()
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
