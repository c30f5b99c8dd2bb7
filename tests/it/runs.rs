//! Flows and jobs that really run: order, failure, cancellation, retries.

use serde_json::{Value, json};

use crate::calls::{Core, refused, with};
use crate::fake_runner::{
    FakeRunner, attempt_states, flow_is, flow_key, job, job_is, job_key, kinds, load_job, of_job,
    sound_log, submission, submit, token, until,
};

#[tokio::test]
async fn a_submission_with_a_bad_job_stores_nothing() {
    let server = Core::start().await;
    let good = [job(1, &[]), job(2, &[1])];
    let sound = submission(7, &good);
    for (path, value, code) in [
        ("jobs.1.context_id", json!(2), -32602),
        ("jobs.1.caller_id", json!(41), -32602),
        ("jobs.1.id", json!(1), -32602),
        ("jobs.1.id", json!(3), -32602),
        ("jobs.1.prerequisites", json!(["after:soon"]), -32602),
        ("jobs.1.env_vars", json!({ "=": "" }), -32602),
        ("jobs.1.depends", json!([1, 9]), -32020),
        ("jobs.0.depends", json!([2]), -32021),
        ("flow.jobs", json!([1, 2, 3]), -32001),
    ] {
        let data = refused(server.rpc("flow.submit", with(&sound, path, value)).await, code);
        match code {
            -32020 => assert_eq!((&data["job"], &data["missing"]), (&json!(2), &json!(9))),
            -32021 => assert_eq!(data["cycle"], json!([1, 2])),
            -32001 => assert_eq!(data["kind"], "job"),
            _ => assert!(data["field"].as_str().unwrap().starts_with("jobs[1]"), "{data}"),
        }
    }
    let elsewhere = with(&sound, "context_id", json!(9));
    refused(server.rpc("flow.submit", with(&elsewhere, "flow.context_id", json!(9))).await, -32602);
    for method in ["job.list", "flow.list"] {
        let list = server.rpc(method, json!({ "context_id": 1 })).await.unwrap();
        assert_eq!(list["items"], json!([]));
    }
    assert_eq!(sound_log(&server).await.len(), 1);
}

#[tokio::test]
async fn a_conflict_in_the_middle_of_a_submission_takes_all_of_it_back() {
    let server = Core::start().await;
    submit(&server, 7, &[job(2, &[])]).await;
    let before = sound_log(&server).await.len();
    let other = submission(8, &[job(1, &[]), job(2, &[1]), job(3, &[])]);
    let keyed = with(&other, "idempotency_key", json!("k"));
    refused(server.rpc("flow.submit", keyed.clone()).await, -32002);
    refused(server.rpc("job.load", job_key(1)).await, -32001);
    refused(server.rpc("flow.load", flow_key(8)).await, -32001);
    assert_eq!(sound_log(&server).await.len(), before);
    server.rpc("flow.cancel", flow_key(7)).await.unwrap();
    let started = server.rpc("flow.submit", keyed).await.unwrap();
    assert_eq!(started["status"], "Started", "the key was not used up");
    sound_log(&server).await;
}

#[tokio::test]
async fn an_idempotency_key_starts_one_flow() {
    let server = Core::start().await;
    let request = with(&submission(7, &[job(1, &[])]), "idempotency_key", json!("key"));
    let first = server.rpc("flow.submit", request.clone()).await.unwrap();
    assert_eq!(first["status"], "Started");
    let events = sound_log(&server).await.len();
    assert_eq!(server.rpc("flow.submit", request.clone()).await.unwrap(), first);
    for (path, value) in [
        ("flow.id", json!(8)),
        ("flow.env_vars", json!({ "A": "1" })),
        ("jobs.0.script", json!("1")),
        ("fail_fast", json!(true)),
    ] {
        refused(server.rpc("flow.submit", with(&request, path, value)).await, -32002);
    }
    assert_eq!(sound_log(&server).await.len(), events);
    let mut runner = FakeRunner::attach(&server, 5, 4).await;
    runner.work().await;
    let ended = flow_is(&server, 7, "Finished").await;
    assert_eq!(server.rpc("flow.submit", request.clone()).await.unwrap(), ended);
    assert_eq!(attempt_states(&server, 1).await, ["Finished"]);
    let context = json!({ "id": 2, "admins": [], "readers": [], "executors": [] });
    server.rpc("context.create", json!({ "context": context })).await.unwrap();
    let there = ["context_id", "flow.context_id", "jobs.0.context_id"]
        .iter()
        .fold(request, |request, path| with(&request, path, json!(2)));
    assert_eq!(server.rpc("flow.submit", there).await.unwrap()["status"], "Started");
}

