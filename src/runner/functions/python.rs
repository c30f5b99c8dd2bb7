//! Python: one process per batch, supervised as the processes of jobs are.
//!
//! The function is compiled once and made anew for each slice, in a namespace of its own. Modules that
//! it imports are the process's, and so shared by the slices of a batch.

use std::collections::BTreeMap;
use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::ChildStdout;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::super::executor::{Assignment, Limits, Stop, StopReason, Stopper};
use super::super::logs::{Logs, head};
use super::super::process::{self, Process};
use super::relay::{self, Left, Passes, Relay, Rest};
use super::{FunctionExecutor, TEXT_BYTES};
use crate::model::slices::{SliceBatch, SliceReport};
use crate::model::task::Language;

const HARNESS: &str = include_str!("harness.py");
/// Reports that are passed on together at most.
const TOGETHER: usize = 1_000;
/// A limit on time that a timer can hold, seconds.
const LONGEST: f64 = 31_536_000.0;

/// Calls functions in Python.
#[derive(Debug)]
pub struct Python {
    process: Process,
    limits: Limits,
}

/// The first line of what the harness reads; a line `[number, "datum"]` for each slice follows.
#[derive(Debug, Serialize)]
struct Head<'a> {
    function: &'a str,
    /// Texts, so that they are parsed anew for each slice.
    args: &'a str,
    public: &'a str,
    slice_seconds: f64,
    /// The same for a timer.
    limit: f64,
    value_bytes: usize,
}

#[derive(Debug, Deserialize)]
struct Say {
    reports: Vec<SliceReport>,
}

impl Python {
    /// One whose processes are supervised by `binary`, a `muster` binary.
    pub fn new(limits: &Limits, binary: PathBuf) -> Self {
        Self { process: Process::python(limits.clone(), binary), limits: limits.clone() }
    }

    fn inputs(&self, rest: &Rest<'_>) -> serde_json::Result<Vec<u8>> {
        let head = Head {
            function: super::trim(rest.function),
            args: rest.args.get(),
            public: rest.public.get(),
            slice_seconds: rest.slice_seconds,
            limit: rest.slice_seconds.clamp(0.000_001, LONGEST),
            value_bytes: self.limits.value_bytes,
        };
        let mut lines = serde_json::to_vec(&head)?;
        for slice in rest.slices {
            lines.push(b'\n');
            serde_json::to_writer(&mut lines, &(slice.number, slice.datum.get()))?;
        }
        Ok(lines)
    }

    async fn converse(&self, relay: &mut Relay, stop: &mut Stop) -> Result<Left, String> {
        let inputs = Arc::new(self.inputs(&relay.rest()).map_err(|err| err.to_string())?);
        let job = Arc::new(Assignment {
            context_id: 0,
            caller_id: 0,
            job_id: 0,
            attempt: 1,
            script: HARNESS.to_owned(),
            language: Language::Python,
            env_vars: BTreeMap::from([("PYTHONHASHSEED".to_owned(), "0".to_owned())]),
            inputs: BTreeMap::new(),
            time_limit: None,
        });
        loop {
            let (mut started, stdout) = self.process.open(&job, &inputs).await?;
            let (stopper, mut end) = Stopper::new();
            let logs = Logs::new(Arc::default());
            let watching = started.watch(&mut end, &logs, &self.limits);
            let (ended, left) = tokio::join!(watching, listen(stdout, relay, stop, &stopper));
            if ended.is_unmapped() && self.process.go_plain() {
                continue;
            }
            return Ok(left.unwrap_or_else(|| {
                let why = ended.summary();
                if why.starts_with("exit 0") {
                    return Left::Done;
                }
                let why = format!("the process of the function ended: {why}");
                Left::Died { why: head(&why, TEXT_BYTES).to_owned(), exact: true }
            }));
        }
    }
}

