use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn dag(jobs: &[(u32, &[u32])]) -> Result<Dag, DagError> {
    Dag::new(jobs.iter().copied())
}

#[test]
fn no_jobs_are_an_empty_graph() {
    let none = dag(&[]).unwrap();
    assert!(none.is_empty() && none.edges().is_empty() && none.levels().is_empty());
    assert_eq!(none.index_of(0), None);
    assert!(none.children(0).is_empty());
}

#[test]
fn a_diamond_is_described_in_ascending_order() {
    let diamond = dag(&[(4, &[3, 2]), (2, &[1]), (3, &[1, 1]), (1, &[]), (4, &[])]).unwrap();
    assert_eq!(diamond.ids(), [1, 2, 3, 4]);
    assert_eq!(diamond.edges(), [[1, 2], [1, 3], [2, 4], [3, 4]]);
    assert_eq!(diamond.reverse_edges(), [[2, 1], [3, 1], [4, 2], [4, 3]]);
    assert_eq!((diamond.roots(), diamond.leaves()), (vec![1], vec![4]));
    assert_eq!(diamond.levels(), [vec![1], vec![2, 3], vec![4]]);
    assert_eq!(diamond.dependency_counts(), [0, 1, 1, 2]);
    assert_eq!((diamond.children(0), diamond.parents(3)), (&[1, 2][..], &[1, 2][..]));
}

#[test]
fn a_level_is_the_longest_path_from_a_root() {
    let shortcut = dag(&[(1, &[]), (2, &[1]), (3, &[1, 2]), (9, &[])]).unwrap();
    assert_eq!(shortcut.levels(), [vec![1, 9], vec![2], vec![3]]);
}

#[test]
fn jobs_without_edges_are_roots_and_leaves() {
    let loose = dag(&[(u32::MAX, &[]), (0, &[]), (7, &[0])]).unwrap();
    assert_eq!(loose.roots(), [0, u32::MAX]);
    assert_eq!(loose.leaves(), [7, u32::MAX]);
    assert_eq!(loose.index_of(u32::MAX), Some(2));
    assert_eq!(loose.index_of(8), None);
}

#[test]
fn the_lowest_missing_dependency_of_the_lowest_job_is_named() {
    let missing = dag(&[(5, &[99]), (3, &[1, 70, 60]), (1, &[3])]).unwrap_err();
    assert_eq!(missing, DagError::MissingDependency { job: 3, missing: 60 });
}

#[test]
fn a_job_that_depends_on_itself_is_a_cycle() {
    assert_eq!(dag(&[(1, &[]), (2, &[1, 2])]).unwrap_err(), DagError::Cycle { cycle: vec![2] });
}

#[test]
fn a_cycle_is_short_and_in_the_order_of_dependency() {
    // 2 waits for 4, 3 for 2, 4 for 3; 1 and 5 only hang on it.
    let jobs: &[(u32, &[u32])] = &[(1, &[]), (2, &[1, 4]), (3, &[2]), (4, &[3]), (5, &[4])];
    assert_eq!(dag(jobs).unwrap_err(), DagError::Cycle { cycle: vec![2, 3, 4] });
}

#[test]
fn a_chain_of_a_million_needs_no_deep_stack() {
    let depends: Vec<[u32; 1]> = (0..1_000_000).map(|id: u32| [id.saturating_sub(1)]).collect();
    let jobs = |first: usize| {
        (0_u32..).zip(&depends).map(move |(id, on)| (id, if id == 0 { &on[first..] } else { on }))
    };
    let small_stack = std::thread::Builder::new().stack_size(64 * 1024);
    std::thread::scope(|scope| {
        let run = || {
            let chain = Dag::new(jobs(1)).unwrap();
            assert_eq!(chain.levels().len(), 1_000_000);
            // The first depends on itself now.
            assert_eq!(Dag::new(jobs(0)).unwrap_err(), DagError::Cycle { cycle: vec![0] });
        };
        small_stack.spawn_scoped(scope, run).unwrap().join().unwrap();
    });
}

/// What the graph should be, by the plainest means.
struct Naive(BTreeMap<u32, BTreeSet<u32>>);

impl Naive {
    fn new(jobs: &[(u32, Vec<u32>)]) -> Self {
        let mut map = BTreeMap::new();
        for (id, depends) in jobs {
            map.entry(*id).or_insert_with(|| depends.iter().copied().collect());
        }
        Self(map)
    }

    fn missing(&self) -> Option<(u32, u32)> {
        let named = self.0.iter().flat_map(|(job, on)| on.iter().map(|id| (*job, *id)));
        named.into_iter().find(|(_, id)| !self.0.contains_key(id))
    }

