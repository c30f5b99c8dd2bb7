//! Jobs that are processes: Python, and V through its tool.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as Pair;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use nix::sys::signal::Signal;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::executor::{Assignment, Executor, Limits, Outcome, Stop, StopReason};
use super::logs::{Logs, Tail, head};
use super::workdir::{WorkDir, remove_stale};
use super::{reap, supervisor};

/// For what is left in the pipes when every process has gone.
const DRAIN: Duration = Duration::from_secs(2);
/// For the supervisor to clean up after it was told to.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// Runs jobs as supervised child processes.
#[derive(Debug)]
pub struct Process {
    tool: Tool,
    limits: Limits,
    supervisor: PathBuf,
    /// Namespaces were tried and cannot be used.
    plain: AtomicBool,
    program: OnceCell<PathBuf>,
}

/// The program that executes a language.
#[derive(Debug)]
struct Tool {
    program: &'static str,
    language: &'static str,
    arguments: &'static [&'static str],
    file: &'static str,
    /// What prints the path of the real program, where the one found is a wrapper script.
    real: Option<[&'static str; 2]>,
}

const PYTHON: Tool = Tool {
    program: "python3",
    language: "Python",
    // Unbuffered, so that lines arrive as they are written.
    arguments: &["-u"],
    file: "job.py",
    real: Some(["-c", "import sys; print(sys.executable)"]),
};

const V: Tool =
    Tool { program: "v", language: "V", arguments: &["run"], file: "job.v", real: None };

impl Process {
    /// Runs Python programs with `python3`.
    pub fn python(limits: Limits, supervisor: PathBuf) -> Self {
        Self::new(PYTHON, limits, supervisor)
    }

    /// Runs V programs with `v run`.
    pub fn v(limits: Limits, supervisor: PathBuf) -> Self {
        Self::new(V, limits, supervisor)
    }

    fn new(tool: Tool, limits: Limits, supervisor: PathBuf) -> Self {
        let plain = AtomicBool::new(!limits.namespaces);
        Self { tool, limits, supervisor, plain, program: OnceCell::new() }
    }

    /// The program, looked up once; a missing one is looked for again by every job.
    async fn program(&self) -> Result<&PathBuf, String> {
        let look = || async {
            let found = spawn_blocking(|| {
                remove_stale();
                env::var_os("PATH")
            });
            let path = found.await.ok().flatten().unwrap_or_default();
            let Tool { program, language, real, .. } = self.tool;
            let found = find(program, &path).ok_or_else(|| {
                format!(
                    "{program} is missing: this runner needs it on its PATH to run {language} jobs"
                )
            })?;
            Ok(match real {
                Some(question) if is_script(&found) => real_program(&found, question).await,
                _ => found,
            })
        };
        self.program.get_or_try_init(look).await
    }

    async fn execute(
        &self,
        job: Assignment,
        mut stop: Stop,
        logs: Logs,
    ) -> Result<Outcome, String> {
        let program = self.program().await?;
        let job = Arc::new(job);
        let inputs = Arc::new(serde_json::to_vec(&job.inputs).map_err(|e| e.to_string())?);
        let mut started = self.start(&job, &inputs, program).await?;
        let mut ended = started.watch(&mut stop, &logs, &self.limits).await;
        if ended.is_unmapped() && self.go_plain() {
            tracing::info!("no process namespaces here; jobs are watched over without");
            started = self.start(&job, &inputs, program).await?;
            ended = started.watch(&mut stop, &logs, &self.limits).await;
        }
        let (dir, most) = (started.dir, self.limits.result_bytes);
        // Dropping the directory removes it: that takes as long as the job made it.
        let read = spawn_blocking(move || dir.read("result", most));
        let read = read.await.map_err(|e| e.to_string())?;
        Ok(ended.judge(read))
    }

