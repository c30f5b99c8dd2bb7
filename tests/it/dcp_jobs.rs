//! `dcp.job.*`: what clients may ask, and what they are told when they ask wrongly.

use serde_json::{Value, json};

use crate::fake_runner::Line;
use crate::server::TestServer;
use crate::slice_runner::{
    ACCOUNT, GROUP, OTHER, OURS, SliceRunner, call, deploy, failed, finished, line,
};

/// A job without slices, with these members besides.
async fn deploy_with(line: &mut Line, more: Value) -> Result<Value, (i32, Value)> {
    let mut job = json!({ "work": { "function": "(x) => x" }, "account": { "address": ACCOUNT } });
    for (name, value) in more.as_object().unwrap() {
        job[name] = value.clone();
    }
    call(line, "dcp.job.deploy", job).await
}

fn refused(answer: Result<Value, (i32, Value)>, status: u64) -> Value {
    let (_, data) = answer.expect_err("it is refused");
    assert_eq!(data["http_status"], status, "{data}");
    assert!(data["error"].is_string(), "{data}");
    data
}

#[tokio::test]
async fn a_new_job_is_open_and_listed() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let public = json!({ "name": "Sum", "description": "d", "link": "l" });
    let made = deploy_with(&mut client, json!({ "public": public })).await.unwrap();
    let first = made["jobId"].as_str().unwrap().to_owned();
    assert!(first.starts_with("0x") && first.len() == 42 && made.as_object().unwrap().len() == 1);
    let status = call(&mut client, "dcp.job.status", json!({ "jobId": first })).await.unwrap();
    assert_eq!(status["status"], "new");
    assert_eq!(status["public"], public);
    assert!(status["createdAt"].as_u64().unwrap() > 1_700_000_000);
    assert!(status.get("cancelReason").is_none());
    let second = deploy(&mut client, json!([1])).await;
    let third = deploy(&mut client, json!([])).await;
    let list = |params| {
        let server = &server;
        async move {
            let mut client = line(server).await;
            let jobs = call(&mut client, "dcp.job.list", params).await.unwrap();
            let ids = jobs.as_array().unwrap().iter();
            ids.map(|job| job["jobId"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(list(json!({})).await, [&*third, &*second, &*first]);
    assert_eq!(list(json!({ "limit": 2 })).await, [&*third, &*second]);
    assert_eq!(list(json!({ "before": second })).await, [&*first]);
    assert_eq!(list(json!({ "before": 5 })).await, [""; 0]);
    assert_eq!(list(json!({ "status": "running" })).await, [&*second]);
    assert_eq!(list(json!({ "status": ["new", "running"] })).await.len(), 3);
    assert_eq!(list(json!({ "status": ["estimation"] })).await.len(), 0);
    let entry = call(&mut client, "dcp.job.list", json!({ "before": second })).await.unwrap();
    let want = json!([{
        "jobId": first, "address": first, "status": "new", "name": "Sum", "description": "d",
        "link": "l", "totalSlices": 0, "completedSlices": 0, "activeSlices": 0,
        "createdAt": status["createdAt"],
    }]);
    assert_eq!(entry, want);
    let count = call(&mut client, "dcp.job.count", json!({})).await.unwrap();
    assert_eq!(count, json!({ "jobCount": 3 }));
    for wrong in [json!({ "limit": 0 }), json!({ "status": "odd" }), json!({ "before": "x" })] {
        refused(call(&mut client, "dcp.job.list", wrong).await, 400);
    }
    let others = client.ask("dcp.job.count", json!({ "auth": OTHER.trim() })).await.unwrap();
    assert_eq!(others["jobCount"], 0);
}

#[tokio::test]
async fn all_that_is_wrong_with_a_job_is_told() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let wrong = json!({ "work": {}, "slices": 7, "account": {}, "args": {} });
    let data = refused(deploy_with(&mut client, wrong).await, 400);
    let messages = data["messages"].as_array().unwrap();
    let begin = ["work.function", "slices", "args", "account.address"];
    assert_eq!(messages.len(), begin.len(), "{messages:?}");
    for (message, begin) in messages.iter().zip(begin) {
        assert!(message.as_str().unwrap().starts_with(begin), "{message}");
    }
    let wrong = json!({ "args": {}, "account": { "address": "12" } });
    let data = refused(deploy_with(&mut client, wrong).await, 400);
    assert_eq!(data["messages"].as_array().unwrap().len(), 2, "{data}");
    for account in [json!(null), json!({}), json!("x"), json!({ "address": "12" })] {
        let answer = deploy_with(&mut client, json!({ "account": account })).await;
        assert_eq!(refused(answer, 400)["messages"].as_array().unwrap().len(), 1);
    }
    let unknown = json!({ "account": { "label": "nobody" } });
    refused(deploy_with(&mut client, unknown).await, 404);
    let locked = json!({ "account": { "json": "{}", "password": "x" } });
    refused(deploy_with(&mut client, locked).await, 403);
    let secret = json!({ "computeGroups": [{ "joinKey": "public", "joinSecret": "x" }] });
    refused(deploy_with(&mut client, secret).await, 403);
    let typescript = json!({ "work": { "function": "f", "language": "ts" } });
    let data = refused(deploy_with(&mut client, typescript).await, 400);
    assert!(data["error"].as_str().unwrap().contains("`ts`"), "{data}");
    let count = call(&mut client, "dcp.job.count", json!({})).await.unwrap();
    assert_eq!(count["jobCount"], 0);
}

#[tokio::test]
async fn strict_accounts_must_be_known() {
    let server = TestServer::with(|config| config.strict_accounts = true).await;
    let mut client = line(&server).await;
    refused(deploy_with(&mut client, json!({})).await, 403);
    call(&mut client, "dcp.accounts.add", json!({ "address": ACCOUNT })).await.unwrap();
    deploy_with(&mut client, json!({})).await.unwrap();
}

#[tokio::test]
async fn jobs_of_others_malformed_and_unknown_ones_are_told_apart() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, json!([1])).await;
    let unknown = format!("0x{}", "0".repeat(40));
    for (method, more) in [
        ("dcp.job.status", json!({})),
        ("dcp.job.result", json!({})),
        ("dcp.job.cancel", json!({})),
        ("dcp.job.add_slices", json!({ "sliceData": [1] })),
        ("dcp.job.subscribe", json!({})),
    ] {
        let with = |id: &str, auth: &str| {
            let mut params = more.clone();
            params["jobId"] = id.into();
            params["auth"] = auth.trim().into();
            params
        };
        refused(client.ask(method, with(&job, OTHER)).await, 403);
        refused(client.ask(method, with(&unknown, OURS)).await, 404);
        refused(client.ask(method, with("0x12", OURS)).await, 400);
        refused(client.ask(method, with(&job, "Basic x")).await, 401);
    }
    for spelling in [job[2..].to_owned(), job.to_uppercase()] {
        let status = call(&mut client, "dcp.job.status", json!({ "jobId": spelling })).await;
        assert_eq!(status.unwrap()["jobId"], job);
    }
}

