//! Which runners a job may go to: what they are able to, and the compute groups they are in.

use serde_json::{Value, json};

use crate::calls::refused;
use crate::fake_runner::Line;
use crate::recovery::Process;
use crate::server::TestServer;
use crate::slice_runner::{ACCOUNT, GROUP, SliceRunner, call, deploy, line};

/// Deploys a job of these slices with further members.
async fn asking(line: &mut Line, slices: &[u32], more: Value) -> Result<String, (i32, Value)> {
    let mut job = json!({
        "work": { "function": "(x) => x" }, "slices": slices, "account": { "address": ACCOUNT },
    });
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = call(line, "dcp.job.deploy", job).await?;
    Ok(made["jobId"].as_str().unwrap().to_owned())
}

async fn completed(line: &mut Line, job: &str) -> u64 {
    let status = call(line, "dcp.job.status", json!({ "jobId": job })).await.unwrap();
    assert_eq!(status["activeSlices"], 0);
    status["completedSlices"].as_u64().unwrap()
}

#[tokio::test]
async fn a_job_waits_for_a_runner_that_is_able_to_all_that_it_requires() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let gpu = json!({ "requirements": { "gpu": { "webgl": true, "cuda": false }, "fast": true } });
    let picky = asking(&mut client, &[1, 2, 3], gpu).await.unwrap();
    let nothing = json!({ "requirements": { "gpu": { "webgl": false } } });
    let modest = asking(&mut client, &[4, 5], nothing).await.unwrap();
    let able = json!({ "capabilities": { "gpu": { "webgl": true }, "fast": false } });
    let mut lesser = SliceRunner::offering(server.at.ws, 1, able).await.unwrap();
    lesser.work(2).await;
    assert_eq!(completed(&mut client, &modest).await, 2);
    assert_eq!(completed(&mut client, &picky).await, 0, "it waits");
    let able = json!({ "capabilities": { "gpu": { "webgl": true }, "fast": true, "x": true } });
    let mut better = SliceRunner::offering(server.at.ws, 2, able).await.unwrap();
    better.work(3).await;
    assert_eq!(completed(&mut client, &picky).await, 3);
    // Further slices of both, while both are there.
    let more = json!({ "jobId": picky, "sliceData": [6, 7] });
    call(&mut client, "dcp.job.add_slices", more).await.unwrap();
    better.work(2).await;
    let status = json!({ "context_id": GROUP, "id": 2 });
    let status = client.ask("runner.status", status).await.unwrap();
    assert_eq!(status["capabilities"], json!(["/fast", "/gpu/webgl", "/x"]));
    let odd = json!({ "capabilities": { "gpu": 2 } });
    let refusal = SliceRunner::offering(server.at.ws, 3, odd).await.map(|_| Value::Null);
    assert_eq!(refused(refusal, -32602)["field"], "capabilities");
}

#[tokio::test]
async fn a_job_goes_only_to_runners_of_its_groups() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let ours = json!({ "joinKey": "ours", "joinSecret": "s3cret" });
    let made = client.ask("dcp.group.create", ours.clone()).await.unwrap();
    assert_eq!(made, json!({ "joinKey": "ours" }), "a secret is not told back");
    let made = client.ask("dcp.group.create", json!({ "joinKey": "theirs" })).await.unwrap();
    let theirs = json!({ "joinKey": "theirs", "joinSecret": made["joinSecret"] });
    let listed = client.ask("dcp.group.list", json!({})).await.unwrap();
    assert_eq!((&listed[0]["joinKey"], &listed[1]["joinKey"]), (&json!("ours"), &json!("theirs")));
    assert!(!listed.to_string().contains("s3cret"));
    for (groups, code) in [
        (json!([{ "joinKey": "nobody", "joinSecret": "" }]), -32602),
        (json!([{ "joinKey": "ours\0", "joinSecret": "s3cret" }]), -32602),
        (json!([{ "joinKey": "ours", "joinSecret": "s3cre" }]), -32004),
        (json!([{ "joinKey": "ours" }]), -32004),
        (json!([ours, { "joinKey": "public", "joinSecret": "x" }]), -32004),
    ] {
        let groups = json!({ "computeGroups": groups });
        let refusal = asking(&mut client, &[1], groups.clone()).await.map(Value::from);
        refused(refusal, code);
    }
    let only = json!({ "computeGroups": [ours] });
    let private = asking(&mut client, &[1, 2], only).await.unwrap();
    let either = json!({ "computeGroups": [theirs, { "joinKey": "public" }] });
    let shared = asking(&mut client, &[3], either).await.unwrap();
    let mut open = SliceRunner::attach(server.at.ws, 1, 1).await;
    open.work(1).await;
    assert_eq!(completed(&mut client, &shared).await, 1);
    assert_eq!(completed(&mut client, &private).await, 0);
    for (groups, code) in [
        (json!([{ "joinKey": "nobody", "joinSecret": "" }]), -32602),
        (json!([{ "joinKey": "ours", "joinSecret": "wrong" }]), -32004),
    ] {
        let refusal = SliceRunner::offering(server.at.ws, 2, json!({ "groups": groups })).await;
        refused(refusal.map(|_| Value::Null), code);
    }
    let joined = json!({ "groups": [ours, theirs] });
    let mut member = SliceRunner::offering(server.at.ws, 2, joined).await.unwrap();
    member.work(2).await;
    assert_eq!(completed(&mut client, &private).await, 2);
    // A member that does not name the public group is not in it.
    drop(open);
    let public = deploy(&mut client, json!([9])).await;
    let more = json!({ "jobId": private, "sliceData": [4] });
    call(&mut client, "dcp.job.add_slices", more).await.unwrap();
    assert_eq!(member.given().await.slices, [(3, json!(4))]);
    assert_eq!(completed_any(&mut client, &public).await, 0);
}

