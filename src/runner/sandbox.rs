//! Rhai scripts run in processes of their own, each used for many scripts, one after another.
//!
//! A script that nests values deeply enough overflows any stack, and one that hoards strings fills any
//! memory; neither can be caught within a process. Here it costs that process, and that job.
//!
//! [`Pool`] says what such a process is.

use std::collections::BTreeMap;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::PathBuf;
use std::process::{ExitCode, exit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::{io, thread};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use nix::sys::resource::{Resource, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::executor::{Assignment, Executor, Limits, Outcome, Stop, StopReason};
use super::logs::{Logs, Tail};
use super::pool::{Pool, Worker, line};
use super::script::{Interpreter, Script};

/// The stage of [`supervisor::ARGUMENT`] that runs scripts.
pub(super) const STAGE: &str = "scripts";
/// Stack of the thread that evaluates, bytes.
const STACK: usize = 64 << 20;

/// What a script process is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ask {
    Run(Box<Script>),
    Stop,
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Say {
    Stdout(String),
    Stderr(String),
    Finished(BTreeMap<String, String>),
    Error(String),
}

/// Runs scripts in processes that are kept for the next one.
#[derive(Debug)]
pub struct Sandbox {
    limits: Limits,
    pool: Pool,
}

impl Sandbox {
    /// Scripts run in processes of `binary`, a `muster` binary.
    pub fn new(limits: Limits, binary: PathBuf) -> Self {
        let arguments = vec![limits.memory_bytes.to_string(), limits.operations.to_string()];
        let pool = Pool::new(binary, STAGE, arguments, limits.idle_scripts);
        Self { limits, pool }
    }

    /// A process that has been asked to run the script.
    async fn ask(&self, job: Assignment) -> io::Result<Worker> {
        let Assignment { script: text, env_vars: env, inputs, attempt, .. } = job;
        let script = Script { text, env, inputs, attempt, result_bytes: self.limits.result_bytes };
        self.pool.ask(&line(&Ask::Run(Box::new(script)))?).await
    }

    async fn execute(&self, job: Assignment, mut stop: Stop, logs: Logs) -> Outcome {
        let mut worker = match self.ask(job).await {
            Ok(worker) => worker,
            Err(err) => return Outcome::error(format!("a script process does not start: {err}")),
        };
        let mut output = Output::new(&logs, self.limits.output_bytes);
        let mut stopped = None;
        let end = tokio::select! {
            end = hear(&mut worker, &mut output) => end,
            reason = stop.wait() => {
                stopped = Some(reason);
                stop_script(&mut worker, &mut output, &self.limits).await
            }
        };
        let end = match end {
            Some(end) => {
                self.pool.keep(worker);
                end
            }
            None => Err(death(worker).await),
        };
        output.judge(end, stopped)
    }
}

impl Executor for Sandbox {
    fn run(&self, job: Assignment, stop: Stop, logs: Logs) -> BoxFuture<'_, Outcome> {
        self.execute(job, stop, logs).boxed()
    }
}

type End = Result<BTreeMap<String, String>, String>;

/// Hears it out; none when it ends before its script does.
async fn hear(worker: &mut Worker, output: &mut Output<'_>) -> Option<End> {
    loop {
        match serde_json::from_slice(worker.hear().await?).ok()? {
            Say::Stdout(text) => output.take("stdout", &text),
            Say::Stderr(text) => output.take("stderr", &text),
            Say::Finished(result) => return Some(Ok(result)),
            Say::Error(text) => return Some(Err(text)),
        }
    }
}

/// Asks it to stop the script; when it does not in time, it is not asked again.
async fn stop_script(worker: &mut Worker, output: &mut Output<'_>, limits: &Limits) -> Option<End> {
    let asked = async {
        worker.say(&line(&Ask::Stop).ok()?).await.ok()?;
        hear(worker, output).await
    };
    timeout(limits.grace, asked).await.ok().flatten()
}

/// Makes sure that it ends, and says how it did.
async fn death(worker: Worker) -> String {
    match worker.end().await {
        Ok(status) if status.code().is_none() => {
            format!("the script took too much memory or nests too deeply ({status})")
        }
        Ok(status) => format!("the script process ended by itself ({status})"),
        Err(err) => format!("the script process was lost: {err}"),
    }
}

struct Output<'a> {
    logs: &'a Logs,
    stdout: Tail,
    stderr: Tail,
}

impl<'a> Output<'a> {
    fn new(logs: &'a Logs, most: usize) -> Self {
        Self { logs, stdout: Tail::new(most), stderr: Tail::new(most) }
    }

    fn take(&mut self, stream: &str, text: &str) {
        let tail = if stream == "stdout" { &mut self.stdout } else { &mut self.stderr };
        tail.push(text.as_bytes(), |line| self.logs.line(stream, line));
    }

    fn judge(self, end: End, stopped: Option<StopReason>) -> Outcome {
        let mut result = end.as_ref().cloned().unwrap_or_default();
        let logs = self.logs;
        let (stdout, stderr) = (self.stdout, self.stderr);
        result.insert("stdout".to_owned(), stdout.finish(|line| logs.line("stdout", line)));
        result.insert("stderr".to_owned(), stderr.finish(|line| logs.line("stderr", line)));
        match (stopped, end) {
            (Some(reason), _) => Outcome::Error { error: reason.to_string(), result },
            (None, Err(error)) => Outcome::Error { error, result },
            (None, Ok(_)) => Outcome::Finished { result },
        }
    }
}

fn say(value: &Say) {
    let written = line(value).and_then(|line| {
        let mut out = stdout().lock();
        out.write_all(&line)?;
        out.flush()
    });
    if written.is_err() {
        exit(0);
    }
}

/// A script process: `memory bytes, operations`.
pub(super) fn main(mut args: impl Iterator<Item = std::ffi::OsString>) -> Option<ExitCode> {
    let mut number = || args.next()?.to_str()?.parse::<u64>().ok();
    let (memory, operations) = (number()?, number()?);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    if memory > 0 {
        let _ = setrlimit(Resource::RLIMIT_AS, memory, memory);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, scripts) = sync_channel::<Box<Script>>(1);
    let asked = Arc::clone(&stop);
    let evaluate = move || {
        let print = |stream: &str, text: &str| {
            let text = format!("{text}\n");
            say(&if stream == "stdout" { Say::Stdout(text) } else { Say::Stderr(text) });
        };
        let interpreter = Interpreter::new(operations, stop, print);
        for script in scripts {
            say(&match interpreter.evaluate(&script) {
                Ok(result) => Say::Finished(result),
                Err(text) => Say::Error(text),
            });
        }
    };
    let evaluating = thread::Builder::new().stack_size(STACK).spawn(evaluate).ok()?;
    let mut input = stdin().lock();
    let mut text = String::new();
    // The end of the input is the end of the runner: nothing is waited for.
    while matches!(input.read_line(&mut text), Ok(1..)) && !evaluating.is_finished() {
        match serde_json::from_str(&text) {
            Ok(Ask::Run(script)) => {
                // Here, and not where it starts, so that it stays in order with requests to stop.
                asked.store(false, Ordering::Relaxed);
                if sender.send(script).is_err() {
                    break;
                }
            }
            Ok(Ask::Stop) => asked.store(true, Ordering::Relaxed),
            Err(_) => break,
        }
        text.clear();
    }
    exit(0)
}
