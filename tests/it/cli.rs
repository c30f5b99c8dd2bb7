//! The binary as people and scripts use it: commands, their output, their exit codes.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A working directory of its own, in which commands find no settings but those of the test.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        name.to_owned()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MUSTER_") {
                command.env_remove(name);
            }
        }
        command.current_dir(self.0.path()).args(args).stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Starts a coordinator and waits until it says where it is.
    pub fn serve(&self, more: &[&str]) -> Server {
        let mut args = vec!["serve", "--api-http-port", "0", "--api-ws-port", "0"];
        args.extend_from_slice(&["--log-level", "error"]);
        args.extend_from_slice(more);
        let mut child = self.command(&args).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert!(line.contains(" listening on http://"), "{line}");
        let endpoints = fs::read(self.path("muster-data/endpoints.json")).unwrap();
        let endpoints: Value = serde_json::from_slice(&endpoints).unwrap();
        let text = |name: &str| endpoints[name].as_str().unwrap().to_owned();
        Server { child, _stderr: stderr, http: text("http"), ws: text("ws") }
    }
}

pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The exit code must be this one, and stderr hold that text.
    #[track_caller]
    pub fn fails(&self, code: i32, told: &str) {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        assert!(self.err.contains(told), "{told} is not in {}", self.err);
    }

    #[track_caller]
    pub fn passes(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }
}

pub struct Server {
    child: Child,
    _stderr: BufReader<ChildStderr>,
    pub http: String,
    pub ws: String,
}

impl Server {
    pub fn send(&self, signal: Signal) {
        kill(pid(&self.child), signal).unwrap();
    }