#[tokio::test]
async fn a_flow_runs_in_the_order_of_its_graph_and_again_from_the_beginning() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 10).await;
    let python = |job: Value| with(&job, "script_type", json!("Python"));
    let jobs = [job(1, &[]), python(job(2, &[1])), job(3, &[1]), job(4, &[2, 3])];
    submit(&server, 7, &jobs).await;
    for _ in 0..2 {
        assert_eq!(runner.work().await, 1);
        let mut middle = [runner.work().await, runner.work().await];
        middle.sort_unstable();
        assert_eq!(middle, [2, 3]);
        let conflict = refused(server.rpc("flow.start", flow_key(7)).await, -32002);
        assert_eq!(conflict["state"], "Started");
        let last = runner.given().await;
        assert_eq!((&last["job_id"], &last["flow_id"]), (&json!(4), &json!(7)));
        let inputs = json!({ "2": { "n": "2" }, "3": { "n": "3" } });
        assert_eq!(last["inputs"], inputs);
        runner.finish(&token(&last), json!({})).await;
        let ended = flow_is(&server, 7, "Finished").await;
        assert_eq!(ended["result"], json!({ "1.n": "1", "2.n": "2", "3.n": "3" }));
        let status = server.rpc("flow.status", flow_key(7)).await.unwrap();
        assert_eq!((&status["total"], &status["done"]), (&json!(4), &json!(4)));
        assert_eq!(status["jobs"]["Finished"], 4);
        assert!(status["finished_at"].as_u64() >= status["started_at"].as_u64());
        refused(server.rpc("flow.retry", flow_key(7)).await, -32002);
        let started = server.rpc("flow.start", flow_key(7)).await.unwrap();
        assert_eq!((&started["status"], &started["result"]), (&json!("Started"), &json!({})));
    }
    let given = runner.given().await;
    assert_eq!((&given["job_id"], &given["attempt"]), (&json!(1), &json!(3)));
    assert_eq!(attempt_states(&server, 1).await, ["Finished", "Finished", "Leased"]);
    for message in &runner.messages {
        assert!(message["id"].as_u64().unwrap() >= 1 << 31, "{message}");
        assert_eq!((&message["caller_id"], &message["timeout_ack"]), (&json!(42), &json!(30)));
        assert_eq!(message["timeout_result"], 0);
    }
    let list = server.rpc("message.list", json!({ "context_id": 1 })).await.unwrap();
    assert_eq!(list["items"], json!([]), "the coordinator's own are not listed");
    sound_log(&server).await;
}

#[tokio::test]
async fn starting_checks_that_the_graph_is_whole() {
    let server = Core::start().await;
    for (id, depends) in [(1, vec![]), (2, vec![1, 9]), (3, vec![4]), (4, vec![3])] {
        let create = json!({ "context_id": 1, "job": job(id, &depends) });
        server.rpc("job.create", create).await.unwrap();
    }
    let create = async |jobs: &[u32]| {
        let flow = with(&submission(7, &[]), "flow.jobs", json!(jobs))["flow"].take();
        server.rpc("flow.create", json!({ "context_id": 1, "flow": flow })).await.unwrap();
        server.rpc("flow.start", flow_key(7)).await
    };
    assert_eq!(refused(create(&[1, 5]).await, -32001)["id"], "1/42/5");
    let data = refused(create(&[1, 2]).await, -32020);
    assert_eq!((&data["job"], &data["missing"]), (&json!(2), &json!(9)));
    assert_eq!(refused(create(&[1, 3, 4]).await, -32021)["cycle"], json!([3, 4]));
    refused(server.rpc("flow.start", flow_key(99)).await, -32001);
    let status = server.rpc("flow.status", flow_key(7)).await.unwrap();
    assert_eq!(status["status"], "Dispatched", "nothing was started");
    let empty = create(&[]).await.unwrap();
    assert_eq!(empty["status"], "Finished", "nothing to do is done");
    sound_log(&server).await;
}

