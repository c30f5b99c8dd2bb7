//! What runners say about their attempts.

use std::sync::Arc;

use super::delivered::Delivered;
use super::memory::GroupId;
use super::plan::job_subject;
use super::token::Token;
use super::turn::{Live, LiveLine, Turn};
use crate::model::Triple;
use crate::model::task::{AttemptState, Fence, Input};
use crate::store::{ATTEMPTS, AttemptRow, LOGS, LogRow, TASKS};
use crate::{Error, Result};

/// Log lines kept of a job; later ones are only seen live.
const JOB_LOG_LINES: u32 = 10_000;

/// One report, read and checked outside the engine.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it is about.
    pub token: Token,
    /// How the attempt stands.
    pub verdict: Verdict,
    /// Log lines since the report before: stream and text.
    pub logs: Vec<(String, String)>,
    /// What has come of slices since the report before.
    pub slices: Option<Delivered>,
}

/// How an attempt stands, as its runner says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The runner has it.
    Acknowledged,
    /// Work began.
    Started,
    /// Ended well, leaving this: the text of a JSON object of strings, unless it is empty.
    Finished {
        /// What it left.
        result: Option<String>,
    },
    /// Ended badly.
    Error {
        /// Why.
        error: String,
        /// What it left and `error`, as the text of a JSON object of strings.
        result: String,
    },
}

impl Turn<'_> {
    /// Takes a report of a runner.
    ///
    /// The final report of an attempt may be repeated; that changes nothing.
    ///
    /// # Errors
    /// [`Error::Stale`] when the token is not the runner's current one.
    pub fn report(&mut self, runner: (u32, u32), report: &Report) -> Result<()> {
        let token = report.token;
        if token.job.0 != runner.0 {
            return Err(Error::Stale);
        }
        let fence = token.fence(runner.1);
        // A detached runner may report too: what it has in hand is still its own.
        self.heard_of(runner);
        if !self.holds(token, runner.1) && !self.adopt(token, runner.1)? {
            return self.accept_repeated(token.job, fence, &report.verdict);
        }
        let Some(at) = self.memory.by_job.get(&token.job).copied() else {
            return Err(Error::Stale);
        };
        self.keep_logs(at, token, &report.logs)?;
        if let Some(slices) = &report.slices {
            self.take_slices(at.0, token, slices)?;
        }
        match &report.verdict {
            Verdict::Acknowledged => self.advance(at, Input::Acknowledge(fence), None),
            Verdict::Started => self.advance(at, Input::Start(fence), None),
            Verdict::Finished { result } => {
                self.advance(at, Input::Finish(fence), result.as_deref())
            }
            Verdict::Error { error, result } => {
                self.advance(at, Input::Fail { fence, error: error.clone() }, Some(result))
            }
        }
    }

    /// Accepts what was said before about an attempt that has ended by a report.
    fn accept_repeated(&self, job: Triple, fence: Fence, verdict: &Verdict) -> Result<()> {
        let Some(known) = self.attempt_row(job, fence.attempt)? else { return Err(Error::Stale) };
        let same = (known.runner_id, known.nonce) == (fence.runner, fence.nonce);
        let fits = match verdict {
            Verdict::Finished { .. } => known.state == AttemptState::Finished,
            Verdict::Error { .. } => known.state == AttemptState::Error,
            // Sent before the final report, and overtaken by it.
            Verdict::Acknowledged | Verdict::Started => {
                matches!(known.state, AttemptState::Finished | AttemptState::Error)
            }
        };
        let reported = known.withdrawn != Some(true);
        if same && fits && reported { Ok(()) } else { Err(Error::Stale) }
    }

    fn attempt_row(&self, job: Triple, attempt: u32) -> Result<Option<AttemptRow>> {
        let last = self.get(TASKS, &job)?.and_then(|row| row.attempt);
        match last {
            Some(last) if last.attempt == attempt => Ok(Some(last)),
            _ => Ok(self.get(ATTEMPTS, &(job.0, job.1, job.2, attempt))?),
        }
    }

    fn keep_logs(
        &mut self,
        at: (GroupId, u32),
        token: Token,
        logs: &[(String, String)],
    ) -> Result<()> {
        if logs.is_empty() {
            return Ok(());
        }
        self.touch();
        let (context, caller, id) = token.job;
        let now = self.now;
        let Some(group) = self.memory.groups.get_mut(&at.0) else { return Ok(()) };
        let extra = group.extras.entry(at.1).or_default();
        let first = extra.log_lines;
        let kept = JOB_LOG_LINES.saturating_sub(first);
        let count = u32::try_from(logs.len()).unwrap_or(u32::MAX).min(kept);
        extra.log_lines = first.saturating_add(count);
        for (number, (stream, line)) in (first..extra.log_lines).zip(logs) {
            let (stream, line) = (stream.clone(), line.clone());
            let row = LogRow { at: now, attempt: token.attempt, stream, line };
            self.tx.put(LOGS, &(context, caller, id, number), &row)?;
        }
        self.write_task(at, None)?;
        let lines: Vec<String> = logs.iter().map(|(_, line)| line.clone()).collect();
        self.log_to_message(at.0, &lines)?;
        if self.live.receiver_count() > 0 {
            let live = logs.iter().map(|(stream, line)| {
                Live::Line(LiveLine {
                    job: token.job,
                    at: now,
                    attempt: token.attempt,
                    stream: stream.clone(),
                    line: line.clone(),
                })
            });
            self.lines.extend(live);
        }
        Ok(())
    }
}

impl LiveLine {
    /// The line as clients see it: an event without a number.
    pub fn to_json(&self) -> String {
        let data = serde_json::json!({
            "attempt": self.attempt, "stream": self.stream, "line": self.line,
        });
        let (at, context, subject) = (self.at, self.job.0, job_subject(self.job));
        format!(
            r#"{{"at":{at},"kind":"job.log","context_id":{context},"subject":"{subject}","data":{data}}}"#
        )
    }
}

/// What is told live, shared between those who watch.
pub type SharedLine = Arc<Live>;
