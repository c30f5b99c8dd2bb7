//! The programs in `examples`, run as their readers would run them against a started coordinator.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path)
}

/// Whether a program is there; says so when it is not, because the test then passes without a word.
fn has(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        eprintln!("SKIPPED: {program} is not installed");
    }
    there
}

struct Coordinator {
    dir: TempDir,
    child: Child,
    http: String,
    ws: String,
    _stderr: BufReader<ChildStderr>,
}

impl Coordinator {
    fn start(more: &[&str]) -> Self {
        Self::at(tempfile::tempdir().unwrap(), &[&["--api-ws-port", "0"], more].concat())
    }

    fn at(dir: TempDir, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_muster"))
            .current_dir(dir.path())
            .args(["serve", "--api-http-port", "0", "--log-level", "error"])
            .args(more)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert!(line.contains(" listening on "), "{line}");
        let endpoints = fs::read(dir.path().join("muster-data/endpoints.json")).unwrap();
        let endpoints: Value = serde_json::from_slice(&endpoints).unwrap();
        let text = |name: &str| endpoints[name].as_str().unwrap().to_owned();
        Self { child, http: text("http"), ws: text("ws"), dir, _stderr: stderr }
    }

    /// Kills it as a power cut would, and starts it again where it was.
    fn restart(mut self) -> Self {
        let port = self.ws.trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        Self::at(dir, &["--api-ws-port", &port])
    }

    /// What a command of the binary prints as JSON.
    fn ask(&self, args: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        let ran = command.args(args).args(["--json", "--url", &self.http]).output().unwrap();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
        serde_json::from_slice(&ran.stdout).unwrap()
    }

