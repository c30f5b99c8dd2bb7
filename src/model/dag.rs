//! The graph of a flow: which job waits for which, checked for holes and circles.

use std::collections::VecDeque;

use petgraph::Direction;
use petgraph::algo::toposort;
use petgraph::visit::{
    GraphBase, GraphRef, IntoNeighbors, IntoNeighborsDirected, IntoNodeIdentifiers, Visitable,
};

/// Why jobs do not form a graph that can be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DagError {
    /// A job depends on one that is not among the jobs given. The lowest such job and, of that
    /// job, the lowest such id.
    #[error("job {job} depends on {missing}, which is not in the flow")]
    MissingDependency {
        /// The job.
        job: u32,
        /// What it names.
        missing: u32,
    },
    /// Jobs depend on each other in a circle; a job that depends on itself is one too.
    #[error("jobs depend on each other in a circle: {cycle:?}")]
    Cycle {
        /// One circle, each job depending on the one before it and the first on the last. The
        /// lowest id comes first.
        cycle: Vec<u32>,
    },
}

/// Edges from every index to some others, in one piece of memory.
#[derive(Clone, Debug)]
struct Links {
    /// Where the ends of each index begin, and last where all end.
    begins: Vec<usize>,
    /// Ascending for each index, each once.
    ends: Vec<u32>,
}

/// Jobs and what they depend on, without holes and circles.
///
/// A job is addressed by its index: its place among all ids in ascending order. Everything
/// returned is ascending, by id and by index alike.
///
/// ```
/// use muster::model::dag::Dag;
///
/// let dag = Dag::new([(30, &[10, 20][..]), (10, &[]), (20, &[10])])?;
/// assert_eq!(dag.ids(), [10, 20, 30]);
/// assert_eq!(dag.edges(), [[10, 20], [10, 30], [20, 30]]);
/// assert_eq!(dag.levels(), [[10], [20], [30]]);
/// assert_eq!(dag.children(0), [1, 2]);
/// # Ok::<(), muster::model::dag::DagError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dag {
    ids: Vec<u32>,
    /// From a job to those that depend on it.
    children: Links,
    /// From a job to those that it depends on.
    parents: Links,
    /// Every index, those that are depended on first.
    order: Vec<u32>,
}

