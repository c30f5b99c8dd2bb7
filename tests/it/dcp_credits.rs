//! Credit: finished slices are paid for, and jobs that cannot pay pause.

use serde_json::{Value, json};

use crate::calls::refused;
use crate::fake_runner::Line;
use crate::server::TestServer;
use crate::slice_runner::{ACCOUNT, SliceRunner, call, line};

async fn balance(line: &mut Line) -> String {
    let accounts = call(line, "dcp.accounts.list", json!({})).await.unwrap();
    accounts[0]["balance"].as_str().unwrap().to_owned()
}

async fn status(line: &mut Line, job: &str) -> (String, u64) {
    let status = call(line, "dcp.job.status", json!({ "jobId": job })).await.unwrap();
    let text = status["status"].as_str().unwrap().to_owned();
    (text, status["completedSlices"].as_u64().unwrap())
}

async fn credit(line: &mut Line, amount: Value) -> Result<Value, (i32, Value)> {
    let me = call(line, "dcp.identity.get", json!({})).await.unwrap()["address"].clone();
    let given = json!({ "identity": me, "address": ACCOUNT, "amount": amount });
    line.ask("dcp.accounts.credit", given).await
}

#[tokio::test]
async fn slices_are_paid_for_and_a_job_that_cannot_pay_pauses() {
    let server = TestServer::with(|config| config.compute.credits = true).await;
    let mut client = line(&server).await;
    let job = |offer: Value| {
        json!({
            "work": { "function": "(x) => x" }, "slices": [1, 2, 3, 4, 5],
            "account": { "address": ACCOUNT }, "slicePaymentOffer": offer,
        })
    };
    let made = call(&mut client, "dcp.job.deploy", job(json!("0.5"))).await.unwrap();
    let paid = made["jobId"].as_str().unwrap().to_owned();
    assert_eq!(status(&mut client, &paid).await, ("paused".to_owned(), 0));
    let mut runner = SliceRunner::attach(server.at.ws, 1, 2).await;
    // What costs nothing goes on.
    let made = call(&mut client, "dcp.job.deploy", job(json!(0))).await.unwrap();
    let free = made["jobId"].as_str().unwrap().to_owned();
    runner.work(5).await;
    assert_eq!(status(&mut client, &free).await, ("completed".to_owned(), 5));
    let credited = credit(&mut client, json!("1.75")).await.unwrap();
    assert_eq!(credited["balance"], "1.75");
    runner.work(3).await;
    assert_eq!(status(&mut client, &paid).await, ("paused".to_owned(), 3));
    assert_eq!(balance(&mut client).await, "0.25");
    credit(&mut client, json!(10)).await.unwrap();
    runner.work(2).await;
    assert_eq!(status(&mut client, &paid).await, ("completed".to_owned(), 5));
    assert_eq!(balance(&mut client).await, "9.25");
    assert_eq!(credit(&mut client, json!("-9.25")).await.unwrap()["balance"], "0");
    // Whatever the market asks: one, unless it is configured.
    call(&mut client, "dcp.job.deploy", job(json!("MARKET_VALUE"))).await.unwrap();
    credit(&mut client, json!(1)).await.unwrap();
    runner.work(1).await;
    assert_eq!(balance(&mut client).await, "0");
    refused(credit(&mut client, json!("much")).await, -32602);
    let unknown = json!({ "identity": "0".repeat(40), "address": ACCOUNT, "amount": 1 });
    refused(client.ask("dcp.accounts.credit", unknown).await, -32001);
}

#[tokio::test]
async fn without_the_setting_nothing_is_charged() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let job = json!({
        "work": { "function": "(x) => x" }, "slices": [1], "account": { "address": ACCOUNT },
        "slicePaymentOffer": 5,
    });
    call(&mut client, "dcp.job.deploy", job).await.unwrap();
    SliceRunner::attach(server.at.ws, 1, 1).await.work(1).await;
    assert_eq!(balance(&mut client).await, "0");
}
