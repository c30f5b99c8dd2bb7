//! One attempt that a runner was given: a job, or a batch of slices; and the way it takes to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc};

use super::executor::{self, Assignment, Executors, Outcome, Stop, StopReason, Stopper};
use super::logs::Logs;
use super::protocol::{Attempt, CarriedJob};
use crate::model::Millis;
use crate::model::slices::{FunctionLanguage, SliceBatch, SliceReport};

/// Bundles of reports on slices of one attempt that wait to be sent: what has more waits.
pub(super) const RESULTS: usize = 8;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Work {
    Job(Box<Assignment>),
    Slices { language: FunctionLanguage, batch: Box<SliceBatch>, time_limit: Option<Duration> },
}

/// What an attempt under way is told by, and says things with.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) stopper: Stopper,
    pub(super) stop: Stop,
    pub(super) logs: Logs,
    pub(super) results: Results,
}

/// Takes reports on slices to the outbox.
#[derive(Debug)]
pub(super) struct Results {
    pub(super) sender: mpsc::Sender<Vec<SliceReport>>,
    pub(super) wake: Arc<Notify>,
}

impl Work {
    /// What an attempt amounts to.
    ///
    /// # Errors
    /// When its language is not known here.
    pub(super) fn of(
        context_id: u32,
        job: CarriedJob,
        attempt: Attempt,
        now: Millis,
    ) -> Result<Self, String> {
        let unknown = || format!("this runner does not know {}", job.script_type);
        // The clocks of two machines differ: the job's own limit is the better measure.
        let left = |at: Millis| Duration::from_millis(at.saturating_sub(now));
        let time_limit = match job.timeout {
            0 => attempt.deadline_at.map(left),
            seconds => Some(Duration::from_secs(seconds.into())),
        };
        if let Some(batch) = attempt.slices {
            let mut known = FunctionLanguage::ALL.into_iter();
            let language = known.find(|known| known.as_str() == job.script_type);
            return Ok(Self::Slices { language: language.ok_or_else(unknown)?, batch, time_limit });
        }
        let language = executor::language(&job.script_type).ok_or_else(unknown)?;
        Ok(Self::Job(Box::new(Assignment {
            context_id,
            caller_id: job.caller_id,
            job_id: job.id,
            attempt: attempt.attempt,
            script: job.script,
            language,
            env_vars: attempt.env_vars,
            inputs: attempt.inputs,
            time_limit,
        })))
    }

    /// Does it, as soon as there is a permit.
    pub(super) async fn execute(
        self,
        executors: &Executors,
        permits: &Semaphore,
        (begin, token): (mpsc::Sender<String>, &str),
        mut way: Way,
    ) -> Outcome {
        let permit = tokio::select! {
            permit = permits.acquire() => permit,
            reason = way.stop.wait() => return Outcome::error(reason.to_string()),
        };
        let Ok(_permit) = permit else {
            let reason = StopReason::Cancelled("the runner is stopping".into());
            return Outcome::error(reason.to_string());
        };
        let _ = begin.send(token.to_owned()).await;
        let Way { stopper, stop, logs, results } = way;
        match self {
            Self::Job(job) => executors.execute(*job, &stopper, stop, logs).await,
            Self::Slices { language, batch, time_limit } => {
                let (sender, receiver) = mpsc::channel(1);
                let called = executors.call((language, *batch), time_limit, &stopper, stop, sender);
                // All of it is in the outbox before the end is.
                tokio::join!(called, results.carry(receiver)).0
            }
        }
    }
}

impl Results {
    async fn carry(self, mut from: mpsc::Receiver<Vec<SliceReport>>) {
        while let Some(reports) = from.recv().await {
            if self.sender.send(reports).await.is_err() {
                return;
            }
            self.wake.notify_one();
        }
    }
}