impl Dag {
    /// The graph of `jobs`, each an id and the ids it depends on, in any order.
    ///
    /// A job listed twice counts once, as first listed; so does an id listed twice in `depends`.
    ///
    /// # Errors
    /// [`DagError::MissingDependency`] before [`DagError::Cycle`], if both are there.
    pub fn new<'a>(jobs: impl IntoIterator<Item = (u32, &'a [u32])>) -> Result<Self, DagError> {
        let mut jobs: Vec<(u32, &[u32])> = jobs.into_iter().collect();
        if !jobs.is_sorted_by_key(|job| job.0) {
            jobs.sort_by_key(|job| job.0);
        }
        jobs.dedup_by_key(|job| job.0);
        let ids: Vec<u32> = jobs.iter().map(|job| job.0).collect();

        let parents = parents(&jobs, &ids)?;
        drop(jobs);
        let children = parents.turned();

        match toposort(View { children: &children, parents: &parents }, None) {
            Ok(order) => Ok(Self { ids, children, parents, order }),
            Err(found) => {
                let cycle = shortest_cycle(&children, found.node_id());
                let cycle = cycle.into_iter().filter_map(|i| ids.get(position(i)).copied());
                Err(DagError::Cycle { cycle: cycle.collect() })
            }
        }
    }

    /// How many jobs there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no jobs.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many dependencies there are.
    pub fn edge_count(&self) -> usize {
        self.children.ends.len()
    }

    /// All ids. An id's place in here is its index.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The id at an index.
    pub fn id(&self, index: u32) -> Option<u32> {
        self.ids.get(position(index)).copied()
    }

    /// The index of an id.
    pub fn index_of(&self, id: u32) -> Option<u32> {
        // Ids without gaps are the rule: then an id's place is its distance from the first.
        let first = *self.ids.first()?;
        let guess = id.checked_sub(first)?;
        if self.id(guess) == Some(id) {
            return Some(guess);
        }
        self.ids.binary_search(&id).ok().and_then(|found| u32::try_from(found).ok())
    }

    /// The indexes of those that depend on the job at `index`; none if there is no such index.
    pub fn children(&self, index: u32) -> &[u32] {
        self.children.of(index)
    }

    /// The indexes of those that the job at `index` depends on; none if there is no such index.
    pub fn parents(&self, index: u32) -> &[u32] {
        self.parents.of(index)
    }

    /// How many jobs the one at each index depends on.
    pub fn dependency_counts(&self) -> Vec<u32> {
        let count = |index| u32::try_from(self.parents(index).len()).unwrap_or(u32::MAX);
        self.indexes().map(count).collect()
    }

    /// Every index, each after all that it depends on.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Every dependency as ids `[dependency, dependent]`.
    pub fn edges(&self) -> Vec<[u32; 2]> {
        self.pairs(&self.children)
    }

    /// Every dependency as ids `[dependent, dependency]`.
    pub fn reverse_edges(&self) -> Vec<[u32; 2]> {
        self.pairs(&self.parents)
    }

    /// The ids of the jobs that depend on nothing.
    pub fn roots(&self) -> Vec<u32> {
        self.without(&self.parents)
    }

    /// The ids of the jobs that nothing depends on.
    pub fn leaves(&self) -> Vec<u32> {
        self.without(&self.children)
    }

    /// The level of the job at each index: the number of steps of the longest path from a root.
    pub fn level_of_each(&self) -> Vec<u32> {
        let mut level = vec![0_u32; self.len()];
        for &index in &self.order {
            let next = level.get(position(index)).map_or(0, |own| own + 1);
            for &child in self.children(index) {
                if let Some(own) = level.get_mut(position(child)) {
                    *own = next.max(*own);
                }
            }
        }
        level
    }

    /// The ids of each level, from the roots on. Jobs of one level do not depend on each other.
    pub fn levels(&self) -> Vec<Vec<u32>> {
        let level = self.level_of_each();
        let mut sizes: Vec<usize> = Vec::new();
        for &own in &level {
            let own = position(own);
            if own >= sizes.len() {
                sizes.resize(own + 1, 0);
            }
            if let Some(size) = sizes.get_mut(own) {
                *size += 1;
            }
        }
        let mut levels: Vec<Vec<u32>> = sizes.into_iter().map(Vec::with_capacity).collect();
        for (&id, &own) in self.ids.iter().zip(&level) {
            if let Some(members) = levels.get_mut(position(own)) {
                members.push(id);
            }
        }
        levels
    }

    fn indexes(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.ids.len()).unwrap_or(u32::MAX)
    }

    fn pairs(&self, links: &Links) -> Vec<[u32; 2]> {
        let mut pairs = Vec::with_capacity(links.ends.len());
        for (index, &from) in self.indexes().zip(&self.ids) {
            let ends = links.of(index).iter().filter_map(|&to| self.id(to));
            pairs.extend(ends.map(|to| [from, to]));
        }
        pairs
    }

    fn without(&self, links: &Links) -> Vec<u32> {
        let bare = |&(index, _): &(u32, &u32)| links.of(index).is_empty();
        self.indexes().zip(&self.ids).filter(bare).map(|(_, &id)| id).collect()
    }
}

