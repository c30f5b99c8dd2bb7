//! What a coordinator costs at rest, and over very much of everything.

use std::hint::black_box;
use std::time::Duration;

use anyhow::Context;
use petgraph::algo::toposort;
use petgraph::graph::DiGraph;

use super::Bench;
use super::calls::store_jobs;
use super::child::{Child, disk_bytes};
use super::clock::{float, median, milliseconds, now};
use super::flows::{Site, set_up};
use super::http::{Http, check, request};
use super::report::{Goal, Row};
use super::shape::{CALLER, CONTEXT, Shape};
use super::socket::Socket;
use crate::model::dag::Dag;

const MEBIBYTE: f64 = 1024.0 * 1024.0;

fn mebibytes(bytes: u64) -> f64 {
    usize::try_from(bytes).map_or(f64::MAX, float) / MEBIBYTE
}

pub(super) async fn idle(bench: &mut Bench) -> anyhow::Result<()> {
    let mut times = Vec::new();
    let mut resident = 0;
    for _ in 0..7 {
        let server = Child::serve(&bench.fresh("muster")?).await?;
        times.push(server.ready_after);
        resident = server.resident()?;
        server.stop().await?;
    }
    let time = milliseconds(median(times));
    bench.tell(&Row::new("idle", "from exec to ready", (time, "ms"), Goal::AtMost(50.0)))?;
    let row = Row::new("idle", "resident memory", (mebibytes(resident), "MiB"), Goal::AtMost(20.0));
    bench.tell(&row)?;
    let binary = std::fs::metadata(std::env::current_exe()?)?.len();
    let row =
        Row::new("idle", "size of this binary", (mebibytes(binary), "MiB"), Goal::AtMost(20.0));
    bench.tell(&row)
}

pub(super) async fn restart(bench: &mut Bench) -> anyhow::Result<()> {
    let dir = bench.fresh("muster")?;
    let flow = Shape::independent(10_000);
    let flows = bench.scaled(1_000_000).div_ceil(flow.len());
    let jobs = flows * flow.len();
    let server = Child::serve(&dir).await?;
    let mut site = Site::new(server.at, 256).await?;
    let start = now();
    for _ in 0..flows {
        site.run(&flow).await?;
    }
    let made = start.elapsed();
    let resident = server.resident()?;
    drop(site);
    server.stop().await?;

    let per_job = float(usize::try_from(disk_bytes(&dir)?)?) / float(jobs);
    let read = format!(r#"{{"context_id":{CONTEXT},"caller_id":{CALLER},"id":{}}}"#, jobs / 2);
    let read = request(1, "job.load", &read);
    let mut times = Vec::new();
    let mut memory = 0;
    for _ in 0..3 {
        let server = Child::serve_until_answered(&dir, &read).await?;
        check(&Http::connect(server.at.http).await?.post(&read).await?)?;
        times.push(server.ready_after);
        memory = memory.max(server.resident()?);
        server.stop().await?;
    }
    let of = |what: &str| format!("{what}, {jobs} finished jobs");
    let seconds = median(times).as_secs_f64();
    bench.tell(&Row::new(
        "restart",
        of("exec to first read"),
        (seconds, "s"),
        Goal::AtMost(1.0),
    ))?;
    let memory = (mebibytes(memory), "MiB");
    bench.tell(&Row::new("restart", of("resident"), memory, Goal::AtMost(150.0)))?;
    let row = Row::new("restart", of("disk per job"), (per_job, "bytes"), Goal::AtMost(700.0));
    bench.tell(&row)?;
    let rate = float(jobs) / made.as_secs_f64();
    bench.tell(&Row::new("restart", of("made"), (rate, "jobs/s"), Goal::None))?;
    let resident = (mebibytes(resident), "MiB");
    bench.tell(&Row::new("restart", of("resident after making"), resident, Goal::None))
}

pub(super) async fn dag(bench: &mut Bench) -> anyhow::Result<()> {
    let layers = u32::try_from(bench.scaled(1_000))?;
    let shape = Shape::layered(layers, 1_000);
    let (ours, bare) = graphs(&shape);
    let measure = format!("graph and levels of {} jobs", shape.len());
    let row = Row::new("dag", measure, (milliseconds(ours), "ms"), Goal::RatioAtMost(3.0));
    bench.tell(&row.beside(milliseconds(bare), "petgraph build and toposort"))?;

    let server = Child::serve(&bench.fresh("muster")?).await?;
    set_up(&mut Socket::connect(server.at.ws).await?).await?;
    let jobs = shape.len();
    let mut http = Http::connect(server.at.http).await?;
    check(&http.call("flow.create", &shape.create(1, 1)).await?).context("flow.create")?;
    let depends = shape.depends;
    let of = move |place: usize| depends.get(place).cloned().unwrap_or_default();
    store_jobs(server.at.http, 1, jobs, of).await?;
    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..3 {
        let start = now();
        let answer =
            http.call("flow.dag", &format!(r#"{{"context_id":{CONTEXT},"id":1}}"#)).await?;
        times.push(start.elapsed());
        check(&answer).context("flow.dag")?;
        bytes = answer.len();
    }
    let seconds = median(times).as_secs_f64();
    let measure = format!("flow.dag of {jobs} jobs, whole call");
    bench.tell(&Row::new("dag", measure, (seconds, "s"), Goal::AtMost(3.0)))?;
    let resident = server.resident()?;
    let size = (float(bytes) / MEBIBYTE, "MiB");
    bench.tell(&Row::new("dag", "size of its answer", size, Goal::None))?;
    let resident = (mebibytes(resident), "MiB");
    bench.tell(&Row::new("dag", "resident after it", resident, Goal::None))
}

/// Times of the same graph, built and sorted by the model and by the library alone.
fn graphs(shape: &Shape) -> (Duration, Duration) {
    let edges = shape.edges();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let start = now();
        let jobs = (0_u32..).zip(&shape.depends).map(|(id, on)| (id, on.as_slice()));
        let _ = black_box(Dag::new(jobs).map(|dag| dag.levels().len()));
        ours.push(start.elapsed());
        let start = now();
        let graph = DiGraph::<(), ()>::from_edges(&edges);
        let _ = black_box(toposort(&graph, None));
        bare.push(start.elapsed());
    }
    (median(ours), median(bare))
}
