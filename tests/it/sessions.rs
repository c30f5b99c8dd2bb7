//! Runners that come, go, come back, and are let go.

use std::time::Duration;

use serde_json::{Value, json};

use crate::calls::{Core, bad_field, refused, with};
use crate::fake_runner::{
    FakeRunner, Line, attempt_states, create_runner, flow_is, flow_key, job, job_is, job_key,
    kinds, load_job, of_job, sound_log, submit, token, until,
};

async fn with_grace(grace: Duration) -> Core {
    Core::with(|config| config.runner_grace = grace).await
}

async fn status(server: &Core, id: u32) -> Value {
    server.rpc("runner.status", json!({ "context_id": 1, "id": id })).await.unwrap()
}

async fn drain(server: &Core, id: u32) -> Result<Value, (i32, Value)> {
    server.rpc("runner.drain", json!({ "context_id": 1, "runner_id": id })).await
}

#[tokio::test]
async fn an_attachment_says_what_it_can_do() {
    let server = Core::start().await;
    create_runner(&server, 5).await;
    assert_eq!(status(&server, 5).await["online"], false);
    let mut line = Line::open(server.at.ws).await;
    let hello = json!({ "context_id": 1, "runner_id": 5, "script_types": ["Osis"] });
    for (path, value, field) in [
        ("script_types", json!([]), "script_types"),
        ("slots", json!(0), "slots"),
        ("slots", json!(1_025), "slots"),
    ] {
        let answer = line.ask("runner.attach", with(&hello, path, value)).await;
        assert_eq!(bad_field(answer), field);
    }
    refused(line.ask("runner.attach", with(&hello, "runner_id", json!(6))).await, -32001);
    refused(line.ask("runner.attach", with(&hello, "context_id", json!(6))).await, -32001);
    let labels = with(&hello, "labels", json!({ "zone": "a" }));
    let id = line.ask("runner.attach", labels).await.unwrap();
    let stands = status(&server, 5).await;
    assert_eq!((&stands["online"], &stands["slots"]), (&json!(true), &json!(1)));
    assert_eq!((&stands["busy"], &stands["draining"]), (&json!(0), &json!(false)));
    assert_eq!(
        (&stands["script_types"], &stands["labels"]["zone"]),
        (&json!(["Osis"]), &json!("a"))
    );
    assert!(stands["attached_at"].is_u64());
    refused(server.rpc("runner.delete", json!({ "context_id": 2, "id": 5 })).await, -32001);
    assert_eq!(line.ask("runner.detach", json!([id])).await.unwrap(), true);
    let key = json!({ "context_id": 1, "id": 5 });
    until(&server, "runner.status", key, |status| status["online"] == false).await;
    let events = sound_log(&server).await;
    let kinds: Vec<&str> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[kinds.len() - 2..], ["runner.attached", "runner.detached"]);
}

#[tokio::test]
async fn a_newer_attachment_replaces_the_older_and_keeps_what_it_names() {
    let server = Core::start().await;
    let mut old = FakeRunner::attach(&server, 5, 3).await;
    submit(&server, 7, &[job(1, &[]), job(2, &[]), job(3, &[])]).await;
    let tokens = [old.given_job(1).await, old.given_job(2).await, old.given_job(3).await];
    old.start(&tokens[0]).await;
    old.start(&tokens[1]).await;
    let in_hand = json!([tokens[0], "1-42-9-1-00000000", "rubbish"]);
    let hello = json!({ "slots": 3, "in_hand": in_hand });
    let mut new = FakeRunner::attach_at(server.at.ws, 5, hello).await;
    assert!(old.detached().await.contains("replaced"));
    let mut told = Vec::new();
    let mut given = Vec::new();
    while given.len() < 2 {
        let mut push = new.told().await;
        if push["kind"] == "cancel" {
            told.extend(push["tokens"].as_array().unwrap().iter().cloned());
        } else {
            given.extend(push["attempts"].take().as_array().unwrap().iter().cloned());
        }
    }
    for foreign in ["1-42-9-1-00000000", "rubbish"] {
        assert!(told.contains(&json!(foreign)), "{told:?}");
    }
    assert!(!told.contains(&json!(tokens[0])), "{told:?}");
    assert_eq!(attempt_states(&server, 1).await, ["Running"]);
    for id in [2, 3] {
        assert_eq!(attempt_states(&server, id).await, ["Lost", "Leased"], "given out again");
    }
    assert_eq!(status(&server, 5).await["busy"], 3);
    new.report_stale(json!({ "token": tokens[1], "status": "Finished" })).await;
    new.finish(&tokens[0], json!({})).await;
    for attempt in &given {
        assert_eq!(attempt["attempt"], 2);
        new.finish(&token(attempt), json!({})).await;
    }
    flow_is(&server, 7, "Finished").await;
    sound_log(&server).await;
}

