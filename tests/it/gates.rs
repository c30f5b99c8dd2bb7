//! Prerequisites: what opens them, what never will, and what closes them again.

use serde_json::{Value, json};

use crate::calls::{Core, bad_field, refused, with};
use crate::fake_runner::{
    FakeRunner, flow_is, flow_key, job, job_is, job_key, kinds, load_job, of_job, sound_log,
    submission, submit, token,
};

fn gated(id: u32, gates: &[&str]) -> Value {
    with(&job(id, &[]), "prerequisites", json!(gates))
}

async fn satisfy(server: &Core, id: u32, gate: &str) -> Value {
    let params = with(&job_key(id), "prerequisite", json!(gate));
    server.rpc("job.satisfy", params).await.unwrap()
}

/// RFC 3339 of so many seconds from now.
fn seconds_from_now(server: &Core, seconds: i64) -> String {
    let now = i64::try_from((server.app.now)() / 1_000).unwrap();
    let at = now + seconds;
    let (days, rest) = (at.div_euclid(86_400), at.rem_euclid(86_400));
    // Civil date of a day number, by Howard Hinnant's algorithm.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[tokio::test]
async fn plain_gates_open_when_all_are_satisfied_and_close_for_a_rerun() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    submit(&server, 7, &[gated(1, &["data", "licence"])]).await;
    assert_eq!(kinds(&server, 1).await, ["gate", "gate"]);
    assert_eq!(satisfy(&server, 1, "data").await["status"], "WaitingForPrerequisites");
    satisfy(&server, 1, "data").await;
    assert_eq!(kinds(&server, 1).await, ["gate"]);
    let other = with(&job_key(1), "prerequisite", json!("other"));
    assert_eq!(bad_field(server.rpc("job.satisfy", other).await), "prerequisite");
    refused(
        server.rpc("job.satisfy", with(&job_key(9), "prerequisite", json!("data"))).await,
        -32001,
    );
    assert_eq!(satisfy(&server, 1, "licence").await["status"], "Dispatched");
    assert_eq!(runner.work().await, 1);
    flow_is(&server, 7, "Finished").await;
    server.rpc("flow.start", flow_key(7)).await.unwrap();
    assert_eq!(load_job(&server, 1).await["status"], "WaitingForPrerequisites");
    assert_eq!(kinds(&server, 1).await, ["gate", "gate"], "closed again");
    satisfy(&server, 1, "licence").await;
    satisfy(&server, 1, "data").await;
    assert_eq!(runner.work().await, 1);
    flow_is(&server, 7, "Finished").await;
    sound_log(&server).await;
}

#[tokio::test]
async fn an_explanation_names_the_gates_that_are_closed() {
    let server = Core::start().await;
    let gates = ["approval", "after:2100-01-01T00:00:00Z", "flow:99", "job:42/98", "licence"];
    submit(&server, 7, &[gated(1, &gates)]).await;
    satisfy(&server, 1, "approval").await;
    let explained = of_job(&server, "job.explain", 1).await;
    let waits = explained["waiting_for"].as_array().unwrap();
    assert_eq!(waits.len(), 4, "{explained}");
    for gate in &gates[1..] {
        let names = |wait: &Value| wait["detail"].as_str().unwrap().contains(gate);
        assert!(waits.iter().any(names), "{gate}: {explained}");
    }
}

#[tokio::test]
async fn an_early_satisfaction_counts() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    let create = json!({ "context_id": 1, "job": gated(1, &["a", "b"]) });
    server.rpc("job.create", create).await.unwrap();
    satisfy(&server, 1, "a").await;
    assert_eq!(satisfy(&server, 1, "b").await["status"], "WaitingForPrerequisites");
    let run = server.rpc("job.run", job_key(1)).await.unwrap();
    assert_eq!(run["status"], "Dispatched");
    assert_eq!(runner.work().await, 1);
    job_is(&server, 1, "Finished").await;
    let run = server.rpc("job.run", job_key(1)).await.unwrap();
    assert_eq!(run["status"], "WaitingForPrerequisites");
    sound_log(&server).await;
}

#[tokio::test]
async fn a_time_opens_its_gate_by_itself() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 4).await;
    let soon = format!("after:{}", seconds_from_now(&server, 2));
    let late = format!("after:{}", seconds_from_now(&server, 3_600));
    let jobs =
        [gated(1, &["after:2020-02-29T12:00:00+01:00"]), gated(2, &[&soon]), gated(3, &[&late])];
    submit(&server, 7, &jobs).await;
    assert_eq!(runner.work().await, 1, "long past");
    assert_eq!(kinds(&server, 3).await, ["gate"]);
    assert_eq!(runner.work().await, 2);
    let attempts = of_job(&server, "job.attempts", 2).await;
    let started = attempts["items"][0]["started_at"].as_u64().unwrap();
    let opened = soon.strip_prefix("after:").unwrap();
    let whole_seconds = i64::try_from(started / 1_000).unwrap();
    let now = i64::try_from((server.app.now)() / 1_000).unwrap();
    assert!(seconds_from_now(&server, whole_seconds - now).as_str() >= opened, "{started}");
    assert_eq!(satisfy(&server, 3, &late).await["status"], "Dispatched", "nobody has to wait");
    assert_eq!(runner.work().await, 3);
    flow_is(&server, 7, "Finished").await;
    for gate in ["after:soon", "after:", "flow:", "flow:x", "job:1", "job:1/", "job:a/b"] {
        let create = json!({ "context_id": 1, "job": gated(4, &[gate]) });
        assert_eq!(bad_field(server.rpc("job.create", create).await), "job.prerequisites[0]");
    }
    sound_log(&server).await;
}

