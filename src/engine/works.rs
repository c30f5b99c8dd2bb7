//! Open jobs: deployed, added to, cancelled; what all changes to one have in common.

use rustc_hash::FxHashMap;

use super::classes::{Class, MOST_CLASSES};
use super::delivered::{Run, runs};
use super::queue::{Place, Skill};
use super::turn::Turn;
use crate::model::address::Address;
use crate::model::slices::FunctionLanguage;
use crate::model::work::{Batch, Ledger, Pace, WorkStatus};
use crate::store::{
    ACTIVE, Draft, Encoded, INPUTS, TextsRow, WORK_EVENTS, WORK_RUNS, WORK_SOURCES, WORKS,
    WORKS_OF, WorkEvent, WorkEventRow, WorkRow, WorkRunRow, WorkSourceRow,
};
use crate::{Error, Result};

/// The kind of an open job in the table of active groups.
pub(super) const ACTIVE_WORK: u8 = 3;

/// An open job that has something to do.
#[derive(Debug)]
pub(super) struct OpenWork {
    pub(super) number: u32,
    pub(super) id: Address,
    pub(super) owner: Address,
    pub(super) group: u32,
    pub(super) language: FunctionLanguage,
    /// What it asks of runners.
    pub(super) class: Class,
    /// Attempts at a slice before it has failed.
    pub(super) attempts: u32,
    /// How long one slice may take, milliseconds.
    pub(super) slice_millis: u64,
    /// Its slices up to this number have to be fetched.
    pub(super) remote: u64,
    /// Who pays, and how much for a finished slice, millionths.
    pub(super) account: Address,
    pub(super) price: u64,
    pub(super) ledger: Ledger,
    pub(super) pace: Pace,
    /// Batches that have not ended, by number.
    pub(super) batches: FxHashMap<u32, Batch>,
    /// It waits for its turn to have a batch cut.
    pub(super) queued: bool,
    /// It is in the table of active groups.
    pub(super) active: bool,
    /// What was last said of it: its status and the number of the last event.
    told: (WorkStatus, u64),
}

impl OpenWork {
    pub(super) fn new(row: &WorkRow, run: WorkRunRow, class: Class, active: bool) -> Self {
        let told = (run.ledger.status(), run.ledger.seq);
        Self {
            number: row.number,
            id: run.id,
            owner: row.owner,
            group: row.group,
            language: row.language,
            class,
            attempts: row.attempts.max(1),
            slice_millis: row.slice_millis,
            remote: row.remote,
            account: row.account,
            price: row.price,
            ledger: run.ledger,
            pace: Pace::default(),
            batches: FxHashMap::default(),
            queued: false,
            active,
            told,
        }
    }
}

/// Slices on their way into a job, made ready to be stored outside the engine.
#[derive(Debug, Default)]
pub struct Slices {
    rows: Vec<(u64, Encoded<TextsRow>)>,
    count: u64,
    bytes: u64,
}

impl Slices {
    /// Slices with these inputs, each a JSON text, in this order.
    ///
    /// # Errors
    /// When a row does not encode.
    pub fn new<'t>(texts: impl Iterator<Item = &'t str>) -> Result<Self> {
        let (mut count, mut bytes) = (0_u64, 0_u64);
        let numbered = (1..).zip(texts).inspect(|(number, text)| {
            count = *number;
            bytes += u64::try_from(text.len()).unwrap_or_default();
        });
        let rows = runs(numbered)?.into_iter();
        let rows = rows.map(|Run { first, last, texts }| (last - first + 1, texts)).collect();
        Ok(Self { rows, count, bytes })
    }

    /// How many there are.
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// A job to be.
#[derive(Debug)]
pub struct Deploy {
    /// Its id.
    pub id: Address,
    /// Its description; `number`, `made` and `created_at` are chosen when it is deployed.
    pub row: WorkRow,
    /// Its function.
    pub source: Encoded<WorkSourceRow>,
    /// Its first slices.
    pub slices: Slices,
}

