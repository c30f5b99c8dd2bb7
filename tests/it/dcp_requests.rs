//! How the compute face reads what it is sent over JSON-RPC: as leniently, and as much, as over REST.

use serde_json::json;

use crate::calls::refused;
use crate::server::TestServer;
use crate::slice_runner::{ACCOUNT, OURS, call, deploy, line};

#[tokio::test]
async fn unknown_members_are_ignored_and_misfits_are_worded_as_over_rest() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = json!({
        "work": { "function": "(x) => x", "more": 1 }, "slices": [], "account": { "address": ACCOUNT },
        "future": { "a": 1 },
    });
    let made = call(&mut client, "dcp.job.deploy", job).await.unwrap();
    let status = json!({ "jobId": made["jobId"], "future": 1 });
    call(&mut client, "dcp.job.status", status).await.unwrap();
    for (method, params) in [
        ("dcp.job.status", json!({ "jobId": 5 })),
        ("dcp.job.status", json!({})),
        ("dcp.job.deploy", json!({ "work": 5 })),
        ("dcp.job.result", json!({ "jobId": made["jobId"], "range": 5 })),
        ("dcp.job.cancel", json!({ "jobId": made["jobId"], "reason": 5 })),
        ("dcp.accounts.add", json!({ "address": 5 })),
        ("dcp.key.create", json!({ "keystore": 5, "token": 5 })),
        ("dcp.key.revoke", json!({ "key": 5 })),
        ("dcp.job.list", json!({ "limit": "x" })),
    ] {
        let data = refused(call(&mut client, method, params.clone()).await, -32602);
        assert_eq!(data["http_status"], 400, "{method} {params}: {data}");
        assert!(data["error"].is_string(), "{method} {params}: {data}");
        assert!(data.get("reason").is_none(), "{method} {params}: {data}");
    }
}

#[tokio::test]
async fn slices_may_be_as_large_over_json_rpc_as_over_rest() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = deploy(&mut client, json!([])).await;
    let more = json!({ "jobId": job, "sliceData": ["x".repeat(20 << 20)] });
    let added = call(&mut client, "dcp.job.add_slices", more.clone()).await.unwrap();
    assert_eq!(added["totalSlices"], 1);
    let mut more = more;
    more["auth"] = OURS.trim().into();
    let added = server.ask("dcp.job.add_slices", more).await;
    assert_eq!(added["result"]["totalSlices"], 2);
}
