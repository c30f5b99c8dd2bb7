//! `rpc.*` and `system.*`.

use serde_json::json;

use crate::calls::{Core, bad_field, with};
use crate::{flow, job, message, runner};

#[tokio::test]
async fn ping_is_answered() {
    let server = Core::start().await;
    assert_eq!(server.rpc("system.ping", json!({})).await.unwrap(), json!(true));
}

#[tokio::test]
async fn info_says_what_this_is() {
    let server = Core::start().await;
    let info = server.rpc("system.info", json!({})).await.unwrap();
    assert_eq!(info["name"], "muster");
    assert_eq!(info["faces"], json!(["core", "adv", "dcp"]));
    assert!(info["started_at"].as_u64().unwrap() > 1_000_000_000_000, "milliseconds");
    assert!(info["http"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert!(info["ws"].as_str().unwrap().starts_with("ws://127.0.0.1:"));
}

#[tokio::test]
async fn stats_count_everything() {
    let server = Core::start().await;
    server.rpc("job.create", job::params(1)).await.unwrap();
    server.rpc("job.create", with(&job::params(2), "job.depends", json!([1]))).await.unwrap();
    server.rpc("job.create", job::params(3)).await.unwrap();
    server.rpc("flow.create", flow::params(7, &[1, 2])).await.unwrap();
    server.rpc("message.create", message::params(9)).await.unwrap();
    server.rpc("runner.create", runner::params(5)).await.unwrap();
    let cancel = server.app.engine.change(|turn| turn.cancel_job((1, 42, 3), "enough"));
    cancel.await.unwrap();
    let stats = server.rpc("system.stats", json!({})).await.unwrap();
    assert_eq!(
        stats["objects"],
        json!({ "actors": 0, "contexts": 1, "runners": 1, "flows": 1, "jobs": 3, "messages": 1 })
    );
    assert_eq!(
        stats["tasks"],
        json!({
            "Dispatched": 1, "WaitingForPrerequisites": 1, "Started": 0, "Error": 1, "Finished": 0,
        })
    );
    assert_eq!(stats["runners_online"], 0);
    assert_eq!(stats["latest_seq"], 8);
    assert!(stats["journal_bytes"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_backup_stays_below_its_directory() {
    let server = Core::start().await;
    let done = server.rpc("system.backup", json!({ "path": "nightly/one" })).await.unwrap();
    assert_eq!(done["seq"], 1);
    let file = server.dir.path().join("backups/nightly/one");
    assert_eq!(done["bytes"], std::fs::metadata(file).unwrap().len());
    for path in ["", "/tmp/x", "../x", "a/../../x", "nightly", "a/", "a\u{0}"] {
        let answer = server.rpc("system.backup", json!({ "path": path })).await;
        assert_eq!(bad_field(answer), "path", "{path:?}");
    }
}
