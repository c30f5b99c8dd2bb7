//! Executors through the built binary: what jobs get, what they leave, and that nothing of them stays.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use muster::model::task::Language;
use muster::runner::executor::Limits;
use muster::runner::{Assignment, Executors, Logs, Outcome, StopReason, Stopper};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::Notify;

const BINARY: &str = env!("CARGO_BIN_EXE_muster");

fn executors(limits: &Limits) -> Executors {
    Executors::new(limits, Some(BINARY.into()))
}

fn job(language: Language, script: &str) -> Assignment {
    Assignment {
        context_id: 1,
        caller_id: 42,
        job_id: 3,
        attempt: 2,
        script: script.into(),
        language,
        env_vars: BTreeMap::from([("GREETING".into(), "hé llo\n=".into())]),
        inputs: BTreeMap::from([(7, BTreeMap::from([("n".into(), "41".into())]))]),
        time_limit: Some(Duration::from_secs(60)),
    }
}

async fn run_with(limits: &Limits, job: Assignment) -> (Outcome, Logs) {
    let (stopper, stop) = Stopper::new();
    let logs = Logs::new(Arc::new(Notify::new()));
    (executors(limits).execute(job, &stopper, stop, logs.clone()).await, logs)
}

async fn run(language: Language, script: &str) -> Outcome {
    run_with(&Limits::default(), job(language, script)).await.0
}

fn finished(outcome: Outcome) -> BTreeMap<String, String> {
    match outcome {
        Outcome::Finished { result } => result,
        Outcome::Error { error, result } => panic!("{error}: {result:?}"),
    }
}

fn failed(outcome: Outcome) -> (String, BTreeMap<String, String>) {
    match outcome {
        Outcome::Error { error, result } => (error, result),
        Outcome::Finished { result } => panic!("finished: {result:?}"),
    }
}

