//! `adv publish`: signs this node's own advertisement and sends it to a directory.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::arguments::{ca, json, switch, timeout, url, with};
use super::exit::{Failure, Result};
use super::peer::{Address, HTTP_URL};
use super::{block_on, output, settings};
use crate::face::adv::own;
use crate::identity::NodeKey;

/// Its command.
pub(super) fn command() -> Command {
    let publish = Command::new("publish")
        .about("Signs this node's advertisement and publishes it")
        .arg(
            Arg::new("endpoint")
                .long("endpoint")
                .value_name("URL")
                .action(ArgAction::Append)
                .help("Where the node listens, wss://…; may be repeated, the preferred one first"),
        )
        .arg(
            Arg::new("sequence")
                .long("sequence")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .help("The number of the statement [default: milliseconds since 1970]"),
        )
        .arg(switch("print", "Print the signed advertisement and send it nowhere"))
        .args([url(HTTP_URL), ca(), timeout(), json()]);
    let settings = ["data_dir", "adv_endpoints", "adv_lifetime", "adv_federation"];
    Command::new("adv")
        .about("Publishes in a directory; or calls a method of adv.*")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with(publish, &settings))
}

/// `muster adv publish`.
pub(super) fn publish(matches: &ArgMatches) -> Result {
    let matches = matches.subcommand_matches("publish").unwrap_or(matches);
    let config = settings::load(matches)?.config;
    let key = NodeKey::load(&config.data_dir)?;
    let mut own_advertisement = config.directory.own;
    if let Some(endpoints) = matches.get_many::<String>("endpoint") {
        own_advertisement.endpoints = endpoints.cloned().collect();
    }
    if own_advertisement.endpoints.is_empty() {
        return Err(Failure::usage("name an endpoint: --endpoint wss://…"));
    }
    let now = now();
    let sequence = matches.get_one::<u64>("sequence").copied().unwrap_or(now);
    let statement = own::make(&key, &own_advertisement, sequence, now)?;
    if matches.get_flag("print") {
        return output::line(statement.get());
    }
    let address = Address::of(matches)?;
    let params = serde_json::json!({ "advertisement": statement });
    let receipt = block_on(async { address.connect().await?.call("adv.put", params).await })?;
    output::answer(&receipt, matches.get_flag("json"))
}

#[expect(clippy::disallowed_methods, reason = "there is no App whose clock could be asked")]
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let millis = since.unwrap_or(Duration::ZERO).as_millis();
    u64::try_from(millis).unwrap_or(u64::MAX)
}
