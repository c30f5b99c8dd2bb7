//! Slices on the engine: batches, failures, losses, and what is left of them.

use serde_json::{Value, json};

use crate::server::TestServer;
use crate::slice_runner::{SliceRunner, call, deploy, failed, finished, line};

async fn status(line: &mut crate::fake_runner::Line, job: &str) -> Value {
    call(line, "dcp.job.status", json!({ "jobId": job })).await.unwrap()
}

async fn result(line: &mut crate::fake_runner::Line, job: &str) -> Value {
    call(line, "dcp.job.result", json!({ "jobId": job })).await.unwrap()
}

#[tokio::test]
async fn a_job_is_deployed_worked_on_and_read() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, json!([3, 4, 5])).await;
    let before = status(&mut client, &job).await;
    assert_eq!(before["status"], "running");
    assert_eq!((&before["jobId"], &before["address"]), (&json!(job), &json!(job)));
    assert_eq!((&before["totalSlices"], &before["activeSlices"]), (&json!(3), &json!(0)));
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    let batch = runner.given().await;
    assert_eq!(batch.slices, [(1, json!(3))]);
    assert_eq!(batch.attempt["slices"]["function"], "(x) => x");
    assert_eq!(batch.attempt["slices"]["args"], json!([]));
    assert_eq!(batch.attempt["slices"]["public"]["name"], "Ad-hoc job");
    assert_eq!(batch.attempt["slices"]["slice_seconds"], 30.0);
    assert_eq!(status(&mut client, &job).await["activeSlices"], 1);
    runner.double(&batch).await;
    runner.work(2).await;
    let after = status(&mut client, &job).await;
    assert_eq!(after["status"], "completed");
    assert_eq!((&after["completedSlices"], &after["activeSlices"]), (&json!(3), &json!(0)));
    assert!(after["totalCPUTime"].as_f64().unwrap() > 0.000_2);
    let results = [6, 8, 10].iter().zip(1..);
    let results: Vec<Value> =
        results.map(|(value, n)| json!({ "sliceNumber": n, "value": value })).collect();
    let want = json!({
        "totalSlices": 3, "completedSlices": 3, "activeSlices": 0, "results": results, "errors": [],
    });
    assert_eq!(result(&mut client, &job).await, want);
    let more = json!({ "jobId": job, "sliceData": [7] });
    let added = call(&mut client, "dcp.job.add_slices", more).await.unwrap();
    let want = json!({ "jobId": job, "addedSlices": 1, "totalSlices": 4, "lastSliceNumber": 4 });
    assert_eq!(added, want);
    assert_eq!(status(&mut client, &job).await["status"], "running");
    runner.work(1).await;
    assert_eq!(status(&mut client, &job).await["status"], "completed");
    assert!(server.app.store.check().unwrap().problems.is_empty());
}

#[tokio::test]
async fn a_slice_that_fails_is_tried_three_times_and_does_not_fail_the_others() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, json!([1, 2, 3, 4, 5, 6, 7, 8])).await;
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    let mut attempts = 0;
    let mut seen = Vec::new();
    while seen.len() < 7 || attempts < 3 {
        let batch = runner.given().await;
        let reports: Vec<Value> = batch
            .slices
            .iter()
            .map(|(number, datum)| match number {
                3 => {
                    attempts += 1;
                    failed(3)
                }
                number => {
                    seen.push(*number);
                    finished(*number, datum)
                }
            })
            .collect();
        runner.finish(&batch, reports.into()).await;
    }
    seen.sort_unstable();
    assert_eq!((attempts, seen), (3, vec![1, 2, 4, 5, 6, 7, 8]));
    let after = status(&mut client, &job).await;
    assert_eq!(after["status"], "corrupted");
    assert_eq!((&after["failedSlices"], &after["completedSlices"]), (&json!(1), &json!(7)));
    let errors = result(&mut client, &job).await["errors"].take();
    let want =
        json!([{ "sliceNumber": 3, "attempts": 3, "name": "TypeError", "message": "no such" }]);
    assert_eq!(errors, want);
    assert!(server.app.store.check().unwrap().problems.is_empty());
}