#[tokio::test]
async fn results_are_read_by_ranges() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, (1..=60).collect()).await;
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    // Slices 20 and 40 fail, 50 has not ended.
    let (mut ended, mut failures) = (0, 0);
    while ended < 57 || failures < 6 {
        let batch = runner.given().await;
        let mut reports = Vec::new();
        for (number, datum) in &batch.slices {
            match number {
                20 | 40 => {
                    failures += 1;
                    reports.push(failed(*number));
                }
                50 => {}
                _ => {
                    ended += 1;
                    reports.push(finished(*number, datum));
                }
            }
        }
        // In whatever order.
        reports.reverse();
        if batch.slices.iter().any(|(number, _)| *number == 50) {
            let report = json!({ "token": batch.token, "status": "Started", "slices": reports });
            runner.report(report).await;
            runner
                .line
                .ask(
                    "runner.heartbeat",
                    json!({
                        "context_id": crate::slice_runner::GROUP, "runner_id": 1,
                    }),
                )
                .await
                .unwrap();
            // Another goes on with the rest.
            runner = SliceRunner::attach(server.at.ws, 2 + u32::from(failures > 0), 1).await;
            continue;
        }
        runner.finish(&batch, reports.into()).await;
    }
    let all = call(&mut client, "dcp.job.result", json!({ "jobId": job })).await.unwrap();
    assert_eq!((&all["totalSlices"], &all["completedSlices"]), (&json!(60), &json!(57)));
    let numbers = |part: &Value| -> Vec<u64> {
        part.as_array().unwrap().iter().map(|one| one["sliceNumber"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&all["errors"]), [20, 40]);
    let want: Vec<u64> = (1..=60).filter(|n| ![20, 40, 50].contains(n)).collect();
    assert_eq!(numbers(&all["results"]), want);
    for (params, results, errors) in [
        (json!({ "range": "3-5" }), vec![3, 4, 5], vec![]),
        (json!({ "range": "5-3" }), vec![3, 4, 5], vec![]),
        (json!({ "range": "7" }), vec![7], vec![]),
        (
            json!({ "range": ["58-99999999999999999999", "1-2", "2-3"] }),
            vec![1, 2, 3, 58, 59, 60],
            vec![],
        ),
        (json!({ "range": "19-21" }), vec![19, 21], vec![20]),
        (json!({ "range": "50" }), vec![], vec![]),
        (json!({ "range": "61-70" }), vec![], vec![]),
        (json!({ "sliceNumber": 9 }), vec![9], vec![]),
        (json!({ "sliceNumber": 40 }), vec![], vec![40]),
        (json!({ "sliceNumber": 900 }), vec![], vec![]),
        (json!({ "limit": 3 }), vec![1, 2, 3], vec![]),
        (json!({ "limit": 3, "afterSlice": 18 }), vec![19, 21, 22], vec![20]),
        (json!({ "limit": 1, "afterSlice": 59 }), vec![60], vec![]),
        (json!({ "afterSlice": 60 }), vec![], vec![]),
        (json!({ "afterSlice": 56, "range": ["1-3", "57-58"] }), vec![57, 58], vec![]),
        (json!({ "range": [] , "limit": 1 }), vec![1], vec![]),
    ] {
        let mut asked = params.clone();
        asked["jobId"] = json!(job);
        let got = call(&mut client, "dcp.job.result", asked).await.unwrap();
        assert_eq!(numbers(&got["results"]), results, "{params}");
        assert_eq!(numbers(&got["errors"]), errors, "{params}");
        assert_eq!(got["totalSlices"], 60);
    }
    let thousands: Vec<String> =
        (0..5_000).map(|n| format!("{}-{}", n * 3 + 1, n * 3 + 1)).collect();
    let asked = json!({ "jobId": job, "range": thousands });
    let got = call(&mut client, "dcp.job.result", asked).await.unwrap();
    let want: Vec<u64> = want.into_iter().filter(|n| n % 3 == 1).collect();
    assert_eq!(numbers(&got["results"]), want);
    for wrong in [
        json!({ "range": "0" }),
        json!({ "range": "0-3" }),
        json!({ "range": "a" }),
        json!({ "range": "" }),
        json!({ "range": ["1", "1-"] }),
        json!({ "range": 5 }),
        json!({ "sliceNumber": 0 }),
        json!({ "sliceNumber": "x" }),
        json!({ "limit": -1 }),
        json!({ "afterSlice": "x" }),
        json!({ "wait_s": 61 }),
        json!({ "wait_s": "x" }),
    ] {
        let mut asked = wrong.clone();
        asked["jobId"] = json!(job);
        refused(call(&mut client, "dcp.job.result", asked).await, 400);
    }
}