    /// Starts a program that finds `inputs` in the file that `MUSTER_INPUTS` names, and whose standard
    /// output the caller reads. A program that ends as [`Ended::is_unmapped`] is started again.
    pub(super) async fn open(
        &self,
        job: &Arc<Assignment>,
        inputs: &Arc<Vec<u8>>,
    ) -> Result<(Started, ChildStdout), String> {
        let program = self.program().await?;
        let mut started = self.start(job, inputs, program).await?;
        let stdout = started.child.stdout.take().ok_or("no pipe")?;
        Ok((started, stdout))
    }

    /// Whether the program is there.
    pub(super) async fn is_there(&self) -> bool {
        self.program().await.is_ok()
    }

    /// Notes that namespaces cannot be used; false when that was known.
    pub(super) fn go_plain(&self) -> bool {
        !self.plain.swap(true, Ordering::Relaxed)
    }

    async fn start(
        &self,
        job: &Arc<Assignment>,
        inputs: &Arc<Vec<u8>>,
        program: &Path,
    ) -> Result<Started, String> {
        let (supervisor, program) = (self.supervisor.clone(), program.to_owned());
        let (arguments, file) = (self.tool.arguments, self.tool.file);
        let plain = self.plain.load(Ordering::Relaxed);
        let memory_bytes = self.limits.memory_bytes;
        let (job, inputs) = (Arc::clone(job), Arc::clone(inputs));
        let start = move || -> io::Result<Started> {
            let dir = WorkDir::make()?;
            let script = dir.write(&format!("home/{file}"), job.script.as_bytes())?;
            let inputs = dir.write("inputs", &inputs)?;
            let (ours, theirs) = Pair::pair()?;
            ours.set_nonblocking(true)?;
            let told = supervisor::Job { dir: dir.path(), memory_bytes, plain };
            let mut command = Command::from(supervisor::command(&supervisor, &told));
            command.arg(program).args(arguments).arg(script);
            command.env_clear();
            let usable = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
            command.envs(job.env_vars.iter().filter(|(n, v)| usable(n) && !v.contains('\0')));
            if !job.env_vars.contains_key("PATH") {
                command.env("PATH", env::var_os("PATH").unwrap_or_default());
            }
            command.env("HOME", dir.home()).current_dir(dir.home());
            command.env("MUSTER_RESULT", dir.path().join("result")).env("MUSTER_INPUTS", inputs);
            command.env("MUSTER_JOB", job.job_id.to_string());
            command.env("MUSTER_ATTEMPT", job.attempt.to_string());
            command.stdin(Stdio::from(OwnedFd::from(theirs)));
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let child = command.spawn()?;
            Ok(Started { child, socket: UnixStream::from_std(ours)?, dir })
        };
        let started = spawn_blocking(start).await.map_err(|e| e.to_string())?;
        started.map_err(|err| format!("the job could not be started: {err}"))
    }
}

impl Executor for Process {
    fn run(&self, job: Assignment, stop: Stop, logs: Logs) -> BoxFuture<'_, Outcome> {
        let run = async { self.execute(job, stop, logs).await.unwrap_or_else(Outcome::error) };
        run.boxed()
    }
}

/// A supervisor and its job.
#[derive(Debug)]
pub(super) struct Started {
    child: Child,
    /// Dropping it ends the job and all that it started.
    socket: UnixStream,
    dir: WorkDir,
}

/// What is known of a job that ended.
#[derive(Debug)]
pub(super) struct Ended {
    status: String,
    stopped: Option<StopReason>,
    stdout: String,
    stderr: String,
}

