//! What runners report, whom they may report for, and who follows it.

use serde_json::{Value, json};

use crate::calls::{Core, refused, with};
use crate::fake_runner::{
    FakeRunner, Line, attempt_states, flow_is, job, job_is, job_key, load_job, of_job, sound_log,
    submit, token,
};

#[tokio::test]
async fn each_report_stands_alone() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 3).await;
    let mut other = FakeRunner::attach_with(&server, 6, json!({ "script_types": ["V"] })).await;
    submit(&server, 7, &[job(1, &[]), job(2, &[]), job(3, &[])]).await;
    let mut tokens = Vec::new();
    for id in [1, 2, 3] {
        tokens.push(runner.given_job(id).await);
    }
    other.report_stale(json!({ "token": tokens[0], "status": "Finished" })).await;
    let unknown = tokens[0].replacen("-42-", "-43-", 1);
    let answer = runner
        .send(json!([
            { "token": "rubbish", "status": "Finished" },
            { "token": tokens[0], "status": "Started" },
            { "token": unknown, "status": "Started" },
            { "token": "", "status": "Acknowledged" },
            { "token": tokens[1], "status": "Finished", "result": { "a": "b" } },
            { "token": format!("{}x", tokens[2]), "status": "Finished" },
        ]))
        .await;
    assert_eq!(answer["accepted"], 2);
    let refused_ones = answer["refused"].as_array().unwrap();
    assert_eq!(refused_ones.len(), 4);
    for one in refused_ones {
        assert_eq!(one["code"], -32006);
        assert!(one["message"].is_string());
    }
    assert_eq!(load_job(&server, 1).await["status"], "Started");
    assert_eq!(load_job(&server, 2).await["result"], json!({ "a": "b" }));
    assert_eq!(load_job(&server, 3).await["status"], "Dispatched");
    let foreign = json!({ "context_id": 2, "runner_id": 5, "reports": [
        { "token": tokens[0], "status": "Finished" },
    ] });
    let answer = runner.line.ask("runner.report", foreign).await;
    if let Ok(answer) = answer {
        assert_eq!(answer["accepted"], 0);
    }
    for bad in [
        json!([{ "token": tokens[0], "status": "Done" }]),
        json!([{ "status": "Started" }]),
        json!([{ "token": tokens[0], "status": "Finished", "result": { "a": 1 } }]),
        json!("x"),
    ] {
        let params = json!({ "context_id": 1, "runner_id": 5, "reports": bad });
        refused(server.rpc("runner.report", params).await, -32602);
    }
    sound_log(&server).await;
}

#[tokio::test]
async fn a_final_report_may_be_repeated_and_changes_nothing() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 2).await;
    submit(&server, 7, &[job(1, &[]), job(2, &[])]).await;
    let (one, two) = (runner.given_job(1).await, runner.given_job(2).await);
    runner.finish(&one, json!({ "a": "first" })).await;
    runner.fail(&two, "no luck").await;
    flow_is(&server, 7, "Error").await;
    let before = (load_job(&server, 1).await, load_job(&server, 2).await);
    let events = sound_log(&server).await.len();
    for _ in 0..2 {
        runner.finish(&one, json!({ "a": "again" })).await;
        runner.fail(&two, "otherwise").await;
    }
    runner.report_stale(json!({ "token": one, "status": "Error" })).await;
    runner.report_stale(json!({ "token": two, "status": "Finished" })).await;
    assert_eq!((load_job(&server, 1).await, load_job(&server, 2).await), before);
    assert_eq!(sound_log(&server).await.len(), events);
    // Also after the job has run again.
    server.rpc("job.run", job_key(1)).await.unwrap();
    assert_eq!(runner.work().await, 1);
    runner.finish(&one, json!({})).await;
    assert_eq!(attempt_states(&server, 1).await, ["Finished", "Finished"]);
}