async fn completed_any(line: &mut Line, job: &str) -> u64 {
    let status = call(line, "dcp.job.status", json!({ "jobId": job })).await.unwrap();
    status["completedSlices"].as_u64().unwrap()
}

#[tokio::test]
async fn a_removed_group_takes_nothing_more() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let ours = json!({ "joinKey": "ours", "joinSecret": "" });
    client.ask("dcp.group.create", ours.clone()).await.unwrap();
    let groups = json!({ "computeGroups": [ours] });
    let job = asking(&mut client, &[], groups.clone()).await.unwrap();
    let both = json!({ "groups": [ours, { "joinKey": "public" }] });
    let mut member = SliceRunner::offering(server.at.ws, 1, both).await.unwrap();
    let remove = json!({ "joinKey": "ours" });
    let removed = client.ask("dcp.group.remove", remove.clone()).await.unwrap();
    assert_eq!(removed, json!({ "removed": true }));
    refused(client.ask("dcp.group.remove", remove).await, -32001);
    refused(asking(&mut client, &[1], groups).await.map(Value::from), -32602);
    let more = json!({ "jobId": job, "sliceData": [4] });
    call(&mut client, "dcp.job.add_slices", more).await.unwrap();
    let public = deploy(&mut client, json!([9])).await;
    member.work(1).await;
    assert_eq!(completed(&mut client, &public).await, 1);
    assert_eq!(completed(&mut client, &job).await, 0);
    refused(client.ask("dcp.group.create", json!({ "joinKey": "public" })).await, -32602);
    refused(client.ask("dcp.group.create", json!({ "joinKey": "" })).await, -32602);
    refused(client.ask("dcp.group.remove", json!({ "joinKey": "\0" })).await, -32602);
}

#[tokio::test]
async fn what_a_job_asks_of_runners_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Process::start(dir.path(), 30).await;
    let mut client = server.line().await;
    let ours = json!({ "joinKey": "ours", "joinSecret": "s" });
    client.ask("dcp.group.create", ours.clone()).await.unwrap();
    let asks = json!({ "computeGroups": [ours], "requirements": { "gpu": true } });
    let picky = asking(&mut client, &[1], asks).await.unwrap();
    let public = deploy(&mut client, json!([2])).await;
    server.kill();
    let mut server = Process::start(dir.path(), 30).await;
    let mut client = server.line().await;
    let mut open = SliceRunner::attach(server.ws, 1, 1).await;
    open.work(1).await;
    assert_eq!(completed(&mut client, &public).await, 1);
    assert_eq!(completed(&mut client, &picky).await, 0);
    let joined = json!({ "groups": [ours], "capabilities": { "gpu": true } });
    let mut member = SliceRunner::offering(server.ws, 2, joined).await.unwrap();
    member.work(1).await;
    assert_eq!(completed(&mut client, &picky).await, 1);
    assert_eq!(server.stop().await, Some(0));
    let report = muster::store::check(dir.path()).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}