impl Started {
    /// Waits until it has ended, asks it to when `stop` says so, and cleans up after it.
    pub(super) async fn watch(&mut self, stop: &mut Stop, logs: &Logs, limits: &Limits) -> Ended {
        let stdout = read(self.child.stdout.take(), "stdout", logs.clone(), limits.output_bytes);
        let stderr = read(self.child.stderr.take(), "stderr", logs.clone(), limits.output_bytes);
        let mut output = tokio::spawn(async move { tokio::join!(stdout, stderr) });
        let mut answer = Vec::new();
        let mut stopped = None;
        tokio::select! {
            () = self.answered(&mut answer) => {}
            reason = stop.wait() => {
                stopped = Some(reason);
                let _ = self.socket.write_all(b"t").await;
                let _ = timeout(limits.grace, self.answered(&mut answer)).await;
            }
        }
        // From here on nothing may be left: not of a job that ended well, either. Half closed only: a
        // supervisor that finds it closed altogether takes the runner for gone, and the directory away.
        let _ = self.socket.shutdown().await;
        let clean = match timeout(CLEAN_UP, self.child.wait()).await {
            Ok(status) => status.is_ok_and(|status| status.success()),
            Err(_) => false,
        };
        if !clean {
            // Its supervisors were killed, perhaps both at once. Their job's environment names its
            // directory, and so does that of whatever the job started.
            tracing::warn!(dir = %self.dir.path().display(), "a job lost its supervisor");
            let mark = self.dir.path().to_string_lossy().into_owned();
            let _ = spawn_blocking(move || reap::kill_marked(&mark)).await;
        }
        let read = timeout(DRAIN, &mut output).await;
        output.abort();
        let (stdout, stderr) = read.ok().and_then(Result::ok).unwrap_or_default();
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.lines().find(|line| !line.is_empty()).unwrap_or_default().to_owned();
        Ended { status, stopped, stdout, stderr }
    }

