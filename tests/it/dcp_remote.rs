//! Slices that are kept elsewhere.

use muster::config::Origins;
use serde_json::{Value, json};

use crate::calls::refused;
use crate::peer_host::{Answer, Heard, PeerHost};
use crate::server::TestServer;
use crate::slice_runner::{ACCOUNT, SliceRunner, call, line};

fn answer(heard: &Heard) -> Answer {
    let typed = |kind: &str| format!("200 OK\r\ncontent-type: {kind}");
    match heard.path.as_str() {
        "/1.json" => (typed("application/json"), b"{\"n\": [1]}".to_vec()),
        "/2.csv" => (typed("text/csv"), b"a,b\n".to_vec()),
        "/broken.json" => (typed("application/json"), b"{".to_vec()),
        "/large" => (typed("text/plain"), vec![b'x'; (16 << 20) + 1]),
        "/away" => ("302 Found\r\nlocation: /1.json".to_owned(), Vec::new()),
        _ => ("404 Not Found".to_owned(), Vec::new()),
    }
}

fn job(urls: &[String]) -> Value {
    json!({
        "work": { "function": "(x) => x" }, "slices": { "remoteDataSet": urls },
        "account": { "address": ACCOUNT },
    })
}

#[tokio::test]
async fn remote_slices_are_fetched_when_they_are_worked_on() {
    let mut host = PeerHost::start(answer).await;
    let origin = host.origin();
    let server = TestServer::with(|config| {
        config.compute.remote_data_allow = Origins::read(&origin).unwrap();
    })
    .await;
    let mut client = line(&server).await;
    let urls = ["/1.json", "/2.csv"].map(|path| format!("{origin}{path}"));
    let made = call(&mut client, "dcp.job.deploy", job(&urls)).await.unwrap();
    let id = json!({ "jobId": made["jobId"], "sliceData": ["http://not.fetched/"] });
    call(&mut client, "dcp.job.add_slices", id).await.unwrap();
    assert!(host.is_quiet(), "nobody works on them yet");
    let mut runner = SliceRunner::attach(server.at.ws, 1, 2).await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let batch = runner.given().await;
        seen.extend(batch.slices.clone());
        runner
            .finish(
                &batch,
                json!(
                    batch
                        .slices
                        .iter()
                        .map(|(number, datum)| { crate::slice_runner::finished(*number, datum) })
                        .collect::<Vec<_>>()
                ),
            )
            .await;
    }
    seen.sort_by_key(|(number, _)| *number);
    let want = [(1, json!({ "n": [1] })), (2, json!("a,b\n")), (3, json!("http://not.fetched/"))];
    assert_eq!(seen, want);
    assert_eq!(host.heard().await.verb, "GET");
}

#[tokio::test]
async fn what_cannot_be_fetched_is_an_error_of_its_slice() {
    let host = PeerHost::start(answer).await;
    let origin = host.origin();
    let server = TestServer::with(|config| {
        config.compute.remote_data_allow = Origins::read(&origin).unwrap();
    })
    .await;
    let mut client = line(&server).await;
    let paths = ["/none", "/broken.json", "/large", "/away", "/1.json"];
    let urls = paths.map(|path| format!("{origin}{path}"));
    let made = call(&mut client, "dcp.job.deploy", job(&urls)).await.unwrap();
    let id = json!({ "jobId": made["jobId"] });
    let mut follow = id.clone();
    follow["since"] = json!(0);
    follow["kinds"] = json!(["status"]);
    call(&mut client, "dcp.job.subscribe", follow).await.unwrap();
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    let works = async {
        loop {
            let batch = runner.given().await;
            let done: Vec<Value> = batch
                .slices
                .iter()
                .map(|(number, datum)| crate::slice_runner::finished(*number, datum))
                .collect();
            runner.finish(&batch, done.into()).await;
        }
    };
    tokio::select! {
        _ = client.notes_until(|event| event["status"] == "corrupted") => {}
        () = works => {}
    }
    let result = call(&mut client, "dcp.job.result", id).await.unwrap();
    assert_eq!(result["results"], json!([{ "sliceNumber": 5, "value": { "n": [1] } }]));
    let errors = result["errors"].as_array().unwrap();
    let why = ["answered 404", "not JSON", "larger than 16777216 bytes", "answered 302"];
    assert_eq!(errors.len(), why.len());
    for (error, why) in errors.iter().zip(why) {
        assert_eq!((&error["name"], &error["attempts"]), (&json!("FetchError"), &json!(3)));
        assert!(error["message"].as_str().unwrap().ends_with(why), "{error}");
    }
}

#[tokio::test]
async fn other_origins_are_refused_by_name() {
    let host = PeerHost::start(answer).await;
    let origin = host.origin();
    let server = TestServer::with(|config| {
        config.compute.remote_data_allow = Origins::read(&origin).unwrap();
    })
    .await;
    let mut client = line(&server).await;
    for (slices, named) in [
        (json!({ "remoteDataSet": ["https://elsewhere.example/x"] }), "https://elsewhere.example"),
        (json!({ "remoteDataSet": ["x"] }), "URLs"),
        (json!({ "remoteDataSet": [5] }), "remoteDataSet"),
        (json!({ "remote": [] }), "remoteDataSet"),
    ] {
        let mut wrong = job(&[]);
        wrong["slices"] = slices;
        let data = refused(call(&mut client, "dcp.job.deploy", wrong).await, -32602);
        assert!(data["error"].as_str().unwrap().contains(named), "{data}");
    }
    let closed = TestServer::start().await;
    let urls = [format!("{origin}/1.json")];
    refused(call(&mut line(&closed).await, "dcp.job.deploy", job(&urls)).await, -32602);
}