#[tokio::test]
async fn a_job_has_its_own_environment_over_the_flows() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    let own = with(&job(1, &[]), "env_vars", json!({ "B": "own", "C": "c" }));
    let shared = with(&submission(7, &[own]), "flow.env_vars", json!({ "A": "a", "B": "b" }));
    server.rpc("flow.submit", shared).await.unwrap();
    let given = runner.given().await;
    assert_eq!(given["env_vars"], json!({ "A": "a", "B": "own", "C": "c" }));
    assert_eq!(runner.messages[0]["job"][0]["env_vars"], json!({ "B": "own", "C": "c" }));
    assert!(given.get("deadline_at").is_none(), "no time limit");
}

#[tokio::test]
async fn a_failure_ends_what_hangs_on_it_and_nothing_else() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    submit(&server, 7, &[job(1, &[]), job(2, &[1]), job(3, &[2]), job(4, &[]), job(5, &[4])]).await;
    let first = runner.given_job(1).await;
    runner.fail(&first, "no luck").await;
    let failed = load_job(&server, 1).await;
    assert_eq!(
        (&failed["status"], &failed["result"]["error"]),
        (&json!("Error"), &json!("no luck"))
    );
    for id in [2, 3] {
        let downstream = load_job(&server, id).await;
        assert_eq!(downstream["status"], "Error");
        assert!(downstream["result"]["reason"].as_str().unwrap().contains("job 1"), "{downstream}");
        assert!(attempt_states(&server, id).await.is_empty(), "nothing was dispatched");
    }
    let status = server.rpc("flow.status", flow_key(7)).await.unwrap();
    assert_eq!((&status["status"], &status["done"]), (&json!("Started"), &json!(3)));
    assert_eq!([runner.work().await, runner.work().await], [4, 5]);
    let flow = flow_is(&server, 7, "Error").await;
    assert!(flow["result"]["reason"].as_str().unwrap().contains("job 1"), "{flow}");
    sound_log(&server).await;
}

#[tokio::test]
async fn fail_fast_stops_independent_branches() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 2).await;
    let jobs = [job(1, &[]), job(2, &[]), job(3, &[]), job(4, &[2])];
    let fast = with(&submission(7, &jobs), "fail_fast", json!(true));
    server.rpc("flow.submit", fast).await.unwrap();
    let (one, two) = (runner.given_job(1).await, runner.given_job(2).await);
    runner.start(&two).await;
    runner.fail(&one, "no").await;
    let (tokens, _) = runner.cancelled().await;
    assert_eq!(tokens, json!([two]));
    flow_is(&server, 7, "Error").await;
    for id in [2, 3, 4] {
        let stopped = load_job(&server, id).await;
        assert_eq!(stopped["status"], "Error");
        assert!(stopped["result"]["reason"].as_str().unwrap().contains("job 1"), "{stopped}");
    }
    assert_eq!(attempt_states(&server, 2).await, ["Cancelled"]);
    runner.report_stale(json!({ "token": two, "status": "Finished" })).await;
    sound_log(&server).await;
}