    fn ends(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

fn example(name: &str) -> String {
    let flows = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/flows");
    flows.join(name).to_str().unwrap().to_owned()
}

/// One job that waits, so that there is something to interrupt, and one that depends on it.
const SLOW: &str = r#"
output = "second.out"
[defaults]
script_type = "rhai"
[[jobs]]
name = "first"
script = "sleep(1); #{ out: `first ${attempt}` }"
[[jobs]]
name = "second"
depends = ["first"]
script = 'let ids = parse_json(env.DEPENDS); #{ out: inputs[ids.first[0]].out + ", second" }'
"#;

#[test]
fn the_readmes_first_command_prints_the_words_and_leaves_only_its_data_directory() {
    let place = Place::new();
    let ran = place.run(&["run", &example("wordcount.toml")]);
    assert!(ran.err.contains("stopwords failed at attempt 1, trying again"), "{}", ran.err);
    assert!(ran.err.contains("[8/8] report finished"), "{}", ran.err);
    let out = ran.passes();
    assert!(out.starts_with("2557 words in 6 texts; most used:\n   10  book"), "{out}");
    let left: Vec<_> =
        fs::read_dir(place.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["muster-data"]);
    assert!(place.run(&["db", "check"]).passes().contains("problems        0"));
}

#[test]
fn the_same_flow_in_python_prints_the_same() {
    let place = Place::new();
    let out = place.run(&["run", &example("wordcount-python.toml")]).passes();
    assert_eq!(out, place.run(&["run", &example("wordcount.toml")]).passes());
}

#[test]
fn a_run_that_was_killed_goes_on_where_it_was() {
    let place = Place::new();
    let file = place.write("slow.toml", SLOW);
    let mut command = place.command(&["run", &file]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "[0/2] slow\n");
    child.kill().unwrap();
    child.wait().unwrap();
    let ran = place.run(&["run", &file]);
    assert!(ran.err.contains("slow was under way: going on with it"), "{}", ran.err);
    assert!(ran.passes().contains(", second"));
}

#[test]
fn a_flow_that_fails_is_told_by_its_exit_code_and_its_jobs_reasons() {
    let place = Place::new();
    let file = place.write(
        "bad.json",
        &json!({ "name": "bad", "jobs": [
            { "name": "broken", "script": "throw \"no luck\"", "script_type": "rhai" },
            { "name": "after", "script": "1", "script_type": "rhai", "depends": ["broken"] }
        ]})
        .to_string(),
    );
    let ran = place.run(&["run", &file, "--json"]);
    ran.fails(8, "muster: bad failed");
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(told["status"], "Error");
    assert!(told["errors"]["broken"].as_str().unwrap().contains("no luck"), "{told}");
    assert!(told["errors"]["after"].is_string(), "{told}");
}

#[test]
fn mistakes_in_a_flow_file_are_told_before_anything_starts() {
    let place = Place::new();
    place.run(&["run", "none.toml"]).fails(3, "none.toml");
    let file = place.write("x.toml", "[[jobs]]\nname = 'a'\nscripts = ''");
    place.run(&["run", &file]).fails(2, "scripts");
    let file = place.write("y.toml", "[[jobs]]\nname = 'a'\nscript = ''\ndepends = ['b']");
    place.run(&["run", &file]).fails(2, "job a: needs a script_type");
    assert!(!place.path("muster-data").exists());
    let circle = "[[jobs]]\nname = 'a'\nscript = ''\nscript_type = 'rhai'\ndepends = ['a']";
    let file = place.write("z.toml", circle);
    place.run(&["run", &file]).fails(5, "circle");
}

#[test]
fn exit_codes_say_what_kind_of_failure_it_was() {
    let place = Place::new();
    let server = place.serve(&[]);
    let at = |words: &str| {
        let mut args: Vec<&str> = words.split(' ').collect();
        args.extend_from_slice(&["--url", &server.http]);
        place.run(&args)
    };
    place.run(&["nonsense"]).fails(2, "nonsense");
    at("job load --context-id 1").fails(2, "--caller-id");
    at("call job.nonsense").fails(2, "-32601");
    at("job load --context-id 1 --caller-id 1 --id 1").fails(3, "job 1/1/1 not found");
    place.run(&["system", "ping", "--url", "http://127.0.0.1:1"]).fails(6, "cannot reach it");
    place.run(&["system", "ping", "--url", "ftp://x"]).fails(2, "must begin with http");
    let other = ["serve", "--api-http-port", "0", "--api-ws-port", "0"];
    place.run(&other).fails(5, "another muster process uses muster-data");
    assert_eq!(at("system ping").passes(), "true\n");
}

#[test]
fn every_method_is_a_command() {
    let place = Place::new();
    let server = place.serve(&[]);
    let at = |args: &[&str]| place.run(&[args, &["--url", &server.http]].concat());
    let context = place.write("c.json", r#"{"id":1,"admins":[2],"readers":[],"executors":[]}"#);
    at(&["context", "create", "--context", &format!("@{context}")]).passes();
    let shown = at(&["context", "load", "--id", "1", "--json"]).passes();
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["admins"], json!([2]));
    assert!(at(&["context", "list"]).passes().starts_with("ID  ADMINS"));
    let over_ws = place.run(&["call", "context.load", "[1]", "--json", "--url", &server.ws]);
    assert_eq!(over_ws.passes(), shown);
    let help = place.run(&["job", "load", "--help"]).passes();
    assert!(help.contains("--caller-id <N>"), "{help}");
}

#[test]
fn a_submitted_flow_is_followed_to_its_end() {
    let place = Place::new();
    let server = place.serve(&["--local-runner"]);
    let flow = example("wordcount.toml");
    let url = ["--url", &server.http];
    let submit = |more: &[&str]| place.run(&[&["flow", "submit", &flow], &url[..], more].concat());
    submit(&[]).fails(3, "context 1 not found (-32001); --prepare creates");
    let out = submit(&["--prepare", "--wait"]).passes();
    assert!(out.starts_with("2557 words"), "{out}");
    let status =
        place.run(&[&["flow", "status", "--context-id", "1", "--id", "1"], &url[..]].concat());
    assert!(status.passes().contains("Finished"));
    let drawn = ["flow", "render", "--context-id", "1", "--id", "1", "--format", "dot"];
    assert!(place.run(&[&drawn[..], &url].concat()).passes().contains("digraph"));
    // What is over can be watched from the beginning, and ends by itself.
    let watch = ["watch", "--flow", "1/1", "--since", "0", "--until-done", "--url", &server.ws];
    let seen = place.run(&watch).passes();
    assert!(seen.contains("Dispatched → Started") && seen.contains("→ Finished"), "{seen}");
}

#[test]
fn a_watch_outlives_the_coordinator_and_misses_nothing() {
    let place = Place::new();
    let server = place.serve(&[]);
    let (http, ws) = (server.http.clone(), server.ws.clone());
    let mut watch = place.command(&["watch", "--json", "--since", "0", "--url", &ws]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap());
    create_actor(&place, &http, 1);
    assert_eq!(seq_of(&mut lines), 1);
    drop(server);
    let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
    let again = ["--api-http-port", &port(&http), "--api-ws-port", &port(&ws)];
    let mut args = vec!["serve", "--log-level", "error"];
    args.extend_from_slice(&again);
    let mut child = place.command(&args).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut String::new()).unwrap();
    let server = Server { child, _stderr: stderr, http: http.clone(), ws };
    create_actor(&place, &http, 2);
    assert_eq!(seq_of(&mut lines), 2);
    kill(pid(&watch), Signal::SIGINT).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    drop(server);
}

fn create_actor(place: &Place, http: &str, id: u32) {
    let actor = json!({ "id": id, "pubkey": "none", "address": [] }).to_string();
    place.run(&["actor", "create", "--actor", &actor, "--url", http]).passes();
}

fn seq_of(lines: &mut BufReader<ChildStdout>) -> u64 {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    serde_json::from_str::<Value>(&line).unwrap()["seq"].as_u64().unwrap()
}

#[test]
fn a_coordinator_stops_gracefully_and_leaves_no_address_behind() {
    let place = Place::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = place.serve(&[]);
        server.send(Signal::SIGHUP);
        server.send(signal);
        assert_eq!(server.ends(), Some(0), "{signal}");
        assert!(!place.path("muster-data/endpoints.json").exists());
    }
}