#[tokio::test]
async fn two_languages_go_to_those_who_speak_them() {
    let server = Core::start().await;
    let speak = |language: &str| json!({ "slots": 9, "script_types": [language] });
    let mut python = FakeRunner::attach_with(&server, 5, speak("Python")).await;
    let mut rhai = FakeRunner::attach_with(&server, 6, speak("Sal")).await;
    let script = |id: u32, language: &str| with(&job(id, &[]), "script_type", json!(language));
    let jobs = [script(1, "Python"), script(2, "Sal"), script(3, "Python"), script(4, "V")];
    submit(&server, 7, &jobs).await;
    assert_eq!([python.work().await, python.work().await], [1, 3]);
    assert_eq!(rhai.work().await, 2);
    assert_eq!(kinds(&server, 4).await, ["runner"]);
    let mut v = FakeRunner::attach_with(&server, 8, speak("V")).await;
    assert_eq!(v.work().await, 4);
    flow_is(&server, 7, "Finished").await;
}

#[tokio::test]
async fn never_more_is_outstanding_than_there_are_slots() {
    let server = Core::start().await;
    let jobs: Vec<Value> = (0..40).map(|id| job(id, &[])).collect();
    let mut runner = FakeRunner::attach(&server, 5, 3).await;
    submit(&server, 7, &jobs).await;
    let mut outstanding: Vec<String> = Vec::new();
    let mut done = 0;
    while done < 40 {
        while outstanding.len() < 3.min(40 - done) {
            outstanding.push(token(&runner.given().await));
        }
        assert!(status(&server, 5).await["busy"].as_u64().unwrap() <= 3);
        let first = outstanding.remove(done % outstanding.len());
        match done % 5 {
            0 => {
                let id: u32 = first.split('-').nth(2).unwrap().parse().unwrap();
                server.rpc("job.cancel", job_key(id)).await.unwrap();
                assert_eq!(runner.cancelled().await.0, json!([first]));
            }
            1 => runner.fail(&first, "no").await,
            _ => runner.finish(&first, json!({})).await,
        }
        done += 1;
    }
    flow_is(&server, 7, "Error").await;
    assert_eq!(status(&server, 5).await["busy"], 0);
    let counts = server.rpc("flow.status", flow_key(7)).await.unwrap();
    assert_eq!((&counts["jobs"]["Finished"], &counts["jobs"]["Error"]), (&json!(24), &json!(16)));
    sound_log(&server).await;
}

#[tokio::test]
async fn work_spreads_over_free_runners() {
    let server = Core::start().await;
    let mut runners = Vec::new();
    for id in 5..8 {
        runners.push(FakeRunner::attach(&server, id, 4).await);
    }
    let jobs: Vec<Value> = (0..6).map(|id| job(id, &[])).collect();
    submit(&server, 7, &jobs).await;
    for runner in &mut runners {
        runner.work().await;
    }
    for id in 0..6 {
        until(&server, "job.attempts", job_key(id), |a| a["items"][0].is_object()).await;
    }
}

