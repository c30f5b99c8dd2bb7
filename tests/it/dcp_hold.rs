//! Jobs that an operator holds.

use serde_json::json;

use crate::calls::refused;
use crate::server::TestServer;
use crate::slice_runner::{SliceRunner, call, deploy, line};

#[tokio::test]
async fn a_job_that_is_held_starts_nothing_until_it_is_released() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, json!([1, 2, 3, 4, 5, 6])).await;
    let id = json!({ "jobId": job });
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    let batch = runner.given().await;
    let held = client.ask("dcp.job.hold", id.clone()).await.unwrap();
    assert_eq!(held, json!({ "jobId": job, "status": "paused" }));
    runner.double(&batch).await;
    // Another job is served meanwhile.
    deploy(&mut client, json!([9])).await;
    assert_eq!(runner.given().await.slices, [(1, json!(9))]);
    let status = call(&mut client, "dcp.job.status", id.clone()).await.unwrap();
    assert_eq!((&status["status"], &status["completedSlices"]), (&json!("paused"), &json!(1)));
    let more = json!({ "jobId": job, "sliceData": [7] });
    call(&mut client, "dcp.job.add_slices", more).await.unwrap();
    let released = client.ask("dcp.job.release", id.clone()).await.unwrap();
    assert_eq!(released, json!({ "jobId": job, "status": "running" }));
    let mut other = SliceRunner::attach(server.at.ws, 2, 1).await;
    other.work(6).await;
    let status = call(&mut client, "dcp.job.status", id.clone()).await.unwrap();
    assert_eq!((&status["status"], &status["completedSlices"]), (&json!("completed"), &json!(7)));
    client.ask("dcp.job.hold", id.clone()).await.unwrap();
    call(&mut client, "dcp.job.cancel", id.clone()).await.unwrap();
    refused(client.ask("dcp.job.release", id).await, -32002);
    refused(client.ask("dcp.job.hold", json!({ "jobId": "0".repeat(40) })).await, -32001);
    refused(client.ask("dcp.job.hold", json!({})).await, -32602);
}
