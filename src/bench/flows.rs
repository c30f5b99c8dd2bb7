//! Flows from their submission to their end, over a real server and a runner that costs nothing.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::Bench;
use super::bare::{Appender, appends};
use super::child::{Child, Endpoints};
use super::clock::{float, median, middle, milliseconds, now, rate};
use super::report::{Goal, Row};
use super::runner::Runner;
use super::shape::{CALLER, CONTEXT, Shape};
use super::socket::Socket;

/// Rounds whose median counts; one more before them does not.
const ROUNDS: u32 = 5;
const RUNNER: u32 = 1;

/// A server, someone who submits to it and someone who does the jobs.
#[derive(Debug)]
pub(super) struct Site {
    control: Socket,
    runner: Runner,
    next_flow: u32,
    next_job: u32,
}

#[derive(Deserialize)]
struct Notification {
    params: Option<Params>,
}

#[derive(Deserialize)]
struct Params {
    result: Event,
}

#[derive(Deserialize)]
struct Event {
    subject: String,
    data: Change,
}

#[derive(Deserialize)]
struct Change {
    to: String,
}

/// Creates the context and the runner that everything uses.
pub(super) async fn set_up(control: &mut Socket) -> anyhow::Result<()> {
    let context = format!(
        r#"{{"context":{{"id":{CONTEXT},"admins":[{CALLER}],"readers":[],"executors":[]}}}}"#
    );
    control.call("context.create", &context).await?;
    let runner = format!(
        r#"{{"context_id":{CONTEXT},"runner":{{"id":{RUNNER},"pubkey":"bench","address":"127.0.0.1","topic":"bench","local":false}}}}"#
    );
    control.call("runner.create", &runner).await?;
    Ok(())
}

impl Site {
    pub(super) async fn new(at: Endpoints, slots: u32) -> anyhow::Result<Self> {
        let mut control = Socket::connect(at.ws).await?;
        set_up(&mut control).await?;
        let filter = format!(r#"{{"context_id":{CONTEXT},"kinds":["flow.status"]}}"#);
        control.call("events.subscribe", &filter).await?;
        let runner = Runner::attach(at.ws, RUNNER, slots).await?;
        Ok(Self { control, runner, next_flow: 1, next_job: 1 })
    }

    /// Runs a flow and returns the time from its submission to its end.
    pub(super) async fn run(&mut self, shape: &Shape) -> anyhow::Result<Duration> {
        let (flow, first) = (self.next_flow, self.next_job);
        self.next_flow += 1;
        self.next_job += u32::try_from(shape.len())?;
        let params = shape.submit(flow, first);
        self.runner.arrivals.clear();
        let start = now();
        let ended = async {
            self.control.call("flow.submit", &params).await?;
            wait_for(&mut self.control, flow).await
        };
        tokio::select! {
            ended = ended => ended?,
            broken = self.runner.work() => broken.context("the runner")?,
        }
        let time = start.elapsed();
        if self.runner.arrivals.len() != shape.len() {
            bail!("{} jobs were given out, not {}", self.runner.arrivals.len(), shape.len());
        }
        Ok(time)
    }
}

async fn wait_for(control: &mut Socket, flow: u32) -> anyhow::Result<()> {
    let subject = format!("flow/{CONTEXT}/{flow}");
    loop {
        let frame = control.receive().await?;
        let notification: Notification = serde_json::from_slice(&frame)?;
        match notification.params.map(|params| params.result) {
            Some(event) if event.subject == subject && event.data.to == "Finished" => return Ok(()),
            Some(event) if event.subject == subject && event.data.to == "Error" => {
                bail!("the flow failed: {}", String::from_utf8_lossy(&frame))
            }
            _ => {}
        }
    }
}

/// Times of the same flow over this server and the bare one, in turns.
async fn compare(bench: &Bench, slots: u32, shape: &Shape) -> anyhow::Result<(Duration, Duration)> {
    let server = Child::serve(&bench.fresh("muster")?).await?;
    let bare = Child::bare(&bench.fresh("bare")?).await?;
    let (mut site, mut bare_site) =
        (Site::new(server.at, slots).await?, Site::new(bare.at, slots).await?);
    let (mut times, mut bare_times) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (time, bare_time) = (site.run(shape).await?, bare_site.run(shape).await?);
        if round > 0 {
            times.push(time);
            bare_times.push(bare_time);
        }
    }
    Ok((median(times), median(bare_times)))
}

