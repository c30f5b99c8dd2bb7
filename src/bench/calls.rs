//! Single calls over HTTP keep-alive beside one that does nothing, on the same server.

use std::net::SocketAddr;

use super::Bench;
use super::child::Child;
use super::clock::{middle, rate};
use super::flows::set_up;
use super::http::{self, request};
use super::report::{Goal, Row};
use super::shape::{CALLER, CONTEXT, write_job};
use super::socket::Socket;

const ROUNDS: u32 = 5;
/// What a call costs whatever it does.
const NOTHING: &str = "system.ping";

/// Creates jobs from id `first` on, each depending on what `depends` says, counted from 0.
pub(super) async fn store_jobs(
    server: SocketAddr,
    first: u32,
    count: usize,
    depends: impl Fn(usize) -> Vec<u32> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    const BATCH: usize = 250;
    let batches = count.div_ceil(BATCH);
    let body = move |batch: usize| {
        let mut out = String::with_capacity(BATCH * 420);
        for place in batch * BATCH..((batch + 1) * BATCH).min(count) {
            out.push_str(if out.is_empty() { "[" } else { "," });
            let id = first.saturating_add(u32::try_from(place).unwrap_or(u32::MAX));
            out.push_str(&create_call(id, first, &depends(place)));
        }
        out.push(']');
        out
    };
    http::load(server, 32, batches, body).await?;
    Ok(())
}

fn create_call(id: u32, first: u32, depends: &[u32]) -> String {
    let mut params = format!(r#"{{"context_id":{CONTEXT},"job":"#);
    write_job(&mut params, id, first, depends);
    params.push('}');
    request(u64::from(id), "job.create", &params)
}

pub(super) async fn load(bench: &mut Bench) -> anyhow::Result<()> {
    let server = Child::serve(&bench.fresh("muster")?).await?;
    set_up(&mut Socket::connect(server.at.ws).await?).await?;
    let (stored, calls) = (bench.scaled(100_000), bench.scaled(100_000));
    store_jobs(server.at.http, 1, stored, |_| Vec::new()).await?;
    let (mut loads, mut nothings) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let load = move |number: usize| {
            // A large odd step: every job is asked for, none beside the one before.
            let id = 1 + (number * 7_919) % stored;
            let params = format!(r#"{{"context_id":{CONTEXT},"caller_id":{CALLER},"id":{id}}}"#);
            request(1, "job.load", &params)
        };
        let time = http::load(server.at.http, 32, calls, load).await?;
        let nothing = http::load(server.at.http, 32, calls, |_| request(1, NOTHING, "{}")).await?;
        if round > 0 {
            loads.push(rate(calls, time));
            nothings.push(rate(calls, nothing));
        }
    }
    let measure = format!("job.load of {stored} jobs, 32 connections");
    let row = Row::new("load", measure, (middle(loads), "calls/s"), Goal::RatioAtLeast(0.65));
    bench.tell(&row.beside(middle(nothings), "system.ping of the same server"))
}

pub(super) async fn create(bench: &mut Bench) -> anyhow::Result<()> {
    let server = Child::serve(&bench.fresh("muster")?).await?;
    set_up(&mut Socket::connect(server.at.ws).await?).await?;
    let calls = bench.scaled(50_000);
    let (mut creates, mut nothings) = (Vec::new(), Vec::new());
    let mut first = 1;
    for round in 0..=ROUNDS {
        let create = move |number: usize| {
            create_call(first + u32::try_from(number).unwrap_or_default(), first, &[])
        };
        let time = http::load(server.at.http, 256, calls, create).await?;
        first += u32::try_from(calls)?;
        let nothing = http::load(server.at.http, 256, calls, |_| request(1, NOTHING, "{}")).await?;
        if round > 0 {
            creates.push(rate(calls, time));
            nothings.push(rate(calls, nothing));
        }
    }
    let row = Row::new(
        "create",
        "job.create, 256 connections",
        (middle(creates), "calls/s"),
        Goal::RatioAtLeast(0.4),
    );
    bench.tell(&row.beside(middle(nothings), "system.ping of the same server"))
}