#[tokio::test]
async fn flows_and_jobs_open_gates_when_they_finish() {
    let server = Core::start().await;
    submit(&server, 8, &[gated(3, &["flow:7"]), gated(4, &["job:42/1", "flow:7"])]).await;
    assert_eq!(kinds(&server, 3).await, ["gate"], "it need not exist yet");
    submit(&server, 7, &[job(1, &[]), job(2, &[1])]).await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    assert_eq!(runner.work().await, 1);
    let two = runner.given_job(2).await;
    assert_eq!(kinds(&server, 4).await, ["gate"]);
    runner.finish(&two, json!({})).await;
    assert_eq!([runner.work().await, runner.work().await], [3, 4]);
    flow_is(&server, 8, "Finished").await;
    server.rpc("flow.start", flow_key(8)).await.unwrap();
    assert_eq!([runner.work().await, runner.work().await], [3, 4], "open already");
    sound_log(&server).await;
}

#[tokio::test]
async fn a_gate_whose_object_ended_in_error_fails_the_job() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    submit(&server, 7, &[job(1, &[])]).await;
    let one = runner.given_job(1).await;
    submit(&server, 8, &[gated(2, &["flow:7"]), gated(3, &["job:42/1"]), job(4, &[2])]).await;
    runner.fail(&one, "no").await;
    flow_is(&server, 8, "Error").await;
    for (id, named) in [(2, "flow:7"), (3, "job:42/1"), (4, "job 2")] {
        let failed = load_job(&server, id).await;
        assert_eq!(failed["status"], "Error");
        assert!(failed["result"]["reason"].as_str().unwrap().contains(named), "{failed}");
    }
    // Already so when it starts.
    submit(&server, 9, &[gated(5, &["flow:7"])]).await;
    flow_is(&server, 9, "Error").await;
    // Running again: it waits for how that ends.
    server.rpc("flow.start", flow_key(7)).await.unwrap();
    server.rpc("flow.retry", flow_key(8)).await.unwrap();
    for id in [2, 3] {
        assert_eq!(load_job(&server, id).await["status"], "WaitingForPrerequisites");
    }
    for _ in 0..4 {
        runner.work().await;
    }
    flow_is(&server, 8, "Finished").await;
    sound_log(&server).await;
}

#[tokio::test]
async fn a_cancelled_flow_fails_what_waited_for_it() {
    let server = Core::start().await;
    submit(&server, 8, &[gated(2, &["flow:7"]), gated(3, &["job:42/1"])]).await;
    let create = json!({ "context_id": 1, "job": job(1, &[]) });
    server.rpc("job.create", create).await.unwrap();
    let flow = with(&submission(7, &[]), "flow.jobs", json!([1]))["flow"].take();
    server.rpc("flow.create", json!({ "context_id": 1, "flow": flow })).await.unwrap();
    server.rpc("flow.cancel", flow_key(7)).await.unwrap();
    job_is(&server, 2, "Error").await;
    assert_eq!(load_job(&server, 3).await["status"], "WaitingForPrerequisites");
    server.rpc("job.cancel", job_key(1)).await.unwrap();
    flow_is(&server, 8, "Error").await;
    sound_log(&server).await;
}

#[tokio::test]
async fn gates_within_a_flow_wait_for_this_run_and_not_the_last() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    submit(&server, 7, &[gated(1, &["job:42/2"]), job(2, &[])]).await;
    let two = runner.given_job(2).await;
    runner.fail(&two, "no").await;
    flow_is(&server, 7, "Error").await;
    server.rpc("flow.retry", flow_key(7)).await.unwrap();
    assert_eq!(load_job(&server, 1).await["status"], "WaitingForPrerequisites");
    assert_eq!([runner.work().await, runner.work().await], [2, 1]);
    flow_is(&server, 7, "Finished").await;
    server.rpc("flow.start", flow_key(7)).await.unwrap();
    assert_eq!([runner.work().await, runner.work().await], [2, 1], "the order holds again");
    flow_is(&server, 7, "Finished").await;
    sound_log(&server).await;
}

#[tokio::test]
async fn gates_of_single_jobs_and_messages_open_too() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    let create = json!({ "context_id": 1, "job": gated(1, &["go"]) });
    server.rpc("job.create", create).await.unwrap();
    server.rpc("job.run", job_key(1)).await.unwrap();
    // A job of a message may depend on one outside it, and waits for that.
    let mut message = with(&crate::message::params(9), "message.job", json!([job(2, &[1])]));
    message["message"]["timeout_ack"] = json!(30);
    server.rpc("message.create", message).await.unwrap();
    assert_eq!(kinds(&server, 2).await, ["gate"]);
    satisfy(&server, 1, "go").await;
    assert_eq!(runner.work().await, 1);
    let given = runner.given().await;
    assert_eq!((&given["job_id"], &given["inputs"]), (&json!(2), &json!({ "1": { "n": "1" } })));
    runner.finish(&token(&given), json!({})).await;
    job_is(&server, 2, "Finished").await;
    sound_log(&server).await;
}