    fn call(&self, method: &str, params: &Value) -> Value {
        self.ask(&["call", method, &params.to_string()])
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What both clients say of their flow, whatever the order in which its first two jobs end.
#[track_caller]
fn told_the_story(mut command: Command, id: u32) {
    let ran = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert_eq!(ran.status.code(), Some(0), "{out}{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], format!("flow/{id}/{id}: Dispatched -> Started"), "{out}");
    assert!(lines.contains(&&*format!("job/{id}/{id}/3: Started -> Finished")), "{out}");
    assert!(lines.contains(&&*format!("flow/{id}/{id}: Started -> Finished")), "{out}");
    assert_eq!(lines[lines.len() - 3..], ["1.value = 42", "2.value = 42", "3.sum = 84"], "{out}");
}

#[test]
fn the_python_client_starts_a_flow_and_watches_it_to_its_end() {
    if !has("python3") {
        return;
    }
    let server = Coordinator::start(&["--local-runner"]);
    for _ in 0..2 {
        let mut command = Command::new("python3");
        command.arg(example("clients/python/flow.py")).arg(&server.ws);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        told_the_story(command, 10);
    }
}

/// A copy of the example in the target folder, with what it depends on, compiled.
fn compiled_typescript() -> PathBuf {
    let from = example("clients/typescript");
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("typescript-client");
    fs::create_dir_all(&to).unwrap();
    let copy = |name: &str| fs::copy(from.join(name), to.join(name)).unwrap();
    let run = |args: &[&str]| {
        let ran = Command::new("npm").args(args).current_dir(&to).output().unwrap();
        let said = [ran.stdout, ran.stderr].concat();
        assert!(ran.status.success(), "npm {args:?}: {}", String::from_utf8_lossy(&said));
    };
    let lock = fs::read(from.join("package-lock.json")).unwrap();
    let installed = to.join("installed.json");
    for name in ["package.json", "package-lock.json", ".npmrc", "tsconfig.json"] {
        copy(name);
    }
    if fs::read(&installed).ok() != Some(lock) {
        run(&["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        fs::copy(from.join("package-lock.json"), installed).unwrap();
    }
    for name in ["muster.ts", "flow.ts"] {
        copy(name);
    }
    run(&["run", "build"]);
    to
}

#[test]
fn the_typescript_client_starts_a_flow_and_watches_it_to_its_end() {
    if !has("node") || !has("npm") {
        return;
    }
    let client = compiled_typescript();
    let server = Coordinator::start(&["--local-runner"]);
    let mut command = Command::new("node");
    command.arg(client.join("build/flow.js")).arg(&server.ws);
    told_the_story(command, 30);
}

/// The example runner, and what it prints.
struct Runner {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Runner {
    fn attach(server: &Coordinator) -> Self {
        let mut child = Command::new("python3")
            .arg(example("runner/runner.py"))
            .args([&server.ws, "1", "5", "2"])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut runner = Self { child, lines };
        runner.until("attached with 0 in hand");
        runner
    }

    /// Reads on until it has said this.
    #[track_caller]
    fn until(&mut self, wanted: &str) {
        let mut said = String::new();
        while !said.ends_with(&format!("{wanted}\n")) {
            assert_ne!(self.lines.read_line(&mut said).unwrap(), 0, "{wanted}: {said}");
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn job(id: u32, script: &str, depends: &[u32]) -> Value {
    json!({
        "id": id, "caller_id": 7, "context_id": 1, "script": script, "script_type": "Python",
        "timeout": 60, "retries": 0, "env_vars": {}, "prerequisites": [], "depends": depends,
    })
}

fn submit(server: &Coordinator, id: u32, jobs: &[Value]) {
    let ids: Vec<&Value> = jobs.iter().map(|job| &job["id"]).collect();
    let flow =
        json!({ "id": id, "caller_id": 7, "context_id": 1, "jobs": ids, "env_vars": { "X": "x" } });
    server.call("flow.submit", &json!({ "context_id": 1, "flow": flow, "jobs": jobs }));
}

/// Follows a flow to its end, and gives it back.
fn ended(server: &Coordinator, id: u32) -> Value {
    let flow = format!("1/{id}");
    let watched = Command::new(env!("CARGO_BIN_EXE_muster"))
        .args(["watch", "--flow", &flow, "--since", "0", "--until-done", "--timeout", "60"])
        .args(["--url", &server.ws])
        .output()
        .unwrap();
    assert!(matches!(watched.status.code(), Some(0 | 8)), "{watched:?}");
    server.call("flow.load", &json!({ "context_id": 1, "id": id }))
}

fn with_runner() -> Coordinator {
    let server = Coordinator::start(&[]);
    let context = json!({ "id": 1, "admins": [7], "readers": [], "executors": [] });
    server.call("context.create", &json!({ "context": context }));
    server.call("runner.create", &crate::runner::params(5));
    server
}

#[test]
fn the_python_runner_runs_jobs_reports_failures_and_drains() {
    if !has("python3") {
        return;
    }
    let server = with_runner();
    let mut runner = Runner::attach(&server);
    let first = "import json, os\n\
        json.dump({'n': 1, 'x': os.environ['X']}, open(os.environ['MUSTER_RESULT'], 'w'))";
    let second = "import json, os\nprint(json.load(open(os.environ['MUSTER_INPUTS']))['1']['n'])";
    submit(&server, 1, &[job(1, first, &[]), job(2, second, &[1])]);
    let flow = ended(&server, 1);
    assert_eq!(flow["status"], "Finished", "{flow}");
    assert_eq!(flow["result"]["1.x"], "x");
    assert_eq!(flow["result"]["2.stdout"], "1\n");

    submit(&server, 2, &[job(3, "raise ValueError('no luck')", &[])]);
    assert_eq!(ended(&server, 2)["status"], "Error");
    let failed = server.call("job.load", &json!({ "context_id": 1, "caller_id": 7, "id": 3 }));
    assert_eq!(failed["result"]["error"], "ValueError: no luck");

    kill(Pid::from_raw(runner.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    runner.until("job 3 attempt 1: Error");
    assert_eq!(runner.child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_python_runner_stops_what_is_cancelled_and_keeps_what_it_has_over_a_restart() {
    if !has("python3") {
        return;
    }
    let server = with_runner();
    let mut runner = Runner::attach(&server);
    let gate = server.dir.path().join("gate");
    let waits = format!("import os, time\nwhile not os.path.exists({gate:?}): time.sleep(0.01)");
    for id in [1, 2] {
        submit(&server, id, &[job(id, &waits, &[])]);
        runner.until(&format!("job {id} attempt 1: Started"));
    }
    let first = json!({ "context_id": 1, "caller_id": 7, "id": 1, "reason": "enough" });
    server.call("job.cancel", &first);
    runner.until("job 1 attempt 1: cancelled");
    assert_eq!(ended(&server, 1)["status"], "Error");

    let server = server.restart();
    runner.until("attached with 1 in hand");
    fs::write(gate, "").unwrap();
    runner.until("job 2 attempt 1: Finished");
    assert_eq!(ended(&server, 2)["status"], "Finished");
    let second = json!({ "context_id": 1, "caller_id": 7, "id": 2 });
    let attempts = server.call("job.attempts", &second);
    assert_eq!(attempts["items"].as_array().unwrap().len(), 1, "{attempts}");
}

/// What an example of the compute face prints as its last line, run over eight small slices.
#[track_caller]
fn estimated(program: &str, script: &str) -> String {
    let server = Coordinator::start(&["--js-runner"]);
    let mut command = Command::new(program);
    command.arg(example(script)).args([&server.http, "8", "5000"]);
    let ran = command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert_eq!(ran.status.code(), Some(0), "{out}{err}");
    let last = out.lines().last().unwrap_or_default();
    let (_, pi) = last.split_once(" slices: pi is about ").unwrap_or_else(|| panic!("{out}{err}"));
    // The seeds are fixed, so this is no matter of luck.
    let pi: f64 = pi.parse().unwrap();
    assert!((pi - std::f64::consts::PI).abs() < 0.05, "{out}");
    last.to_owned()
}

#[test]
fn pi_is_estimated_over_slices_from_python_and_with_curl_alike() {
    let python = has("python3").then(|| estimated("python3", "compute/pi.py"));
    let curl = has("curl").then(|| estimated("sh", "compute/pi.sh"));
    if let (Some(python), Some(curl)) = (python, curl) {
        assert_eq!(python.replace("8/8", "8"), curl);
    }
}