#[test]
fn an_address_that_others_can_reach_is_refused_with_the_way_out() {
    let place = Place::new();
    let ran = place.run(&["serve", "--api-ws-ip", "0.0.0.0"]);
    ran.fails(2, "--api-ws-ip 127.0.0.1");
    assert!(!place.path("muster-data").exists());
}

#[test]
fn settings_come_in_layers_and_say_where_from() {
    let place = Place::new();
    place.write("muster.toml", "max_batch = 7\napi_http_port = 1\nrunner_grace = 1.5");
    let mut command = place.command(&["config", "--api-http-port", "3", "--json"]);
    let ran = command.env("MUSTER_API_HTTP_PORT", "2").env("MUSTER_LOCAL_SLOTS", "4").output();
    let told: Value = serde_json::from_str(&Ran::of(ran.unwrap()).passes()).unwrap();
    let wanted = |value: Value, origin: &str| json!({ "value": value, "origin": origin });
    assert_eq!(told["api_http_port"], wanted(3.into(), "--api-http-port"));
    assert_eq!(told["local_slots"], wanted(4.into(), "MUSTER_LOCAL_SLOTS"));
    assert_eq!(told["runner_grace"], wanted(1.5.into(), "muster.toml"));
    assert_eq!(told["api_ws_port"], wanted(9653.into(), "default"));
    place.write("muster.toml", "max_batsh = 7");
    place.run(&["config"]).fails(2, "`max_batsh`, did you mean `max_batch`?");
    place.run(&["config", "--config", "none.toml"]).fails(2, "none.toml");
}