/// About as much as a job and its report.
const ECHOED: &str = r#"{"text":"................................................................................................................................................................................................................................................"}"#;
const BARE: &str = "jsonrpsee and a journal without semantics";

pub(super) async fn independent(
    bench: &mut Bench,
    name: &'static str,
    slots: u32,
    goal: f64,
) -> anyhow::Result<()> {
    let jobs = bench.scaled(10_000);
    let (time, bare) = compare(bench, slots, &Shape::independent(jobs)).await?;
    let measure = format!("{jobs} independent jobs, {slots} slots");
    let row = Row::new(name, measure, (rate(jobs, time), "jobs/s"), Goal::AtLeast(goal));
    bench.tell(&row.beside(rate(jobs, bare), BARE))
}

pub(super) async fn layers(bench: &mut Bench) -> anyhow::Result<()> {
    let layers = u32::try_from(bench.scaled(100))?;
    let shape = Shape::layered(layers, 100);
    let (time, bare) = compare(bench, 4, &shape).await?;
    let per_job = |time: Duration| milliseconds(time) / float(shape.len());
    let measure = format!("{layers} x 100 jobs, two parents each, 4 slots");
    let row = Row::new("layers", measure, (per_job(time), "ms/job"), Goal::AtMost(0.06));
    bench.tell(&row.beside(per_job(bare), BARE))
}

pub(super) async fn chain(bench: &mut Bench) -> anyhow::Result<()> {
    let jobs = bench.scaled(1_000);
    let shape = Shape::chain(u32::try_from(jobs)?);
    let server = Child::serve(&bench.fresh("muster")?).await?;
    let bare_dir = bench.fresh("bare")?;
    let bare = Child::bare(&bare_dir).await?;
    let mut site = Site::new(server.at, 4).await?;
    let mut bare_site = Site::new(bare.at, 4).await?;
    let mut echo = Socket::connect(bare.at.ws).await?;
    let mut figures: [Vec<f64>; 5] = Default::default();
    for round in 0..=ROUNDS {
        site.run(&shape).await?;
        let hop = hops(&site.runner);
        bare_site.run(&shape).await?;
        let bare_hop = hops(&bare_site.runner);
        let append = median(appends(&bare_dir, 500, 300)?);
        let trip = round_trip(&mut echo, 500).await?;
        let both = append_and_trip(&mut echo, &bare_dir, 500).await?;
        if round > 0 {
            for (list, time) in figures.iter_mut().zip([hop, bare_hop, append, trip, both]) {
                list.push(milliseconds(time));
            }
        }
    }
    let [hop, bare_hop, append, trip, both] = figures.map(middle);
    let raw = append + trip;
    let measure = format!("hop of a chain of {jobs}, p50");
    let row = Row::new("chain", measure.clone(), (hop, "ms"), Goal::RatioAtMost(1.5));
    bench.tell(&row.beside(raw, "one fdatasync append and one WS round trip"))?;
    let row = Row::new("chain", measure, (hop, "ms"), Goal::None);
    bench.tell(&row.beside(bare_hop, BARE))?;
    for (measure, time) in [
        ("raw append of 300 bytes with fdatasync, p50", append),
        ("raw WS round trip (jsonrpsee echo), p50", trip),
        ("the two in turns, which lets cores fall asleep", both),
    ] {
        bench.tell(&Row::new("chain", measure, (time, "ms"), Goal::None))?;
    }
    Ok(())
}

/// The median time of an append and a round trip one after the other.
async fn append_and_trip(
    socket: &mut Socket,
    dir: &Path,
    turns: usize,
) -> anyhow::Result<Duration> {
    let mut times = Vec::with_capacity(turns);
    let mut file = Appender::create(dir, 300)?;
    for _ in 0..turns {
        let start = now();
        file.append()?;
        socket.call("echo", ECHOED).await?;
        times.push(start.elapsed());
    }
    Ok(median(times))
}

/// The median time from one job to the next.
fn hops(runner: &Runner) -> Duration {
    let times = runner.arrivals.iter().zip(runner.arrivals.iter().skip(1));
    median(times.map(|(before, after)| *after - *before).collect())
}

/// The median time of a call that does nothing, with about 300 bytes each way.
async fn round_trip(socket: &mut Socket, calls: usize) -> anyhow::Result<Duration> {
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let start = now();
        socket.call("echo", ECHOED).await?;
        times.push(start.elapsed());
    }
    Ok(median(times))
}
