//! `dcp.job.subscribe` and `dcp.jobs.subscribe`.

use serde_json::{Value, json};

use crate::fake_runner::Line;
use crate::server::TestServer;
use crate::slice_runner::{SliceRunner, call, deploy, failed, finished, line};

/// A line that follows a job.
async fn follow(server: &TestServer, job: &str, more: Value) -> Line {
    let mut line = line(server).await;
    let mut params = more;
    params["jobId"] = job.into();
    call(&mut line, "dcp.job.subscribe", params).await.unwrap();
    line
}

/// The next so many events.
async fn events(line: &mut Line, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    while events.len() < count {
        events.push(line.note().await.expect("the connection holds"));
    }
    events
}

/// Without the time, which must be there.
fn timeless(mut event: Value) -> Value {
    let at = event.as_object_mut().unwrap().remove("ts").unwrap();
    assert!(at.as_u64().unwrap() > 1_700_000_000_000);
    event
}

#[tokio::test]
async fn a_job_is_followed_from_its_begin_to_its_end() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, json!([5, 6])).await;
    let mut live = follow(&server, &job, json!({})).await;
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    let first = runner.given().await;
    runner.double(&first).await;
    for _ in 0..3 {
        let batch = runner.given().await;
        runner.finish(&batch, json!([failed(2)])).await;
    }
    let error = |seq: u64, attempt: u32| {
        json!({
            "seq": seq, "kind": "error", "sliceNumber": 2, "attempt": attempt,
            "final": attempt == 3, "name": "TypeError", "message": "no such",
        })
    };
    let want = [
        json!({ "seq": 1, "kind": "slices", "addedSlices": 2, "totalSlices": 2 }),
        json!({ "seq": 2, "kind": "status", "status": "running" }),
        json!({ "seq": 3, "kind": "result", "sliceNumber": 1, "value": 10 }),
        error(4, 1),
        error(5, 2),
        error(6, 3),
        json!({ "seq": 7, "kind": "status", "status": "corrupted" }),
    ];
    let told: Vec<Value> = events(&mut live, 5).await.into_iter().map(timeless).collect();
    assert_eq!(told, want[2..]);
    let more = json!({ "jobId": job, "sliceData": [7] });
    call(&mut client, "dcp.job.add_slices", more).await.unwrap();
    let cancel = json!({ "jobId": job, "reason": "enough" });
    call(&mut client, "dcp.job.cancel", cancel).await.unwrap();
    let later = [
        json!({ "seq": 8, "kind": "slices", "addedSlices": 1, "totalSlices": 3 }),
        json!({ "seq": 9, "kind": "status", "status": "running" }),
        json!({ "seq": 10, "kind": "status", "status": "cancelled", "reason": "enough" }),
    ];
    let told: Vec<Value> = events(&mut live, 3).await.into_iter().map(timeless).collect();
    assert_eq!(told, later);
    let whole = [&want[..], &later[..]].concat();
    for since in 0..10 {
        let mut again = follow(&server, &job, json!({ "since": since })).await;
        let told = events(&mut again, 10 - since).await.into_iter().map(timeless);
        assert_eq!(told.collect::<Vec<_>>(), whole[since..], "since {since}");
    }
    let mut some = follow(&server, &job, json!({ "since": 0, "kinds": ["status"] })).await;
    let told = events(&mut some, 3).await.into_iter().map(timeless);
    assert_eq!(told.collect::<Vec<_>>(), [&want[1..2], &want[6..], &later[1..2]].concat()[..3]);
    let mut some =
        follow(&server, &job, json!({ "since": 0, "kinds": ["result", "error"], "range": "1" }))
            .await;
    assert_eq!(timeless(some.note().await.unwrap()), want[2]);
    for wrong in [json!({ "since": 11 }), json!({ "kinds": ["odd"] }), json!({ "range": "0" })] {
        let mut params = wrong;
        params["jobId"] = json!(job);
        let (_, data) = call(&mut client, "dcp.job.subscribe", params).await.unwrap_err();
        assert_eq!(data["http_status"], 400, "{data}");
    }
}