impl Turn<'_> {
    /// Opens a job.
    ///
    /// # Errors
    /// [`Error::Conflict`] when there is a job of that id, [`Error::Limit`] when too many jobs that
    /// run ask for different things; storage errors.
    pub fn deploy(&mut self, deploy: Deploy) -> Result<()> {
        let Deploy { id, mut row, source, slices } = deploy;
        if self.tx.has(WORKS, &id)? {
            return Err(Error::conflict("exists", "there is a job of this id"));
        }
        if self.memory.classes.are_full_for(&row.demands) {
            let what = "different demands of jobs that run".to_owned();
            let limit = u64::try_from(MOST_CLASSES).unwrap_or(u64::MAX);
            return Err(Error::Limit { what, limit });
        }
        row.number = self.free_number()?;
        row.created_at = self.now;
        let run = WorkRunRow { id, ledger: Ledger::default() };
        self.touch();
        // Ascends with time also when two are deployed in one millisecond.
        row.made = (self.memory.works_made + 1).max(self.now << 12);
        self.memory.works_made = row.made;
        self.tx.put(WORKS, &id, &row)?;
        self.tx.put(WORKS_OF, &(row.owner, !row.made), &id)?;
        self.tx.put_encoded(WORK_SOURCES, &row.number, &source);
        let class = self.memory.enlist(&row.demands);
        self.memory.works.insert(row.number, OpenWork::new(&row, run, class, false));
        self.take_in(row.number, &slices)
    }

    fn free_number(&self) -> Result<u32> {
        for _ in 0..1_000 {
            let number = fastrand::u32(..);
            if !self.memory.works.contains_key(&number) && !self.tx.has(WORK_RUNS, &number)? {
                return Ok(number);
            }
        }
        Err(Error::Unavailable("too many open jobs"))
    }

    /// Adds slices to a job; answers how many it has then.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it was cancelled; storage errors.
    pub fn add_slices(&mut self, row: &WorkRow, slices: &Slices) -> Result<u64> {
        self.open_work(row)?;
        let total = |turn: &Self| turn.memory.works.get(&row.number).map(|open| open.ledger.total);
        let open = self.memory.works.get(&row.number);
        if open.is_some_and(|open| open.ledger.cancelled) {
            self.leave_work(row.number);
            return Err(Error::conflict("cancelled", "the job was cancelled"));
        }
        if slices.is_empty() {
            let total = total(self);
            self.leave_work(row.number);
            return Ok(total.unwrap_or_default());
        }
        self.touch();
        // It may be settled and out of memory again right after this.
        let after = total(self).unwrap_or_default().saturating_add(slices.len());
        self.take_in(row.number, slices)?;
        Ok(after)
    }

    /// Stores slices of a job that is in memory.
    fn take_in(&mut self, number: u32, slices: &Slices) -> Result<()> {
        let Some(open) = self.memory.works.get_mut(&number) else { return Ok(()) };
        if !slices.is_empty() {
            let mut last = open.ledger.total;
            for (count, texts) in &slices.rows {
                last = last.saturating_add(*count);
                self.tx.put_encoded(INPUTS, &(number, last), texts);
            }
            open.ledger.total = last;
            open.ledger.input_bytes = open.ledger.input_bytes.saturating_add(slices.bytes);
            let what = WorkEvent::Slices { added: slices.count, total: last };
            open.record(&mut self.tx, self.now, what)?;
            open.afford(&self.tx, 1)?;
        }
        self.keep_work(number)
    }

    /// Has a job in memory.
    pub(super) fn open_work(&mut self, row: &WorkRow) -> Result<()> {
        if self.memory.works.contains_key(&row.number) {
            return Ok(());
        }
        let run = self.tx.get(WORK_RUNS, &row.number)?;
        let run = run.ok_or_else(|| Error::Bug("an open job has no row for its run".to_owned()))?;
        let active = !run.ledger.is_settled();
        let class = self.memory.enlist(&row.demands);
        self.memory.works.insert(row.number, OpenWork::new(row, run, class, active));
        Ok(())
    }

    /// Forgets a job that has nothing to do.
    pub(super) fn leave_work(&mut self, number: u32) {
        let open = self.memory.works.get(&number);
        if open.is_some_and(|open| open.ledger.is_settled() && open.batches.is_empty())
            && let Some(open) = self.memory.works.remove(&number)
        {
            self.memory.dismiss(open.class);
        }
    }

    /// Stores how a job stands after a change, tells it, and gives it its turn if it has slices to
    /// be given out.
    pub(super) fn keep_work(&mut self, number: u32) -> Result<()> {
        let now = self.now;
        let Some(open) = self.memory.works.get_mut(&number) else { return Ok(()) };
        open.ledger.unpaid &= !open.ledger.is_settled();
        let now_is = open.ledger.status();
        if now_is != open.told.0 || open.ledger.seq == 0 {
            let reason = open.ledger.reason.clone().filter(|_| open.ledger.cancelled);
            open.record(&mut self.tx, now, status(now_is, reason))?;
        }
        let news = (now_is, open.ledger.seq);
        let told = std::mem::replace(&mut open.told, news);
        let run = WorkRunRow { id: open.id, ledger: open.ledger.clone() };
        self.tx.put(WORK_RUNS, &number, &run)?;
        // All slices of a batch may have ended before it has, which a restart must know of.
        let needed = !(open.ledger.is_settled() && open.batches.is_empty());
        if needed != open.active {
            open.active = needed;
            let row = (open.group, ACTIVE_WORK, 0, number);
            if needed {
                self.tx.put(ACTIVE, &row, &())?;
            } else {
                self.tx.remove(ACTIVE, &row);
            }
        }
        let draft = (told != news).then(|| open.marker());
        if open.ledger.pending() > 0 && !open.queued {
            open.queued = true;
            let place = open.place();
            self.memory.turns.entry(place).or_default().push_back(number);
            self.mark(place.0);
        }
        self.leave_work(number);
        if let Some(draft) = draft {
            self.emit(draft);
        }
        Ok(())
    }
}

