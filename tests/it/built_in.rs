//! The built-in runner with a real coordinator: within it, and over WebSocket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster::runner::agent::{Agent, Ended, SCRIPT_TYPES, Settings};
use muster::runner::executor::{Executors, Limits};
use muster::runner::link::WebSocket;
use muster::runner::local::LocalRunners;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::calls::Core;
use crate::runner::params as runner;

const BINARY: &str = env!("CARGO_BIN_EXE_muster");

fn executors() -> Arc<Executors> {
    Arc::new(Executors::new(&Limits::default(), Some(BINARY.into())))
}

fn job(id: u32, script_type: &str, script: &str, depends: &[u32]) -> Value {
    json!({
        "id": id, "caller_id": 7, "context_id": 1, "script": script, "script_type": script_type,
        "timeout": 60, "retries": 0, "env_vars": { "OWN": id.to_string() }, "prerequisites": [],
        "depends": depends,
    })
}

async fn submit(server: &Core, flow: u32, jobs: &[Value]) {
    let ids: Vec<&Value> = jobs.iter().map(|job| &job["id"]).collect();
    let flow = json!({
        "id": flow, "caller_id": 7, "context_id": 1, "jobs": ids, "env_vars": { "SHARED": "s" },
    });
    let params = json!({ "context_id": 1, "flow": flow, "jobs": jobs });
    server.rpc("flow.submit", params).await.unwrap();
}

/// Waits until the flow has ended, and gives it back.
async fn ended(server: &Core, flow: u32) -> Value {
    let mut follower = server.app.store.follow(None).unwrap();
    let end = async {
        loop {
            let key = json!({ "context_id": 1, "id": flow });
            let loaded = server.rpc("flow.load", key).await.unwrap();
            if ["Finished", "Error"].contains(&loaded["status"].as_str().unwrap()) {
                return loaded;
            }
            follower.next().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), end).await.expect("the flow ends")
}

fn agent(server: &Core, id: u32) -> (JoinHandle<Ended>, oneshot::Sender<()>) {
    let settings = Settings {
        context_id: 1,
        runner_id: id,
        script_types: SCRIPT_TYPES.to_vec(),
        slots: 4,
        capabilities: serde_json::Map::new(),
        groups: Vec::new(),
        labels: BTreeMap::new(),
        drain_limit: Duration::from_secs(30),
        now: server.app.now,
    };
    let link = WebSocket::new(format!("ws://{}", server.at.ws));
    let agent = Agent::new(link, settings, executors(), Arc::new(Semaphore::new(4)));
    let (drain, drained) = oneshot::channel::<()>();
    let running = agent.run(async {
        let _ = drained.await;
    });
    (tokio::spawn(running), drain)
}