    /// Waits for the supervisor's line, or its end.
    async fn answered(&mut self, answer: &mut Vec<u8>) {
        let done = |answer: &[u8]| answer.len() > 1 && answer.ends_with(b"\n");
        while !done(answer) && answer.len() < 4_096 {
            match self.socket.read_buf(answer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

impl Ended {
    /// Nothing was executed: there cannot be a namespace here after all.
    pub(super) fn is_unmapped(&self) -> bool {
        self.status == "unmapped"
    }

    /// How it ended, with its last word.
    pub(super) fn summary(&self) -> String {
        match last_line(&self.stderr) {
            Some(line) => format!("{}: {line}", self.status),
            None => self.status.clone(),
        }
    }

    fn judge(self, read: io::Result<Option<Vec<u8>>>) -> Outcome {
        let Self { status, stopped, stdout, stderr } = self;
        let (word, detail) = status.split_once(' ').unwrap_or((&status, ""));
        let code = detail.parse::<i32>().ok();
        let (exit_code, how) = match (word, code) {
            ("exit", Some(code)) => (Some(code), (code != 0).then(|| format!("exit code {code}"))),
            ("signal", Some(number)) => {
                let name = Signal::try_from(number).map_or("an unknown signal", Signal::as_str);
                (Some(128 + number), Some(format!("killed by signal {number} ({name})")))
            }
            ("failed", _) => (None, Some(format!("the job could not be started: {detail}"))),
            _ => (None, Some("the job was killed together with what watched over it".to_owned())),
        };
        let (mut result, unreadable) = match read.map_err(|e| e.to_string()).and_then(parse) {
            Ok(result) => (result, None),
            Err(why) => {
                (BTreeMap::new(), Some(format!("MUSTER_RESULT is not a JSON object: {why}")))
            }
        };
        let error = match (stopped, how) {
            (Some(reason), _) => Some(reason.to_string()),
            (None, Some(how)) => Some(match last_line(&stderr) {
                Some(line) => format!("{how}: {line}"),
                None => how,
            }),
            (None, None) => unreadable,
        };
        result.extend(exit_code.map(|code| ("exit_code".to_owned(), code.to_string())));
        result.insert("stdout".to_owned(), stdout);
        result.insert("stderr".to_owned(), stderr);
        match error {
            Some(error) => Outcome::Error { error, result },
            None => Outcome::Finished { result },
        }
    }
}

fn last_line(text: &str) -> Option<&str> {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(if line.len() > 1_000 { head(line, 1_000) } else { line })
}

/// The result file: an object, whose values that are not strings become JSON text.
fn parse(content: Option<Vec<u8>>) -> Result<BTreeMap<String, String>, String> {
    let content = content.unwrap_or_default();
    if content.is_empty() {
        return Ok(BTreeMap::new());
    }
    let object: Map<String, Value> =
        serde_json::from_slice(&content).map_err(|err| err.to_string())?;
    let text = |value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(object.into_iter().map(|(key, value)| (key, text(value))).collect())
}

async fn read(
    from: Option<impl AsyncRead + Unpin + Send + 'static>,
    stream: &'static str,
    logs: Logs,
    most: usize,
) -> String {
    let mut tail = Tail::new(most);
    let Some(mut from) = from else { return String::new() };
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        tail.push(buffer.get(..count).unwrap_or_default(), |line| logs.line(stream, line));
    }
    tail.finish(|line| logs.line(stream, line))
}

/// The first file of that name on the path that may be executed.
pub(super) fn find(program: &str, path: &OsString) -> Option<PathBuf> {
    let executable = |file: &PathBuf| {
        let metadata = file.metadata().ok();
        metadata.is_some_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(path).map(|dir| dir.join(program)).find(executable)
}

fn is_script(program: &Path) -> bool {
    let mut start = [0; 2];
    let read =
        std::fs::File::open(program).and_then(|mut file| io::Read::read(&mut file, &mut start));
    read.is_ok() && start == *b"#!"
}

/// Wrappers of version managers take longer than many a job; asks one what it stands for.
async fn real_program(wrapper: &Path, question: [&str; 2]) -> PathBuf {
    let mut command = Command::new(wrapper);
    command.args(question).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let answer = timeout(Duration::from_secs(10), command.output()).await;
    let answer = answer.ok().and_then(Result::ok).map(|output| output.stdout).unwrap_or_default();
    let real = PathBuf::from(String::from_utf8_lossy(&answer).trim());
    if real.is_absolute() && real.is_file() { real } else { wrapper.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: &str, stderr: &str) -> Ended {
        Ended { status: status.into(), stopped: None, stdout: "out".into(), stderr: stderr.into() }
    }

    fn error(outcome: Outcome) -> String {
        match outcome {
            Outcome::Error { error, .. } => error,
            Outcome::Finished { result } => panic!("finished: {result:?}"),
        }
    }

    #[test]
    fn the_result_file_becomes_strings() {
        let file = br#"{"a":"b","n":1.50,"list":[1,"x"],"none":null}"#.to_vec();
        let Outcome::Finished { result } = ended("exit 0", "").judge(Ok(Some(file))) else {
            panic!("finished")
        };
        let expected = [
            ("a", "b"),
            ("exit_code", "0"),
            ("list", r#"[1,"x"]"#),
            ("n", "1.5"),
            ("none", "null"),
            ("stderr", ""),
            ("stdout", "out"),
        ];
        assert_eq!(result, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn every_bad_end_says_how() {
        let judge = |status, stderr| error(ended(status, stderr).judge(Ok(None)));
        assert_eq!(judge("exit 3", "a\nValueError: b\n\n"), "exit code 3: ValueError: b");
        assert_eq!(judge("signal 9", ""), "killed by signal 9 (SIGKILL)");
        assert_eq!(judge("failed no", ""), "the job could not be started: no");
        assert!(judge("", "").contains("watched over"));
        let text = error(ended("exit 0", "").judge(Ok(Some(b"[1]".to_vec()))));
        assert!(text.starts_with("MUSTER_RESULT is not a JSON object"), "{text}");
        let text = error(ended("exit 0", "").judge(Err(io::Error::other("larger than 5 bytes"))));
        assert!(text.ends_with("larger than 5 bytes"), "{text}");
    }

    #[test]
    fn a_program_is_found_where_it_may_be_executed() {
        assert!(find("sh", &"/nowhere:/bin:/usr/bin".into()).is_some());
        assert!(find("passwd", &"/etc".into()).is_none());
    }
}