#[test]
fn nothing_is_said_when_nobody_reads_on() {
    let place = Place::new();
    let mut child = place.command(&["openrpc"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn completions_know_the_methods() {
    let script = Place::new().run(&["completions", "bash"]).passes();
    assert!(script.contains("--context-id") && script.contains("--local-runner"));
}

#[test]
fn a_backup_is_restored_with_its_events() {
    let place = Place::new();
    let server = place.serve(&[]);
    let ask = |server: &Server, args: &[&str]| -> Value {
        let url = ["--json", "--url", &server.http];
        serde_json::from_str(&place.run(&[args, &url].concat()).passes()).unwrap()
    };
    let actor = r#"{"id": 1, "pubkey": "k", "address": []}"#;
    ask(&server, &["actor", "create", "--actor", actor]);
    ask(&server, &["actor", "delete", "--id", "1"]);
    let made = ask(&server, &["backup", "one.bak"]);
    let told = [["events", "list"], ["audit", "list"]].map(|list| ask(&server, &list));
    assert_eq!(told[0]["items"].as_array().unwrap().len(), 2);
    drop(server);
    assert!(made["path"].as_str().unwrap().ends_with("muster-data/backups/one.bak"));
    let restore = ["restore", "lost/backups/one.bak", "--data-dir", "muster-data"];
    fs::rename(place.path("muster-data"), place.path("lost")).unwrap();
    place.run(&restore).passes();
    place.run(&restore).fails(5, "not empty");
    let server = place.serve(&[]);
    assert_eq!([["events", "list"], ["audit", "list"]].map(|list| ask(&server, &list)), told);
}

#[test]
fn a_node_shows_its_key_signs_verifies_and_publishes_itself() {
    let place = Place::new();
    place.run(&["key", "show"]).fails(3, "the first start of the coordinator");
    let own = ["--adv-endpoints", "wss://own.example/peer", "--adv-federation", "fed:own"];
    let server = place.serve(&own);
    let url = ["--json", "--url", &server.http];
    let ask = |args: &[&str]| -> Value {
        serde_json::from_str(&place.run(&[args, &url].concat()).passes()).unwrap()
    };
    let shown: Value =
        serde_json::from_str(&place.run(&["key", "show", "--json"]).passes()).unwrap();
    let id = shown["node_id"].as_str().unwrap();
    assert_eq!(ask(&["system", "info"])["node_id"], id);
    // It publishes itself as soon as it runs.
    let published = (0..200).find_map(|_| {
        let ran = place.run(&[&["adv", "get", "--node-id", id][..], &url].concat());
        (ran.code == Some(0)).then_some(ran.out)
    });
    let published: Value = serde_json::from_str(&published.unwrap()).unwrap();
    assert_eq!(published["endpoints"][0]["endpoint/url"], "wss://own.example/peer");
    let file = place.write("own.json", &published.to_string());
    let form = ["--form", "cbor", "--domain", "node-advertisement.v1"];
    place.run(&[&["key", "verify", &file][..], &form].concat()).passes();
    let bent = place.write("bent.json", &published.to_string().replace("fed:own", "fed:not"));
    place.run(&[&["key", "verify", &bent][..], &form].concat()).fails(4, "not good");
    let again = place.run(&[&["key", "sign", &bent][..], &form].concat()).passes();
    let again = place.write("again.json", &again);
    let by = ["--key", shown["public"].as_str().unwrap()];
    place.run(&[&["key", "verify", &again][..], &by, &form].concat()).passes();
    let text = place.run(&["key", "sign", &file]).passes();
    place.run(&["key", "verify", &file, "--signature", text.trim()]).passes();
    place.run(&["key", "verify", &bent, "--signature", text.trim()]).fails(4, "not good");
    // A signature may begin with a hyphen, and a cursor too.
    place.run(&["key", "verify", &file, "--signature", "-K"]).fails(4, "not good");
    place.run(&[&["adv", "list", "--since", "-x"][..], &url].concat()).fails(2, "cursor-invalid");
    let receipt = ask(&["adv", "publish", "--endpoint", "wss://two.example"]);
    assert_eq!((&receipt["status"], &receipt["node/id"]), (&json!("stored"), &json!(id)));
    let old = ["adv", "publish", "--endpoint", "wss://x.example", "--sequence", "1"];
    place.run(&[&old[..], &url].concat()).fails(5, "stale-sequence");
    // What was answered survives a kill, and so do numbers and cursors.
    let before = ask(&["adv", "list"]);
    server.send(Signal::SIGKILL);
    server.ends();
    let server = place.serve(&[]);
    let url = ["--json", "--url", &server.http];
    let after = place.run(&[&["adv", "list"][..], &url].concat()).passes();
    assert_eq!(serde_json::from_str::<Value>(&after).unwrap(), before);
    let since = before["next"].as_str().unwrap();
    let rest = place.run(&[&["adv", "list", "--since", since][..], &url].concat()).passes();
    let rest: Value = serde_json::from_str(&rest).unwrap();
    assert_eq!(rest, json!({ "items": [], "next": since, "max-items": 100 }));
    place.run(&[&old[..], &url].concat()).fails(5, "stale-sequence");
    drop(server);
    use std::os::unix::fs::PermissionsExt;
    let key = place.path("muster-data/node.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    place.run(&["serve"]).fails(1, "chmod 600");
    place.run(&["key", "show"]).fails(4, "chmod 600");
}
