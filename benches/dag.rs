//! The graph of a flow beside bare petgraph, in the same run.
#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use muster::bench::clock::{median, milliseconds, now};
use muster::bench::shape::Shape;
use muster::model::dag::Dag;
use petgraph::algo::toposort;
use petgraph::graph::DiGraph;

fn ours(shape: &Shape) -> usize {
    let jobs = (0_u32..).zip(&shape.depends).map(|(id, on)| (id, on.as_slice()));
    Dag::new(jobs).map_or(0, |dag| dag.levels().len())
}

fn bare(edges: &[(u32, u32)]) -> usize {
    let graph = DiGraph::<(), ()>::from_edges(edges);
    toposort(&graph, None).map_or(0, |order| order.len())
}

fn timed(mut work: impl FnMut() -> usize) -> Duration {
    let times = (0..9).map(|_| {
        let start = now();
        black_box(work());
        start.elapsed()
    });
    median(times.collect())
}

/// A million jobs with two million dependencies: the figure that has a goal.
fn ratios(_: &mut Criterion) {
    let shapes = [
        ("layered 1000 x 1000", Shape::layered(1_000, 1_000)),
        ("layered 10 x 100000", Shape::layered(10, 100_000)),
        ("scattered", Shape::scattered(1_000_000)),
    ];
    for (name, shape) in shapes {
        let edges = shape.edges();
        let (bare, ours) = (timed(|| bare(&edges)), timed(|| ours(&shape)));
        let ratio = ours.as_secs_f64() / bare.as_secs_f64();
        let verdict = if ratio <= 3.0 { "PASS" } else { "MISS" };
        println!(
            "{verdict} {name}: graph and levels {:.1} ms, bare petgraph {:.1} ms, ratio {ratio:.2} (goal 3)",
            milliseconds(ours),
            milliseconds(bare)
        );
    }
}

fn small(c: &mut Criterion) {
    for (layers, width) in [(10, 10), (100, 100)] {
        let shape = Shape::layered(layers, width);
        let edges = shape.edges();
        let mut group = c.benchmark_group(format!("dag/{layers}x{width}"));
        group.bench_function("graph and levels", |b| b.iter(|| ours(black_box(&shape))));
        group.bench_function("bare petgraph", |b| b.iter(|| bare(black_box(&edges))));
        group.finish();
    }
}

criterion_group!(benches, ratios, small);
criterion_main!(benches);
