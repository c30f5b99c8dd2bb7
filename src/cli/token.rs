//! `token`: operators' tokens, of a data directory that nobody uses or of a running coordinator.

use std::path::Path;

use clap::ArgMatches;
use serde_json::{Value, json};

use super::exit::{Exit, Failure, Result};
use super::peer::Address;
use super::serve::{close, start};
use super::{block_on, output, settings};
use crate::config::Config;

/// `muster token create|list|revoke`.
pub(super) fn run(action: &str, matches: &ArgMatches) -> Result {
    let Some((_, matches)) = matches.subcommand() else {
        return Err(Failure::usage("name an action"));
    };
    let named = |id| matches.try_get_one::<String>(id).ok().flatten();
    let params = match named("name").or_else(|| named("name_flag")) {
        Some(name) => json!({ "name": name }),
        None => json!({}),
    };
    let method = format!("token.{action}");
    let config = settings::load(matches)?.config;
    let address = Address::of(matches)?;
    let answer = block_on(async {
        if address.is_named() {
            return address.connect().await?.call(&method, params).await;
        }
        match inside(config.clone(), &method, params.clone()).await {
            Err(failure) if failure.exit == Exit::Conflict && failure.code.is_none() => {
                let address = address.moved_to(running(&config.data_dir).ok_or(failure)?);
                address.connect().await?.call(&method, params).await
            }
            done => done,
        }
    })?;
    let json = matches.get_flag("json");
    match answer.get("token").and_then(Value::as_str) {
        // By itself, so that a script can take it.
        Some(token) if !json => {
            output::note("The operator's token; it is not shown again.");
            output::line(token)
        }
        _ => output::answer(&answer, json),
    }
}

/// Opens the data directory for one call, as its operator.
async fn inside(config: Config, method: &str, params: Value) -> Result<Value> {
    if method != "token.create" && !config.data_dir.is_dir() {
        let dir = config.data_dir.display();
        return Err(Failure::new(Exit::NotFound, format!("{dir}: there is no such directory")));
    }
    let app = start(config)?;
    let answer = Address::inside(app.clone()).connect().await?.call(method, params).await;
    close(&app).await;
    answer
}

/// Where the coordinator that has the directory says it can be reached.
fn running(dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(dir.join("endpoints.json")).ok()?;
    let endpoints: Value = serde_json::from_str(&text).ok()?;
    endpoints.get("http").and_then(Value::as_str).map(str::to_owned)
}