#[tokio::test]
async fn a_python_job_sees_its_environment_and_leaves_its_result() {
    let script = r#"
import json, os, sys
inputs = json.load(open(os.environ["MUSTER_INPUTS"]))
names = sorted(n for n in os.environ if not n.startswith(("LC_", "__")))
json.dump({
    "answer": int(inputs["7"]["n"]) + 1, "greeting": os.environ["GREETING"], "names": names,
    "home": os.getcwd() == os.path.realpath(os.environ["HOME"]), "stdin": sys.stdin.read(),
    "job": os.environ["MUSTER_JOB"] + "/" + os.environ["MUSTER_ATTEMPT"], "files": os.listdir(),
    "group": os.getpgrp() == os.getpid(),
}, open(os.environ["MUSTER_RESULT"], "w"))
print("out")
print("err", file=sys.stderr)
"#;
    let (outcome, logs) = run_with(&Limits::default(), job(Language::Python, script)).await;
    let result = finished(outcome);
    let expected = [
        ("answer", "42"),
        ("exit_code", "0"),
        ("files", r#"["job.py"]"#),
        ("greeting", "hé llo\n="),
        ("group", "true"),
        ("home", "true"),
        ("job", "3/2"),
        (
            "names",
            r#"["GREETING","HOME","MUSTER_ATTEMPT","MUSTER_INPUTS","MUSTER_JOB","MUSTER_RESULT","PATH"]"#,
        ),
        ("stderr", "err\n"),
        ("stdin", ""),
        ("stdout", "out\n"),
    ];
    assert_eq!(result, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let mut lines: Vec<String> =
        logs.take().into_iter().map(|l| format!("{}: {}", l.stream, l.line)).collect();
    lines.sort();
    assert_eq!(lines, ["stderr: err", "stdout: out"]);
}

#[tokio::test]
async fn bad_ends_are_told_apart() {
    let python = |script: &'static str| run(Language::Python, script);
    let (error, result) = failed(python("import sys\nprint('so far')\nsys.exit(3)").await);
    assert_eq!(error, "exit code 3");
    assert_eq!((result["exit_code"].as_str(), result["stdout"].as_str()), ("3", "so far\n"));
    let (error, _) = failed(python("raise ValueError('no luck')").await);
    assert_eq!(error, "exit code 1: ValueError: no luck");
    let (error, result) = failed(python("import os\nos.kill(os.getpid(), 9)").await);
    assert_eq!(error, "killed by signal 9 (SIGKILL)");
    assert_eq!(result["exit_code"], "137");
    let write = "import os\nf = open(os.environ['MUSTER_RESULT'], 'w')\n";
    for (script, expected) in [
        ("f.write('[1]')", "not a JSON object"),
        ("f.write('{')", "not a JSON object"),
        ("f.write('{\"a\":\"' + 'x' * 2000000 + '\"}')", "larger than 1048576 bytes"),
    ] {
        let (error, _) = failed(run(Language::Python, &format!("{write}{script}")).await);
        assert!(error.contains(expected), "{script}: {error}");
    }
    let fifo = "import os\nos.mkfifo(os.environ['MUSTER_RESULT'])";
    assert!(failed(python(fifo).await).0.contains("not an ordinary file"));
}

#[tokio::test]
async fn a_missing_tool_is_named() {
    if Command::new("v").arg("version").output().is_ok() {
        return;
    }
    let (error, _) = failed(run(Language::V, "fn main() {}").await);
    assert!(error.starts_with("v is missing"), "{error}");
}

#[tokio::test]
async fn memory_and_output_are_bounded() {
    let limits = Limits { memory_bytes: 256 << 20, ..Limits::default() };
    let hoard = job(Language::Python, "x = bytearray(512 << 20)");
    assert_eq!(failed(run_with(&limits, hoard).await.0).0, "exit code 1: MemoryError");
    let flood = job(Language::Python, "for n in range(200000): print('line', n)\n");
    let (outcome, logs) = run_with(&Limits::default(), flood).await;
    let stdout = finished(outcome).remove("stdout").unwrap();
    assert!(stdout.ends_with("line 199999\n") && stdout.len() < 70_000);
    assert!(stdout.lines().next().unwrap().ends_with("bytes cut]"));
    assert!(logs.take().len() <= 1_001);
    let core = "import resource\nprint(resource.getrlimit(resource.RLIMIT_CORE))";
    assert_eq!(finished(run(Language::Python, core).await)["stdout"], "(0, 0)\n");
}

#[tokio::test]
async fn a_job_that_ignores_the_request_to_end_is_killed_in_time() {
    for namespaces in [true, false] {
        let limits = Limits { namespaces, grace: Duration::from_millis(50), ..Limits::default() };
        let mark = mark();
        let script = format!("{DAEMON}\nimport time\ntime.sleep(600)");
        let mut stuck = job(Language::Python, &script);
        stuck.env_vars.insert("MARK".into(), mark.clone());
        stuck.time_limit = Some(Duration::from_secs(4));
        let (error, result) = failed(run_with(&limits, stuck).await.0);
        assert_eq!(error, "timed out after 4 s");
        assert_eq!(result["stdout"], "ready\n");
        assert_eq!(marked(&mark), [0; 0], "namespaces: {namespaces}");
    }
}

#[tokio::test]
async fn a_cancelled_job_may_end_by_itself() {
    let script = "import signal, sys, time\n\
        signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit(0)))\n\
        print('ready')\ntime.sleep(600)";
    let limits = Limits { grace: Duration::from_secs(30), ..Limits::default() };
    let (stopper, stop) = Stopper::new();
    let wake = Arc::new(Notify::new());
    let logs = Logs::new(Arc::clone(&wake));
    let executors = executors(&limits);
    let running = executors.execute(job(Language::Python, script), &stopper, stop, logs);
    let cancel = async {
        wake.notified().await;
        stopper.stop(StopReason::Cancelled("by request".into()));
    };
    let (outcome, ()) = tokio::join!(running, cancel);
    let (error, result) = failed(outcome);
    assert_eq!(error, "cancelled: by request");
    assert_eq!(result["stdout"], "ready\nbye\n");
}

#[tokio::test]
async fn what_a_job_leaves_running_ends_with_it() {
    for namespaces in [true, false] {
        let limits = Limits { namespaces, ..Limits::default() };
        let mark = mark();
        // Modest: two hundred processes that go on forking until they are stopped.
        let bomb = "import os, time\n\
            for _ in range(200):\n    if os.fork() == 0:\n        \
            while True:\n            if os.fork() != 0: os._exit(0)\n            time.sleep(0.002)\n";
        for script in [DAEMON.to_owned(), format!("{bomb}{DAEMON}")] {
            let mut leaving = job(Language::Python, &script);
            leaving.env_vars.insert("MARK".into(), mark.clone());
            let result = finished(run_with(&limits, leaving).await.0);
            assert!(result["stdout"].ends_with("ready\n"));
            assert_eq!(marked(&mark), [0; 0], "namespaces: {namespaces}");
        }
    }
}

#[tokio::test]
async fn a_dropped_run_leaves_nothing() {
    for namespaces in [true, false] {
        let limits = Limits { namespaces, ..Limits::default() };
        let mark = mark();
        let mut left = job(Language::Python, &format!("{DAEMON}\nimport time\ntime.sleep(600)"));
        left.env_vars.insert("MARK".into(), mark.clone());
        let (stopper, stop) = Stopper::new();
        let wake = Arc::new(Notify::new());
        let executors = executors(&limits);
        tokio::select! {
            _ = executors.execute(left, &stopper, stop, Logs::new(Arc::clone(&wake))) => panic!(),
            () = wake.notified() => {}
        }
        until("the job is gone", || marked(&mark).is_empty());
    }
}

#[tokio::test]
async fn a_script_prints_and_leaves_its_map() {
    let script = r#"print("hi " + env.GREETING.len()); #{ n: parse_int(inputs["7"].n) + 1 }"#;
    let executors = executors(&Limits::default());
    // Twice, because the second one finds a process that has run one before.
    for language in [Language::Osis, Language::Sal] {
        let (stopper, stop) = Stopper::new();
        let logs = Logs::new(Arc::new(Notify::new()));
        let result =
            finished(executors.execute(job(language, script), &stopper, stop, logs.clone()).await);
        assert_eq!((result["n"].as_str(), result["stdout"].as_str()), ("42", "hi 8\n"));
        assert_eq!(result["stderr"], "");
        assert_eq!(logs.take()[0].line, "hi 8");
    }
}

#[tokio::test]
async fn a_script_cannot_hurt_its_runner() {
    let executors = executors(&Limits { memory_bytes: 512 << 20, ..Limits::default() });
    let attempt = async |script: &str, time_limit| {
        let (stopper, stop) = Stopper::new();
        let logs = Logs::new(Arc::new(Notify::new()));
        let job = Assignment { time_limit, ..job(Language::Sal, script) };
        executors.execute(job, &stopper, stop, logs).await
    };
    let deep = r#"let f = Fn("x"); loop { f = Fn("x").curry(f); if f.name == "" { break; } }"#;
    let limit = Some(Duration::from_secs(60));
    let hoard: String =
        (0..30).map(|n| format!("let s{n} = \"\"; s{n}.pad(30000000, \"y\");")).collect();
    let hoard = failed(attempt(&hoard, limit).await).0;
    assert!(hoard.contains("too much memory"), "{hoard}");
    let deep = failed(attempt(deep, Some(Duration::from_secs(3))).await).0;
    assert!(deep.contains("too deeply") || deep.contains("timed out"), "{deep}");
    let endless = attempt("print(1); loop {}", Some(Duration::from_millis(1_500))).await;
    let (error, result) = failed(endless);
    assert_eq!((error.as_str(), result["stdout"].as_str()), ("timed out after 1.5 s", "1\n"));
    assert_eq!(finished(attempt("#{ a: 1 }", limit).await)["a"], "1");
}

// ---- whatever is killed when ----

/// Leaves a process that has its own session, no parent, and no ear for SIGTERM.
const DAEMON: &str = r#"
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(1)
        os.close(2)
        time.sleep(600)
    os._exit(0)
os.wait()
print("ready")
"#;

fn mark() -> String {
    format!("muster-test-{:016x}", fastrand::u64(..))
}

/// Processes, other than this, whose environment holds the mark.
fn marked(mark: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(mark.len()).any(|part| part == mark.as_bytes())
    };
    pids.filter(has).collect()
}

fn children(parent: i32) -> Vec<i32> {
    let path = format!("/proc/{parent}/task");
    let tasks = fs::read_dir(path).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|l| l.split_whitespace().map(|p| p.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..4_000 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(5));
    }
    panic!("waited too long until {what}");
}

