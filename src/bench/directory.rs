//! The directory: how fast advertisements are taken, and whether their number is felt.

use std::hint::black_box;
use std::net::SocketAddr;
use std::thread::available_parallelism;
use std::time::Duration;

use serde_json::{Value, json};

use super::Bench;
use super::child::Child;
use super::clock::{float, median, milliseconds, now, rate};
use super::http::{self, Http, check, request};
use super::report::{Goal, Row};
use crate::config::OwnAdvertisement;
use crate::face::adv::advertisement::signed_bytes;
use crate::face::adv::{Cursor, own};
use crate::identity::json::DEPTH;
use crate::identity::{Json, NodeKey};

/// Advertisements that are published for the rate.
const PUTS: usize = 20_000;
/// Nodes of the small directory.
const FEW: usize = 1_000;
/// Calls of each kind for a median.
const CALLS: usize = 200;

/// The node of this number: the same in every run.
fn node(number: usize) -> NodeKey {
    let mut secret = [7; 32];
    let digits = u64::try_from(number).unwrap_or_default().to_be_bytes();
    for (byte, digit) in secret.iter_mut().zip(digits) {
        *byte = digit;
    }
    NodeKey::from_secret(&secret)
}

fn put(number: usize) -> String {
    let about = OwnAdvertisement {
        endpoints: vec!["wss://node.example:443/peer".to_owned()],
        lifetime: Duration::from_secs(86_400),
        federation: None,
    };
    let at = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
    let text = own::make(&node(number), &about, 1, at);
    let text = text.map(|text| text.get().to_owned()).unwrap_or_default();
    request(1, "adv.put", &format!(r#"{{"advertisement":{text}}}"#))
}

/// How many signatures all processors check in a second, doing nothing else.
fn raw_rate(puts: &[String]) -> anyhow::Result<f64> {
    #[derive(serde::Deserialize)]
    struct Call<'a> {
        #[serde(borrow)]
        params: Params<'a>,
    }
    #[derive(serde::Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        advertisement: &'a serde_json::value::RawValue,
    }
    let mut signed = Vec::with_capacity(puts.len());
    for (number, put) in puts.iter().enumerate() {
        let call: Call<'_> = serde_json::from_str(put)?;
        let json = Json::read(call.params.advertisement.get().as_bytes(), DEPTH)?;
        let (key, bytes) = (node(number), signed_bytes(&json));
        let signature = key.sign(&bytes);
        signed.push((*key.public(), bytes, signature));
    }
    let threads = available_parallelism().map_or(2, usize::from);
    let start = now();
    std::thread::scope(|scope| {
        for part in signed.chunks(signed.len().div_ceil(threads).max(1)) {
            scope.spawn(move || {
                for (key, bytes, signature) in part {
                    black_box(key.verifies(bytes, signature));
                }
            });
        }
    });
    Ok(rate(signed.len(), start.elapsed()))
}

pub(super) async fn adv(bench: &mut Bench) -> anyhow::Result<()> {
    let puts: Vec<String> = (0..bench.scaled(PUTS)).map(put).collect();
    let raw = raw_rate(&puts)?;
    let server = Child::serve(&bench.fresh("muster")?).await?;
    let count = puts.len();
    let body = move |number: usize| puts.get(number).cloned().unwrap_or_default();
    let time = http::load(server.at.http, 128, count, body).await?;
    server.stop().await?;
    let measure = "adv.put of new nodes, durable, 128 connections";
    let row = Row::new("adv", measure, (rate(count, time), "puts/s"), Goal::RatioAtLeast(0.5));
    bench.tell(&row.beside(raw, "bare verify_strict on all processors"))?;
    sizes(bench).await
}

/// Pages and lookups with few nodes and with many; `--scale 10` makes a million of them.
async fn sizes(bench: &mut Bench) -> anyhow::Result<()> {
    let many = bench.scaled(100_000).max(2 * FEW);
    let room = ["--adv-max-nodes", "100000000"];
    let server = Child::serve_with(&bench.fresh("muster")?, &room).await?;
    http::load(server.at.http, 32, FEW, put).await?;
    let few = Times::of(server.at.http, FEW).await?;
    let before = server.resident()?;
    http::load(server.at.http, 32, many - FEW, |number| put(FEW + number)).await?;
    let all = Times::of(server.at.http, many).await?;
    let after = server.resident()?;
    let rows = [("page of 100", few.page, all.page), ("lookup", few.lookup, all.lookup)];
    for (what, few, all) in rows {
        let measure = format!("{what}, {many} nodes");
        let figure = (milliseconds(all), "ms");
        let row = Row::new("adv", measure, figure, Goal::RatioAtMost(2.0));
        bench.tell(&row.beside(milliseconds(few), "with 1000 nodes"))?;
    }
    let mebibytes = |bytes: u64| usize::try_from(bytes).map_or(f64::MAX, float) / 1_048_576.0;
    let measure = format!("resident memory, {many} nodes");
    let row = Row::new("adv", measure, (mebibytes(after), "MiB"), Goal::None);
    bench.tell(&row.beside(mebibytes(before), "with 1000 nodes"))?;
    server.stop().await
}

/// What one client waits, at the median.
struct Times {
    page: Duration,
    lookup: Duration,
}

impl Times {
    async fn of(server: SocketAddr, nodes: usize) -> anyhow::Result<Self> {
        let mut client = Http::connect(server).await?;
        let first = client.call("adv.list", r#"{"limit":1}"#).await?;
        let first: Value = serde_json::from_slice(&first)?;
        let next = first.pointer("/result/next").and_then(Value::as_str).unwrap_or_default();
        let born = Cursor::parse(next).unwrap_or_default().born;
        let (mut pages, mut lookups) = (Vec::new(), Vec::new());
        for call in 0..CALLS {
            // A large odd step: none is beside the one before.
            let at = (call * 7_919_993) % nodes;
            let position = u64::try_from(at.min(nodes - 100))?;
            let since = Cursor { born, position }.to_string();
            let params = json!({ "since": since }).to_string();
            let start = now();
            check(&client.call("adv.list", &params).await?)?;
            pages.push(start.elapsed());
            let params = json!({ "node_id": node(at).node_id() }).to_string();
            let start = now();
            check(&client.call("adv.get", &params).await?)?;
            lookups.push(start.elapsed());
        }
        Ok(Self { page: median(pages), lookup: median(lookups) })
    }
}
