//! What can be done with a flow as a whole: start, cancel, retry.

use std::sync::Arc;

use super::groups::Start;
use super::memory::GroupKey;
use super::plan::Prepared;
use super::turn::Turn;
use crate::model::flow::FlowStatus;
use crate::store::{FLOW_RUNS, FLOWS, FlowRunRow, IDEMPOTENCY, IDEMPOTENCY_AGE};
use crate::{Error, Result};

/// How long idempotency keys are kept at least, in milliseconds.
const KEY_LIFE: u64 = 24 * 60 * 60 * 1_000;
/// How often old ones are looked for, in milliseconds.
const KEY_SWEEP: u64 = 10 * 60 * 1_000;
/// Keys forgotten at once.
const KEY_PAGE: usize = 1_000;

/// Which jobs of a flow a start runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rerun {
    /// All, from the beginning.
    All,
    /// Those that have not finished; the flow must have ended in error.
    Unfinished,
}

impl Turn<'_> {
    /// Starts a stored flow.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when it or one of its jobs is active, and for
    /// [`Rerun::Unfinished`] unless it ended in error.
    pub fn start_flow(
        &mut self,
        key: (u32, u32),
        prepared: Prepared,
        rerun: Rerun,
        fail_fast: Option<bool>,
    ) -> Result<()> {
        let not_found = || Error::NotFound { kind: "flow", id: format!("{}/{}", key.0, key.1) };
        let flow = self.get(FLOWS, &key)?.ok_or_else(not_found)?;
        if self.flow_is_active(key.0, key.1) {
            return Err(Error::conflict("Started", "the flow is running"));
        }
        let last = self.get(FLOW_RUNS, &key)?;
        let from = last.as_ref().map_or(FlowStatus::Dispatched, |run| run.status);
        if rerun == Rerun::Unfinished && from != FlowStatus::Error {
            let reason = "only a flow that ended in error can be retried";
            return Err(Error::conflict(from.as_str(), reason));
        }
        let keep_finished = rerun == Rerun::Unfinished;
        let before = last.as_ref().is_some_and(|run| run.fail_fast);
        let fail_fast = fail_fast.unwrap_or(keep_finished && before);
        let history = prepared.history;
        let start = Start {
            key: GroupKey::Flow(key.0, key.1),
            caller: flow.caller_id,
            env: Arc::new(flow.env_vars),
            prepared: Prepared { plan: prepared.plan, history: super::plan::History::default() },
            fail_fast,
            has_results: keep_finished && history.values().any(|row| row.result.is_some()),
            acknowledge_within: super::ACKNOWLEDGE_WITHIN,
            result_within: 0,
            due: None,
            message: None,
        };
        let id = self.start_group(start)?;
        let row = FlowRunRow {
            status: FlowStatus::Started,
            started_at: Some(self.now),
            finished_at: None,
            updated_at: self.now,
            fail_fast,
            reason: None,
            has_results: false,
        };
        self.tx.put(FLOW_RUNS, &key, &row)?;
        self.emit_flow(key, from, FlowStatus::Started, None);
        self.begin_tasks(id, history, keep_finished)
    }

    /// Ends a flow in error; one that has ended stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn cancel_flow(&mut self, key: (u32, u32), reason: &str) -> Result<()> {
        if let Some(id) = self.memory.by_key.get(&GroupKey::Flow(key.0, key.1)).copied() {
            self.touch();
            if let Some(group) = self.memory.groups.get_mut(&id) {
                group.reason = Some(reason.to_owned());
            }
            return self.give_up_all(id, reason);
        }
        if self.get(FLOWS, &key)?.is_none() {
            return Err(Error::NotFound { kind: "flow", id: format!("{}/{}", key.0, key.1) });
        }
        if self.get(FLOW_RUNS, &key)?.is_some() {
            return Ok(());
        }
        let row = FlowRunRow {
            status: FlowStatus::Error,
            started_at: None,
            finished_at: Some(self.now),
            updated_at: self.now,
            fail_fast: false,
            reason: Some(reason.to_owned()),
            has_results: false,
        };
        self.tx.put(FLOW_RUNS, &key, &row)?;
        self.emit_flow(key, FlowStatus::Dispatched, FlowStatus::Error, Some(reason));
        self.touch();
        self.watched_ended(super::memory::Watched::Flow(key.0, key.1), false)
    }

    /// Forgets idempotency keys that are old enough.
    pub(super) fn forget_old_keys(&mut self) -> Result<()> {
        let before = self.now.saturating_sub(KEY_LIFE);
        let old = self.tx.page(IDEMPOTENCY_AGE, &(), None, KEY_PAGE)?;
        // They come in the order of their age.
        let more = old.len() == KEY_PAGE && old.last().is_some_and(|((at, ..), ())| *at < before);
        for ((at, context, key), ()) in old {
            if at < before {
                self.tx.remove(IDEMPOTENCY_AGE, &(at, context, key));
                self.tx.remove(IDEMPOTENCY, &(context, key));
            }
        }
        let next = if more { 1_000 } else { KEY_SWEEP };
        let at = self.now.saturating_add(next);
        self.memory.timers.set(at, super::timers::Timer::Housekeeping);
        Ok(())
    }
}
