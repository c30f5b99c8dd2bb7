//! The published vectors through both surfaces, at the moment they were made for.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::server::TestServer;

#[derive(Deserialize)]
struct Vectors {
    clock: String,
    accept: Vec<Vector>,
    refuse: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    slot: String,
    text: String,
    http: u16,
    #[serde(default)]
    reason: String,
}

/// 2030-01-01T00:00:03Z.
const CLOCK: u64 = 1_893_456_003_000;

fn vectors() -> Vectors {
    let read: Vectors =
        serde_json::from_str(include_str!("../data/directory/vectors.json")).unwrap();
    let clock: jiff::Timestamp = read.clock.parse().unwrap();
    assert_eq!(clock.as_millisecond(), i64::try_from(CLOCK).unwrap());
    assert_eq!((read.accept.len(), read.refuse.len()), (4, 27));
    read
}

async fn start() -> TestServer {
    TestServer::by_clock(|| CLOCK).await
}

/// By the route.
async fn rest(server: &TestServer, vector: &Vector) -> (u16, Value) {
    server.raw("PUT", &format!("/adv/{}", vector.slot), &vector.text).await
}

/// By the method, the text as it is.
async fn rpc(server: &TestServer, vector: &Vector) -> Value {
    let (slot, text) = (json!(vector.slot), &vector.text);
    let params = format!(r#"{{"node_id":{slot},"advertisement":{text}}}"#);
    server
        .post(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"adv.put","params":{params}}}"#))
        .await
}

#[tokio::test]
async fn what_is_to_be_accepted_is_on_both_surfaces() {
    for vector in vectors().accept {
        let (one, other) = (start().await, start().await);
        let (status, receipt) = rest(&one, &vector).await;
        assert_eq!(status, vector.http, "{}: {receipt}", vector.name);
        assert_eq!(receipt["stored-at"], "2030-01-01T00:00:03Z");
        assert_eq!(receipt["node/id"], vector.slot.as_str());
        let answer = rpc(&other, &vector).await;
        assert_eq!(answer["result"], receipt, "{}: {answer}", vector.name);
        for server in [one, other] {
            let path = format!("/adv/{}", vector.slot);
            let got = server.exchange(server.at.http, "GET", &path, &[], b"").await;
            assert_eq!(got, (200, vector.text.clone()), "{}", vector.name);
        }
    }
}

#[tokio::test]
async fn what_is_to_be_refused_is_on_both_surfaces_in_the_same_words() {
    let server = start().await;
    for vector in vectors().refuse {
        let (status, body) = rest(&server, &vector).await;
        let got = (status, body["reason"].as_str().unwrap_or_default());
        assert_eq!(got, (vector.http, vector.reason.as_str()), "{}: {body}", vector.name);
        let answer = rpc(&server, &vector).await;
        let mut data = answer["error"]["data"].clone();
        let status = data.as_object_mut().and_then(|data| data.remove("http_status"));
        assert_eq!(status, Some(json!(vector.http)), "{}: {answer}", vector.name);
        assert_eq!(data, body, "{}", vector.name);
    }
    let (_, page) = server.raw("GET", "/adv", "").await;
    assert_eq!(page["items"], json!([]), "nothing of it was stored");
}
