//! `flow.*`, what is stored of them and what is worked out from their jobs.

use serde_json::{Value, json};

use crate::calls::{Core, bad_field, refused, with};
use crate::job;

/// A flow of caller 42 in context 1.
pub fn params(id: u32, jobs: &[u32]) -> Value {
    json!({
        "context_id": 1,
        "flow": { "id": id, "caller_id": 42, "context_id": 1, "jobs": jobs, "env_vars": {} },
    })
}

fn key(id: u32) -> Value {
    json!({ "context_id": 1, "id": id })
}

async fn with_jobs(jobs: &[(u32, &[u32])]) -> Core {
    let server = Core::start().await;
    for (id, depends) in jobs {
        let job = with(&job::params(*id), "job.depends", json!(depends));
        server.rpc("job.create", job).await.unwrap();
    }
    let ids: Vec<u32> = jobs.iter().map(|(id, _)| *id).collect();
    server.rpc("flow.create", params(7, &ids)).await.unwrap();
    server
}

#[tokio::test]
async fn a_flow_is_created_loaded_listed_and_deleted() {
    let server = Core::start().await;
    let made = server.rpc("flow.create", params(7, &[3, 1, 3])).await.unwrap();
    assert_eq!(made["jobs"], json!([3, 1, 3]), "given back as sent");
    assert_eq!((&made["status"], &made["result"]), (&json!("Dispatched"), &json!({})));
    assert_eq!(server.rpc("flow.load", key(7)).await.unwrap(), made);
    let list = |filter: Value| server.rpc("flow.list", with(&filter, "context_id", json!(1)));
    assert_eq!(list(json!({})).await.unwrap(), json!({ "items": [made] }));
    assert_eq!(list(json!({ "caller_id": 42 })).await.unwrap()["items"], json!([made]));
    assert_eq!(list(json!({ "caller_id": 41 })).await.unwrap(), json!({ "items": [] }));
    assert_eq!(list(json!({ "status": "Dispatched" })).await.unwrap()["items"], json!([made]));
    assert_eq!(list(json!({ "status": "Error" })).await.unwrap(), json!({ "items": [] }));
    server.rpc("job.create", job::params(3)).await.unwrap();
    server.rpc("flow.delete", key(7)).await.unwrap();
    server.rpc("job.load", job::key(3)).await.expect("a flow's jobs stay");
    for method in ["flow.load", "flow.delete", "flow.dag", "flow.status"] {
        refused(server.rpc(method, key(7)).await, -32001);
    }
}

#[tokio::test]
async fn a_refusal_names_the_field() {
    let server = Core::start().await;
    for (path, value, field) in [
        ("flow.context_id", json!(2), "flow.context_id"),
        ("flow.jobs", json!([1, "2"]), "flow.jobs[1]"),
        ("flow.env_vars", json!({ "": "x" }), "flow.env_vars"),
        ("flow.result", json!({ "a": 1 }), "flow.result.a"),
    ] {
        let answer = server.rpc("flow.create", with(&params(7, &[]), path, value)).await;
        assert_eq!(bad_field(answer), field);
    }
    let unknown = with(&with(&params(7, &[]), "context_id", json!(9)), "flow.context_id", json!(9));
    assert_eq!(refused(server.rpc("flow.create", unknown).await, -32001)["kind"], "context");
}

#[tokio::test]
async fn a_dag_has_everything_in_ascending_order() {
    let server = with_jobs(&[(30, &[20, 10]), (10, &[]), (20, &[10]), (10, &[])]).await;
    let dag = server.rpc("flow.dag", key(7)).await.unwrap();
    let node = |id: u32, depends: &[u32]| json!({ "id": id, "depends": depends, "prerequisites": [], "script_type": "Osis" });
    assert_eq!(
        dag,
        json!({
            "flow_id": 7, "caller_id": 42, "context_id": 1,
            "nodes": { "10": node(10, &[]), "20": node(20, &[10]), "30": node(30, &[20, 10]) },
            "edges": [[10, 20], [10, 30], [20, 30]],
            "reverse_edges": [[20, 10], [30, 10], [30, 20]],
            "roots": [10], "leaves": [30], "levels": [[10], [20], [30]],
        })
    );
}

#[tokio::test]
async fn a_dag_of_ids_far_apart_is_read_one_by_one() {
    let server = with_jobs(&[(0, &[]), (4_000_000_000, &[0]), (5, &[])]).await;
    let dag = server.rpc("flow.dag", key(7)).await.unwrap();
    assert_eq!(dag["levels"], json!([[0, 5], [4_000_000_000_u32]]));
    let empty = server.rpc("flow.create", params(8, &[])).await.unwrap();
    assert_eq!(empty["jobs"], json!([]));
    assert_eq!(server.rpc("flow.dag", key(8)).await.unwrap()["levels"], json!([]));
}

#[tokio::test]
async fn holes_and_circles_are_errors() {
    let server = with_jobs(&[(1, &[]), (2, &[1, 99])]).await;
    let data = refused(server.rpc("flow.dag", key(7)).await, -32020);
    assert_eq!((&data["job"], &data["missing"]), (&json!(2), &json!(99)));
    let server = with_jobs(&[(1, &[3]), (2, &[1]), (3, &[2]), (4, &[])]).await;
    let data = refused(server.rpc("flow.dag", key(7)).await, -32021);
    assert_eq!(data["cycle"], json!([1, 2, 3]));
    server.rpc("flow.create", params(7, &[1, 77])).await.unwrap();
    let data = refused(server.rpc("flow.dag", key(7)).await, -32001);
    assert_eq!((&data["kind"], &data["id"]), (&json!("job"), &json!("1/42/77")));
}

#[tokio::test]
async fn progress_counts_each_job_once() {
    let server = with_jobs(&[(1, &[]), (2, &[1]), (3, &[]), (1, &[])]).await;
    let progress = server.rpc("flow.status", key(7)).await.unwrap();
    assert_eq!(
        progress,
        json!({
            "flow_id": 7, "status": "Dispatched", "total": 3, "done": 0,
            "jobs": {
                "Dispatched": 2, "WaitingForPrerequisites": 1, "Started": 0, "Error": 0,
                "Finished": 0,
            },
        })
    );
}

#[tokio::test]
async fn a_flow_is_drawn_in_every_format() {
    let server = with_jobs(&[(1, &[]), (2, &[1])]).await;
    let draw = |format: &str| {
        server.rpc("flow.render", json!({ "context_id": 1, "id": 7, "format": format }))
    };
    for (format, sign) in [("dot", "digraph"), ("mermaid", "flowchart"), ("svg", "<svg")] {
        let drawing = draw(format).await.unwrap();
        assert_eq!(drawing["format"], format);
        assert!(drawing["text"].as_str().unwrap().contains(sign), "{drawing}");
    }
    assert_eq!(bad_field(draw("png").await), "format");
    let many: Vec<u32> = (0..6_000).collect();
    server.rpc("flow.create", params(7, &many)).await.unwrap();
    assert_eq!(refused(draw("svg").await, -32005)["limit"], 5_000);
}