#[tokio::test]
async fn values_come_back_as_they_were_written() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let large = "x".repeat(200_000);
    let data = json!([null, 1.5, "é\"\n", { "a": [{}] }, large, []]);
    let job = deploy(&mut client, data.clone()).await;
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    for number in 1..=6 {
        let batch = runner.given().await;
        let (at, datum) = &batch.slices[0];
        let place = usize::try_from(*at).unwrap() - 1;
        assert_eq!(*datum, data[place]);
        let reports: Vec<Value> =
            batch.slices.iter().map(|(number, datum)| finished(*number, datum)).collect();
        runner.finish(&batch, reports.into()).await;
        let asked = json!({ "jobId": job });
        let got = call(&mut client, "dcp.job.result", asked).await.unwrap();
        let results = got["results"].as_array().unwrap();
        if results.len() == 6 {
            let values: Vec<Value> = results.iter().map(|one| one["value"].clone()).collect();
            assert_eq!(Value::from(values), data);
            return;
        }
        assert!(number < 6);
    }
}

#[tokio::test]
async fn slices_are_added_all_or_none() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, json!([1, 2, 3])).await;
    for wrong in [json!({}), json!({ "sliceData": 5 }), json!({ "sliceData": { "a": 1 } })] {
        let mut params = wrong;
        params["jobId"] = json!(job);
        refused(call(&mut client, "dcp.job.add_slices", params).await, 400);
    }
    let none = json!({ "jobId": job, "sliceData": [] });
    let answer = call(&mut client, "dcp.job.add_slices", none).await.unwrap();
    let want = json!({ "jobId": job, "addedSlices": 0, "totalSlices": 3, "lastSliceNumber": 3 });
    assert_eq!(answer, want);
    let more = json!({ "jobId": job, "slices": [4, null] });
    let answer = call(&mut client, "dcp.job.add_slices", more).await.unwrap();
    assert_eq!((&answer["addedSlices"], &answer["totalSlices"]), (&json!(2), &json!(5)));
}

