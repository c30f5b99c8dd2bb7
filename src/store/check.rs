//! Reads everything and says what does not fit together.

use std::ops::ControlFlow;
use std::path::Path;

use super::core::Core;
use super::row_identity::ACCOUNT_BY_ADDRESS;
use super::table::{
    ACCOUNT_INDEX, ACCOUNTS, ACTIVE, ALL, ATTEMPTS, BATCHES, CAPABILITIES, FEDERATIONS, FLOW_RUNS,
    FLOWS, IDEMPOTENCY, IDEMPOTENCY_AGE, IDENTITIES, INPUTS, JOBS, KEYSTORE_KEYS, MESSAGE_RUNS,
    MESSAGES, NODES, NODES_DUE, OFFERS, OFFERS_DUE, RESULTS, REVOCATIONS, REVOKED, SLICE_FAILURES,
    STATEMENTS, TASKS, WORK_EVENTS, WORK_RUNS, WORK_SOURCES, WORKS, WORKS_OF,
};
use super::{Key, Options, Row, Store, StoreError, Table, blob, lock, migrate, rebuild};
use crate::model::Triple;
use crate::model::slices::is_group;

/// Problems told one by one; the others are only counted.
const TOLD: usize = 100;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows read.
    pub rows: u64,
    /// Batches read from the journal.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
    /// The first hundred problems, each in a sentence.
    pub problems: Vec<String>,
    /// How many there are.
    pub problem_count: u64,
}

impl Report {
    fn problem(&mut self, problem: String) {
        self.problem_count += 1;
        if self.problems.len() < TOLD {
            self.problems.push(problem);
        }
    }
}

/// Checks a data directory that nobody has open: every row decodes, every record of the journal
/// has its checksum, every index row has its record and the reverse; blocks.
///
/// # Errors
/// When it is in use or cannot be opened at all; what is wrong inside is in the report.
pub fn check(dir: &Path) -> Result<Report, StoreError> {
    migrate::must_be_one(dir)?;
    let _lock = lock::take(dir)?;
    migrate::prepare(dir)?;
    rebuild::finish(dir)?;
    examine(&Core::open(&Options::new(dir), |journal| Box::new(journal))?)
}

impl Store {
    /// The same while it is open. Rows that change meanwhile can look wrong.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn check(&self) -> Result<Report, StoreError> {
        examine(&self.core)
    }
}

pub(super) fn examine(core: &Core) -> Result<Report, StoreError> {
    let mut report = Report::default();
    core.state.each(|key, value| {
        report.rows += 1;
        let table = key.as_slice().first().and_then(|tag| ALL.iter().find(|t| t.tag == *tag));
        match table {
            Some(table) => {
                if let Err(err) = (table.check)(core, table, key.as_slice(), value) {
                    report.problem(format!("row {key:?}: {err}"));
                }
            }
            None => report.problem(format!("row {key:?} is of no known table")),
        }
        if let Some(digest) = blob::reference(value)
            && let Err(err) = core.blobs.read(&digest)
        {
            report.problem(format!("row {key:?}: {err}"));
        }
        Ok(())
    })?;
    let first = core.journal.first();
    let read = core.journal.read(first.number, &mut |batch| {
        report.batches += 1;
        report.events += u64::try_from(batch.events.len()).unwrap_or_default();
        ControlFlow::Continue(())
    });
    if let Err(err) = read {
        report.problem(format!("the journal: {err}"));
    }
    relations(core, &mut report)?;
    Ok(report)
}

fn relations(core: &Core, report: &mut Report) -> Result<(), StoreError> {
    let refers = &mut Refers { core, report };
    // The tasks of compute groups are batches, which have no job of their own.
    refers.all(TASKS, JOBS, |key, _| (!is_group(key.0)).then_some(*key))?;
    refers.all(ATTEMPTS, JOBS, |(context, caller, id, _), _| {
        (!is_group(*context)).then_some((*context, *caller, *id))
    })?;
    refers.all(FLOW_RUNS, FLOWS, |key, _| Some(*key))?;
    refers.all(MESSAGE_RUNS, MESSAGES, |key, _| Some(*key))?;
    refers
        .all(IDEMPOTENCY_AGE, IDEMPOTENCY, |(_, context, digest), ()| Some((*context, *digest)))?;
    refers.all(IDEMPOTENCY, IDEMPOTENCY_AGE, |(context, digest), row| {
        Some((row.at, *context, *digest))
    })?;
    refers.all(ACCOUNTS, IDENTITIES, |(identity, _), _| Some(*identity))?;
    refers.all(ACCOUNT_INDEX, ACCOUNTS, |(identity, ..), number| Some((*identity, *number)))?;
    refers.all(ACCOUNTS, ACCOUNT_INDEX, |(identity, _), row| {
        Some((*identity, ACCOUNT_BY_ADDRESS, row.address.to_string()))
    })?;
    refers.all(KEYSTORE_KEYS, IDENTITIES, |_, row| Some(row.identity))?;
    directory(refers)?;
    capabilities(refers)?;
    let key = |kind: u8, key: &(u32, u8, u32, u32)| -> Option<Triple> {
        (key.1 == kind).then_some((key.0, key.2, key.3))
    };
    refers.all(ACTIVE, FLOWS, |row, ()| key(0, row).map(|(context, _, id)| (context, id)))?;
    refers.all(ACTIVE, MESSAGES, |row, ()| key(1, row))?;
    refers.all(ACTIVE, JOBS, |row, ()| key(2, row))?;
    refers.all(ACTIVE, WORK_RUNS, |row, ()| key(3, row).map(|(.., work)| work))?;
    refers.all(ACTIVE, BATCHES, |row, ()| key(4, row).map(|(_, work, batch)| (work, batch)))?;
    works(refers)
}

