//! Events from the call that causes them to those who follow them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Bench;
use super::bare::appends;
use super::child::Child;
use super::clock::{float, median, middle, milliseconds, now};
use super::flows::set_up;
use super::report::{Goal, Row};
use super::socket::Socket;

const ROUNDS: u32 = 5;
/// Sockets that the subscribers of one event share.
const CONNECTIONS: usize = 100;

/// How to cause an event and how to follow it.
#[derive(Clone, Copy, Debug)]
struct Source {
    subscribe: (&'static str, &'static str),
    cause: (&'static str, fn(u32) -> String),
}

const MUSTER: Source = Source {
    subscribe: ("events.subscribe", r#"{"kinds":["actor.*"]}"#),
    cause: ("actor.create", actor),
};
const BARE: Source = Source { subscribe: ("subscribe", "[]"), cause: ("broadcast", event) };

fn actor(id: u32) -> String {
    format!(r#"{{"actor":{{"id":{id},"pubkey":"bench","address":["127.0.0.1"]}}}}"#)
}

/// What Muster's followers are told of it: the bare broadcast sends as many bytes.
fn event(id: u32) -> String {
    let at = 1_700_000_000_u64;
    format!(
        r#"{{"seq":{id},"at":{at}000,"kind":"actor.created","subject":"actor/{id}","data":{{"id":{id},"pubkey":"bench","address":["127.0.0.1"],"created_at":{at},"updated_at":{at}}}}}"#
    )
}

pub(super) async fn receipt(bench: &mut Bench) -> anyhow::Result<()> {
    let events = u32::try_from(bench.scaled(500))?;
    let bare_dir = bench.fresh("bare")?;
    let (server, bare) =
        (Child::serve(&bench.fresh("muster")?).await?, Child::bare(&bare_dir).await?);
    let mut ours = Pair::new(server.at.ws, MUSTER).await?;
    let mut theirs = Pair::new(bare.at.ws, BARE).await?;
    let mut figures: [Vec<f64>; 3] = Default::default();
    for round in 0..=ROUNDS {
        let (our, their) = (ours.p50(events).await?, theirs.p50(events).await?);
        let append = median(appends(&bare_dir, 300, 300)?);
        if round > 0 {
            for (list, time) in figures.iter_mut().zip([our, their, append]) {
                list.push(milliseconds(time));
            }
        }
    }
    let [ours, theirs, append] = figures.map(middle);
    // The commit itself cannot be seen from outside; the raw append stands for it.
    let measure = "call to receipt less a raw append, p50";
    let row =
        Row::new("receipt", measure, ((ours - append).max(0.0), "ms"), Goal::RatioAtMost(2.0));
    bench.tell(&row.beside(theirs, "jsonrpsee broadcast, call to receipt"))?;
    bench.tell(&Row::new(
        "receipt",
        "call to receipt, commit included, p50",
        (ours, "ms"),
        Goal::None,
    ))
}

/// One that causes events and one that follows them.
#[derive(Debug)]
struct Pair {
    source: Source,
    cause: Socket,
    follower: Socket,
    next: u32,
}

impl Pair {
    async fn new(server: SocketAddr, source: Source) -> anyhow::Result<Self> {
        let (cause, mut follower) =
            (Socket::connect(server).await?, Socket::connect(server).await?);
        follower.call(source.subscribe.0, source.subscribe.1).await?;
        Ok(Self { source, cause, follower, next: 1 })
    }

    async fn p50(&mut self, events: u32) -> anyhow::Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..events {
            let params = (self.source.cause.1)(self.next);
            self.next += 1;
            let start = now();
            self.cause.send(self.source.cause.0, &params).await?;
            self.follower.receive().await?;
            times.push(start.elapsed());
            self.cause.receive().await?;
        }
        Ok(median(times))
    }
}

pub(super) async fn fanout(bench: &mut Bench) -> anyhow::Result<()> {
    for wanted in [1_000, 10_000] {
        let each = bench.scaled(wanted).div_ceil(CONNECTIONS);
        let subscribers = each * CONNECTIONS;
        let bare = Child::bare(&bench.fresh("bare")?).await?;
        let server = Child::serve(&bench.fresh("muster")?).await?;
        set_up(&mut Socket::connect(server.at.ws).await?).await?;
        let before = server.resident()?;
        let mut ours = Crowd::new(server.at.ws, MUSTER, each).await?;
        let mut theirs = Crowd::new(bare.at.ws, BARE, each).await?;
        let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS * 4 {
            let (our, their) = (ours.last().await?, theirs.last().await?);
            if round > 0 {
                our_times.push(our);
                their_times.push(their);
            }
        }
        let grown = server.resident()?.saturating_sub(before);
        let measure = format!("one event to {subscribers} ({CONNECTIONS} sockets), last");
        let figure = (milliseconds(median(our_times)), "ms");
        let row = Row::new("fanout", measure, figure, Goal::RatioAtMost(1.3));
        let theirs = milliseconds(median(their_times));
        bench.tell(&row.beside(theirs, "jsonrpsee broadcast, same sockets"))?;
        let kibibytes = float(usize::try_from(grown)?) / 1024.0 / float(subscribers);
        let measure = format!("server memory per subscriber of {subscribers}");
        bench.tell(&Row::new("fanout", measure, (kibibytes, "KiB"), Goal::AtMost(32.0)))?;
    }
    Ok(())
}

/// One that causes events and many that follow them.
#[derive(Debug)]
struct Crowd {
    source: Source,
    cause: Socket,
    next: u32,
    /// A socket has had one event for each of its subscribers.
    complete: mpsc::UnboundedReceiver<Instant>,
    _followers: JoinSet<anyhow::Result<()>>,
}

impl Crowd {
    async fn new(server: SocketAddr, source: Source, each: usize) -> anyhow::Result<Self> {
        let mut followers = JoinSet::new();
        let (sender, complete) = mpsc::unbounded_channel();
        let sender = Arc::new(sender);
        for _ in 0..CONNECTIONS {
            let mut socket = Socket::connect(server).await?;
            for _ in 0..each {
                socket.call(source.subscribe.0, source.subscribe.1).await?;
            }
            let sender = Arc::clone(&sender);
            followers.spawn(async move {
                loop {
                    for _ in 0..each {
                        socket.receive().await?;
                    }
                    sender.send(now())?;
                }
            });
        }
        let cause = Socket::connect(server).await?;
        Ok(Self { source, cause, next: 1, complete, _followers: followers })
    }

    /// The time from a call until the last of all followers has its event.
    async fn last(&mut self) -> anyhow::Result<Duration> {
        let params = (self.source.cause.1)(self.next);
        self.next += 1;
        let start = now();
        self.cause.send(self.source.cause.0, &params).await?;
        let mut last = start;
        for _ in 0..CONNECTIONS {
            last = self.complete.recv().await.map_or(last, |time| last.max(time));
        }
        self.cause.receive().await?;
        Ok(last - start)
    }
}