#[tokio::test]
async fn a_draining_runner_finishes_and_gets_nothing_new() {
    let server = Core::start().await;
    create_runner(&server, 6).await;
    assert_eq!(refused(drain(&server, 6).await, -32002)["state"], "detached");
    refused(drain(&server, 9).await, -32001);
    let mut runner = FakeRunner::attach(&server, 5, 2).await;
    submit(&server, 7, &[job(1, &[]), job(2, &[])]).await;
    let tokens = [runner.given_job(1).await, runner.given_job(2).await];
    assert_eq!(drain(&server, 5).await.unwrap(), json!({ "draining": true, "busy": 2 }));
    runner.finish(&tokens[0], json!({})).await;
    submit(&server, 8, &[job(3, &[])]).await;
    assert_eq!(kinds(&server, 3).await, ["runner"], "a draining one does not count");
    let stands = status(&server, 5).await;
    assert_eq!((&stands["draining"], &stands["busy"]), (&json!(true), &json!(1)));
    assert_eq!(drain(&server, 5).await.unwrap()["busy"], 1);
    runner.finish(&tokens[1], json!({})).await;
    assert_eq!(runner.detached().await, "drained");
    assert_eq!(status(&server, 5).await["online"], false);
    let mut again = FakeRunner::attach(&server, 5, 1).await;
    assert_eq!(again.work().await, 3);
    flow_is(&server, 8, "Finished").await;
    assert_eq!(drain(&server, 5).await.unwrap()["busy"], 0);
    assert_eq!(again.detached().await, "drained");
}

#[tokio::test]
async fn the_work_of_a_lost_runner_goes_to_another_after_the_grace() {
    let server = with_grace(Duration::from_secs(1)).await;
    let mut lost = FakeRunner::attach(&server, 5, 2).await;
    submit(&server, 7, &[job(1, &[]), job(2, &[])]).await;
    let tokens = [lost.given_job(1).await, lost.given_job(2).await];
    lost.start(&tokens[0]).await;
    drop(lost);
    let key = json!({ "context_id": 1, "id": 5 });
    until(&server, "runner.status", key.clone(), |s| s["online"] == false).await;
    assert_eq!(status(&server, 5).await["busy"], 2, "still its own");
    let mut other = FakeRunner::attach(&server, 6, 2).await;
    let mut done = [other.work().await, other.work().await];
    done.sort_unstable();
    assert_eq!(done, [1, 2]);
    for id in [1, 2] {
        assert_eq!(attempt_states(&server, id).await, ["Lost", "Finished"]);
    }
    let attempts = of_job(&server, "job.attempts", 1).await;
    assert_eq!(attempts["items"][0]["runner_id"], 5);
    assert!(attempts["items"][0]["error"].is_string());
    let detached = sound_log(&server).await;
    let detached = detached.iter().find(|event| event["kind"] == "runner.detached").unwrap();
    let ended = attempts["items"][0]["ended_at"].as_u64().unwrap();
    assert!(ended >= detached["at"].as_u64().unwrap() + 1_000, "not before the grace is over");
    // The zombie comes back.
    let hello = json!({ "slots": 2, "in_hand": tokens });
    let mut zombie = FakeRunner::attach_at(server.at.ws, 5, hello).await;
    assert_eq!(zombie.cancelled().await.0, json!(tokens));
    zombie.report_stale(json!({ "token": tokens[0], "status": "Finished" })).await;
    flow_is(&server, 7, "Finished").await;
    sound_log(&server).await;
}