#[tokio::test]
async fn a_reader_waits_for_the_next_result() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, json!([1, 2])).await;
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    let asked = json!({ "jobId": job, "wait_s": 60, "afterSlice": 0, "auth": OURS.trim() });
    let waits = client.ask("dcp.job.result", asked);
    let works = async {
        let batch = runner.given().await;
        runner.double(&batch).await;
    };
    let (answer, ()) = tokio::join!(waits, works);
    assert_eq!(answer.unwrap()["results"], json!([{ "sliceNumber": 1, "value": 2 }]));
    let asked = json!({ "jobId": job, "wait_s": 0.01, "afterSlice": 1 });
    let answer = call(&mut client, "dcp.job.result", asked).await.unwrap();
    assert_eq!(answer["results"], json!([]));
}

#[tokio::test]
async fn compute_groups_are_no_contexts_of_clients() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let context = json!({ "id": GROUP, "admins": [], "readers": [], "executors": [] });
    let answer = client.ask("context.create", json!({ "context": context })).await;
    assert_eq!(answer.unwrap_err().0, -32602);
    let job = json!({
        "id": 1, "caller_id": 1, "context_id": GROUP, "script": "1", "script_type": "Sal",
        "timeout": 0, "retries": 0, "env_vars": {}, "prerequisites": [], "depends": [],
    });
    let answer = client.ask("job.create", json!({ "context_id": GROUP, "job": job })).await;
    assert!(answer.is_err(), "{answer:?}");
    let contexts = client.ask("context.list", json!({})).await.unwrap();
    assert_eq!(contexts["items"], json!([]));
    let runner = json!({
        "id": 1, "pubkey": "k", "address": "127.0.0.1", "topic": "t", "local": false,
    });
    let group = json!({ "context_id": GROUP, "runner": runner });
    client.ask("runner.create", group).await.unwrap();
    let attach = json!({ "context_id": GROUP, "runner_id": 1, "script_types": ["Sal"] });
    assert_eq!(client.ask("runner.attach", attach).await.unwrap_err().0, -32602);
}

#[tokio::test]
async fn many_ranges_select_what_each_of_them_does() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, (1..=300).collect()).await;
    SliceRunner::attach(server.at.ws, 1, 1).await.work(300).await;
    let wanted: Vec<u64> = (3..=400).step_by(7).collect();
    let ranges: Vec<String> = wanted.iter().map(u64::to_string).collect();
    let params = json!({ "jobId": job, "range": ranges });
    let got = call(&mut client, "dcp.job.result", params).await.unwrap();
    let numbers: Vec<u64> = got["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["sliceNumber"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, wanted.into_iter().filter(|n| *n <= 300).collect::<Vec<_>>());
}
