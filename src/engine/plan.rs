//! What a run needs to know of its jobs, worked out before the engine is asked.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::classes::Class;
use super::queue::Skill;
use crate::model::Triple;
use crate::model::dag::Dag;
use crate::model::gate::{self, Gate};
use crate::model::task::{JobStatus, Language};
use crate::store::{JobRow, TaskRow};
use crate::{Error, Result};

/// The jobs of a run: their graph and what the engine keeps of each.
#[derive(Debug)]
pub struct Plan {
    pub(super) dag: Dag,
    pub(super) specs: Vec<JobSpec>,
    /// Only of jobs that have any.
    pub(super) gates: FxHashMap<u32, Vec<Gate>>,
}

/// What the engine keeps of a job's definition.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobSpec {
    pub(super) skill: Skill,
    pub(super) class: Class,
    pub(super) retries: u8,
    /// Seconds; 0 is none.
    pub(super) timeout: u32,
    /// Has dependencies or prerequisites, so that it is fresh as waiting.
    pub(super) held_back: bool,
}

/// What to do with a dependency that is not among the jobs of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// It is an error: a flow is complete in itself.
    Refuse,
    /// Wait for that job, as a gate would.
    Wait,
    /// It was checked before.
    Ignore,
}

impl Plan {
    /// The plan of these jobs, of one context and caller.
    ///
    /// # Errors
    /// [`Error::MissingDependency`] (only with [`Outside::Refuse`]) and [`Error::Cycle`].
    pub fn new(caller: u32, jobs: &[(u32, JobRow)], outside: Outside) -> Result<Self> {
        let dag = match outside {
            Outside::Refuse => Dag::new(jobs.iter().map(|(id, job)| (*id, job.depends.as_slice()))),
            Outside::Wait | Outside::Ignore => {
                let mut ids: Vec<u32> = jobs.iter().map(|(id, _)| *id).collect();
                ids.sort_unstable();
                let inside: Vec<(u32, Vec<u32>)> = jobs
                    .iter()
                    .map(|(id, job)| {
                        let known = job.depends.iter().filter(|id| ids.binary_search(id).is_ok());
                        (*id, known.copied().collect())
                    })
                    .collect();
                Dag::new(inside.iter().map(|(id, depends)| (*id, depends.as_slice())))
            }
        }?;
        let skill = Skill::Script(Language::Osis);
        let class = Class::default();
        let blank = JobSpec { skill, class, retries: 0, timeout: 0, held_back: false };
        let mut specs = vec![blank; dag.len()];
        let mut gates = FxHashMap::default();
        for (id, job) in jobs {
            let Some(index) = dag.index_of(*id) else { continue };
            let Some(spec) = specs.get_mut(position(index)) else { continue };
            *spec = JobSpec {
                skill: Skill::Script(job.language),
                class,
                retries: job.retries,
                timeout: job.timeout,
                held_back: !job.depends.is_empty() || !job.prerequisites.is_empty(),
            };
            let mut of_job = gate::parse(&job.prerequisites)
                .map_err(|e| Error::params(format!("job {id}: prerequisites"), e.to_string()))?;
            if outside == Outside::Wait {
                let unknown = job.depends.iter().filter(|id| dag.index_of(**id).is_none());
                of_job.extend(unknown.map(|id| Gate::Job(caller, *id)));
            }
            if !of_job.is_empty() {
                gates.insert(index, of_job);
            }
        }
        Ok(Self { dag, specs, gates })
    }

    /// The plan of one task that depends on nothing.
    ///
    /// # Errors
    /// None that can happen.
    pub(super) fn single(id: u32, spec: JobSpec) -> Result<Self> {
        let dag = Dag::new([(id, [].as_slice())])?;
        Ok(Self { dag, specs: vec![spec], gates: FxHashMap::default() })
    }

    /// How many jobs there are.
    pub fn len(&self) -> usize {
        self.dag.len()
    }

    /// Whether there are no jobs.
    pub fn is_empty(&self) -> bool {
        self.dag.is_empty()
    }

    pub(super) fn spec(&self, index: u32) -> Option<&JobSpec> {
        self.specs.get(position(index))
    }

    pub(super) fn gates(&self, index: u32) -> &[Gate] {
        self.gates.get(&index).map_or(&[], Vec::as_slice)
    }

    /// Every index, ascending.
    pub(super) fn indexes(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.dag.len()).unwrap_or(u32::MAX)
    }
}

/// What earlier runs left of the jobs of a plan, by index; most jobs have nothing.
pub type History = FxHashMap<u32, TaskRow>;

/// The jobs of a flow that is ready to be started, and what earlier runs left of them.
#[derive(Debug)]
pub struct Prepared {
    pub(super) plan: Arc<Plan>,
    pub(super) history: History,
}

impl Prepared {
    /// Works out the plan of a flow: its jobs, and what earlier runs left of some of them.
    ///
    /// # Errors
    /// [`Error::MissingDependency`] and [`Error::Cycle`].
    pub fn new(
        caller: u32,
        jobs: &[(u32, JobRow)],
        rows: impl IntoIterator<Item = (u32, TaskRow)>,
    ) -> Result<Self> {
        let plan = Plan::new(caller, jobs, Outside::Refuse)?;
        let mut prepared = Self { plan: Arc::new(plan), history: History::default() };
        for (id, row) in rows {
            prepared.remember(id, row);
        }
        Ok(prepared)
    }

    /// Adds what an earlier run left of a job; one that is not in the plan does not matter.
    pub fn remember(&mut self, id: u32, row: TaskRow) {
        if let Some(index) = self.plan.dag.index_of(id) {
            self.history.insert(index, row);
        }
    }
}

impl JobSpec {
    /// The status of such a job when nothing has happened to it.
    pub(super) const fn fresh(&self) -> JobStatus {
        JobStatus::fresh(self.held_back)
    }
}

/// An index as a place in a list.
pub(super) fn position(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// The subject of a job's events.
pub fn job_subject((context, caller, id): Triple) -> String {
    format!("job/{context}/{caller}/{id}")
}
