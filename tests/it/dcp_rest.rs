//! The jobs of the compute face over REST.

use serde_json::{Value, json};

use crate::server::TestServer;
use crate::slice_runner::{ACCOUNT, OTHER, OURS, SliceRunner};

/// A request with credentials: status and body.
async fn ask(server: &TestServer, verb: &str, path: &str, body: &str) -> (u16, Value) {
    let (status, text) = as_text(server, verb, path, body, OURS).await;
    (status, serde_json::from_str(&text).unwrap_or_default())
}

async fn as_text(
    server: &TestServer,
    verb: &str,
    path: &str,
    body: &str,
    header: &str,
) -> (u16, String) {
    let kind = if body.starts_with('{') { "text/plain" } else { "application/x-ndjson" };
    let headers = [format!("authorization: {}", header.trim()), format!("content-type: {kind}")];
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    server.exchange(server.at.http, verb, path, &headers, body.as_bytes()).await
}

async fn deploy(server: &TestServer, slices: Value) -> String {
    let body = json!({
        "slices": slices, "args": [10],
        "work": { "language": "js", "function": "(datum, k) => { progress(); return datum * k; }" },
        "account": { "address": ACCOUNT },
    });
    let (status, made) = ask(server, "POST", "/api/v0/job/", &body.to_string()).await;
    assert_eq!(status, 201, "{made}");
    made["jobId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_route_of_a_job_answers() {
    let server = TestServer::start().await;
    let job = deploy(&server, json!([3, 4, 5])).await;
    let (status, added) =
        ask(&server, "POST", &format!("/api/v0/job/{job}/slices"), r#"{"sliceData":[6]}"#).await;
    assert_eq!((status, &added["totalSlices"]), (201, &json!(4)));
    let (status, added) =
        ask(&server, "POST", &format!("/api/job/{}/slices", &job[2..]), "7\n\n8\r\n").await;
    assert_eq!((status, &added["lastSliceNumber"]), (201, &json!(6)), "{added}");
    let mut runner = SliceRunner::attach(server.at.ws, 1, 1).await;
    runner.work(6).await;
    for path in [format!("/api/v0/job/{job}"), format!("/api/job/{job}/status/")] {
        let (status, stands) = ask(&server, "GET", &path, "").await;
        assert_eq!((status, &stands["status"]), (200, &json!("completed")), "{path}");
    }
    let result = |query: &'static str| {
        let (server, path) = (&server, format!("/api/v0/job/{job}/result{query}"));
        async move {
            let (status, body) = ask(server, "GET", &path, "").await;
            let numbers = body["results"].as_array().map(|results| {
                results.iter().map(|one| one["sliceNumber"].as_u64().unwrap()).collect::<Vec<_>>()
            });
            (status, numbers.unwrap_or_default(), body)
        }
    };
    assert_eq!(result("").await.1, [1, 2, 3, 4, 5, 6]);
    assert_eq!(result("?range=1-2&range=5-4&ignoreFetchFailure=true").await.1, [1, 2, 4, 5]);
    assert_eq!(result("?limit=2&afterSlice=3").await.1, [4, 5]);
    for (path, want) in
        [("/api/v0/jobs/count".to_owned(), 200), (format!("/api/v0/job/{job}/slices"), 405)]
    {
        let (status, body) = as_text(&server, "HEAD", &path, "", OURS).await;
        assert_eq!((status, body.as_str()), (want, ""), "{path}");
    }
    let (_, _, body) = result("/2").await;
    assert_eq!(body["results"], json!([{ "sliceNumber": 2, "value": 8 }]));
    assert_eq!((&body["totalSlices"], &body["errors"]), (&json!(6), &json!([])));
    for wrong in ["?range=0", "?range=", "/0", "/x", "/-1", "?limit=x", "?wait_s=61"] {
        let (status, _, body) = result(wrong).await;
        assert_eq!((status, body["error"].is_string()), (400, true), "{wrong}: {body}");
    }
    let (status, jobs) = ask(&server, "GET", "/api/v0/jobs?status=completed&status=new", "").await;
    assert_eq!((status, &jobs[0]["jobId"]), (200, &json!(job)));
    let (status, count) = ask(&server, "GET", "/api/v0/jobs/count", "").await;
    assert_eq!((status, count), (200, json!({ "jobCount": 1 })));
    let path = format!("/api/v0/job/{job}?reason=by%20hand");
    assert_eq!(as_text(&server, "DELETE", &path, "", OURS).await, (204, String::new()));
    let path = format!("/api/v0/job/{job}");
    assert_eq!(ask(&server, "DELETE", &path, r#"{"reason":"again"}"#).await.0, 204);
    let (_, stands) = ask(&server, "GET", &path, "").await;
    assert_eq!(
        (&stands["status"], &stands["cancelReason"]),
        (&json!("cancelled"), &json!("by hand"))
    );
    let more = ask(&server, "POST", &format!("{path}/slices"), r#"{"sliceData":[1]}"#).await;
    assert_eq!((more.0, more.1["error"].is_string()), (409, true));
}

#[tokio::test]
async fn refusals_have_the_status_and_the_body_of_this_face() {
    let server = TestServer::start().await;
    let job = deploy(&server, json!([1])).await;
    let unknown = "0".repeat(40);
    for (verb, path, body, status) in [
        ("GET", "/api/v0/job/12".to_owned(), "", 400),
        ("GET", format!("/api/v0/job/{unknown}"), "", 404),
        ("DELETE", format!("/api/v0/job/{unknown}"), "", 404),
        ("DELETE", format!("/api/v0/job/{job}"), r#"{"reason":5}"#, 400),
        ("DELETE", format!("/api/v0/job/{job}"), r#"{"reason""#, 400),
        ("POST", format!("/api/v0/job/{job}/slices"), "{}", 400),
        ("POST", format!("/api/v0/job/{job}/slices"), r#"{"sliceData":{}}"#, 400),
        ("POST", format!("/api/v0/job/{job}/slices"), "1\nx", 400),
        ("POST", "/api/v0/job".to_owned(), "{}", 400),
        ("POST", "/api/v0/job".to_owned(), "", 400),
        ("POST", "/api/v0/job".to_owned(), "[1]", 400),
        ("PUT", "/api/v0/job".to_owned(), "{}", 405),
    ] {
        let (got, told) = ask(&server, verb, &path, body).await;
        assert_eq!(
            (got, told["error"].is_string()),
            (status, true),
            "{verb} {path} {body}: {told}"
        );
    }
    let bad = r#"{"work":{"function":"(x) =>"},"account":{}}"#;
    let (status, told) = ask(&server, "POST", "/api/v0/job", bad).await;
    assert_eq!(status, 400);
    let messages = told["messages"].as_array().unwrap();
    assert!(messages[0].as_str().unwrap().starts_with("work.function: "), "{told}");
    let path = format!("/api/v0/job/{job}");
    assert_eq!(as_text(&server, "GET", &path, "", OTHER).await.0, 403);
    assert_eq!(as_text(&server, "GET", &path, "", "Basic eA==").await.0, 401);
    let (status, _) = server.raw("GET", "/api/v0/jobs", "").await;
    assert_eq!(status, 401);
}
