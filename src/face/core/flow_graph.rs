//! `flow.dag`: the graph that a flow's jobs make.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use minicbor::{Decode, Encode};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::aside::{Rendered, far_aside};
use super::{ScriptType, flow, job, members};
use crate::app::Cx;
use crate::method::{Access, Def, Json, Method, Spec, Verb};
use crate::model::dag;
use crate::model::task::Language;
use crate::store::{FLOWS, FlowRow, JOBS, Store};
use crate::{Code, Result};

/// This namespace's methods on graphs.
pub const METHODS: &[Def] = &[Def::call::<Dag>()];

/// Computes the execution graph of a flow.
///
/// Everything in it is in ascending order of ids. Jobs that do not exist, dependencies outside the
/// flow and circles are errors.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dag {
    /// The context it belongs to.
    pub context_id: u32,
    /// The flow.
    pub id: u32,
}

/// In the seed document it shares the params of `flow.load`.
impl JsonSchema for Dag {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        flow::Load::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        flow::Load::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = flow::Load::json_schema(generator);
        let about = "Computes the execution graph of a flow.\n\nEverything in it is in ascending \
                     order of ids. Jobs that do not exist, dependencies outside the flow and \
                     circles are errors.";
        schema.insert("description".to_owned(), about.into());
        schema
    }
}

impl Method for Dag {
    type Output = Rendered<FlowDag>;
    const SPEC: Spec = Spec::new("flow.dag", Access::Reader)
        .rest(Verb::Get, "/flows/{context_id}/{id}/dag", 200)
        .errors(&[
            Code::NotFound,
            Code::StorageError,
            Code::DagMissingDependency,
            Code::DagCycleDetected,
        ])
        .single();

    fn render(output: Rendered<FlowDag>) -> Result<Json> {
        Ok(output.into_json())
    }

    async fn call(self, cx: Cx) -> Result<Rendered<FlowDag>> {
        let key = (self.context_id, self.id);
        far_aside(move || {
            let store = &cx.app.store;
            let row = store.get(FLOWS, &key)?.ok_or_else(|| flow::not_found(key))?;
            let jobs = Jobs::read(store, key.0, &row)?;
            let dag = jobs.dag()?;
            Rendered::new(&Graph {
                flow_id: key.1,
                caller_id: row.caller_id,
                context_id: key.0,
                nodes: &jobs,
                edges: dag.edges(),
                reverse_edges: dag.reverse_edges(),
                roots: dag.roots(),
                leaves: dag.leaves(),
                levels: dag.levels(),
            })
        })
        .await
    }
}

/// What the graph needs of a job; the script is skipped over.
#[derive(Debug, Encode, Decode)]
struct Links {
    #[n(1)]
    language: Language,
    #[n(6)]
    prerequisites: Vec<String>,
    #[n(7)]
    depends: Vec<u32>,
}

/// What the graph needs of all jobs, ascending; lists lie end to end, which for a million jobs
/// saves a million allocations.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    ids: Vec<u32>,
    languages: Vec<Language>,
    depends: Lists<u32>,
    prerequisites: Lists<String>,
}

#[derive(Debug)]
struct Lists<T> {
    items: Vec<T>,
    ends: Vec<usize>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { items: Vec::new(), ends: Vec::new() }
    }
}

impl<T> Lists<T> {
    fn push(&mut self, list: Vec<T>) {
        self.items.extend(list);
        self.ends.push(self.items.len());
    }

    fn append(&mut self, other: Self) {
        let begin = self.items.len();
        self.items.extend(other.items);
        self.ends.extend(other.ends.into_iter().map(|end| begin + end));
    }

    fn iter(&self) -> impl Iterator<Item = &[T]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, &end)| self.items.get(begin..end).unwrap_or_default())
    }
}

impl Jobs {
    pub(super) fn read(store: &Store, context: u32, row: &FlowRow) -> Result<Self> {
        let (group, ids) = ((context, row.caller_id), members::distinct(&row.jobs));
        let parts = members::in_parts(&ids, |ids| Self::read_part(store, group, ids))?;
        let mut parts = parts.into_iter();
        let mut jobs = parts.next().unwrap_or_default();
        for part in parts {
            jobs.languages.extend(part.languages);
            jobs.depends.append(part.depends);
            jobs.prerequisites.append(part.prerequisites);
        }
        jobs.ids = ids;
        Ok(jobs)
    }

    /// All but the ids.
    fn read_part(store: &Store, group: (u32, u32), ids: &[u32]) -> Result<Self> {
        let mut jobs = Self::default();
        let mut missing = None;
        members::each(store, JOBS.part::<Links>(), group, ids, |id, links| {
            let Some(links) = links else {
                missing = Some(id);
                return ControlFlow::Break(());
            };
            jobs.languages.push(links.language);
            jobs.depends.push(links.depends);
            jobs.prerequisites.push(links.prerequisites);
            ControlFlow::Continue(())
        })?;
        match missing {
            Some(id) => Err(job::not_found((group.0, group.1, id))),
            None => Ok(jobs),
        }
    }

    pub(super) fn dag(&self) -> Result<dag::Dag> {
        Ok(dag::Dag::new(self.ids.iter().copied().zip(self.depends.iter()))?)
    }
}

impl Serialize for Jobs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.ids.len()))?;
        let lists = self.depends.iter().zip(self.prerequisites.iter());
        for ((&id, &language), (depends, prerequisites)) in
            self.ids.iter().zip(&self.languages).zip(lists)
        {
            let script_type = language.into();
            map.serialize_entry(&id, &Node { id, depends, prerequisites, script_type })?;
        }
        map.end()
    }
}

/// A [`JobSummary`] that borrows.
#[derive(Debug, Serialize)]
struct Node<'a> {
    id: u32,
    depends: &'a [u32],
    prerequisites: &'a [String],
    script_type: ScriptType,
}

/// A [`FlowDag`] that borrows.
#[derive(Debug, Serialize)]
struct Graph<'a> {
    flow_id: u32,
    caller_id: u32,
    context_id: u32,
    nodes: &'a Jobs,
    edges: Vec<[u32; 2]>,
    reverse_edges: Vec<[u32; 2]>,
    roots: Vec<u32>,
    leaves: Vec<u32>,
    levels: Vec<Vec<u32>>,
}

/// The execution graph of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowDag {
    /// The flow.
    pub flow_id: u32,
    /// The actor whose jobs it groups.
    pub caller_id: u32,
    /// The context it belongs to.
    pub context_id: u32,
    /// Map keyed by job id (serialized as string in JSON).
    #[schemars(with = "BTreeMap<String, JobSummary>")]
    pub nodes: BTreeMap<u32, JobSummary>,
    /// Every dependency as `[dependency, dependent]`.
    pub edges: Vec<EdgeTuple>,
    /// Every dependency as `[dependent, dependency]`.
    pub reverse_edges: Vec<EdgeTuple>,
    /// Jobs that depend on nothing.
    pub roots: Vec<u32>,
    /// Jobs that nothing depends on.
    pub leaves: Vec<u32>,
    /// Topological execution layers (parallelizable batches): a job's layer is the length of the
    /// longest path to it from a root.
    pub levels: Vec<Vec<u32>>,
}

/// Tuple `[from, to]` representing a directed edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EdgeTuple(pub u32, pub u32);

/// What a graph says of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobSummary {
    /// The job.
    pub id: u32,
    /// Jobs that must finish first, as its creator listed them.
    pub depends: Vec<u32>,
    /// Gates that must all open before it is dispatched.
    pub prerequisites: Vec<String>,
    /// The language of its script.
    pub script_type: ScriptType,
}