#[tokio::test]
async fn a_job_is_cancelled_in_every_state() {
    let server = Core::start().await;
    let cancel = async |id: u32| {
        let params = with(&job_key(id), "reason", json!(format!("enough of {id}")));
        let ended = server.rpc("job.cancel", params).await.unwrap();
        assert_eq!(ended["status"], "Error");
        assert_eq!(ended["result"]["reason"], format!("enough of {id}"));
    };
    server.rpc("job.create", json!({ "context_id": 1, "job": job(9, &[]) })).await.unwrap();
    cancel(9).await;
    submit(&server, 7, &[job(1, &[]), job(2, &[1]), job(3, &[]), job(4, &[]), job(5, &[])]).await;
    cancel(2).await;
    cancel(3).await;
    let mut runner = FakeRunner::attach(&server, 5, 2).await;
    let (one, four) = (runner.given_job(1).await, runner.given_job(4).await);
    cancel(1).await;
    assert_eq!(runner.cancelled().await, (json!([one]), "enough of 1".to_owned()));
    runner.start(&four).await;
    cancel(4).await;
    let five = runner.given_job(5).await;
    assert_eq!(runner.cancelled().await.0, json!([four]));
    runner.finish(&five, json!({ "a": "b" })).await;
    let finished = load_job(&server, 5).await;
    let changed = server.rpc("job.cancel", with(&job_key(5), "reason", json!("late"))).await;
    assert_eq!(changed.unwrap(), finished, "one that ended stays");
    assert_eq!(
        server.rpc("job.cancel", job_key(4)).await.unwrap()["result"]["reason"],
        "enough of 4"
    );
    flow_is(&server, 7, "Error").await;
    refused(server.rpc("job.cancel", job_key(77)).await, -32001);
    sound_log(&server).await;
}

#[tokio::test]
async fn a_flow_is_cancelled_running_ended_and_never_started() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    submit(&server, 7, &[job(1, &[]), job(2, &[1]), job(3, &[])]).await;
    let one = runner.given_job(1).await;
    runner.start(&one).await;
    let stop = with(&flow_key(7), "reason", json!("stop it"));
    let ended = server.rpc("flow.cancel", stop).await.unwrap();
    assert_eq!(
        (&ended["status"], &ended["result"]["reason"]),
        (&json!("Error"), &json!("stop it"))
    );
    assert_eq!(runner.cancelled().await, (json!([one]), "stop it".to_owned()));
    for id in [1, 2, 3] {
        let job = load_job(&server, id).await;
        assert_eq!(
            (&job["status"], &job["result"]["reason"]),
            (&json!("Error"), &json!("stop it"))
        );
    }
    let again = server.rpc("flow.cancel", with(&flow_key(7), "reason", json!("again"))).await;
    assert_eq!(again.unwrap(), ended);
    let flow = with(&submission(8, &[]), "flow.jobs", json!([1]))["flow"].take();
    server.rpc("flow.create", json!({ "context_id": 1, "flow": flow })).await.unwrap();
    let never = server.rpc("flow.cancel", flow_key(8)).await.unwrap();
    assert_eq!(never["status"], "Error");
    assert!(never["result"]["reason"].is_string());
    let status = server.rpc("flow.status", flow_key(8)).await.unwrap();
    assert!(status.get("started_at").is_none(), "{status}");
    assert_eq!(server.rpc("flow.retry", flow_key(8)).await.unwrap()["status"], "Started");
    assert_eq!(runner.work().await, 1);
    flow_is(&server, 8, "Finished").await;
    refused(server.rpc("flow.cancel", flow_key(99)).await, -32001);
    sound_log(&server).await;
}

#[tokio::test]
async fn a_retry_runs_only_what_has_not_finished() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    submit(&server, 7, &[job(1, &[]), job(2, &[1]), job(3, &[2, 1])]).await;
    refused(server.rpc("flow.retry", flow_key(7)).await, -32002);
    assert_eq!(runner.work().await, 1);
    let two = runner.given_job(2).await;
    runner.fail(&two, "no").await;
    flow_is(&server, 7, "Error").await;
    let retried = server.rpc("flow.retry", flow_key(7)).await.unwrap();
    assert_eq!((&retried["status"], retried["result"].get("reason")), (&json!("Started"), None));
    for (id, status) in [(1, "Finished"), (3, "WaitingForPrerequisites")] {
        let job = load_job(&server, id).await;
        assert_eq!((job["status"].as_str(), job["result"].get("reason")), (Some(status), None));
    }
    assert_eq!(load_job(&server, 2).await["result"], json!({}));
    let second = runner.given().await;
    assert_eq!((&second["job_id"], &second["attempt"]), (&json!(2), &json!(2)));
    assert_eq!(second["inputs"], json!({ "1": { "n": "1" } }));
    runner.report_stale(json!({ "token": two, "status": "Finished" })).await;
    runner.finish(&token(&second), json!({ "m": "2" })).await;
    assert_eq!(runner.work().await, 3);
    let ended = flow_is(&server, 7, "Finished").await;
    assert_eq!(ended["result"], json!({ "1.n": "1", "2.m": "2", "3.n": "3" }));
    assert_eq!(attempt_states(&server, 1).await, ["Finished"]);
    assert_eq!(attempt_states(&server, 2).await, ["Error", "Finished"]);
    sound_log(&server).await;
}

