//! Child processes of this binary that are kept for the next piece of work.
//!
//! What may overflow the stack, fill the memory or never end, and cannot be stopped within a process,
//! runs in one of these. Such a process starts nothing itself, and ends when its standard input
//! closes, so it needs no supervisor. Both sides write JSON, one object per line.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::supervisor;

/// Pieces of work that one process does before it is replaced.
const USES: u32 = 10_000;

/// Processes of one stage of the supervisor.
#[derive(Debug)]
pub(super) struct Pool {
    binary: PathBuf,
    stage: &'static str,
    arguments: Vec<String>,
    most_idle: usize,
    idle: Mutex<Vec<Worker>>,
}

/// One process, with a piece of work.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    uses: u32,
    /// What was read of the line that is being read, or the line that was read last.
    line: Vec<u8>,
}

impl Pool {
    /// Processes of `binary`, a `muster` binary; at most so many are kept while nothing is to be done.
    pub(super) fn new(
        binary: PathBuf,
        stage: &'static str,
        arguments: Vec<String>,
        most_idle: usize,
    ) -> Self {
        Self { binary, stage, arguments, most_idle, idle: Mutex::default() }
    }

    fn start(&self) -> io::Result<Worker> {
        let mut command = Command::new(&self.binary);
        command.args([supervisor::ARGUMENT, self.stage]).args(&self.arguments);
        // The allocator would reserve more address space at once than the limit leaves.
        command
            .env_clear()
            .env("MIMALLOC_ARENA_RESERVE", "0")
            .current_dir("/")
            .process_group(0)
            .kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let missing = || io::Error::other("no pipe");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        Ok(Worker { child, stdin, stdout, uses: 0, line: Vec::new() })
    }

    /// A process that has been sent the line.
    pub(super) async fn ask(&self, line: &[u8]) -> io::Result<Worker> {
        loop {
            let idle = self.idle.lock().pop();
            let fresh = idle.is_none();
            let mut worker = idle.map_or_else(|| self.start(), Ok)?;
            // One that was idle may have been killed since: the next one, or a new one, is asked.
            match worker.stdin.write_all(line).await {
                Ok(()) => return Ok(worker),
                Err(err) if fresh => return Err(err),
                Err(_) => {}
            }
        }
    }

    /// Takes back a process that has done its work.
    pub(super) fn keep(&self, mut worker: Worker) {
        worker.uses += 1;
        let mut idle = self.idle.lock();
        if worker.uses < USES && idle.len() < self.most_idle {
            idle.push(worker);
        }
    }
}

impl Worker {
    /// The next line that it writes; none when it ends before. Nothing is lost on cancellation.
    pub(super) async fn hear(&mut self) -> Option<&[u8]> {
        if self.line.ends_with(b"\n") {
            self.line.clear();
        }
        self.stdout.read_until(b'\n', &mut self.line).await.ok()?;
        self.line.ends_with(b"\n").then_some(&self.line)
    }

    /// Sends it one more line.
    pub(super) async fn say(&mut self, line: &[u8]) -> io::Result<()> {
        self.stdin.write_all(line).await
    }

    /// Makes sure that it ends, and says how it did.
    pub(super) async fn end(mut self) -> io::Result<ExitStatus> {
        let _ = self.child.start_kill();
        self.child.wait().await
    }
}

/// A value as a line of JSON.
pub(super) fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}
