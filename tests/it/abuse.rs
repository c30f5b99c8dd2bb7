//! What strangers and tenants try, and must not get.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::calls::{refused, with};
use crate::fake_runner::{FakeRunner, Line, job, job_key, submission};
use crate::recovery::{Process, begin};
use crate::server::TestServer;
use crate::slice_runner::{ACCOUNT, OURS, line};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn nobody_gets_work_by_guessing_its_name() {
    // Only after a restart is a runner believed at all.
    let (dir, mut server) = begin(30).await;
    let python = with(&job(1, &[]), "script_type", json!("Python"));
    let mut line = server.line().await;
    line.ask("flow.submit", submission(7, &[python])).await.unwrap();
    server.kill();
    let server = Process::start(dir.path(), 30).await;
    // The first attempt of the job, which nobody has.
    let guessed = "1-42-1-1-00000000";
    let hello = json!({ "script_types": ["Osis"], "in_hand": [guessed] });
    let mut rhai = FakeRunner::attach_at(server.ws, 5, hello).await;
    assert_eq!(rhai.cancelled().await.0, json!([guessed]));
    for status in ["Acknowledged", "Finished", "Error"] {
        rhai.report_stale(json!({ "token": guessed, "status": status })).await;
    }
    // One that is not attached.
    rhai.id = 6;
    rhai.report_stale(json!({ "token": guessed, "status": "Finished" })).await;
    let mut line = server.line().await;
    let stands = line.ask("job.load", job_key(1)).await.unwrap();
    assert_eq!(stands["status"], "Dispatched");
    let mut able = FakeRunner::attach_at(server.ws, 6, json!({ "slots": 1 })).await;
    assert_eq!(able.work().await, 1);
}

#[tokio::test]
async fn large_bodies_that_never_end_take_no_more_than_their_room() {
    let server = TestServer::with(|config| config.max_buffered_bytes = 1 << 20).await;
    let ping = json!({ "jsonrpc": "2.0", "id": 2, "method": "system.ping" }).to_string();
    let large = ping.clone() + " ".repeat(500_000).as_str();
    assert_eq!(server.raw("POST", "/", &large).await.0, 200);
    let mut greedy = TcpStream::connect(server.at.http).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", 2 * MIB);
    greedy.write_all(head.as_bytes()).await.unwrap();
    greedy.write_all(&vec![b' '; MIB]).await.unwrap();
    loop {
        let (status, body) = server.raw("POST", "/", &large).await;
        if status == 200 {
            // The other one's has not arrived yet.
            continue;
        }
        assert_eq!((status, &body["error"]["code"]), (503, &json!(-32011)), "{body}");
        break;
    }
    let (status, _) = server.raw("POST", "/auth/challenge", &large).await;
    assert_eq!(status, 503, "routes have the same room");
    let mut socket = server.socket().await;
    assert_eq!(socket.ask(&ping).await["result"], true, "small ones pass");
    socket.0.send(Message::text(large.clone())).await.unwrap();
    let refused = socket.hear().await.unwrap();
    assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(-32011), &Value::Null));
    drop(greedy);
    while server.raw("POST", "/", &large).await.0 != 200 {}
    for _ in 0..20 {
        assert_eq!(socket.ask(&large).await["result"], true, "and gets its room back");
    }
}

#[tokio::test]
async fn a_proxy_on_this_machine_lends_nobody_its_address() {
    let server = TestServer::start().await;
    let whoami = async |header: &str| {
        let mut io = TcpStream::connect(server.at.http).await.unwrap();
        let text = format!(
            "GET /auth/whoami HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{header}\r\n"
        );
        io.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        answer.contains("\"operator\"")
    };
    assert!(whoami("").await);
    for header in
        ["X-Forwarded-For: 127.0.0.1", "Forwarded: for=_x", "Via: 1.1 a", "X-Real-IP: ::1"]
    {
        assert!(!whoami(&format!("{header}\r\n")).await, "{header}");
    }
}