#[tokio::test]
async fn a_failed_attempt_is_tried_again_after_a_while() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    submit(&server, 7, &[with(&job(1, &[]), "retries", json!(2))]).await;
    let first = runner.given_job(1).await;
    runner.start(&first).await;
    runner.fail(&first, "first").await;
    let explained = of_job(&server, "job.explain", 1).await;
    assert_eq!(explained["status"], "Dispatched");
    assert_eq!(explained["waiting_for"][0]["kind"], "backoff", "{explained}");
    let until_then = |explained: &Value| {
        let detail = explained["waiting_for"][0]["detail"].as_str().unwrap().to_owned();
        detail.split(' ').find_map(|word| word.parse::<u64>().ok()).unwrap()
    };
    let ended = |attempts: &Value, at: usize| attempts["items"][at]["ended_at"].as_u64().unwrap();
    let delay = until_then(&explained) - ended(&of_job(&server, "job.attempts", 1).await, 0);
    assert!((500..=1_000).contains(&delay), "{delay}");
    let second = runner.given_job(1).await;
    runner.report_stale(json!({ "token": first, "status": "Finished" })).await;
    runner.report(json!({ "token": first, "status": "Error" })).await;
    runner.fail(&second, "second").await;
    let explained = of_job(&server, "job.explain", 1).await;
    let attempts = of_job(&server, "job.attempts", 1).await;
    let delay = until_then(&explained) - ended(&attempts, 1);
    assert!((1_000..=2_000).contains(&delay), "{delay}");
    assert_eq!(attempts["items"][0]["error"], "first");
    assert_eq!(attempts["items"][1]["runner_id"], 5);
    let third = runner.given_job(1).await;
    runner.fail(&third, "third").await;
    assert_eq!(load_job(&server, 1).await["result"]["error"], "third");
    assert_eq!(attempt_states(&server, 1).await, ["Error", "Error", "Error"]);
    flow_is(&server, 7, "Error").await;
    sound_log(&server).await;
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_taken_away() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    submit(&server, 7, &[with(&job(1, &[]), "timeout", json!(3)), job(2, &[1])]).await;
    let given = runner.given().await;
    let one = token(&given);
    runner.start(&one).await;
    let attempts = of_job(&server, "job.attempts", 1).await;
    let started = attempts["items"][0]["started_at"].as_u64().unwrap();
    let deadline = given["deadline_at"].as_u64().unwrap();
    assert!(deadline <= started + 3_000 && deadline > started, "{deadline} {started}");
    let (tokens, reason) = runner.cancelled().await;
    assert_eq!((tokens, reason.as_str()), (json!([one]), "timed out after 3 s"));
    let flow = flow_is(&server, 7, "Error").await;
    assert!(flow["result"]["reason"].as_str().unwrap().contains("job 1"));
    assert_eq!(load_job(&server, 1).await["result"]["error"], "timed out after 3 s");
    assert_eq!(attempt_states(&server, 1).await, ["Error"]);
    runner.report_stale(json!({ "token": one, "status": "Finished" })).await;
    sound_log(&server).await;
}