#[tokio::test]
async fn what_comes_on_the_way_is_kept_when_the_runner_is_lost() {
    let server = TestServer::with(|config| config.runner_grace = std::time::Duration::ZERO).await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, (0..200).collect()).await;
    let mut first = SliceRunner::attach(server.at.ws, 1, 1).await;
    let mut done = 0;
    let lost = loop {
        let batch = first.given().await;
        if batch.slices.len() >= 4 {
            break batch;
        }
        done += batch.slices.len();
        first.double(&batch).await;
    };
    let [(two, _), (three, _)] = [&lost.slices[1], &lost.slices[2]];
    let reports = json!([finished(*three, &json!("three")), finished(*two, &json!("two"))]);
    first.report(json!({ "token": lost.token, "status": "Started", "slices": reports })).await;
    let late = lost.token.clone();
    drop(first);
    let mut second = SliceRunner::attach(server.at.ws, 2, 1).await;
    let again = loop {
        let batch = second.given().await;
        done += batch.slices.len();
        second.double(&batch).await;
        if batch.slices.iter().any(|(number, _)| *number == lost.slices[0].0) {
            break batch;
        }
    };
    let kept: Vec<u64> = again.slices.iter().map(|(number, _)| *number).collect();
    assert!(!kept.contains(two) && !kept.contains(three), "{kept:?}");
    assert_eq!(kept.len(), lost.slices.len() - 2);
    // What the lost runner still has to say is refused.
    let zombie = json!({
        "token": late, "status": "Finished", "slices": [finished(lost.slices[0].0, &json!("late"))],
    });
    let params = json!({
        "context_id": crate::slice_runner::GROUP, "runner_id": 1, "reports": [zombie],
    });
    let answer = second.line.ask("runner.report", params).await.unwrap();
    assert_eq!(answer["refused"][0]["code"], -32006);
    second.work(200 - done - 2).await;
    let after = result(&mut client, &job).await;
    assert_eq!(after["results"].as_array().unwrap().len(), 200);
    let value = |number: &u64| {
        let at = usize::try_from(*number).unwrap() - 1;
        after["results"][at]["value"].clone()
    };
    assert_eq!((value(two), value(three)), (json!("two"), json!("three")));
    assert_eq!(value(&lost.slices[0].0), json!((lost.slices[0].0 - 1) * 2));
    assert_eq!(status(&mut client, &job).await["status"], "completed");
    assert!(server.app.store.check().unwrap().problems.is_empty());
}

#[tokio::test]
async fn slices_that_a_runner_hands_back_are_given_out_again() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, (0..100).collect()).await;
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    let mut done = 0;
    while done < 100 {
        let batch = runner.given().await;
        let half = batch.slices.len().div_ceil(2);
        let reports: Vec<Value> =
            batch.slices[..half].iter().map(|(number, datum)| finished(*number, datum)).collect();
        done += half;
        runner.finish(&batch, reports.into()).await;
    }
    let after = status(&mut client, &job).await;
    assert_eq!((&after["status"], &after["completedSlices"]), (&json!("completed"), &json!(100)));
    assert_eq!(after["failedSlices"], 0);
}

#[tokio::test]
async fn a_batch_that_brings_its_runner_down_costs_the_slice_that_it_was_at() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, (0..40).collect()).await;
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    let (mut done, mut failures) = (0, 0);
    while done < 39 || failures < 3 {
        let batch = runner.given().await;
        let good: Vec<Value> = batch
            .slices
            .iter()
            .take_while(|(number, _)| *number != 20)
            .map(|(number, datum)| finished(*number, datum))
            .collect();
        done += good.len();
        if good.len() == batch.slices.len() {
            runner.finish(&batch, good.into()).await;
            continue;
        }
        failures += 1;
        let report = json!({
            "token": batch.token, "status": "Error", "error": "out of memory", "slices": good,
        });
        runner.report(report).await;
        assert!(failures < 2 || batch.slices.len() == 1, "it travels alone");
    }
    let after = status(&mut client, &job).await;
    assert_eq!((&after["status"], &after["failedSlices"]), (&json!("corrupted"), &json!(1)));
    let errors = result(&mut client, &job).await["errors"].take();
    let want = json!([{
        "sliceNumber": 20, "attempts": 3, "name": "RunnerError", "message": "out of memory",
    }]);
    assert_eq!(errors, want);
}