/// Not a test by itself: what the tests below start as the runner that they kill.
#[tokio::test]
#[ignore = "started by other tests"]
async fn as_a_runner() {
    let Ok(mark) = std::env::var("RUNNER_MARK") else { return };
    let namespaces = std::env::var("RUNNER_NAMESPACES").is_ok_and(|value| value == "true");
    let limits = Limits { namespaces, ..Limits::default() };
    let mut long = job(Language::Python, &format!("{DAEMON}\nimport time\ntime.sleep(600)"));
    long.env_vars.insert("MARK".into(), mark);
    let (stopper, stop) = Stopper::new();
    let wake = Arc::new(Notify::new());
    let executors = executors(&limits);
    let ready = async {
        wake.notified().await;
        println!("\nready");
        std::io::stdout().flush().unwrap();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = executors.execute(long, &stopper, stop, Logs::new(Arc::clone(&wake))) => {
            println!("\nended {outcome:?}");
        }
        () = ready => {}
    }
}

struct Tree {
    runner: Child,
    output: BufReader<std::process::ChildStdout>,
    mark: String,
    outer: i32,
    inner: i32,
}

impl Tree {
    fn grow(namespaces: bool) -> Self {
        let mark = mark();
        let mut runner = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::as_a_runner", "--ignored", "--nocapture"])
            .env("RUNNER_MARK", &mark)
            .env("RUNNER_NAMESPACES", namespaces.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(runner.stdout.take().unwrap());
        let mut line = String::new();
        while line.trim() != "ready" {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the runner ended");
        }
        let outer = children(i32::try_from(runner.id()).unwrap());
        let [outer] = outer[..] else { panic!("one supervisor, not {outer:?}") };
        let [inner] = children(outer)[..] else { panic!("one inner supervisor") };
        assert!(marked(&mark).len() >= 4, "supervisors, job and daemon: {:?}", marked(&mark));
        Self { runner, output, mark, outer, inner }
    }

    /// Without the runner itself, whose environment has the mark too.
    fn left(&self) -> Vec<i32> {
        let runner = i32::try_from(self.runner.id()).unwrap();
        marked(&self.mark).into_iter().filter(|pid| *pid != runner).collect()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = self.runner.kill();
        let _ = self.runner.wait();
    }
}

fn slay(pids: &[i32]) {
    for pid in pids {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
}

#[test]
fn nothing_outlives_whatever_is_killed() {
    for namespaces in [true, false] {
        for who in
            ["runner", "outer", "inner", "runner+outer", "runner+inner", "outer+inner", "all"]
        {
            let mut tree = Tree::grow(namespaces);
            let runner = i32::try_from(tree.runner.id()).unwrap();
            let all = [("runner", runner), ("outer", tree.outer), ("inner", tree.inner)];
            let chosen = all.iter().filter(|(name, _)| who == "all" || who.contains(name));
            slay(&chosen.map(|(_, pid)| *pid).collect::<Vec<_>>());
            if who.contains("runner") || who == "all" {
                tree.runner.wait().unwrap();
            } else {
                let mut line = String::new();
                while !line.starts_with("ended") {
                    line.clear();
                    assert_ne!(tree.output.read_line(&mut line).unwrap(), 0, "the runner ended");
                }
                assert!(line.contains("watched over") || line.contains("signal 9"), "{line}");
            }
            if who == "all" && !namespaces {
                // Nobody is left to do it, except for the next runner: this one, or that of another
                // test that happens to start now.
                let runtime = tokio::runtime::Runtime::new().unwrap();
                until("the next runner has been by", || {
                    runtime.block_on(async { finished(run(Language::Python, "pass").await) });
                    tree.left().is_empty()
                });
            }
            until(&format!("{who} killed, namespaces {namespaces}"), || tree.left().is_empty());
        }
    }
}

#[test]
fn a_killed_runner_leaves_no_directory() {
    for namespaces in [true, false] {
        let mut tree = Tree::grow(namespaces);
        let prefix = format!("muster-job-{}-", tree.runner.id());
        let dirs = || {
            let entries = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
            entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)).count()
        };
        assert_eq!(dirs(), 1);
        tree.runner.kill().unwrap();
        tree.runner.wait().unwrap();
        until("the directory is gone", || dirs() == 0);
    }
}