#[tokio::test]
async fn a_single_job_runs_when_what_it_needs_has_finished() {
    let server = Core::start().await;
    for job in [job(1, &[]), with(&job(2, &[1]), "prerequisites", json!(["go"]))] {
        server.rpc("job.create", json!({ "context_id": 1, "job": job })).await.unwrap();
    }
    refused(server.rpc("job.run", job_key(2)).await, -32002);
    refused(server.rpc("job.run", job_key(9)).await, -32001);
    assert_eq!(kinds(&server, 1).await, ["start"]);
    assert_eq!(server.rpc("job.run", job_key(1)).await.unwrap()["status"], "Dispatched");
    refused(server.rpc("job.run", job_key(1)).await, -32002);
    assert_eq!(kinds(&server, 1).await, ["runner"]);
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    let given = runner.given().await;
    assert!(given.get("flow_id").is_none());
    assert_eq!(kinds(&server, 1).await, ["acknowledgement"]);
    runner.start(&token(&given)).await;
    assert!(kinds(&server, 1).await.is_empty());
    runner.finish(&token(&given), json!({ "n": "1" })).await;
    let waiting = server.rpc("job.run", job_key(2)).await.unwrap();
    assert_eq!(waiting["status"], "WaitingForPrerequisites");
    assert_eq!(kinds(&server, 2).await, ["gate"]);
    server.rpc("job.satisfy", with(&job_key(2), "prerequisite", json!("go"))).await.unwrap();
    let given = runner.given().await;
    assert_eq!(given["inputs"], json!({ "1": { "n": "1" } }));
    runner.finish(&token(&given), json!({})).await;
    job_is(&server, 2, "Finished").await;
    assert_eq!(
        server.rpc("job.run", job_key(2)).await.unwrap()["status"],
        "WaitingForPrerequisites"
    );
    let list = server.rpc("message.list", json!({ "context_id": 1 })).await.unwrap();
    assert_eq!(list["items"], json!([]));
    sound_log(&server).await;
}

#[tokio::test]
async fn what_a_job_waits_for_is_named() {
    let server = Core::start().await;
    let foreign = with(&job(3, &[]), "script_type", json!("V"));
    submit(&server, 7, &[job(1, &[]), job(2, &[1]), foreign, job(4, &[])]).await;
    assert_eq!(kinds(&server, 1).await, ["runner"]);
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    let one = runner.given_job(1).await;
    assert_eq!(kinds(&server, 2).await, ["job"]);
    let explained = of_job(&server, "job.explain", 2).await;
    assert!(explained["waiting_for"][0]["detail"].as_str().unwrap().contains("job 1"));
    assert_eq!(kinds(&server, 3).await, ["runner"], "none that knows its language");
    assert_eq!(kinds(&server, 4).await, ["slot"]);
    runner.finish(&one, json!({})).await;
    assert!(kinds(&server, 1).await.is_empty());
    let status = server.rpc("flow.status", flow_key(7)).await.unwrap();
    assert_eq!(status["done"], 1);
    refused(server.rpc("job.explain", job_key(99)).await, -32001);
    refused(server.rpc("flow.status", flow_key(99)).await, -32001);
    until(&server, "job.explain", job_key(2), |e| e["status"] == "Dispatched").await;
}

#[tokio::test]
async fn a_job_is_in_one_run_at_a_time() {
    let server = Core::start().await;
    submit(&server, 7, &[job(1, &[]), job(2, &[1])]).await;
    refused(server.rpc("job.run", job_key(1)).await, -32002);
    let flow = with(&submission(8, &[]), "flow.jobs", json!([1]))["flow"].take();
    server.rpc("flow.create", json!({ "context_id": 1, "flow": flow })).await.unwrap();
    refused(server.rpc("flow.start", flow_key(8)).await, -32002);
    for (method, params) in [
        ("flow.delete", flow_key(7)),
        ("job.delete", job_key(2)),
        ("flow.create", json!({ "context_id": 1, "flow": submission(7, &[])["flow"] })),
        ("job.create", json!({ "context_id": 1, "job": job(2, &[]) })),
        ("context.delete", json!({ "id": 1, "force": true })),
    ] {
        refused(server.rpc(method, params).await, -32002);
    }
    // Also one that has ended within a run that goes on, which needs what it left.
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    assert_eq!(runner.work().await, 1);
    let two = runner.given_job(2).await;
    for (method, params) in [
        ("flow.start", flow_key(8)),
        ("job.run", job_key(1)),
        ("job.delete", job_key(1)),
        ("job.create", json!({ "context_id": 1, "job": job(1, &[]) })),
    ] {
        refused(server.rpc(method, params).await, -32002);
    }
    runner.finish(&two, json!({})).await;
    flow_is(&server, 7, "Finished").await;
    server.rpc("flow.start", flow_key(8)).await.unwrap();
    assert_eq!(runner.work().await, 1);
    flow_is(&server, 8, "Finished").await;
    sound_log(&server).await;
}