#[tokio::test]
async fn a_report_about_slices_of_others_or_of_the_past_changes_nothing() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, json!([1, 2])).await;
    let mut runner = SliceRunner::attach(server.at.ws, 1, 2).await;
    let (one, two) = (runner.given().await, runner.given().await);
    let strange = json!([
        finished(2, &json!("mine")),
        finished(9, &json!(0)),
        failed(77),
        finished(1, &json!("one")),
        finished(1, &json!("twice"))
    ]);
    runner.finish(&one, strange.clone()).await;
    // The final report may be repeated.
    runner.finish(&one, strange).await;
    runner.finish(&two, json!([finished(2, &json!("two"))])).await;
    let after = result(&mut client, &job).await;
    let want = json!([{ "sliceNumber": 1, "value": "one" }, { "sliceNumber": 2, "value": "two" }]);
    assert_eq!((&after["results"], &after["totalSlices"]), (&want, &json!(2)));
}

#[tokio::test]
async fn jobs_take_turns_and_a_million_slices_make_few_tasks() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let large = deploy(&mut client, (0..50_000).collect()).await;
    let small = deploy(&mut client, (0..3).collect()).await;
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    let (mut batches, mut done, mut small_done_at) = (0, 0, None);
    while done < 50_003 {
        let batch = runner.given().await;
        batches += 1;
        done += batch.slices.len();
        let reports: Vec<Value> = batch
            .slices
            .iter()
            .map(|(number, datum)| {
                json!({ "finished": { "number": number, "value": datum, "seconds": 0.000_001 } })
            })
            .collect();
        runner.finish(&batch, reports.into()).await;
        if small_done_at.is_none() && status(&mut client, &small).await["status"] == "completed" {
            small_done_at = Some(batches);
        }
    }
    assert!(small_done_at.unwrap() <= 8, "{small_done_at:?}");
    assert!(batches < 100, "{batches}");
    assert_eq!(status(&mut client, &large).await["status"], "completed");
    let page = json!({ "jobId": large, "range": "40001-50000" });
    let page = call(&mut client, "dcp.job.result", page).await.unwrap();
    assert_eq!(page["results"].as_array().unwrap().len(), 10_000);
    assert_eq!(page["results"][0], json!({ "sliceNumber": 40_001, "value": 40_000 }));
    let report = server.app.store.check().unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert!(report.rows < 1_000, "{}", report.rows);
}

#[tokio::test]
async fn a_cancelled_job_stops_its_runners_and_keeps_its_results() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, json!([1, 2, 3, 4])).await;
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    runner.work(1).await;
    let running = runner.given().await;
    let cancel = json!({ "jobId": job, "reason": "enough" });
    let answer = call(&mut client, "dcp.job.cancel", cancel).await.unwrap();
    assert_eq!(answer, json!({ "jobId": job, "status": "cancelled" }));
    let told = runner.told().await;
    assert_eq!((&told["kind"], &told["tokens"]), (&json!("cancel"), &json!([running.token])));
    let late = json!({
        "token": running.token, "status": "Finished",
        "slices": [finished(running.slices[0].0, &json!(0))],
    });
    assert_eq!(runner.send(late).await["refused"][0]["code"], -32006);
    let again = json!({ "jobId": job, "reason": "another" });
    call(&mut client, "dcp.job.cancel", again).await.unwrap();
    let after = status(&mut client, &job).await;
    assert_eq!((&after["status"], &after["cancelReason"]), (&json!("cancelled"), &json!("enough")));
    assert_eq!((&after["completedSlices"], &after["activeSlices"]), (&json!(1), &json!(0)));
    assert_eq!(result(&mut client, &job).await["results"].as_array().unwrap().len(), 1);
    let more = json!({ "jobId": job, "sliceData": [7] });
    let (code, data) = call(&mut client, "dcp.job.add_slices", more).await.unwrap_err();
    assert_eq!((code, &data["http_status"]), (-32002, &json!(409)), "{data}");
    // Its runner is free for other jobs.
    deploy(&mut client, json!([8])).await;
    assert_eq!(runner.given().await.slices, [(1, json!(8))]);
    assert!(server.app.store.check().unwrap().problems.is_empty());
}
