//! What it costs to know who is calling: reads with a session beside reads without.

use serde_json::{Value, json};

use super::Bench;
use super::calls::store_jobs;
use super::child::Child;
use super::clock::{middle, rate};
use super::flows::set_up;
use super::http::{self, Http, request};
use super::report::{Goal, Row};
use super::shape::{CALLER, CONTEXT};
use super::socket::Socket;
use crate::access::signed_by;
use crate::identity::NodeKey;

const ROUNDS: u32 = 7;
/// Who reads.
const READER: u32 = 7;

/// Reads with a session of an actor that is one of a hundred readers of the context.
pub(super) async fn access(bench: &mut Bench) -> anyhow::Result<()> {
    let server = Child::serve(&bench.fresh("muster")?).await?;
    set_up(&mut Socket::connect(server.at.ws).await?).await?;
    let (stored, calls) = (bench.scaled(20_000), bench.scaled(60_000));
    store_jobs(server.at.http, 1, stored, |_| Vec::new()).await?;
    let session = sign_in(&mut Http::connect(server.at.http).await?).await?;
    let (mut known, mut trusted) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let load = move |number: usize| {
            let id = 1 + (number * 7_919) % stored;
            let params = format!(r#"{{"context_id":{CONTEXT},"caller_id":{CALLER},"id":{id}}}"#);
            request(1, "job.load", &params)
        };
        let with = http::load_as(server.at.http, 32, calls, Some(session.clone()), load).await?;
        let without = http::load(server.at.http, 32, calls, load).await?;
        if round > 0 {
            known.push(rate(calls, with));
            trusted.push(rate(calls, without));
        }
    }
    let measure = "job.load with a session, 32 connections";
    let row = Row::new("access", measure, (middle(known), "calls/s"), Goal::RatioAtLeast(0.9));
    bench.tell(&row.beside(middle(trusted), "job.load without one, same server"))
}

async fn sign_in(client: &mut Http) -> anyhow::Result<String> {
    let key = NodeKey::from_secret(&[7; 32]);
    let pubkey = key.public().did();
    let readers: Vec<u32> = (READER..READER + 100).collect();
    let context = json!({ "id": CONTEXT, "admins": [], "readers": readers, "executors": [] });
    ask(client, "context.create", &json!({ "context": context })).await?;
    let actor = json!({ "id": READER, "pubkey": pubkey, "address": [] });
    ask(client, "actor.create", &json!({ "actor": actor })).await?;
    let asked = ask(client, "auth.challenge", &json!({ "actor_id": READER })).await?;
    let challenge = asked.get("challenge").and_then(Value::as_str).unwrap_or_default();
    let signature = signed_by(&key, challenge);
    let params = json!({ "actor_id": READER, "challenge": challenge, "signature": signature });
    let session = ask(client, "auth.sign_in", &params).await?;
    Ok(session.get("token").and_then(Value::as_str).unwrap_or_default().to_owned())
}

async fn ask(client: &mut Http, method: &str, params: &Value) -> anyhow::Result<Value> {
    let answer = client.call(method, &params.to_string()).await?;
    http::check(&answer)?;
    let mut answer: Value = serde_json::from_slice(&answer)?;
    Ok(answer.get_mut("result").map(Value::take).unwrap_or_default())
}