#[tokio::test]
async fn every_slice_is_told_once_and_in_order_whenever_one_begins() {
    let server = TestServer::with(|config| config.events_keep = 10).await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, (0..3_000).collect()).await;
    let mut early = follow(&server, &job, json!({ "since": 0 })).await;
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    let mut done = 0;
    let mut middle = None;
    while done < 3_000 {
        let batch = runner.given().await;
        done += batch.slices.len();
        let reports: Vec<Value> = batch
            .slices
            .iter()
            .map(|(number, datum)| {
                json!({ "finished": { "number": number, "value": datum, "seconds": 0.000_1 } })
            })
            .collect();
        runner.finish(&batch, reports.into()).await;
        if middle.is_none() && done > 500 {
            middle = Some(follow(&server, &job, json!({ "since": 77 })).await);
        }
    }
    let mut late = follow(&server, &job, json!({ "since": 0 })).await;
    let mut middle = middle.unwrap();
    // Slices, running, results, completed: more than the log keeps.
    let whole = events(&mut late, 3_003).await;
    let seqs: Vec<u64> = whole.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=3_003).collect::<Vec<_>>());
    let results = whole.iter().filter(|event| event["kind"] == "result");
    let numbers: Vec<u64> = results.map(|one| one["sliceNumber"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=3_000).collect::<Vec<_>>());
    assert_eq!(whole.last().unwrap()["status"], "completed");
    assert_eq!(events(&mut early, 3_003).await, whole);
    assert_eq!(events(&mut middle, 3_003 - 77).await, whole[77..]);
}

#[tokio::test]
async fn what_slices_say_is_told_live_to_those_who_ask() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, json!([5])).await;
    let kinds = json!({ "kinds": ["progress", "console", "emit", "result"] });
    let mut live = follow(&server, &job, kinds).await;
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    let batch = runner.given().await;
    let said = json!([
        { "progress": { "number": 1, "progress": 0.5 } },
        { "console": { "number": 1, "level": "warn", "message": "a\"b" } },
        { "emit": { "number": 1, "name": "n", "value": { "a": 1 } } },
    ]);
    runner.report(json!({ "token": batch.token, "status": "Started", "slices": said })).await;
    let told: Vec<Value> = events(&mut live, 3).await.into_iter().map(timeless).collect();
    assert_eq!(
        told,
        [
            json!({ "kind": "progress", "sliceNumber": 1, "progress": 0.5 }),
            json!({ "kind": "console", "sliceNumber": 1, "level": "warn", "message": "a\"b" }),
            json!({ "kind": "emit", "sliceNumber": 1, "name": "n", "value": { "a": 1 } }),
        ]
    );
    runner.finish(&batch, json!([finished(1, &json!(7))])).await;
    let told = timeless(live.note().await.unwrap());
    assert_eq!(told, json!({ "seq": 3, "kind": "result", "sliceNumber": 1, "value": 7 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_slice_says_comes_before_its_result() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, json!([])).await;
    let kinds = json!({ "kinds": ["console", "result"] });
    let mut live = follow(&server, &job, kinds).await;
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    for number in 1..=30 {
        let more = json!({ "jobId": job, "sliceData": [number] });
        call(&mut client, "dcp.job.add_slices", more).await.unwrap();
        let batch = runner.given().await;
        let said = json!({ "console": { "number": number, "level": "log", "message": "m" } });
        runner.finish(&batch, json!([said, finished(number, &json!(7))])).await;
        let told = events(&mut live, 2).await;
        let kinds: Vec<&Value> = told.iter().map(|event| &event["kind"]).collect();
        assert_eq!(kinds, ["console", "result"], "{told:?}");
    }
}

#[tokio::test]
async fn all_jobs_of_an_identity_are_followed_together() {
    let server = TestServer::start().await;
    let mut watcher = line(&server).await;
    call(&mut watcher, "dcp.jobs.subscribe", json!({})).await.unwrap();
    let mut client = line(&server).await;
    let job = deploy(&mut client, json!([5])).await;
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    runner.work(1).await;
    let last = |event: &Value| event["status"] == "completed";
    let told = watcher.notes_until(last).await;
    let item = |status: &str, done: u64| json!({ "jobId": job, "status": status, "totalSlices": 1, "completedSlices": done });
    assert_eq!(told.first().unwrap(), &item("running", 0));
    assert_eq!(told.last().unwrap(), &item("completed", 1));
}

#[tokio::test]
async fn what_is_followed_with_an_api_key_ends_with_it() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, json!([])).await;
    let keystore = include_str!("dcp_keystore.json");
    let made = json!({ "keystore": keystore, "token": "correct horse" });
    let key = client.ask("dcp.key.create", made).await.unwrap()["key"].clone();
    let auth = format!("Bearer {}", key.as_str().unwrap());
    let (mut one, mut all) = (line(&server).await, line(&server).await);
    let params = json!({ "jobId": job, "auth": auth, "since": 0 });
    one.ask("dcp.job.subscribe", params).await.unwrap();
    all.ask("dcp.jobs.subscribe", json!({ "auth": auth })).await.unwrap();
    assert_eq!(one.note().await.unwrap()["status"], "new");
    call(&mut client, "dcp.key.revoke", json!({ "key": key })).await.unwrap();
    let more = json!({ "jobId": job, "sliceData": [1] });
    call(&mut client, "dcp.job.add_slices", more).await.unwrap();
    let ended = json!({ "ended": { "reason": "the API key was revoked" } });
    assert_eq!(one.note().await.unwrap(), ended);
    assert_eq!(all.note().await.unwrap(), ended);
}