#[tokio::test]
async fn an_attempt_goes_through_its_states() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    submit(&server, 7, &[job(1, &[])]).await;
    let one = runner.given_job(1).await;
    assert_eq!(attempt_states(&server, 1).await, ["Leased"]);
    runner.acknowledge(&one).await;
    assert_eq!(attempt_states(&server, 1).await, ["Leased"]);
    assert_eq!(load_job(&server, 1).await["status"], "Dispatched");
    runner.start(&one).await;
    runner.start(&one).await;
    runner.acknowledge(&one).await;
    assert_eq!(attempt_states(&server, 1).await, ["Running"]);
    runner.report(json!({ "token": one, "status": "Error", "result": { "exit_code": "3" } })).await;
    let failed = load_job(&server, 1).await;
    assert_eq!(failed["result"]["exit_code"], "3");
    assert!(failed["result"]["error"].is_string());
    let attempts = of_job(&server, "job.attempts", 1).await;
    let attempt = &attempts["items"][0];
    assert_eq!((&attempt["state"], &attempt["runner_id"]), (&json!("Error"), &json!(5)));
    assert!(attempt["ended_at"].as_u64() >= attempt["started_at"].as_u64());
    assert_eq!(attempt["error"], failed["result"]["error"]);
}

#[tokio::test]
async fn an_end_without_a_begin_is_told_as_both() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    submit(&server, 7, &[job(1, &[])]).await;
    let one = runner.given_job(1).await;
    runner.finish(&one, json!({})).await;
    let events = sound_log(&server).await;
    let steps: Vec<&Value> = events
        .iter()
        .filter(|event| event["kind"] == "job.status")
        .map(|event| &event["data"])
        .collect();
    assert_eq!((&steps[0]["from"], &steps[0]["to"]), (&json!("Dispatched"), &json!("Started")));
    assert_eq!((&steps[1]["from"], &steps[1]["to"]), (&json!("Started"), &json!("Finished")));
    for step in steps {
        assert_eq!(
            (&step["attempt"], &step["runner_id"], &step["flow_id"]),
            (&json!(1), &json!(5), &json!(7))
        );
    }
}

#[tokio::test]
async fn log_lines_are_kept_paged_and_followed() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    let mut with_logs = Line::open(server.at.ws).await;
    let mut without = Line::open(server.at.ws).await;
    with_logs.ask("job.subscribe", with(&job_key(1), "logs", json!(true))).await.unwrap();
    without.ask("job.subscribe", job_key(1)).await.unwrap();
    submit(&server, 7, &[job(1, &[])]).await;
    let one = runner.given_job(1).await;
    let lines = |from: u32, to: u32| -> Vec<Value> {
        (from..to).map(|n| json!({ "stream": "stdout", "line": format!("line {n}") })).collect()
    };
    runner.report(json!({ "token": one, "status": "Started", "logs": lines(0, 3) })).await;
    runner.report(json!({ "token": one, "status": "Started", "logs": lines(3, 4) })).await;
    runner.report(json!({ "token": one, "status": "Finished", "logs": lines(4, 5) })).await;
    let ended = |event: &Value| event["data"]["to"] == "Finished";
    let told = without.notes_until(ended).await;
    let kinds: Vec<&str> = told.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["job.created", "job.status", "job.status"]);
    let mut live = Vec::new();
    let mut has_ended = false;
    while live.len() < 5 || !has_ended {
        let event = with_logs.note().await.unwrap();
        if event["kind"] == "job.log" {
            assert!(event.get("seq").is_none());
            assert_eq!(event["subject"], "job/1/42/1");
            assert_eq!(
                (&event["data"]["attempt"], &event["data"]["stream"]),
                (&json!(1), &json!("stdout"))
            );
            live.push(event["data"]["line"].as_str().unwrap().to_owned());
        } else {
            has_ended |= ended(&event);
        }
    }
    assert_eq!(live, ["line 0", "line 1", "line 2", "line 3", "line 4"]);
    let page = server.rpc("job.logs", with(&job_key(1), "limit", json!(3))).await.unwrap();
    assert_eq!(page["items"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&page["items"][2]["line"], &page["items"][2]["attempt"]),
        (&json!("line 2"), &json!(1))
    );
    let next = with(&job_key(1), "cursor", page["next"].clone());
    let rest = server.rpc("job.logs", next).await.unwrap();
    assert_eq!((rest["items"].as_array().unwrap().len(), rest.get("next")), (2, None));
    assert!(sound_log(&server).await.iter().all(|event| event["kind"] != "job.log"));
    // Lines of a later attempt follow those of the first.
    server.rpc("job.run", job_key(1)).await.unwrap();
    let again = runner.given_job(1).await;
    runner.report(json!({ "token": again, "status": "Finished", "logs": lines(5, 6) })).await;
    job_is(&server, 1, "Finished").await;
    let all = of_job(&server, "job.logs", 1).await;
    assert_eq!(
        (&all["items"][5]["attempt"], &all["items"][5]["line"]),
        (&json!(2), &json!("line 5"))
    );
}