impl OpenWork {
    /// Where its batches wait for a slot.
    pub(super) const fn place(&self) -> Place {
        (self.group, Skill::Function(self.language), self.class)
    }

    /// Appends to the events of the job.
    pub(super) fn record(
        &mut self,
        tx: &mut crate::store::Tx<'_>,
        now: crate::model::Millis,
        what: WorkEvent,
    ) -> Result<()> {
        self.ledger.seq = self.ledger.seq.saturating_add(what.count());
        let number = self.number;
        tx.put(WORK_EVENTS, &(number, self.ledger.seq), &WorkEventRow { at: now, what })?;
        Ok(())
    }

    /// What the log says when something has happened: followers read the rest from the rows.
    fn marker(&self) -> Draft {
        let Ledger { total, completed, seq, .. } = self.ledger;
        let id = self.id;
        let status = self.ledger.status().as_str();
        let data = format!(
            r#"{{"jobId":"{id}","status":"{status}","totalSlices":{total},"completedSlices":{completed},"seq":{seq}}}"#
        );
        let subject = work_subject(self.owner, Some(self.id));
        Draft { kind: "dcp.job", context_id: None, subject, group: None, data }
    }
}

/// The subject of the events of an open job, or of all of an owner.
pub fn work_subject(owner: Address, id: Option<Address>) -> String {
    id.map_or_else(|| format!("dcp/{owner}/job"), |id| format!("dcp/{owner}/job/{id}"))
}

fn status(status: WorkStatus, reason: Option<String>) -> WorkEvent {
    WorkEvent::Status { status, reason }
}
