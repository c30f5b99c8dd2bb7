//! `system.stats`: how much there is of everything.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aside::far_aside;
use super::flow_progress::{Holds, JobCounts, Standing};
use super::sweep::Any;
use crate::app::Cx;
use crate::method::{Access, Def, Method, Spec, Verb};
use crate::model::Triple;
use crate::store::{
    ACTORS, CONTEXTS, FLOWS, JOBS, Key, MESSAGES, RUNNERS, Store, StoreError, TASKS, Table,
};
use crate::{Code, Result};

/// This namespace's methods on quantities.
pub const METHODS: &[Def] = &[Def::call::<Stats>()];

/// Jobs read at once.
const CHUNK: usize = 10_000;

/// Counts what there is.
///
/// Reads the keys of everything that is stored: a second or so for a million jobs. For figures
/// that are cheap to ask for often, see `/metrics`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SystemStatsParams")]
pub struct Stats {}

/// How much there is of everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SystemStats {
    /// Stored objects.
    pub objects: ObjectCounts,
    /// Stored jobs by where they stand.
    pub tasks: JobCounts,
    /// Attached runners.
    pub runners_online: u64,
    /// Open subscriptions.
    pub subscriptions: u64,
    /// Runs of flows, messages and single jobs that have not ended.
    pub active_runs: u64,
    /// The number of the last event; 0 when there was none.
    pub latest_seq: u64,
    /// The number of the oldest event held.
    pub oldest_seq: u64,
    /// Disk space of the journal, bytes.
    pub journal_bytes: u64,
    /// Disk space of the state, bytes.
    pub state_bytes: u64,
}

/// Numbers of stored objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectCounts {
    /// Actors.
    pub actors: u64,
    /// Contexts.
    pub contexts: u64,
    /// Runners, attached or not.
    pub runners: u64,
    /// Flows.
    pub flows: u64,
    /// Jobs.
    pub jobs: u64,
    /// Messages of clients.
    pub messages: u64,
}

impl Method for Stats {
    type Output = SystemStats;
    const SPEC: Spec = Spec::new("system.stats", Access::Operator)
        .rest(Verb::Get, "/system/stats", 200)
        .errors(&[Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<SystemStats> {
        far_aside(move || {
            let (store, engine) = (&cx.app.store, cx.app.engine.gauges());
            let tasks = tasks(store)?;
            let kept = store.stats()?;
            Ok(SystemStats {
                objects: ObjectCounts {
                    actors: count(store, ACTORS)?,
                    contexts: count(store, CONTEXTS)?,
                    runners: count(store, RUNNERS)?,
                    flows: count(store, FLOWS)?,
                    jobs: tasks.all(),
                    messages: count(store, MESSAGES)?,
                },
                tasks,
                runners_online: engine.runners.load(Ordering::Relaxed),
                subscriptions: u64::try_from(cx.app.metrics.subscriptions.get()).unwrap_or(0),
                active_runs: engine.groups.load(Ordering::Relaxed),
                latest_seq: kept.latest,
                oldest_seq: kept.oldest,
                journal_bytes: kept.journal_bytes,
                state_bytes: kept.state_bytes,
            })
        })
        .await
    }
}

/// Jobs and their tasks lie in the same order: both are read in chunks, side by side.
fn tasks(store: &Store) -> Result<JobCounts, StoreError> {
    let mut counts = JobCounts::default();
    let mut after: Option<Triple> = None;
    loop {
        let jobs = store.page(JOBS.part::<Holds>(), &(), after.as_ref(), CHUNK)?;
        let Some(last) = jobs.last().map(|(key, _)| *key) else { return Ok(counts) };
        let mut begun = BTreeMap::new();
        store.scan(TASKS.part::<Standing>(), &(), after.as_ref(), |key, task| {
            if key > last {
                return ControlFlow::Break(());
            }
            begun.insert(key, task.status);
            ControlFlow::Continue(())
        })?;
        for (key, job) in jobs {
            counts.add(begun.get(&key).copied().unwrap_or_else(|| job.fresh()));
        }
        after = Some(last);
    }
}

fn count<K: Key, V>(store: &Store, table: Table<K, V>) -> Result<u64, StoreError> {
    let mut rows = 0;
    store.scan(table.part::<Any>(), &(), None, |_, _| {
        rows += 1;
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}
