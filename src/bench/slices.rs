//! A million slices of a small function through the built-in runner, beside bare QuickJS.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rquickjs::{Context, Function, Runtime, Value};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Bench;
use super::child::Child;
use super::clock::{float, median, middle, milliseconds, now, rate};
use super::http::Http;
use super::report::{Goal, Row};
use super::socket::Socket;

/// Credentials of nobody in particular.
const AUTH: &str = include_str!("keystore.header");
const ACCOUNT: &str = "94e619279c5780ff20ece07faa719e3d66111a88";
const DOUBLE: &str = "(x) => x * 2";
/// Slices of a whole run, and of one call.
const SLICES: usize = 1_000_000;
const CHUNK: usize = 10_000;
/// Slices of one read of results.
const PAGE: usize = 10_000;
const ROUNDS: usize = 21;

#[derive(Deserialize)]
struct Deployed {
    #[serde(rename = "jobId")]
    job_id: String,
}

pub(super) async fn slices(bench: &mut Bench) -> anyhow::Result<()> {
    let total = bench.scaled(SLICES);
    let dir = bench.fresh("muster")?;
    let server = Child::serve_with(&dir, &["--js-runner", "--local-slots", "2"]).await?;
    let mut socket = Socket::connect(server.at.ws).await?;
    // The first batch of all starts the processes that functions run in.
    let warm = deploy(&mut socket, &chunk(0, 2)).await?;
    settled(&mut socket, &warm).await?;
    first_results(bench, &server).await?;
    let before = server.resident()?;
    let start = now();
    let job = deploy(&mut socket, "[]").await?;
    for first in (0..total).step_by(CHUNK) {
        let data = chunk(first, CHUNK.min(total - first));
        let params = format!(r#"{{"auth":"{AUTH}","jobId":"{job}","sliceData":{data}}}"#);
        socket.call("dcp.job.add_slices", &params).await?;
    }
    settled(&mut socket, &job).await?;
    let took = start.elapsed();
    let grown = server.resident()?.saturating_sub(before);
    let bare = bare(total)?;
    let figure = rate(total, took);
    let row = Row::new(
        "slices",
        "small slices, deploy to last result",
        (figure, "/s"),
        Goal::RatioAtLeast(0.3),
    );
    bench.tell(&row.beside(rate(total, bare), "QuickJS in one thread"))?;
    let grown = float(usize::try_from(grown >> 20)?);
    bench.tell(&Row::new("slices", "memory grown meanwhile", (grown, "MiB"), Goal::None))?;
    results(bench, &server, &job, total).await
}

/// Inputs in a row, as a JSON array.
fn chunk(first: usize, count: usize) -> String {
    let numbers: Vec<String> = (first..first + count).map(|number| number.to_string()).collect();
    format!("[{}]", numbers.join(","))
}

async fn deploy(socket: &mut Socket, slices: &str) -> anyhow::Result<String> {
    let params = format!(
        r#"{{"auth":"{AUTH}","work":{{"function":"{DOUBLE}"}},"slices":{slices},"account":{{"address":"{ACCOUNT}"}}}}"#
    );
    let answer = socket.call("dcp.job.deploy", &params).await?;
    Ok(serde_json::from_str::<Deployed>(answer.get())?.job_id)
}

/// Follows a job over a connection that follows nothing else.
async fn follow(socket: &mut Socket, job: &str, kind: &str) -> anyhow::Result<Box<RawValue>> {
    let params = format!(r#"{{"auth":"{AUTH}","jobId":"{job}","since":0,"kinds":["{kind}"]}}"#);
    socket.call("dcp.job.subscribe", &params).await
}

/// Waits until all slices that a job has now have results.
async fn settled(socket: &mut Socket, job: &str) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Status {
        status: String,
    }
    let params = format!(r#"{{"auth":"{AUTH}","jobId":"{job}"}}"#);
    loop {
        let answer = socket.call("dcp.job.status", &params).await?;
        match serde_json::from_str::<Status>(answer.get())?.status.as_str() {
            "completed" => return Ok(()),
            "running" => tokio::time::sleep(Duration::from_millis(5)).await,
            other => bail!("the job is {other}"),
        }
    }
}

/// From the deploy of a job to its first result at a subscriber.
async fn first_results(bench: &mut Bench, server: &Child) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let mut socket = Socket::connect(server.at.ws).await?;
        let start = now();
        let job = deploy(&mut socket, "[1]").await?;
        follow(&mut socket, &job, "result").await?;
        let frame = socket.receive().await?;
        times.push(start.elapsed());
        let text = String::from_utf8_lossy(&frame);
        if !text.contains(r#""kind":"result""#) {
            bail!("not a result: {text}");
        }
    }
    let time = milliseconds(median(times));
    bench.tell(&Row::new("slices", "deploy to first result, p50", (time, "ms"), Goal::AtMost(50.0)))
}

/// Reads of results by range.
async fn results(bench: &mut Bench, server: &Child, job: &str, total: usize) -> anyhow::Result<()> {
    let mut http = Http::connect(server.at.http).await?;
    let (mut figures, page) = (Vec::new(), PAGE.min(total));
    for round in 0..ROUNDS {
        let first = 1 + (round * 37_013) % (total - page + 1);
        let (last, host) = (first + page - 1, server.at.http);
        let request = format!(
            "GET /api/v0/job/{job}/result?range={first}-{last} HTTP/1.1\r\nHost: {host}\r\n\
             Authorization: {AUTH}\r\n\r\n"
        );
        let start = now();
        let body = http.exchange(request.as_bytes()).await?;
        figures.push(float(body.len()) / 1e6 / seconds(start));
        let count = body.windows(13).filter(|part| part == b"\"sliceNumber\"").count();
        if count != page {
            bail!("{count} results instead of {page}");
        }
    }
    let measure = "results by range, 10,000 at a time";
    bench.tell(&Row::new("slices", measure, (middle(figures), "MB/s"), Goal::AtLeast(50.0)))
}

fn seconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64().max(1e-9)
}

/// The same calls in one thread, with JSON in and out.
fn bare(total: usize) -> anyhow::Result<Duration> {
    let context = Context::full(&Runtime::new()?)?;
    let start = now();
    let bytes = context.with(|ctx| {
        let function: Function<'_> = ctx.eval(DOUBLE)?;
        let mut bytes = 0;
        for number in 0..total {
            let datum = ctx.json_parse(number.to_string())?;
            let value: Value<'_> = function.call((datum,))?;
            let text = ctx.json_stringify(value)?.context("no JSON")?;
            bytes += text.to_string()?.len();
        }
        anyhow::Ok(bytes)
    })?;
    std::hint::black_box(bytes);
    Ok(start.elapsed())
}
