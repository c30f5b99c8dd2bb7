//! What runs one attempt at a job: the trait, what goes in and what comes out.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::functions::Functions;
use super::logs::Logs;
use super::process::Process;
use super::protocol::Inputs;
use super::sandbox::Sandbox;
use super::supervisor;
use crate::model::slices::{FunctionLanguage, SliceBatch, SliceReport};
use crate::model::task::Language;

/// One attempt at a job, ready to be executed.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The tenant.
    pub context_id: u32,
    /// The actor that asked for the job.
    pub caller_id: u32,
    /// The job.
    pub job_id: u32,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The program.
    pub script: String,
    /// Its language.
    pub language: Language,
    /// Its environment.
    pub env_vars: BTreeMap<String, String>,
    /// The results of the jobs it depends on.
    pub inputs: Inputs,
    /// How long it may take; none: as long as it likes.
    pub time_limit: Option<Duration>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Finished {
        /// What it left.
        result: BTreeMap<String, String>,
    },
    /// Badly.
    Error {
        /// Why.
        error: String,
        /// What it left nevertheless.
        result: BTreeMap<String, String>,
    },
}

impl Outcome {
    /// A failure that left nothing.
    pub fn error(text: impl Into<String>) -> Self {
        Self::Error { error: text.into(), result: BTreeMap::new() }
    }
}

/// Runs attempts at jobs of one language.
pub trait Executor: fmt::Debug + Send + Sync {
    /// Runs one to its end, or until `stop` says so; writes its output to `logs` as it comes.
    ///
    /// Nothing that it started is left when it returns, nor, soon after, when it is dropped.
    fn run(&self, job: Assignment, stop: Stop, logs: Logs) -> BoxFuture<'_, Outcome>;
}

/// Why an attempt must stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It took longer than it may.
    TimedOut(Duration),
    /// It is no longer wanted.
    Cancelled(String),
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(limit) => write!(f, "timed out after {} s", limit.as_secs_f64()),
            Self::Cancelled(reason) => write!(f, "cancelled: {reason}"),
        }
    }
}

/// Tells one attempt to stop; dropping it does so too.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<Option<StopReason>>);

/// Hears of it.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Option<StopReason>>);

impl Stopper {
    /// A pair.
    pub fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), Stop(receiver))
    }

    /// Says so; only the first reason counts.
    pub fn stop(&self, reason: StopReason) {
        self.0.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason);
            }
            first
        });
    }
}

impl Stop {
    /// Waits until it is time to stop, and says why.
    pub async fn wait(&mut self) -> StopReason {
        let reason = self.0.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        reason.unwrap_or_else(|| StopReason::Cancelled("the runner is stopping".to_owned()))
    }
}

/// One executor per language, shared by every slot.
#[derive(Debug)]
pub struct Executors {
    by_language: BTreeMap<Language, Arc<dyn Executor>>,
    functions: Functions,
}

/// What jobs may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Address space of a process, bytes; 0 is no limit.
    pub memory_bytes: u64,
    /// Kept of each output stream, bytes: the last ones.
    pub output_bytes: usize,
    /// Largest result, bytes.
    pub result_bytes: usize,
    /// Between being asked to end and being killed.
    pub grace: Duration,
    /// Operations of a script.
    pub operations: u64,
    /// Script processes that are kept for the next script.
    pub idle_scripts: usize,
    /// Memory that a work function in JavaScript may take, bytes; 0 is no limit.
    pub function_bytes: u64,
    /// Largest result of one slice, bytes of JSON.
    pub value_bytes: usize,
    /// Processes for JavaScript that are kept for the next batch.
    pub idle_functions: usize,
    /// Put each job into a process namespace of its own where the system allows it.
    pub namespaces: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            output_bytes: 64 << 10,
            result_bytes: 1 << 20,
            grace: Duration::from_secs(1),
            operations: 2_000_000_000,
            idle_scripts: 64,
            function_bytes: 256 << 20,
            value_bytes: 4 << 20,
            idle_functions: 16,
            namespaces: true,
        }
    }
}