#[test]
fn signals_for_every_process_of_the_name_do_not_end_jobs() {
    let tree = Tree::grow(true);
    for pid in [tree.outer, tree.inner] {
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
    }
    sleep(Duration::from_millis(50));
    assert!(tree.left().len() >= 4);
}

/// Prints what the supervisors cost: `cargo test --test it overhead -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "measures")]
async fn overhead_of_a_job_that_does_nothing() {
    let executors = executors(&Limits::default());
    let attempt = async |language, script: &str| {
        let (stopper, stop) = Stopper::new();
        let job = job(language, script);
        finished(executors.execute(job, &stopper, stop, Logs::new(Arc::new(Notify::new()))).await);
    };
    attempt(Language::Python, "pass").await;
    attempt(Language::Sal, "1").await;
    let where_is = "import sys; print(sys.executable)";
    let python = Command::new("python3").args(["-c", where_is]).output().unwrap().stdout;
    let python = String::from_utf8(python).unwrap();
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (mut bare, mut supervised, mut script) = (vec![], vec![], vec![]);
    for _ in 0..20 {
        let start = std::time::Instant::now();
        Command::new(python.trim()).args(["-u", "-c", "pass"]).output().unwrap();
        bare.push(start.elapsed());
        let start = std::time::Instant::now();
        attempt(Language::Python, "pass").await;
        supervised.push(start.elapsed());
        let start = std::time::Instant::now();
        attempt(Language::Sal, "1").await;
        script.push(start.elapsed());
    }
    let (bare, supervised) = (median(bare), median(supervised));
    println!("bare {bare:?}, supervised {supervised:?}, script {:?}", median(script));
}