fn works(refers: &mut Refers<'_>) -> Result<(), StoreError> {
    refers.all(WORKS, WORKS_OF, |_, row| Some((row.owner, !row.made)))?;
    refers.all(WORKS_OF, WORKS, |_, id| Some(*id))?;
    refers.all(WORKS, WORK_RUNS, |_, row| Some(row.number))?;
    refers.all(WORK_RUNS, WORKS, |_, row| Some(row.id))?;
    refers.all(WORK_RUNS, WORK_SOURCES, |number, _| Some(*number))?;
    refers.all(WORK_SOURCES, WORK_RUNS, |number, _| Some(*number))?;
    refers.all(BATCHES, WORK_RUNS, |(work, _), _| Some(*work))?;
    refers.all(INPUTS, WORK_RUNS, |(work, _), _| Some(*work))?;
    refers.all(RESULTS, WORK_RUNS, |(work, _), _| Some(*work))?;
    refers.all(SLICE_FAILURES, WORK_RUNS, |(work, ..), _| Some(*work))?;
    refers.all(WORK_EVENTS, WORK_RUNS, |(work, _), _| Some(*work))
}

fn directory(refers: &mut Refers<'_>) -> Result<(), StoreError> {
    refers.all(NODES, STATEMENTS, |_, node| node.position)?;
    refers.all(STATEMENTS, NODES, |_, statement| Some(statement.node))?;
    refers.all(FEDERATIONS, STATEMENTS, |(_, position), ()| Some(*position))?;
    refers.all(NODES_DUE, NODES, |(_, node), ()| Some(*node))?;
    refers.all(NODES, NODES_DUE, |key, node| {
        let due = if node.position.is_some() { node.expires_at } else { node.forget_at };
        Some((due, *key))
    })
}

fn capabilities(refers: &mut Refers<'_>) -> Result<(), StoreError> {
    refers.all(CAPABILITIES, OFFERS, |_, row| Some((row.name.clone(), row.position)))?;
    refers.all(OFFERS, CAPABILITIES, |_, row| Some((row.node, row.capability_id.clone())))?;
    refers.all(CAPABILITIES, OFFERS_DUE, |(node, id), row| {
        Some((row.expires_at?, *node, id.clone()))
    })?;
    refers.all(OFFERS_DUE, CAPABILITIES, |(_, node, id), ()| Some((*node, id.clone())))?;
    refers.all(REVOKED, REVOCATIONS, |_, position| Some(*position))
}

struct Refers<'c> {
    core: &'c Core,
    report: &'c mut Report,
}

impl Refers<'_> {
    /// Every row of `from` has the row of `to` that `key` names, if it names one.
    fn all<K: Key + std::fmt::Debug, V: Row, L: Key, W: Row>(
        &mut self,
        from: Table<K, V>,
        to: Table<L, W>,
        key: impl Fn(&K, &V) -> Option<L>,
    ) -> Result<(), StoreError> {
        let prefix = from.prefix(&());
        let core = self.core;
        core.state.each_below(&prefix, |bytes, value| {
            // What does not decode was reported before.
            let Ok(row) = from.parse(bytes.as_slice()) else { return Ok(()) };
            let Ok(value) = core.decode(from, value) else { return Ok(()) };
            if let Some(wanted) = key(&row, &value)
                && core.state.get(&to.key(&wanted))?.is_none()
            {
                let (from, to) = (from.name(), to.name());
                self.report.problem(format!("{from} {row:?} has no row in {to}"));
            }
            Ok(())
        })
    }
}