    /// Takes away level by level what depends on nothing that is left; `None` if some stay.
    fn levels(&self) -> Option<Vec<Vec<u32>>> {
        let (mut left, mut levels) = (self.0.clone(), Vec::new());
        while !left.is_empty() {
            let free = |on: &BTreeSet<u32>| on.iter().all(|id| !left.contains_key(id));
            let level: Vec<u32> =
                left.iter().filter(|(_, on)| free(on)).map(|(id, _)| *id).collect();
            if level.is_empty() {
                return None;
            }
            left.retain(|id, _| !level.contains(id));
            levels.push(level);
        }
        Some(levels)
    }
}

fn any_jobs() -> impl Strategy<Value = Vec<(u32, Vec<u32>)>> {
    // Three kinds of ids: dense, spread over the whole range, and in far-apart clumps.
    let spread =
        prop_oneof![Just((1_u32, 0_u32)), Just((300_000_000, 7)), Just((1, u32::MAX - 13))];
    (spread, prop::collection::vec((0_u32..14, prop::collection::vec(0_u32..14, 0..3)), 0..24))
        .prop_map(|((factor, offset), jobs)| {
            let place = |id: u32| id.wrapping_mul(factor).wrapping_add(offset);
            let depends = |on: Vec<u32>| on.into_iter().map(place).collect();
            jobs.into_iter().map(|(id, on)| (place(id), depends(on))).collect()
        })
}

fn downward_jobs() -> impl Strategy<Value = Vec<(u32, Vec<u32>)>> {
    // Whoever depends only on lower ids cannot form a circle; shuffled so that order is no help.
    let job = |id: u32| prop::collection::vec(0..id.max(1), 0..4).prop_map(move |on| (id, on));
    let all = (1..40_u32).prop_flat_map(move |n| (0..n).map(job).collect::<Vec<_>>());
    all.prop_map(|mut jobs| {
        jobs[0].1.clear();
        jobs
    })
    .prop_shuffle()
}

proptest! {
    #[test]
    fn it_agrees_with_the_naive_model(jobs in prop_oneof![any_jobs(), downward_jobs()]) {
        let naive = Naive::new(&jobs);
        let got = Dag::new(jobs.iter().map(|(id, on)| (*id, on.as_slice())));
        if let Some((job, missing)) = naive.missing() {
            prop_assert_eq!(got.unwrap_err(), DagError::MissingDependency { job, missing });
            return Ok(());
        }
        let Some(levels) = naive.levels() else {
            let Err(DagError::Cycle { cycle }) = got else { panic!("a circle went unnoticed") };
            prop_assert_eq!(cycle.iter().collect::<BTreeSet<_>>().len(), cycle.len());
            prop_assert_eq!(cycle.iter().min(), cycle.first());
            for (before, after) in cycle.iter().zip(cycle.iter().cycle().skip(1)) {
                prop_assert!(naive.0[after].contains(before), "{:?}", cycle);
            }
            return Ok(());
        };
        let dag = got.unwrap();
        prop_assert_eq!(dag.levels(), levels);
        let reverse: Vec<[u32; 2]> =
            naive.0.iter().flat_map(|(id, on)| on.iter().map(|to| [*id, *to])).collect();
        let mut edges: Vec<[u32; 2]> = reverse.iter().map(|&[a, b]| [b, a]).collect();
        edges.sort_unstable();
        let roots: Vec<u32> = naive.0.iter().filter(|(_, on)| on.is_empty()).map(|j| *j.0).collect();
        let leaf = |id: &&u32| !edges.iter().any(|[from, _]| from == *id);
        prop_assert_eq!(dag.leaves(), naive.0.keys().filter(leaf).copied().collect::<Vec<_>>());
        prop_assert_eq!(dag.roots(), roots);
        prop_assert_eq!(dag.edge_count(), edges.len());
        prop_assert_eq!(dag.edges(), edges);
        prop_assert_eq!(dag.reverse_edges(), reverse);
        for ((index, id), count) in (0_u32..).zip(dag.ids()).zip(dag.dependency_counts()) {
            prop_assert_eq!(dag.index_of(*id), Some(index));
            prop_assert_eq!(usize::try_from(count).unwrap(), naive.0[id].len());
        }
        let mut seen = BTreeSet::new();
        for index in dag.order() {
            prop_assert!(dag.parents(*index).iter().all(|parent| seen.contains(parent)));
            seen.insert(*index);
        }
        prop_assert_eq!(seen.len(), dag.len());
    }
}
