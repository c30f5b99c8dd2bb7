//! How open jobs with work to do, and their batches, come back after a restart.

use super::batches::start;
use super::memory::GroupKey;
use super::plan::History;
use super::turn::Turn;
use super::works::OpenWork;
use crate::model::Triple;
use crate::store::{BATCHES, TASKS, WORK_RUNS, WORKS};
use crate::{Error, Result};

impl Turn<'_> {
    /// Reads an open job that has slices which have not ended.
    pub(super) fn load_work(&mut self, number: u32) -> Result<()> {
        let run = self.get(WORK_RUNS, &number)?.ok_or_else(|| gone("run"))?;
        let row = self.get(WORKS, &run.id)?.ok_or_else(|| gone("row"))?;
        let class = self.memory.enlist(&row.demands);
        let mut open = OpenWork::new(&row, run, class, true);
        self.memory.works_made = self.memory.works_made.max(row.made);
        if open.ledger.pending() > 0 {
            open.queued = true;
            let place = open.place();
            self.memory.turns.entry(place).or_default().push_back(number);
            self.mark(place.0);
        }
        self.memory.works.insert(number, open);
        Ok(())
    }

    /// Reads a batch of a job that was read before.
    pub(super) fn load_batch(&mut self, key: Triple) -> Result<()> {
        let (_, work, number) = key;
        let batch = self.get(BATCHES, &(work, number))?.ok_or_else(|| gone("batch"))?;
        // Earlier versions let go of a job whose slices had ended before their batch.
        if !self.memory.works.contains_key(&work) {
            self.load_work(work)?;
        }
        let open = self.memory.works.get_mut(&work).ok_or_else(|| gone("job"))?;
        let start = start(key, open, &batch)?;
        open.batches.insert(number, batch);
        let row = self.get(TASKS, &key)?;
        let history: History = row.map(|row| (0, row)).into_iter().collect();
        let id = self.memory.next_group();
        self.install_loaded(id, start, self.now);
        debug_assert!(self.memory.by_key.contains_key(&GroupKey::Batch(key)));
        self.load_tasks(id, history)
    }
}

fn gone(what: &str) -> Error {
    Error::Bug(format!("the {what} of an open job with work to do is gone"))
}
