//! The tree of commands and their arguments.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, ValueHint};
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, value_parser};
use clap_complete::Shell;

use super::arguments::{
    ca, credentials, flow_path, id, json, switch, timeout, url, with, with_settings,
};
use super::exit::{Failure, Result};
use super::methods;
use crate::face;
use crate::model::slices::{GROUPS, PUBLIC_GROUP, is_group};

const AFTER: &str = "\
Every method of the interface is a command too, such as `muster job load --context-id 1
--caller-id 2 --id 3`; `muster methods` lists them.

Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 denied, 5 conflict, 6 unreachable, 7 time-out,
8 job or flow failed.";

/// Which namespaces' methods need their arguments: working them out takes schemas, which a start
/// of the coordinator has no time for.
#[derive(Debug, Default)]
pub(super) struct Asked(Vec<String>);

impl Asked {
    /// The namespaces that the arguments name.
    pub(super) fn of(args: &[OsString]) -> Self {
        let words = args.iter().skip(1).take(2).filter_map(|word| word.to_str());
        let known = words.filter(|word| namespaces().contains_key(word));
        Self(known.map(str::to_owned).collect())
    }

    fn everything() -> Self {
        Self(namespaces().into_keys().map(str::to_owned).collect())
    }
}

/// The methods that are commands, by namespace. Names only: costs nothing.
fn namespaces() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut spaces = BTreeMap::<_, Vec<_>>::new();
    for def in face::defs().filter(|def| methods::is_command(def)) {
        if let Some((space, _)) = def.spec.name.split_once('.') {
            spaces.entry(space).or_default().push(def.spec.name);
        }
    }
    spaces
}

/// The command tree.
pub(super) fn tree(asked: &Asked) -> Command {
    let root = Command::new("muster")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A JSON-RPC coordinator: durable flows of jobs, pushed to runners")
        .after_help(AFTER)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(credentials())
        .subcommands([serve(), run(), runner(), flow(), call(), watch(), list(), openrpc()])
        .subcommands([config(), backup(), restore(), maintain(), measure(), completion()])
        .subcommands([token(), super::key::command(), super::adv::command()]);
    namespaces().into_iter().fold(root, |root, (space, names)| {
        let own = root.find_subcommand(space).is_some();
        let root = if own { root } else { root.subcommand(namespace(space)) };
        let full = asked.0.iter().any(|asked| asked == space);
        root.mut_subcommand(space, |command| methods::attach(command, &names, full))
    })
}

fn namespace(space: &'static str) -> Command {
    Command::new(space)
        .about(format!("Methods of {space}.*"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .hide(true)
}

/// Prints a completion script.
pub(super) fn completions(matches: &ArgMatches) -> Result {
    let shell = matches.get_one::<Shell>("shell").copied();
    let shell = shell.ok_or_else(|| Failure::usage("name a shell"))?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut tree(&Asked::everything()), "muster", &mut script);
    super::output::line(&String::from_utf8_lossy(&script))
}

fn serve() -> Command {
    with_settings(Command::new("serve").about("Runs the coordinator"))
}

fn run() -> Command {
    let command = Command::new("run")
        .about("Runs a flow file on the spot, with a coordinator and a runner of its own")
        .arg(flow_path())
        .arg(json());
    with_settings(command)
}

fn runner() -> Command {
    let command = Command::new("runner")
        .about("Runs jobs for a coordinator; or calls a method of runner.*")
        .args_conflicts_with_subcommands(true)
        .args([url("ws://127.0.0.1:9653"), ca()])
        .arg(id("context", "The context whose jobs it runs"))
        .arg(
            Arg::new("group")
                .long("group")
                .value_name("GROUP")
                .conflicts_with("context")
                .value_parser(group)
                .help("The compute group whose work functions it calls: public, or its number"),
        )
        .arg(id("id", "The runner it is, as created by runner.create"))
        .args(joining())
        .arg(
            Arg::new("key")
                .long("key")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::FilePath)
                .help(
                    "Signs in as the runner with this ed25519 key: a seed of 64 hexadecimal digits",
                ),
        )
        .arg(
            Arg::new("slots")
                .long("slots")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..=1_024))
                .default_value("1")
                .help("Jobs to work on at once"),
        )
        .arg(
            Arg::new("script_types")
                .long("script-types")
                .value_name("TYPES")
                .value_delimiter(',')
                .value_parser(PossibleValuesParser::new([
                    "Osis",
                    "Sal",
                    "V",
                    "Python",
                    "JavaScript",
                ]))
                .help("Languages to accept, separated by commas; all of them unless said"),
        )
        .arg(
            Arg::new("labels")
                .long("label")
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .help("A label to attach with; may be repeated"),
        );
    with(command, &["drain_timeout", "js_memory", "log_format", "log_level"])
}

/// What a runner of compute groups says besides.
fn joining() -> [Arg; 3] {
    [
        Arg::new("join")
            .long("join")
            .value_name("KEY:SECRET")
            .action(ArgAction::Append)
            .conflicts_with("context")
            .help(
                "Serves the compute group of this key instead of the public one, which is `public:`; \
                 may be repeated. Others on this machine can see it: better one per line in \
                 MUSTER_JOIN or a file",
            ),
        Arg::new("join_file")
            .long("join-file")
            .value_name("FILE")
            .conflicts_with("context")
            .value_parser(value_parser!(PathBuf))
            .value_hint(ValueHint::FilePath)
            .help("The same, one KEY:SECRET per line"),
        Arg::new("capabilities")
            .long("capabilities")
            .value_name("JSON")
            .help("What it is able to besides what it finds out itself: nested booleans"),
    ]
}

fn group(name: &str) -> Result<u32, String> {
    if name == "public" {
        return Ok(PUBLIC_GROUP);
    }
    let number = name.parse().ok().filter(|number| is_group(*number));
    number.ok_or_else(|| format!("must be public, or {} to {}", GROUPS.start(), GROUPS.end()))
}

fn flow() -> Command {
    let submit = Command::new("submit")
        .about("Stores and starts the flow of a flow file")
        .arg(flow_path())
        .arg(switch("wait", "Wait until it has ended, with progress; exit code 8 when it failed"))
        .arg(switch("prepare", "Create the context, the actor and a local runner where missing"))
        .arg(
            Arg::new("idempotency_key")
                .long("idempotency-key")
                .value_name("KEY")
                .help("The same key again starts nothing and answers with the first flow"),
        )
        .args([url("http://127.0.0.1:9652"), ca(), timeout(), json()]);
    Command::new("flow")
        .about("Submits flow files; or calls a method of flow.*")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(submit)
}

fn token() -> Command {
    let name = || {
        Arg::new("name").value_name("NAME").required_unless_present("name_flag").help("Its name")
    };
    let flag = || {
        Arg::new("name_flag")
            .long("name")
            .value_name("NAME")
            .conflicts_with("name")
            .help("The same")
    };
    let command = |name: &'static str, about: &'static str| {
        let command = Command::new(name).about(about);
        with(command.args([url("http://127.0.0.1:9652"), ca(), timeout(), json()]), &["data_dir"])
    };
    let create = "Creates a token and prints it: it is not shown again";
    Command::new("token")
        .about("Operators' tokens, of a data directory or of a running coordinator")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(command("create", create).args([name(), flag()]))
        .subcommand(command("list", "Lists tokens by name"))
        .subcommand(command("revoke", "Revokes a token, at once").args([name(), flag()]))
}

fn call() -> Command {
    Command::new("call")
        .about("Calls any method, and prints its result")
        .arg(
            Arg::new("method")
                .value_name("METHOD")
                .required(true)
                .help("Its name, such as flow.load; see `muster methods`"),
        )
        .arg(
            Arg::new("params")
                .value_name("PARAMS")
                .help("JSON, by name or by position; @FILE or @- reads it"),
        )
        .args([url("http://127.0.0.1:9652"), ca(), timeout(), json()])
}

fn watch() -> Command {
    let text = |name: &'static str, value, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let objects = ["flow", "job", "messages"];
    Command::new("watch")
        .about("Prints events as they happen")
        .arg(
            text("flow", "CONTEXT/ID", "A flow and its jobs")
                .conflicts_with_all(["job", "messages"]),
        )
        .arg(text("job", "CONTEXT/CALLER/ID", "One job").conflicts_with("messages"))
        .arg(text("messages", "CONTEXT[/CALLER]", "Messages of a context"))
        .arg(switch("logs", "The job's log lines too").requires("job"))
        .arg(id("context", "Only this context's events").conflicts_with_all(objects))
        .arg(
            text("kind", "KIND", "Only this kind, such as job.status or flow.*; may be repeated")
                .action(ArgAction::Append)
                .conflicts_with_all(objects),
        )
        .arg(
            text("subject", "PATH", "Only this and what is below it, such as job/1/42")
                .conflicts_with_all(objects),
        )
        .arg(
            text("since", "SEQ", "First what happened after this number")
                .value_parser(value_parser!(u64)),
        )
        .arg(switch("until-done", "End when the flow or job has ended; exit code 8 when it failed"))
        .args([url("ws://127.0.0.1:9653"), ca(), timeout(), json()])
}

fn list() -> Command {
    Command::new("methods").about("Lists the methods of the interface").arg(json())
}

fn openrpc() -> Command {
    Command::new("openrpc").about("Prints the OpenRPC document").arg(
        Arg::new("profile")
            .long("profile")
            .value_name("NAME")
            .value_parser(PossibleValuesParser::new(["codegen"]))
            .help("The rendering for client generators"),
    )
}

fn config() -> Command {
    let command = Command::new("config")
        .about("Prints the configuration that applies, and where each value comes from")
        .arg(json());
    with_settings(command)
}

fn backup() -> Command {
    Command::new("backup")
        .about("Writes a backup of a running coordinator")
        .arg(
            Arg::new("path")
                .value_name("PATH")
                .required(true)
                .help("File, relative to the coordinator's backup directory"),
        )
        .args([url("http://127.0.0.1:9652"), ca(), timeout(), json()])
}

fn restore() -> Command {
    let file = Arg::new("file").value_name("FILE").required(true).help("What a backup wrote");
    let command = Command::new("restore")
        .about("Reads a backup into an empty data directory")
        .arg(file.value_parser(value_parser!(PathBuf)).value_hint(ValueHint::FilePath))
        .arg(json());
    with(command, &["data_dir"])
}

fn maintain() -> Command {
    let offline = |name: &'static str, about: &'static str| {
        with(Command::new(name).about(about).arg(json()), &["data_dir"])
    };
    let from = Arg::new("from")
        .long("from")
        .value_name("BACKUP")
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
        .help("Begin with this backup, when the journal does not go back to the beginning");
    Command::new("db")
        .about("Looks after a data directory that no coordinator is using")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(offline("check", "Proves that journal, state and indexes agree"))
        .subcommand(offline("compact", "Gives unused space back"))
        .subcommand(offline("rebuild", "Makes the state anew from what the journal has").arg(from))
}

fn measure() -> Command {
    crate::bench::Options::command()
}

fn completion() -> Command {
    Command::new("completions")
        .about("Prints a completion script for a shell")
        .arg(Arg::new("shell").required(true).value_parser(value_parser!(Shell)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SETTINGS;

    #[test]
    fn the_tree_is_sound() {
        tree(&Asked::everything()).debug_assert();
        tree(&Asked::default()).debug_assert();
    }

    #[test]
    fn arguments_are_worked_out_only_for_the_namespace_that_is_asked_for() {
        let asked =
            |words: &str| Asked::of(&words.split(' ').map(OsString::from).collect::<Vec<_>>()).0;
        assert_eq!(asked("muster rpc discover"), ["rpc"]);
        assert_eq!(asked("muster help rpc"), ["rpc"]);
        assert!(asked("muster serve --local-runner").is_empty());
    }

    #[test]
    fn every_setting_is_a_flag_of_serve() {
        let root = tree(&Asked::default());
        let serve = root.find_subcommand("serve").unwrap();
        for setting in SETTINGS {
            assert!(serve.get_arguments().any(|arg| arg.get_long() == Some(&*setting.flag())));
        }
    }
}
