//! The built binary is killed while a job runs, and started again.

use serde_json::{Value, json};

use crate::recovery::Process;
use crate::slice_runner::{SliceRunner, call, deploy, failed, finished};

#[tokio::test]
async fn a_job_goes_on_where_it_was_when_its_coordinator_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Process::start(dir.path(), 30).await;
    let mut client = server.line().await;
    let job = deploy(&mut client, (1..=500).collect()).await;
    let mut told = std::collections::BTreeMap::new();
    let mut runner = SliceRunner::attach(server.ws, 1, 2).await;
    let mut failures = 0;
    let mut held = None;
    for round in 0.. {
        let batch = runner.given().await;
        let reports: Vec<Value> = batch
            .slices
            .iter()
            .map(|(number, datum)| {
                if number % 50 == 7 && failures < 40 {
                    failures += 1;
                    failed(*number)
                } else {
                    told.insert(*number, datum.clone());
                    finished(*number, datum)
                }
            })
            .collect();
        match round {
            // One batch stays in hand, of which a part was told.
            3 => {
                let part = &reports[..reports.len() / 2];
                for (number, _) in &batch.slices[reports.len() / 2..] {
                    told.remove(number);
                }
                let report = json!({ "token": batch.token, "status": "Started", "slices": part });
                runner.report(report).await;
                held = Some(batch);
            }
            _ => runner.finish(&batch, reports.into()).await,
        }
        if told.len() > 100 {
            break;
        }
    }
    let held = held.unwrap();
    server.kill();
    drop((runner, client));
    let mut server = Process::start(dir.path(), 30).await;
    let mut client = server.line().await;
    let before = call(&mut client, "dcp.job.result", json!({ "jobId": job })).await.unwrap();
    let before = before["results"].as_array().unwrap();
    assert_eq!(before.len(), told.len(), "what was answered is there, once");
    for one in before {
        assert_eq!(told[&one["sliceNumber"].as_u64().unwrap()], one["value"]);
    }
    // The runner comes back with what it had in hand, and ends it.
    let line = server.line().await;
    let mut runner = SliceRunner::attach_again(line, 1, 2, json!([held.token])).await;
    let reports: Vec<Value> =
        held.slices.iter().map(|(number, datum)| finished(*number, datum)).collect();
    runner.finish(&held, reports.into()).await;
    let status = loop {
        let batch = runner.given().await;
        let reports: Vec<Value> =
            batch.slices.iter().map(|(number, datum)| finished(*number, datum)).collect();
        runner.finish(&batch, reports.into()).await;
        let status = call(&mut client, "dcp.job.status", json!({ "jobId": job })).await.unwrap();
        if status["status"] != "running" {
            break status;
        }
    };
    assert_eq!((&status["status"], &status["completedSlices"]), (&json!("completed"), &json!(500)));
    assert_eq!(status["activeSlices"], 0);
    let after = call(&mut client, "dcp.job.result", json!({ "jobId": job })).await.unwrap();
    let results = after["results"].as_array().unwrap();
    assert_eq!(results.len(), 500);
    assert!((1..).zip(results).all(|(n, one)| *one == json!({ "sliceNumber": n, "value": n })));
    // The whole of it can be replayed: each slice was told once.
    let follow = json!({ "jobId": job, "since": 0 });
    call(&mut client, "dcp.job.subscribe", follow).await.unwrap();
    let events = client.notes_until(|event| event["status"] == "completed").await;
    let seqs: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=u64::try_from(events.len()).unwrap()).collect::<Vec<_>>());
    assert_eq!(events.iter().filter(|event| event["kind"] == "result").count(), 500);
    assert_eq!(server.stop().await, Some(0));
    let report = muster::store::check(dir.path()).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}
