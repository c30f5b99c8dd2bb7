//! Puts reports together on their way out of a process: the first leaves at once, and while more
//! come, so many at a time that writing them costs little, but none waits long.

use std::io::Write;
use std::mem;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use serde::Serialize;

/// Between two writes, unless there is much.
const GATHER: Duration = Duration::from_millis(10);
/// Bytes that are written without waiting for more.
const MUCH: usize = 256 << 10;
/// Bytes that wait at most, but for one report: whoever has more waits.
const MOST: usize = 1 << 20;

/// Where reports go in; a thread of its own writes them.
#[derive(Debug)]
pub(super) struct Funnel {
    shared: Arc<Shared>,
    writing: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write, or much of it.
    filled: Condvar,
    /// Something was written.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    hurry: bool,
    writing: bool,
    closed: bool,
    broken: bool,
}

impl Funnel {
    /// Writes to `out`, one line `{"reports":[…]}` at a time.
    pub(super) fn new(out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let writing = thread::Builder::new().name("reports".into());
        let writing = Some(writing.spawn(move || theirs.write(out))?);
        Ok(Self { shared, writing })
    }

    /// Adds a report that is JSON already.
    pub(super) fn push(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.shared.state.lock();
        while state.waiting.len() >= MOST && !state.broken {
            self.shared.emptied.wait(&mut state);
        }
        let before = state.waiting.len();
        if before > 0 {
            state.waiting.push(b',');
        }
        write(&mut state.waiting);
        if before == 0 || (before < MUCH && state.waiting.len() >= MUCH) {
            self.shared.filled.notify_one();
        }
    }

    /// Adds a report.
    pub(super) fn report(&self, report: &impl Serialize) {
        self.push(|line| {
            let before = line.len();
            if serde_json::to_writer(&mut *line, report).is_err() {
                line.truncate(before);
                line.extend_from_slice(b"null");
            }
        });
    }

    /// Waits until all of it is written.
    pub(super) fn flush(&self) {
        let mut state = self.shared.state.lock();
        while (!state.waiting.is_empty() || state.writing) && !state.broken {
            state.hurry = true;
            self.shared.filled.notify_one();
            self.shared.emptied.wait(&mut state);
        }
    }
}

impl Drop for Funnel {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.filled.notify_one();
        if let Some(writing) = self.writing.take() {
            let _ = writing.join();
        }
    }
}

impl Shared {
    fn write(&self, mut out: impl Write) {
        loop {
            let mut state = self.state.lock();
            while state.waiting.is_empty() {
                if state.closed {
                    return;
                }
                self.filled.wait(&mut state);
            }
            state.writing = true;
            state.hurry = false;
            let reports = mem::take(&mut state.waiting);
            drop(state);
            let done = (|| {
                out.write_all(b"{\"reports\":[")?;
                out.write_all(&reports)?;
                out.write_all(b"]}\n")?;
                out.flush()
            })();
            let mut state = self.state.lock();
            state.writing = false;
            state.broken |= done.is_err();
            self.emptied.notify_all();
            if state.broken {
                return;
            }
            if !state.hurry && !state.closed && state.waiting.len() < MUCH {
                self.rest(&mut state);
            }
        }
    }

    /// Lets more come together.
    fn rest(&self, state: &mut parking_lot::MutexGuard<'_, State>) {
        let until = tokio::time::Instant::now() + GATHER;
        loop {
            let timed_out = self.filled.wait_until(state, until.into_std()).timed_out();
            if timed_out || state.hurry || state.closed || state.waiting.len() >= MUCH {
                return;
            }
        }
    }
}
