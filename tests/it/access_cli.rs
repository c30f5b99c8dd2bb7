//! Tokens and credentials on the command line.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::access::pubkey;
use crate::cli::{Place, Ran};

fn made(ran: Ran) -> String {
    let told: Value = serde_json::from_str(&ran.passes()).unwrap();
    told["token"].as_str().unwrap().to_owned()
}

#[test]
fn tokens_are_made_before_and_while_a_coordinator_runs() {
    let place = Place::new();
    let first = made(place.run(&["token", "create", "first", "--json"]));
    place.run(&["token", "create", "first"]).fails(5, "there is a token of that name");
    let config = place.run(&["config"]).passes();
    assert!(!config.contains("muster_o_"), "{config}");
    let spare = place.run(&["token", "create", "spare"]).passes();
    assert!(spare.starts_with("muster_o_") && spare.trim().lines().count() == 1, "{spare}");
    place.run(&["token", "revoke", "spare"]).passes();
    // With a token it may listen where others can reach it.
    let server = place.serve(&["--api-http-ip", "0.0.0.0", "--allow-plaintext"]);
    let here = server.http.replace("0.0.0.0", "127.0.0.1");
    let ask = |more: &[&str]| {
        let mut args = vec!["call", "token.list", "--json", "--url", &here];
        args.extend_from_slice(more);
        place.run(&args)
    };
    ask(&[]).fails(4, "credentials are missing or invalid");
    ask(&["--token", "wrong"]).fails(4, "-32003");
    assert!(ask(&["--token", &first]).passes().contains("first"));
    place.write("token", &format!("{first}\n"));
    assert!(ask(&["--token-file", "token"]).passes().contains("first"));
    ask(&["--token-file", "none"]).fails(1, "none");
    // The directory is in use, so that the coordinator itself is asked.
    let second = place.run(&["token", "create", "--name", "second", "--url", &here]);
    second.fails(4, "-32003");
    let args = ["--token", &first, "token", "create", "--name", "second", "--url", &here, "--json"];
    let second = made(place.run(&args));
    let mut command = place.command(&["token", "revoke", "first", "--url", &here, "--json"]);
    Ran::of(command.env("MUSTER_TOKEN", &second).output().unwrap()).passes();
    ask(&["--token", &first]).fails(4, "-32003");
    place.run(&["token", "revoke", "second", "--url", &here, "--token", &second]).fails(5, "last");
}

#[test]
fn a_running_coordinator_is_found_by_its_directory() {
    let place = Place::new();
    let _server = place.serve(&[]);
    let token = made(place.run(&["token", "create", "first", "--json"]));
    place.run(&["token", "list"]).fails(4, "-32003");
    assert!(place.run(&["token", "list", "--token", &token]).passes().contains("first"));
}

#[test]
fn configured_tokens_count_and_are_not_shown() {
    let place = Place::new();
    place.write("tokens", "of-the-file\n\n another-of-the-file \n");
    place.write("muster.toml", "operator_token_file = 'tokens'");
    let server = place.serve(&[]);
    let list = |token: &str| {
        place.run(&["call", "token.list", "--json", "--url", &server.http, "--token", token])
    };
    for token in ["of-the-file", "another-of-the-file"] {
        assert!(
            list(token).passes().contains(r#""configured":2"#) || list(token).out.contains("2")
        );
    }
    list("x").fails(4, "-32003");
    let mut command = place.command(&["config", "--json"]);
    let told = Ran::of(command.env("MUSTER_OPERATOR_TOKEN", "of-the-variable").output().unwrap());
    let told = told.passes();
    assert!(!told.contains("of-the-variable") && !told.contains("another"), "{told}");
    place.write("tokens", "\n");
    place.run(&["config"]).fails(2, "there is no token in it");
}

#[test]
fn a_runner_signs_in_with_its_key() {
    let place = Place::new();
    let server = place.serve(&[]);
    let token = made(place.run(&["token", "create", "first", "--json"]));
    let call = |method: &str, params: Value| {
        let params = params.to_string();
        let ran = place.run(&["call", method, &params, "--url", &server.http, "--token", &token]);
        ran.passes()
    };
    let context = json!({ "id": 1, "admins": [], "readers": [], "executors": [] });
    call("context.create", json!({ "context": context }));
    let runner = json!({
        "id": 3, "pubkey": pubkey(103), "address": "127.0.0.1", "topic": "", "local": false,
    });
    call("runner.create", json!({ "context_id": 1, "runner": runner }));
    let seed = |byte: u8| format!("{byte:02x}").repeat(32) + "\n";
    place.write("right", &seed(103));
    place.write("wrong", &seed(104));
    let runner = |key: &str| {
        let args = ["runner", "--context", "1", "--id", "3", "--url", &server.ws, "--key", key];
        place.command(&args)
    };
    Ran::of(runner("wrong").output().unwrap()).fails(4, "-32004");
    let mut watch = place.command(&[
        "watch",
        "--kind",
        "runner.attached",
        "--since",
        "0",
        "--url",
        &server.ws,
        "--json",
    ]);
    let watch = watch.env("MUSTER_TOKEN", &token).stdout(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let mut child = runner("right").stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(watch.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("runner/1/3"), "{line}");
    for child in [&mut child, &mut watch] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