/// Two jobs whose results a third adds up, in every language that needs nothing but this machine.
fn fan_in() -> Vec<Value> {
    let python = "import json, os\n\
        print('python', os.environ['SHARED'], os.environ['OWN'])\n\
        json.dump({'n': 2}, open(os.environ['MUSTER_RESULT'], 'w'))";
    vec![
        job(1, "Sal", r#"print(`sal ${env.SHARED} ${env.OWN}`); #{ n: 1 }"#, &[]),
        job(2, "Python", python, &[]),
        job(3, "Osis", r#"#{ sum: parse_int(inputs["1"].n) + parse_int(inputs["2"].n) }"#, &[1, 2]),
    ]
}

fn check_fan_in(flow: &Value) {
    assert_eq!(flow["status"], "Finished", "{flow}");
    let result = &flow["result"];
    assert_eq!(result["3.sum"], "3", "{flow}");
    assert_eq!(
        (&result["1.stdout"], &result["2.stdout"]),
        (&json!("sal s 1\n"), &json!("python s 2\n"))
    );
    assert_eq!(result["2.exit_code"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_runs_within_the_coordinator() {
    let server = Core::start().await;
    let local = LocalRunners::start(Arc::clone(&server.app), executors());
    // Made after it was started: it is noticed.
    server.rpc("runner.create", runner(5)).await.unwrap();
    submit(&server, 1, &fan_in()).await;
    check_fan_in(&ended(&server, 1).await);
    let key = json!({ "context_id": 1, "caller_id": 7, "id": 1 });
    let logs = server.rpc("job.logs", key).await.unwrap();
    assert_eq!(logs["items"][0]["line"], "sal s 1");
    tokio::time::timeout(Duration::from_secs(30), local.stop()).await.expect("it stops");
    let status = server.rpc("runner.status", json!({ "context_id": 1, "id": 5 })).await.unwrap();
    assert_eq!(status["online"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_runs_over_websocket_and_the_runner_drains() {
    let server = Core::start().await;
    server.rpc("runner.create", runner(5)).await.unwrap();
    let (running, drain) = agent(&server, 5);
    submit(&server, 1, &fan_in()).await;
    check_fan_in(&ended(&server, 1).await);
    drop(drain);
    let end = tokio::time::timeout(Duration::from_secs(30), running).await.expect("it ends");
    assert_eq!(end.unwrap(), Ended::Drained);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_runner_finishes_what_it_has() {
    let server = Core::start().await;
    server.rpc("runner.create", runner(5)).await.unwrap();
    let (running, drain) = agent(&server, 5);
    submit(&server, 1, &[job(1, "Sal", "print(1); sleep(0.5); #{ a: 1 }", &[])]).await;
    let key = json!({ "context_id": 1, "caller_id": 7, "id": 1 });
    let mut follower = server.app.store.follow(None).unwrap();
    while server.rpc("job.load", key.clone()).await.unwrap()["status"] != "Started" {
        follower.next().await;
    }
    drop(drain);
    assert_eq!(ended(&server, 1).await["result"]["1.a"], "1");
    let end = tokio::time::timeout(Duration::from_secs(30), running).await.expect("it ends");
    assert_eq!(end.unwrap(), Ended::Drained);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_and_a_cancellation_reach_the_flow() {
    let server = Core::start().await;
    let _local = LocalRunners::start(Arc::clone(&server.app), executors());
    server.rpc("runner.create", runner(5)).await.unwrap();
    submit(&server, 1, &[job(1, "Sal", "throw `no luck`", &[]), job(2, "Sal", "1", &[1])]).await;
    assert_eq!(ended(&server, 1).await["status"], "Error");
    let key = json!({ "context_id": 1, "caller_id": 7, "id": 1 });
    let failed = server.rpc("job.load", key).await.unwrap();
    assert!(failed["result"]["error"].as_str().unwrap().contains("no luck"), "{failed}");

    submit(&server, 2, &[job(3, "Sal", "loop {}", &[])]).await;
    let key = json!({ "context_id": 1, "caller_id": 7, "id": 3 });
    let mut follower = server.app.store.follow(None).unwrap();
    while server.rpc("job.load", key.clone()).await.unwrap()["status"] != "Started" {
        follower.next().await;
    }
    server.rpc("flow.cancel", json!({ "context_id": 1, "id": 2 })).await.unwrap();
    // The slots are free again: of two, one was endless.
    submit(&server, 3, &[job(4, "Sal", "1", &[]), job(5, "Sal", "2", &[])]).await;
    assert_eq!(ended(&server, 3).await["status"], "Finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_no_longer_local_is_left() {
    let server = Core::start().await;
    let _local = LocalRunners::start(Arc::clone(&server.app), executors());
    let is_online = async |wanted: bool| {
        let mut follower = server.app.store.follow(None).unwrap();
        let key = json!({ "context_id": 1, "id": 5 });
        while server.rpc("runner.status", key.clone()).await.unwrap()["online"] != wanted {
            follower.next().await;
        }
    };
    for local in [true, false, true] {
        let mut params = runner(5);
        params["runner"]["local"] = json!(local);
        server.rpc("runner.create", params).await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), is_online(local)).await.expect("it changes");
    }
    server.rpc("runner.delete", json!({ "context_id": 1, "id": 5 })).await.unwrap();
}

/// Prints how many scripts a second go through: `cargo test --test it rate -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "measures")]
async fn rate_of_scripts_that_do_nothing() {
    let server = Core::with(|config| config.local_slots = 4).await;
    let _local = LocalRunners::start(Arc::clone(&server.app), executors());
    server.rpc("runner.create", runner(5)).await.unwrap();
    let jobs: Vec<Value> = (1..=2_000).map(|id| job(id, "Sal", "1", &[])).collect();
    let start = std::time::Instant::now();
    submit(&server, 1, &jobs).await;
    assert_eq!(ended(&server, 1).await["status"], "Finished");
    println!("{:.0} scripts/s", 2_000.0 / start.elapsed().as_secs_f64());
}