#[tokio::test]
async fn secrets_that_people_choose_cannot_be_guessed_without_end() {
    let server = TestServer::start().await;
    let mut client = line(&server).await;
    let group = json!({ "joinKey": "ours", "joinSecret": "1234" });
    client.ask("dcp.group.create", group.clone()).await.unwrap();
    let asking = |secret: &str| {
        json!({
            "work": { "function": "(x) => x" }, "slices": [1], "account": { "address": ACCOUNT },
            "computeGroups": [{ "joinKey": "ours", "joinSecret": secret }], "auth": OURS.trim(),
        })
    };
    client.ask("dcp.job.deploy", asking("1234")).await.unwrap();
    refused(client.ask("dcp.job.deploy", asking("0000")).await, -32004);
    let from: Option<IpAddr> = Some("127.0.0.1".parse().unwrap());
    while server.app.keeper.may_guess(from).is_ok() {
        server.app.keeper.guessed_wrong(from);
    }
    for secret in ["0001", "1234"] {
        refused(client.ask("dcp.job.deploy", asking(secret)).await, -32005);
    }
}

#[tokio::test]
async fn a_network_of_version_6_has_as_many_failures_as_an_address() {
    let server = TestServer::start().await;
    let failed = |last: u32| {
        let from: IpAddr = format!("2001:db8::{last:x}").parse().unwrap();
        server.app.keeper.failed(Some(from))
    };
    assert!((0..1_000).any(|last| failed(last).is_err()));
    assert!(server.app.keeper.failed(Some("2001:db8:0:1::1".parse().unwrap())).is_ok());
}

#[tokio::test]
async fn other_users_of_the_machine_can_read_neither_data_nor_backups() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("data");
    let server = TestServer::with(|config| {
        config.data_dir = dir.clone();
        config.backup_dir = dir.join("backups");
    });
    let server = server.await;
    let (status, _) = server.raw("POST", "/system/backup", r#"{"path":"a/b"}"#).await;
    assert_eq!(status, 200);
    let mode = |path: &str| std::fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("backups/a/b")), (0o700, 0o600));
}

#[tokio::test]
async fn small_questions_do_not_come_in_large_texts() {
    let server = TestServer::start().await;
    let zeros = format!("[{}0]", "0,".repeat(1 << 19));
    for path in ["/api/v0/key", "/api/key"] {
        let body = format!(r#"{{"keystore":{zeros},"token":"x"}}"#);
        assert_eq!(server.raw("POST", path, &body).await.0, 413);
    }
    let ask = async |method: &str, params: &str| {
        let call = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let batch = server.post(&format!("[{call}]")).await;
        let alone = server.post(&call).await;
        assert_eq!(batch[0]["error"]["code"], alone["error"]["code"], "{alone}");
        alone["error"]["code"].as_i64().unwrap()
    };
    for (method, params) in [
        ("dcp.key.create", format!(r#"{{"keystore":{zeros},"token":"x"}}"#)),
        ("dcp.job.result", format!(r#"{{"jobId":"x","range":{zeros}}}"#)),
        ("dcp_job_list", format!(r#"{{"status":{zeros}}}"#)),
        ("dcp.job.cancel", format!(r#"{{"reason":{zeros}}}"#)),
        ("dcp.accounts.add", format!(r#"{{"json":{zeros}}}"#)),
    ] {
        assert_eq!(ask(method, &params).await, -32005, "{method}");
    }
    // More values than there are params, and more calls than a batch may have.
    assert_eq!(ask("job.load", &zeros).await, -32602);
    assert_eq!(server.post(&zeros).await["error"]["code"], -32005);
    let mut line = Line::open(server.at.ws).await;
    let range: Value = serde_json::from_str(&zeros).unwrap();
    let follow = json!({ "jobId": "x", "range": range, "auth": OURS.trim() });
    refused(line.ask("dcp.job.subscribe", follow).await, -32005);
    // A deploy may be large, but only by what it is about.
    for member in ["account", "computeGroups", "packages", "public", "webHookUrls"] {
        let job = json!({ "work": { "function": "(x) => x" }, "slices": [1], "auth": OURS.trim() });
        let job = with(&job, member, range.clone());
        let refusal = line.ask("dcp.job.deploy", job).await;
        assert_eq!(refused(refusal, -32602)["http_status"], 400, "{member}");
    }
    let more = json!({ "jobId": range, "sliceData": [1], "auth": OURS.trim() });
    refused(line.ask("dcp.job.add_slices", more).await, -32602);
    let job = json!({
        "work": { "function": "(x) => x" }, "account": { "address": ACCOUNT },
        "slices": range, "auth": OURS.trim(),
    });
    assert!(line.ask("dcp.job.deploy", job).await.is_ok());
}