#[tokio::test]
async fn a_runner_that_comes_back_in_time_keeps_its_work() {
    let server = with_grace(Duration::from_secs(60)).await;
    let mut runner = FakeRunner::attach(&server, 5, 2).await;
    submit(&server, 7, &[job(1, &[]), job(2, &[]), job(3, &[2])]).await;
    let tokens = [runner.given_job(1).await, runner.given_job(2).await];
    runner.start(&tokens[0]).await;
    drop(runner);
    let key = json!({ "context_id": 1, "id": 5 });
    until(&server, "runner.status", key, |s| s["online"] == false).await;
    // What it has in hand is still its own while it is away.
    let report = json!([{ "token": tokens[1], "status": "Finished" }]);
    let params = json!({ "context_id": 1, "runner_id": 5, "reports": report });
    assert_eq!(server.rpc("runner.report", params).await.unwrap()["accepted"], 1);
    let hello = json!({ "slots": 2, "in_hand": [tokens[0]] });
    let mut back = FakeRunner::attach_at(server.at.ws, 5, hello).await;
    assert_eq!(back.work().await, 3);
    back.finish(&tokens[0], json!({})).await;
    flow_is(&server, 7, "Finished").await;
    for id in 1..=3 {
        assert_eq!(attempt_states(&server, id).await, ["Finished"]);
    }
    sound_log(&server).await;
}

#[tokio::test]
async fn losses_in_a_row_are_bounded_and_do_not_use_up_retries() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    submit(&server, 7, &[job(1, &[])]).await;
    for attempt in 1..=11 {
        assert_eq!(runner.given().await["attempt"], attempt);
        assert_eq!(load_job(&server, 1).await["status"], "Dispatched");
        // It comes back without it.
        runner = FakeRunner::attach_at(server.at.ws, 5, json!({})).await;
        let (tokens, _) = runner.cancelled().await;
        assert_eq!(tokens.as_array().unwrap().len(), 1);
    }
    flow_is(&server, 7, "Error").await;
    assert_eq!(attempt_states(&server, 1).await, ["Lost"; 11]);
    assert!(load_job(&server, 1).await["result"]["error"].is_string());
    sound_log(&server).await;
}

#[tokio::test]
async fn a_heartbeat_answers_what_to_stop() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 2).await;
    submit(&server, 7, &[job(1, &[]), job(2, &[])]).await;
    let tokens = [runner.given_job(1).await, runner.given_job(2).await];
    assert_eq!(runner.heartbeat(json!(tokens)).await, json!([]));
    server.rpc("job.cancel", job_key(1)).await.unwrap();
    let stop = runner.heartbeat(json!([tokens[0], tokens[1], "2-1-1-1-0", "x"])).await;
    assert_eq!(stop, json!([tokens[0], "2-1-1-1-0", "x"]));
    let mut other = FakeRunner::attach(&server, 6, 1).await;
    assert_eq!(other.heartbeat(json!([tokens[1]])).await, json!([tokens[1]]), "of another");
    let nobody = json!({ "context_id": 1, "runner_id": 9 });
    refused(server.rpc("runner.heartbeat", nobody).await, -32001);
    assert_eq!(load_job(&server, 2).await["status"], "Dispatched");
    runner.finish(&tokens[1], json!({})).await;
    job_is(&server, 2, "Finished").await;
}

#[tokio::test]
async fn a_runner_with_work_in_hand_is_not_deleted() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    submit(&server, 7, &[job(1, &[])]).await;
    let one = runner.given_job(1).await;
    let key = json!({ "context_id": 1, "id": 5 });
    refused(server.rpc("runner.delete", key.clone()).await, -32002);
    runner.finish(&one, json!({})).await;
    server.rpc("runner.delete", key).await.unwrap();
    assert!(runner.detached().await.contains("runner was deleted"));
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    server.rpc("context.delete", json!({ "id": 1, "force": true })).await.unwrap();
    assert!(runner.detached().await.contains("context was deleted"));
}

#[tokio::test]
async fn a_stop_is_the_last_word() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    server.app.stopping.send_replace(true);
    assert!(runner.detached().await.contains("shutting down"));
}
