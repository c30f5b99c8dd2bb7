//! `run`: a flow file from start to result, with a coordinator and a runner of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use serde_json::json;

use super::exit::{Failure, Result};
use super::flow_plan::Plan;
use super::flow_run::{self, Outcome};
use super::local::LocalRunner;
use super::peer::Address;
use super::serve::{Signals, close, log, start};
use super::{output, settings};
use crate::config::{Config, Origin};

/// `muster run FILE`.
pub(super) fn run(matches: &ArgMatches) -> Result {
    let file = matches.get_one::<PathBuf>("file").ok_or_else(|| Failure::usage("name a file"))?;
    let plan = Plan::read(file)?;
    let effective = settings::load(matches)?;
    let mut config = effective.config;
    let silent = |(setting, origin): &(&crate::config::Setting, Origin)| {
        setting.key == "log_level" && *origin == Origin::Default
    };
    if effective.origins.iter().any(silent) {
        // Progress is told by its own lines.
        "warn".clone_into(&mut config.log_level);
    }
    config.local_runner = true;
    log(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(to_the_end(config, &plan));
    runtime.shutdown_timeout(Duration::from_secs(1));
    flow_run::report(&plan, &outcome?, matches.get_flag("json"))
}

async fn to_the_end(config: Config, plan: &Plan) -> Result<Outcome> {
    let limit = config.drain_timeout;
    let mut signals = Signals::listen()?;
    let app = start(config)?;
    let address = Address::inside(Arc::clone(&app));
    let peer = address.connect().await?;
    flow_run::prepare(&peer, plan).await?;
    let submitted = match flow_run::take_over(&peer, plan).await? {
        Some(submitted) => submitted,
        None => flow_run::submit(&peer, plan, None).await?,
    };
    let runner = LocalRunner::start(&app);
    let mut wait = std::pin::pin!(flow_run::wait(&address, plan, submitted));
    let outcome = tokio::select! {
        outcome = &mut wait => outcome,
        name = signals.stop() => {
            output::note(&format!("{name}: cancelling {}", plan.title));
            let reason = format!("stopped by {name}");
            let ids = json!({ "context_id": plan.context, "id": plan.flow, "reason": reason });
            peer.call("flow.cancel", ids).await?;
            tokio::select! {
                outcome = tokio::time::timeout(limit, wait) => outcome
                    .unwrap_or_else(|_| Err(Failure::failed("the flow did not end in time"))),
                name = signals.stop() => Err(Failure::failed(format!("{name} again: stopped at once"))),
            }
        }
    };
    runner.stop(limit).await;
    close(&app).await;
    outcome
}
