//! JavaScript, in QuickJS, in processes of this binary: neither a crash nor a hoard of memory takes a
//! runner down.

mod interpreter;
mod realm;
mod source;
mod teller;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rquickjs::{Context, Error, Runtime};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::super::executor::{Limits, Stop};
use super::super::pool::{Pool, Worker, line};
use super::FunctionExecutor;
use super::relay::{self, Left, Passes, Relay, Rest};
use crate::model::slices::{SliceBatch, SliceReport};
use worker::Say;
pub(in crate::runner) use worker::main;

/// The stage of [`ARGUMENT`](super::super::supervisor::ARGUMENT) that runs JavaScript.
pub(in crate::runner) const STAGE: &str = "javascript";
/// Memory and stack for a source to be compiled, bytes.
const CHECK: (usize, usize) = (64 << 20, 256 << 10);

/// Calls functions in JavaScript.
#[derive(Debug)]
pub struct JavaScript {
    pool: Pool,
    grace: Duration,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Ask<'a> {
    Run { batch: Rest<'a>, cautious: bool },
    Stop,
}

impl JavaScript {
    /// One whose processes are of `binary`, a `muster` binary.
    pub fn new(limits: &Limits, binary: PathBuf) -> Self {
        let arguments = vec![limits.function_bytes.to_string(), limits.value_bytes.to_string()];
        let pool = Pool::new(binary, STAGE, arguments, limits.idle_functions);
        Self { pool, grace: limits.grace }
    }

    /// Asks it to stop, and passes on what it still has to say.
    async fn stop(&self, mut worker: Worker, relay: &mut Relay, reason: String) -> Left {
        // Nothing is left that could interrupt this but its own limit.
        let (_never, mut unstopped) = super::super::executor::Stopper::new();
        let rest = async {
            worker.say(&line(&Ask::Stop).ok()?).await.ok()?;
            while let Say::Reports(reports) = hear(&mut worker).await? {
                relay.pass_on(reports, &mut unstopped).await.ok()?;
            }
            Some(())
        };
        if timeout(self.grace, rest).await == Ok(Some(())) {
            self.pool.keep(worker);
        }
        Left::Stopped(reason)
    }
}

impl Passes for JavaScript {
    async fn pass(&self, relay: &mut Relay, stop: &mut Stop) -> Left {
        let ask = Ask::Run { batch: relay.rest(), cautious: relay.is_cautious() };
        let asked = match line(&ask) {
            Ok(line) => self.pool.ask(&line).await,
            Err(err) => Err(err),
        };
        let mut worker = match asked {
            Ok(worker) => worker,
            Err(err) => {
                return Left::Unable(format!("a process for JavaScript does not start: {err}"));
            }
        };
        loop {
            let said = tokio::select! {
                said = hear(&mut worker) => said,
                reason = stop.wait() => return self.stop(worker, relay, reason.to_string()).await,
                () = sleep_until(relay.due()) => {
                    let _ = worker.end().await;
                    return Left::Stuck;
                }
            };
            match said {
                Some(Say::Reports(reports)) => {
                    if let Err(reason) = relay.pass_on(reports, stop).await {
                        return self.stop(worker, relay, reason).await;
                    }
                }
                Some(Say::Done) => {
                    self.pool.keep(worker);
                    return Left::Done;
                }
                Some(Say::Unable(why)) => return Left::Unable(why),
                None => return Left::Died { why: death(worker).await, exact: false },
            }
        }
    }
}

impl FunctionExecutor for JavaScript {
    fn run(
        &self,
        batch: SliceBatch,
        stop: Stop,
        reports: mpsc::Sender<Vec<SliceReport>>,
    ) -> BoxFuture<'_, Result<(), String>> {
        relay::see_through(self, batch, stop, reports).boxed()
    }

    fn is_there(&self) -> BoxFuture<'_, bool> {
        std::future::ready(true).boxed()
    }
}

async fn hear(worker: &mut Worker) -> Option<Say> {
    serde_json::from_slice(worker.hear().await?).ok()
}

async fn death(worker: Worker) -> String {
    match worker.end().await {
        Ok(status) if status.code().is_none() => {
            format!("the function took too much memory or nests too deeply ({status})")
        }
        Ok(status) => format!("the process of the function ended by itself ({status})"),
        Err(err) => format!("the process of the function was lost: {err}"),
    }
}

/// Whether a source is one expression; it is compiled, and not executed.
pub(super) fn check(source: &str) -> Result<(), String> {
    let source = super::trim(source);
    if source.is_empty() {
        return Err("the function is empty".to_owned());
    }
    let unable = |err: Error| err.to_string();
    let runtime = Runtime::new().map_err(unable)?;
    runtime.set_memory_limit(CHECK.0);
    runtime.set_max_stack_size(CHECK.1);
    let context = Context::full(&runtime).map_err(unable)?;
    context.with(|ctx| {
        // The first statement throws, so nothing after it is executed, whatever it is. No text that is
        // more than one expression fits into both kinds of brackets.
        for (open, close) in [("(", ")"), ("[", "]")] {
            let code = format!("throw 0;{open}{source}\n{close}");
            let thrown = match ctx.eval_with_options::<(), _>(code, interpreter::sloppy()) {
                Err(Error::Exception) => ctx.catch(),
                Err(err) => return Err(err.to_string()),
                Ok(()) => return Err("it does not parse".to_owned()),
            };
            if thrown.as_int() != Some(0) {
                let message = thrown.as_object().and_then(|e| e.get::<_, String>("message").ok());
                return Err(message.unwrap_or_else(|| "it does not parse".to_owned()));
            }
        }
        Ok(())
    })
}
