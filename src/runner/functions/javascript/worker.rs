//! The process that JavaScript runs in.

use std::io::{BufRead, Write, stdin, stdout};
use std::process::{ExitCode, exit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

use nix::sys::resource::{Resource, setrlimit};
use serde::{Deserialize, Serialize};

use super::super::funnel::Funnel;
use super::interpreter::{Bounds, Interpreter};
use crate::model::slices::{SliceBatch, SliceReport};
use crate::runner::pool::line;

/// Stack of the thread that evaluates, bytes.
const STACK: usize = 16 << 20;
/// Address space besides what JavaScript may take, bytes: the program, its stacks, and slices in
/// and out.
const BESIDES: u64 = 1 << 30;

/// What the process is asked.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// To call a function.
    Run { batch: Box<SliceBatch>, cautious: bool },
    /// To stop what it does.
    Stop,
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Say {
    /// Reports on slices, in the order in which they came about.
    Reports(Vec<SliceReport>),
    /// The batch has come to its end, or was stopped.
    Done,
    /// Nothing could be begun.
    Unable(String),
}

/// A process for JavaScript: `memory bytes, result bytes`.
pub(in crate::runner) fn main(
    mut args: impl Iterator<Item = std::ffi::OsString>,
) -> Option<ExitCode> {
    let mut number = || args.next()?.to_str()?.parse::<u64>().ok();
    let (memory, result) = (number()?, number()?);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    if memory > 0 {
        let all = memory.saturating_add(BESIDES);
        let _ = setrlimit(Resource::RLIMIT_AS, all, all);
    }
    let bounds = Bounds { memory: memory.try_into().ok()?, result: result.try_into().ok()? };
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, asked) = sync_channel::<Ask>(1);
    let asked_to_stop = Arc::clone(&stop);
    let evaluate = move || {
        let Ok(funnel) = Funnel::new(stdout()).map(Arc::new) else { return };
        let mut interpreter = Interpreter::new(bounds, asked_to_stop, Arc::clone(&funnel));
        for ask in asked {
            let answer = match ask {
                Ask::Run { batch, cautious } => run(&mut interpreter, &funnel, &batch, cautious),
                Ask::Stop => continue,
            };
            say(&answer);
        }
    };
    let evaluating = thread::Builder::new().stack_size(STACK).spawn(evaluate).ok()?;
    let mut input = stdin().lock();
    let mut text = Vec::new();
    // The end of the input is the end of the runner: nothing is waited for.
    while matches!(input.read_until(b'\n', &mut text), Ok(1..)) && !evaluating.is_finished() {
        match serde_json::from_slice(&text) {
            Ok(Ask::Stop) => stop.store(true, Ordering::Relaxed),
            Ok(ask) => {
                // Here, and not where it starts, so that it stays in order with requests to stop.
                stop.store(false, Ordering::Relaxed);
                if sender.send(ask).is_err() {
                    break;
                }
            }
            Err(_) => break,
        }
        text.clear();
    }
    exit(0)
}

fn run(interpreter: &mut Interpreter, funnel: &Funnel, batch: &SliceBatch, cautious: bool) -> Say {
    let ran = interpreter.run(batch, cautious);
    // Whatever it holds is written before the last word.
    funnel.flush();
    match ran {
        Ok(()) => Say::Done,
        Err(err) => Say::Unable(err.to_string()),
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
