//! `flow submit FILE`: hands a flow file to a running coordinator.

use std::path::PathBuf;

use clap::ArgMatches;

use super::exit::{Failure, Result};
use super::flow_plan::Plan;
use super::peer::Address;
use super::{block_on, flow_run, output};

/// `muster flow submit FILE`.
pub(super) fn submit(matches: &ArgMatches) -> Result {
    let path = matches.subcommand_matches("submit").unwrap_or(matches);
    let matches = path;
    let file = matches.get_one::<PathBuf>("file").ok_or_else(|| Failure::usage("name a file"))?;
    let plan = Plan::read(file)?;
    let address = Address::of(matches)?;
    let json = matches.get_flag("json");
    let key = matches.get_one::<String>("idempotency_key").map(String::as_str);
    block_on(async {
        let peer = address.connect().await?;
        if matches.get_flag("prepare") {
            flow_run::prepare(&peer, &plan).await?;
        }
        let submitted = flow_run::submit(&peer, &plan, key).await.map_err(|mut failure| {
            if failure.is_not_found() && !matches.get_flag("prepare") {
                failure.message.push_str("; --prepare creates what the flow needs");
            }
            failure
        })?;
        if !matches.get_flag("wait") {
            return output::answer(&submitted.flow, json);
        }
        let wait = flow_run::wait(&address, &plan, submitted);
        tokio::select! {
            outcome = wait => flow_run::report(&plan, &outcome?, json),
            _ = tokio::signal::ctrl_c() => {
                let flow = format!("{}/{}", plan.context, plan.flow);
                Err(Failure::failed(format!("flow {flow} goes on without being watched")))
            }
        }
    })
}
