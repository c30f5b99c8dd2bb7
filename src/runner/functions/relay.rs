//! Sees a batch through to its end, over as many processes as that takes.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::executor::Stop;
use crate::model::slices::{Slice, SliceBatch, SliceReport};

/// Beyond its time limit, for a slice to be stopped from within its process.
const PATIENCE: Duration = Duration::from_secs(2);
/// For a process to begin.
const BEGIN: Duration = Duration::from_secs(10);

/// How a process left the batch.
#[derive(Debug)]
pub(super) enum Left {
    /// At its end.
    Done,
    /// In the middle of a slice that could not be stopped: the process was ended.
    Stuck,
    /// It died.
    Died {
        /// Of what.
        why: String,
        /// Every slice before the one that it died of has been reported.
        exact: bool,
    },
    /// It was asked to stop, for this reason.
    Stopped(String),
    /// It did not begin; nor would another.
    Unable(String),
}

/// Starts processes that work on what is left of a batch.
pub(super) trait Passes: Sync {
    /// Goes over what is left, and reports.
    fn pass(&self, relay: &mut Relay, stop: &mut Stop) -> impl Future<Output = Left> + Send;
}

/// A batch, and how far it has come.
#[derive(Debug)]
pub(super) struct Relay {
    batch: SliceBatch,
    done: usize,
    cautious: bool,
    due: Instant,
    reports: mpsc::Sender<Vec<SliceReport>>,
}

/// What is left of a batch, for a process.
#[derive(Debug, Serialize)]
pub(super) struct Rest<'a> {
    pub(super) function: &'a str,
    pub(super) args: &'a RawValue,
    pub(super) public: &'a RawValue,
    pub(super) slice_seconds: f64,
    pub(super) slices: &'a [Slice],
}

impl Relay {
    /// What is left.
    pub(super) fn rest(&self) -> Rest<'_> {
        let SliceBatch { function, args, public, slice_seconds, slices } = &self.batch;
        let slices = slices.get(self.done..).unwrap_or_default();
        Rest { function, args, public, slice_seconds: *slice_seconds, slices }
    }

    /// A process before died in a place that is not known: each result is to be written before the next
    /// slice begins.
    pub(super) const fn is_cautious(&self) -> bool {
        self.cautious
    }

    /// When the process is to be given up, unless another slice ends before.
    pub(super) const fn due(&self) -> Instant {
        self.due
    }

    /// Hands reports on; those on slices that are not next are left out.
    ///
    /// # Errors
    /// With the reason to stop, where that came first.
    pub(super) async fn pass_on(
        &mut self,
        mut reports: Vec<SliceReport>,
        stop: &mut Stop,
    ) -> Result<(), String> {
        reports.retain(|report| match report {
            SliceReport::Finished { number, .. } | SliceReport::Failed { number, .. } => {
                let next = self.batch.slices.get(self.done).map(|slice| slice.number);
                let fits = next == Some(*number);
                self.done += usize::from(fits);
                fits
            }
            _ => true,
        });
        let sent = if reports.is_empty() { Ok(()) } else { self.send(reports, stop).await };
        // Time that others took does not count.
        self.due = Instant::now() + self.patience();
        sent
    }

    async fn send(&self, reports: Vec<SliceReport>, stop: &mut Stop) -> Result<(), String> {
        tokio::select! {
            biased;
            sent = self.reports.send(reports) => {
                sent.map_err(|_| "nobody takes reports on it".to_owned())
            }
            reason = stop.wait() => Err(reason.to_string()),
        }
    }

    fn patience(&self) -> Duration {
        let limit = Duration::try_from_secs_f64(self.batch.slice_seconds);
        // Beyond a year there is no limit that a clock could hold.
        limit.unwrap_or(Duration::MAX).min(Duration::from_secs(31_536_000)) + PATIENCE
    }

    fn is_done(&self) -> bool {
        self.done >= self.batch.slices.len()
    }

    async fn fail_next(
        &mut self,
        name: &str,
        message: String,
        stop: &mut Stop,
    ) -> Result<(), String> {
        let Some(next) = self.batch.slices.get(self.done) else { return Ok(()) };
        let (number, name) = (next.number, name.to_owned());
        let seconds = if name == "TimeoutError" { self.batch.slice_seconds } else { 0.0 };
        self.pass_on(vec![SliceReport::Failed { number, name, message, seconds }], stop).await
    }
}

/// Goes over a batch until each of its slices has been reported.
///
/// # Errors
/// When it was stopped, or nothing can be started.
pub(super) async fn see_through(
    passes: &impl Passes,
    batch: SliceBatch,
    mut stop: Stop,
    reports: mpsc::Sender<Vec<SliceReport>>,
) -> Result<(), String> {
    let mut relay = Relay { batch, done: 0, cautious: false, due: Instant::now(), reports };
    while !relay.is_done() {
        relay.due = Instant::now() + relay.patience() + BEGIN;
        let before = relay.done;
        match passes.pass(&mut relay, &mut stop).await {
            Left::Done if relay.is_done() => {}
            Left::Done => {
                if relay.done == before {
                    return Err("the process did not do what it was asked to".to_owned());
                }
            }
            Left::Stuck => {
                let limit = relay.batch.slice_seconds;
                let message = format!("the slice took longer than {limit} s");
                relay.fail_next("TimeoutError", message, &mut stop).await?;
            }
            Left::Died { why, exact } => {
                let alone = relay.batch.slices.len() - relay.done == 1;
                if exact || relay.cautious || alone {
                    relay.fail_next("CrashError", why, &mut stop).await?;
                } else {
                    relay.cautious = true;
                }
            }
            Left::Stopped(reason) | Left::Unable(reason) => return Err(reason),
        }
    }
    Ok(())
}