/// Passes on what the harness writes, until it has ended; makes it end where that is necessary, and
/// then says why.
async fn listen(
    stdout: ChildStdout,
    relay: &mut Relay,
    stop: &mut Stop,
    stopper: &Stopper,
) -> Option<Left> {
    let mut stdout = BufReader::with_capacity(256 << 10, stdout);
    let (mut line, mut reports, mut left) = (Vec::new(), Vec::new(), None);
    loop {
        let read = tokio::select! {
            read = stdout.read_until(b'\n', &mut line) => read,
            reason = stop.wait(), if left.is_none() => {
                stopper.stop(reason.clone());
                left = Some(Left::Stopped(reason.to_string()));
                continue;
            }
            () = sleep_until(relay.due()), if left.is_none() => {
                stopper.stop(StopReason::Cancelled("it is stuck".to_owned()));
                left = Some(Left::Stuck);
                continue;
            }
        };
        let over = !matches!(read, Ok(1..)) || !line.ends_with(b"\n");
        if !over && let Ok(said) = serde_json::from_slice::<Say>(&line) {
            reports.extend(said.reports);
        }
        line.clear();
        // What has been written meanwhile goes with it.
        let more = stdout.buffer().contains(&b'\n') && reports.len() < TOGETHER;
        if (over || !more) && !reports.is_empty() {
            let reports = std::mem::take(&mut reports);
            if let Err(reason) = relay.pass_on(reports, stop).await {
                stopper.stop(StopReason::Cancelled(reason.clone()));
                left.get_or_insert(Left::Stopped(reason));
            }
        }
        if over {
            return left;
        }
    }
}

impl Passes for Python {
    async fn pass(&self, relay: &mut Relay, stop: &mut Stop) -> Left {
        self.converse(relay, stop).await.unwrap_or_else(Left::Unable)
    }
}

impl FunctionExecutor for Python {
    fn run(
        &self,
        batch: SliceBatch,
        stop: Stop,
        reports: mpsc::Sender<Vec<SliceReport>>,
    ) -> BoxFuture<'_, Result<(), String>> {
        relay::see_through(self, batch, stop, reports).boxed()
    }

    fn is_there(&self) -> BoxFuture<'_, bool> {
        self.process.is_there().boxed()
    }
}

/// Compiles standard input, within limits of its own; the last line says what is wrong.
const CHECK: &str = r#"
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import ast
source = sys.stdin.buffer.read()
try:
    try:
        compile(source, "work.py", "eval")
    except SyntaxError:
        body = ast.parse(source, "work.py").body
        compile(source, "work.py", "exec")
        if not body or not isinstance(body[-1], (ast.FunctionDef, ast.AsyncFunctionDef)):
            sys.exit("must be a lambda expression, or end with a def")
except SyntaxError as error:
    sys.exit("%s (line %s)" % (error.msg, error.lineno))
except BaseException as error:
    if isinstance(error, SystemExit): raise
    sys.exit("%s: %s" % (type(error).__name__, error))
"#;

/// The program, looked up once it is there.
pub(super) fn find() -> Option<PathBuf> {
    static FOUND: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut found = FOUND.lock();
    if found.is_none() {
        *found = process::find("python3", &env::var_os("PATH").unwrap_or_default());
    }
    found.clone()
}

/// Whether a source is a function.
pub(super) fn check(source: &str) -> Result<(), String> {
    let Some(program) = find() else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(["-I", "-S", "-c", CHECK]).env_clear();
    command.env("PATH", env::var_os("PATH").unwrap_or_default());
    command.envs(env::var_os("HOME").map(|home| ("HOME", home)));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    // A Python that cannot be started now says nothing about the source.
    let Ok(mut child) = command.spawn() else { return Ok(()) };
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(super::trim(source).as_bytes());
    }
    let Ok(output) = child.wait_with_output() else { return Ok(()) };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(head(last.unwrap_or("it cannot be compiled"), TEXT_BYTES).to_owned())
}