#[tokio::test]
async fn subscriptions_tell_a_run_from_any_point_on() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    let mut live = Line::open(server.at.ws).await;
    live.ask("flow.subscribe", json!({ "context_id": 1, "id": 7 })).await.unwrap();
    submit(&server, 7, &[job(1, &[]), job(2, &[1])]).await;
    submit(&server, 8, &[job(3, &[])]).await;
    for _ in 0..3 {
        runner.work().await;
    }
    flow_is(&server, 7, "Finished").await;
    flow_is(&server, 8, "Finished").await;
    let ended = |event: &Value| event["kind"] == "flow.status" && event["data"]["to"] == "Finished";
    let told = live.notes_until(ended).await;
    for event in &told {
        let subject = event["subject"].as_str().unwrap();
        assert!(["flow/1/7", "job/1/42/1", "job/1/42/2"].contains(&subject), "{event}");
        let kind = event["kind"].as_str().unwrap();
        assert!(kind.starts_with("flow.") || kind == "job.status", "{event}");
    }
    let steps: Vec<String> = told
        .iter()
        .filter(|event| event["kind"] == "job.status")
        .map(|event| format!("{} {}", event["subject"], event["data"]["to"]).replace('"', ""))
        .collect();
    assert_eq!(
        steps,
        [
            "job/1/42/1 Started",
            "job/1/42/1 Finished",
            "job/1/42/2 Dispatched",
            "job/1/42/2 Started",
            "job/1/42/2 Finished",
        ]
    );
    let all = sound_log(&server).await;
    for since in [0, told[0]["seq"].as_u64().unwrap(), told[3]["seq"].as_u64().unwrap()] {
        let mut late = Line::open(server.at.ws).await;
        let params = json!({ "context_id": 1, "id": 7, "since": since });
        late.ask("flow.subscribe", params).await.unwrap();
        let replayed = late.notes_until(ended).await;
        let wanted: Vec<Value> =
            told.iter().filter(|e| e["seq"].as_u64().unwrap() > since).cloned().collect();
        assert_eq!(replayed, wanted);
        let mut of_job = Line::open(server.at.ws).await;
        let params = with(&job_key(2), "since", json!(since));
        of_job.ask("job.subscribe", params).await.unwrap();
        let replayed = of_job.notes_until(|e| e["data"]["to"] == "Finished").await;
        let wanted: Vec<Value> = all
            .iter()
            .filter(|e| e["subject"] == "job/1/42/2" && e["seq"].as_u64().unwrap() > since)
            .cloned()
            .collect();
        assert_eq!(replayed, wanted);
    }
    let mut chosen = Line::open(server.at.ws).await;
    let filter = json!({ "since": 0, "kinds": ["flow.*"], "subject": "flow/1/8", "context_id": 1 });
    chosen.ask("events.subscribe", filter).await.unwrap();
    let told = chosen.notes_until(ended).await;
    assert!(told.iter().all(|event| event["subject"] == "flow/1/8"));
    assert_eq!(told.len(), 3, "created, started, finished");
    let latest = all.len();
    let newer = json!({ "context_id": 1, "id": 7, "since": latest + 1 });
    refused(chosen.ask("flow.subscribe", newer).await, -32602);
}

#[tokio::test]
async fn results_reach_the_dependents_of_a_dependent() {
    let server = Core::start().await;
    let mut runner = FakeRunner::attach(&server, 5, 1).await;
    submit(&server, 7, &[job(1, &[]), job(2, &[1]), job(3, &[1, 2])]).await;
    let big = "x".repeat(100_000);
    let one = runner.given_job(1).await;
    runner.finish(&one, json!({ "big": big, "ünï": "\u{0}\n" })).await;
    let two = runner.given().await;
    assert_eq!(two["inputs"]["1"]["big"], big);
    runner.finish(&token(&two), json!({})).await;
    let three = runner.given().await;
    assert_eq!(three["inputs"]["1"]["ünï"], "\u{0}\n");
    assert_eq!(three["inputs"]["2"], json!({}));
}