/// An index as a place in a slice.
fn position(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

impl Links {
    fn of(&self, index: u32) -> &[u32] {
        let index = position(index);
        let range = self.begins.get(index).zip(self.begins.get(index + 1));
        range.and_then(|(begin, end)| self.ends.get(*begin..*end)).unwrap_or_default()
    }

    fn nodes(&self) -> usize {
        self.begins.len() - 1
    }

    /// The same edges the other way round, sorted by counting.
    fn turned(&self) -> Self {
        let mut begins = vec![0; self.begins.len() + 1];
        for &to in &self.ends {
            if let Some(count) = begins.get_mut(position(to) + 2) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for begin in &mut begins {
            sum += *begin;
            *begin = sum;
        }
        // Shifted by one, so that filling in moves each begin to where the next one was.
        let mut ends = vec![0; self.ends.len()];
        for (from, range) in (0_u32..).zip(self.begins.windows(2)) {
            let &[begin, end] = range else { continue };
            for &to in self.ends.get(begin..end).unwrap_or_default() {
                let Some(place) = begins.get_mut(position(to) + 1) else { continue };
                if let Some(slot) = ends.get_mut(*place) {
                    *slot = from;
                }
                *place += 1;
            }
        }
        begins.pop();
        Self { begins, ends }
    }
}

/// Finds ids among many sorted ones with one or two memory accesses: the range of ids is cut into
/// as many equal parts as there are ids, and for each part it is known where it begins. Ids
/// without gaps, the rule, need none of it.
#[derive(Debug)]
struct Directory<'a> {
    ids: &'a [u32],
    first: u32,
    shift: u32,
    begins: Vec<u32>,
}

impl<'a> Directory<'a> {
    fn new(ids: &'a [u32]) -> Self {
        let first = ids.first().copied().unwrap_or(0);
        let span = ids.last().map_or(0, |last| last - first);
        if position(span) < ids.len() {
            return Self { ids, first, shift: 0, begins: Vec::new() };
        }
        let mut shift = 0;
        while position(span >> shift) > ids.len().saturating_mul(2) {
            shift += 1;
        }
        let parts = position(span >> shift) + 1;
        let mut begins = Vec::with_capacity(parts + 1);
        for (place, id) in (0_u32..).zip(ids) {
            while begins.len() <= position((id - first) >> shift) {
                begins.push(place);
            }
        }
        begins.push(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        Self { ids, first, shift, begins }
    }

    fn index_of(&self, id: u32) -> Option<u32> {
        let distance = id.checked_sub(self.first)?;
        if self.begins.is_empty() {
            return (position(distance) < self.ids.len()).then_some(distance);
        }
        let part = position(distance >> self.shift);
        let (&begin, &end) = (self.begins.get(part)?, self.begins.get(part + 1)?);
        let candidates = self.ids.get(position(begin)..position(end))?;
        let found = candidates.binary_search(&id).ok()?;
        Some(begin + u32::try_from(found).ok()?)
    }
}

/// What each job depends on, as indexes.
fn parents(jobs: &[(u32, &[u32])], ids: &[u32]) -> Result<Links, DagError> {
    let directory = Directory::new(ids);
    let mut begins = Vec::with_capacity(jobs.len() + 1);
    let mut ends = Vec::with_capacity(jobs.iter().map(|job| job.1.len()).sum());
    let mut own: Vec<u32> = Vec::new();
    begins.push(0);
    for &(job, depends) in jobs {
        own.clear();
        own.extend(depends.iter().filter_map(|&id| directory.index_of(id)));
        if own.len() != depends.len() {
            let unknown = depends.iter().filter(|id| directory.index_of(**id).is_none());
            let missing = unknown.copied().min().unwrap_or_default();
            return Err(DagError::MissingDependency { job, missing });
        }
        if !own.is_sorted() {
            own.sort_unstable();
        }
        own.dedup();
        ends.extend_from_slice(&own);
        begins.push(ends.len());
    }
    Ok(Links { begins, ends })
}

/// Both directions at once, for algorithms that need predecessors too.
#[derive(Clone, Copy, Debug)]
struct View<'a> {
    children: &'a Links,
    parents: &'a Links,
}

impl GraphBase for View<'_> {
    type EdgeId = usize;
    type NodeId = u32;
}

impl GraphRef for View<'_> {}

impl Visitable for View<'_> {
    type Map = <petgraph::graph::DiGraph<(), ()> as Visitable>::Map;

    fn visit_map(&self) -> Self::Map {
        Self::Map::with_capacity(self.children.nodes())
    }

    fn reset_map(&self, map: &mut Self::Map) {
        map.clear();
        map.grow(self.children.nodes());
    }
}

impl IntoNodeIdentifiers for View<'_> {
    type NodeIdentifiers = std::ops::Range<u32>;

    fn node_identifiers(self) -> Self::NodeIdentifiers {
        0..u32::try_from(self.children.nodes()).unwrap_or(u32::MAX)
    }
}

impl<'a> IntoNeighbors for View<'a> {
    type Neighbors = std::iter::Copied<std::slice::Iter<'a, u32>>;

    fn neighbors(self, index: u32) -> Self::Neighbors {
        self.children.of(index).iter().copied()
    }
}

impl<'a> IntoNeighborsDirected for View<'a> {
    type NeighborsDirected = Self::Neighbors;

    fn neighbors_directed(self, index: u32, direction: Direction) -> Self::NeighborsDirected {
        let links = match direction {
            Direction::Outgoing => self.children,
            Direction::Incoming => self.parents,
        };
        links.of(index).iter().copied()
    }
}

/// A shortest circle through `start`, which lies on one; lowest index first.
fn shortest_cycle(children: &Links, start: u32) -> Vec<u32> {
    let mut came_from: Vec<Option<u32>> = vec![None; children.nodes()];
    let mut queue = VecDeque::from([start]);
    'search: while let Some(index) = queue.pop_front() {
        for &child in children.of(index) {
            let Some(from) = came_from.get_mut(position(child)) else { continue };
            if from.is_none() {
                *from = Some(index);
                if child == start {
                    break 'search;
                }
                queue.push_back(child);
            }
        }
    }
    let mut cycle = vec![start];
    let mut at = start;
    while let Some(&Some(from)) = came_from.get(position(at)) {
        if from == start {
            break;
        }
        cycle.push(from);
        at = from;
    }
    cycle.reverse();
    let lowest = cycle.iter().enumerate().min_by_key(|(_, index)| **index);
    let lowest = lowest.map_or(0, |(place, _)| place);
    cycle.rotate_left(lowest);
    cycle
}

#[cfg(test)]
#[path = "dag_tests.rs"]
mod tests;
