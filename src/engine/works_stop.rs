//! Open jobs that are stopped: for good, or for a while.

use super::memory::GroupKey;
use super::turn::Turn;
use crate::model::task::Input;
use crate::model::work::WorkStatus;
use crate::store::WorkRow;
use crate::{Error, Result};

impl Turn<'_> {
    /// Cancels a job; one that was cancelled keeps its first reason.
    ///
    /// # Errors
    /// Storage errors.
    pub fn cancel_work(&mut self, row: &WorkRow, reason: Option<&str>) -> Result<()> {
        self.open_work(row)?;
        let Some(open) = self.memory.works.get_mut(&row.number) else { return Ok(()) };
        if open.ledger.cancelled {
            self.leave_work(row.number);
            return Ok(());
        }
        open.ledger.cancelled = true;
        open.ledger.reason = reason.map(str::to_owned);
        let batches: Vec<u32> = open.batches.keys().copied().collect();
        let group = open.group;
        self.touch();
        for batch in batches {
            let key = GroupKey::Batch((group, row.number, batch));
            if let Some(id) = self.memory.by_key.get(&key).copied() {
                let reason = "the job was cancelled".to_owned();
                self.advance((id, 0), Input::GiveUp { reason }, None)?;
            }
        }
        self.keep_work(row.number)
    }

    /// Holds a job, or lets it go on; answers how it stands then.
    ///
    /// Of a job that is held nothing more is given out. What runners have, they end.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it was cancelled; storage errors.
    pub fn hold_work(&mut self, row: &WorkRow, held: bool) -> Result<WorkStatus> {
        self.open_work(row)?;
        let Some(open) = self.memory.works.get_mut(&row.number) else {
            return Err(Error::Bug("a job is not where it was put".to_owned()));
        };
        if open.ledger.cancelled {
            self.leave_work(row.number);
            return Err(Error::conflict("cancelled", "the job was cancelled"));
        }
        if open.ledger.held == held {
            let status = open.ledger.status();
            self.leave_work(row.number);
            return Ok(status);
        }
        open.ledger.held = held;
        let status = open.ledger.status();
        let waiting = open.batches.iter().filter(|(_, batch)| held && !batch.leased);
        let waiting: Vec<u32> = waiting.map(|(number, _)| *number).collect();
        let group = open.group;
        self.touch();
        for batch in waiting {
            let key = GroupKey::Batch((group, row.number, batch));
            if let Some(id) = self.memory.by_key.get(&key).copied() {
                let reason = "the job is held".to_owned();
                self.advance((id, 0), Input::GiveUp { reason }, None)?;
            }
        }
        self.keep_work(row.number)?;
        Ok(status)
    }
}