impl Executors {
    /// Executors whose processes are supervised by `supervisor`, a `muster` binary; none: this one.
    pub fn new(limits: &Limits, supervisor: Option<PathBuf>) -> Self {
        let supervisor = supervisor.unwrap_or_else(supervisor::own_binary);
        let script: Arc<dyn Executor> = Arc::new(Sandbox::new(limits.clone(), supervisor.clone()));
        let functions = Functions::new(limits, Some(supervisor.clone()));
        let python = Process::python(limits.clone(), supervisor.clone());
        let v = Process::v(limits.clone(), supervisor);
        let by_language = BTreeMap::from([
            (Language::Osis, Arc::clone(&script)),
            (Language::Sal, script),
            (Language::Python, Arc::new(python)),
            (Language::V, Arc::new(v)),
        ]);
        Self { by_language, functions }
    }

    /// These executors, whatever they are.
    pub fn of(by_language: BTreeMap<Language, Arc<dyn Executor>>, functions: Functions) -> Self {
        Self { by_language, functions }
    }

    /// What calls work functions.
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// Runs one attempt to its end, within its time limit.
    pub async fn execute(
        &self,
        job: Assignment,
        stopper: &Stopper,
        stop: Stop,
        logs: Logs,
    ) -> Outcome {
        let Some(executor) = self.by_language.get(&job.language) else {
            return Outcome::error(format!("this runner cannot run {:?}", job.language));
        };
        let limit = job.time_limit;
        within(limit, stopper, executor.run(job, stop, logs)).await
    }

    /// Calls a work function with a batch of slices, within a time limit; none: as long as it likes.
    pub async fn call(
        &self,
        (language, batch): (FunctionLanguage, SliceBatch),
        limit: Option<Duration>,
        stopper: &Stopper,
        stop: Stop,
        reports: mpsc::Sender<Vec<SliceReport>>,
    ) -> Outcome {
        let called = self.functions.run(language, batch, stop, reports);
        match within(limit, stopper, called.boxed()).await {
            Ok(()) => Outcome::Finished { result: BTreeMap::new() },
            Err(error) => Outcome::error(error),
        }
    }
}

/// Waits for it to end; tells it to stop when it takes too long.
async fn within<T>(limit: Option<Duration>, stopper: &Stopper, mut run: BoxFuture<'_, T>) -> T {
    let Some(limit) = limit else { return run.await };
    tokio::select! {
        outcome = &mut run => return outcome,
        () = sleep(limit.saturating_sub(head_start(limit))) => {
            stopper.stop(StopReason::TimedOut(limit));
        }
    }
    run.await
}

/// How much of a limit is left to stop and to report in: the coordinator gives an attempt up at
/// the same limit, and takes no report after that, nor the output that is in it.
fn head_start(limit: Duration) -> Duration {
    (limit / 20).min(Duration::from_millis(100))
}

/// The language that a value of `ScriptType` names.
pub fn language(script_type: &str) -> Option<Language> {
    Some(match script_type {
        "Osis" => Language::Osis,
        "Sal" => Language::Sal,
        "V" => Language::V,
        "Python" => Language::Python,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_to_stop_counts() {
        let (stopper, mut stop) = Stopper::new();
        stopper.stop(StopReason::TimedOut(Duration::from_millis(1_500)));
        stopper.stop(StopReason::Cancelled("late".into()));
        assert_eq!(stop.wait().await.to_string(), "timed out after 1.5 s");
    }

    #[test]
    fn some_of_a_limit_is_left_to_report_in() {
        for (limit, left) in [(1_000, 50), (2_000, 100), (3_600_000, 100), (0, 0)] {
            let (limit, left) = (Duration::from_millis(limit), Duration::from_millis(left));
            assert_eq!(head_start(limit), left);
        }
    }

    #[tokio::test]
    async fn a_dropped_stopper_stops() {
        let (stopper, mut stop) = Stopper::new();
        drop(stopper);
        assert!(matches!(stop.wait().await, StopReason::Cancelled(_)));
    }
}
