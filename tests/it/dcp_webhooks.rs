//! Web hooks: results go where a job wants them, signed, also past failures and the end of a process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use muster::config::Origins;
use serde_json::{Value, json};

use crate::calls::refused;
use crate::peer_host::{Heard, PeerHost, ok};
use crate::recovery::Process;
use crate::server::TestServer;
use crate::slice_runner::{ACCOUNT, SliceRunner, call, line};

fn job(slices: impl Into<Value>, urls: impl Into<Value>) -> Value {
    let (slices, urls): (Value, Value) = (slices.into(), urls.into());
    json!({
        "work": { "function": "(x) => x" }, "slices": slices, "account": { "address": ACCOUNT },
        "webHookUrls": urls,
    })
}

fn told(heard: &Heard) -> (u64, Value) {
    let body: Value = serde_json::from_slice(&heard.body).unwrap();
    (body["sliceNumber"].as_u64().unwrap(), body)
}

async fn allowing(origin: &str) -> TestServer {
    TestServer::with(|config| {
        config.compute.webhook_allow = Origins::read(origin).unwrap();
    })
    .await
}

#[tokio::test]
async fn every_result_is_posted_to_every_url_and_signed_by_the_node() {
    let mut host = PeerHost::start(|_| ok()).await;
    let server = allowing(&host.origin()).await;
    let mut client = line(&server).await;
    let urls = json!([format!("{}/a?key=1", host.origin()), format!("{}/b", host.origin())]);
    let made = call(&mut client, "dcp.job.deploy", job(json!([1, 2, 3]), urls)).await.unwrap();
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    runner.work(3).await;
    let mut seen: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    for _ in 0..6 {
        let heard = host.heard().await;
        assert_eq!(
            (heard.verb.as_str(), heard.headers["content-type"].as_str()),
            ("POST", "application/json")
        );
        let signature = heard.headers["x-signature"].strip_prefix("ed25519=").unwrap();
        let bytes: Vec<u8> = (0..signature.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap())
            .collect();
        let key = server.app.node.public();
        assert!(key.verifies(&heard.body, &bytes.try_into().unwrap()));
        let (slice, body) = told(&heard);
        assert_eq!((&body["jobId"], &body["value"]), (&made["jobId"], &json!(slice * 2)));
        let seq = body["seq"].as_u64().unwrap();
        seen.entry(heard.path).or_default().push((slice, seq));
    }
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["/a?key=1", "/b"]);
    // The numbers are those of the events.
    let follow = json!({ "jobId": made["jobId"], "since": 0, "kinds": ["result"] });
    call(&mut client, "dcp.job.subscribe", follow).await.unwrap();
    let mut events = Vec::new();
    for _ in 0..3 {
        let event = client.note().await.unwrap();
        events.push((event["sliceNumber"].as_u64().unwrap(), event["seq"].as_u64().unwrap()));
    }
    for (_, mut told) in seen {
        told.sort_unstable();
        events.sort_unstable();
        assert_eq!(told, events);
    }
    assert!(host.is_quiet());
}

#[tokio::test]
async fn urls_of_other_origins_are_refused_by_name() {
    let server = allowing("https://a.example").await;
    let mut client = line(&server).await;
    for (urls, named) in [
        (json!(["https://b.example:8443/x"]), "https://b.example:8443"),
        (json!(["https://a.example/", "http://a.example/"]), "http://a.example"),
        (json!(["https://a.example@b.example/"]), "URLs"),
        (json!("https://a.example/"), "array"),
    ] {
        let refusal = call(&mut client, "dcp.job.deploy", job(json!([]), urls.clone())).await;
        let data = refused(refusal, -32602);
        assert!(data["error"].as_str().unwrap().contains(named), "{urls}: {data}");
    }
    let urls = json!(["https://a.example/"]);
    call(&mut client, "dcp.job.deploy", job(json!([]), urls.clone())).await.unwrap();
    let closed = TestServer::start().await;
    let refusal = call(&mut line(&closed).await, "dcp.job.deploy", job(json!([]), urls)).await;
    refused(refusal, -32602);
}

#[tokio::test]
async fn what_was_not_taken_is_sent_again_in_its_order() {
    let tries = AtomicU32::new(0);
    let mut host = PeerHost::start(move |heard| {
        // A redirect leads nowhere: nothing else is asked for.
        match tries.fetch_add(1, Ordering::Relaxed) {
            0 => ("307 Temporary Redirect\r\nlocation: /elsewhere".to_owned(), Vec::new()),
            1 if told(heard).0 == 1 => ("503 Busy".to_owned(), Vec::new()),
            _ => ok(),
        }
    })
    .await;
    let server = allowing(&host.origin()).await;
    let mut client = line(&server).await;
    let urls = json!([format!("{}/in", host.origin())]);
    call(&mut client, "dcp.job.deploy", job(json!([1]), urls)).await.unwrap();
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    runner.work(1).await;
    let first = host.heard().await;
    for _ in 0..2 {
        let again = host.heard().await;
        assert_eq!((&again.path, &again.body), (&first.path, &first.body));
    }
    assert!(host.is_quiet());
}

#[tokio::test]
async fn results_are_sent_also_when_the_coordinator_was_killed_before() {
    // Nobody listens there yet.
    let at = PeerHost::start(|_| ok()).await.at;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_ne!(at, free);
    let origin = format!("http://{free}");
    let arguments = ["--webhook-allow", origin.as_str()];
    let dir = tempfile::tempdir().unwrap();
    let mut server = Process::with(dir.path(), 30, &arguments).await;
    let mut client = server.line().await;
    let urls = json!([format!("{origin}/in")]);
    let slices: Vec<u64> = (1..=400).collect();
    let made = call(&mut client, "dcp.job.deploy", job(json!(slices), urls)).await.unwrap();
    let mut runner = SliceRunner::attach(server.ws, 1, 1).await;
    runner.work(400).await;
    server.kill();
    drop((runner, client));
    let mut host = PeerHost::at(free, |_| ok()).await;
    let mut server = Process::with(dir.path(), 30, &arguments).await;
    let mut seen = BTreeMap::new();
    while seen.len() < 400 {
        let (slice, body) = told(&host.heard().await);
        assert_eq!(body["jobId"], made["jobId"]);
        seen.insert(slice, body["value"].clone());
    }
    assert!(seen.iter().all(|(slice, value)| *value == slice * 2));
    assert_eq!(server.stop().await, Some(0));
    let report = muster::store::check(dir.path()).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}
