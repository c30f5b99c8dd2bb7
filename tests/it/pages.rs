//! Pages and REST routes.

use serde_json::json;

use crate::server::TestServer;

#[tokio::test]
async fn health_readiness_and_metrics_answer() {
    let server = TestServer::start().await;
    for path in ["/health", "/livez"] {
        assert_eq!(server.raw("GET", path, "").await, (200, json!({ "status": "ok" })));
    }
    for path in ["/ready", "/readyz"] {
        assert_eq!(server.raw("GET", path, "").await, (200, json!({ "status": "ready" })));
    }
    assert_eq!(server.app.store.check().unwrap().problems, [""; 0], "asking leaves no odd row");
    server.ask("system.ping", json!({})).await;
    server.ask("system.ping", json!([1])).await;
    let (status, text) = server.exchange(server.at.http, "GET", "/metrics", &[], b"").await;
    assert_eq!(status, 200);
    for line in [
        "muster_build_info{version=",
        r#"muster_rpc_calls_total{method="system.ping",outcome="ok"} 1"#,
        r#"muster_rpc_calls_total{method="system.ping",outcome="InvalidParams"} 1"#,
        "muster_connections 1",
        "muster_subscriptions 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let (status, text) = server.exchange(server.at.http, "GET", "/", &[], b"").await;
    assert!(status == 200 && text.starts_with("Muster "), "{text}");
}

#[tokio::test]
async fn the_document_is_served_in_both_renderings() {
    let server = TestServer::start().await;
    let (status, plain) = server.raw("GET", "/openrpc.json", "").await;
    assert_eq!((status, &plain), (200, &server.ask("rpc.discover", json!({})).await["result"]));
    let (status, codegen) = server.raw("GET", "/openrpc.json?profile=codegen", "").await;
    assert_eq!(status, 200);
    assert!(codegen["methods"].as_array().unwrap().iter().any(|m| m["name"] == "system_ping"));
    let (status, body) = server.raw("GET", "/openrpc.json?profile=x", "").await;
    assert_eq!((status, &body["field"]), (400, &json!("profile")), "{body}");
}

#[tokio::test]
async fn unknown_paths_and_verbs_are_told_apart() {
    let server = TestServer::start().await;
    assert_eq!(server.raw("GET", "/nothing/here", "").await.0, 404);
    assert_eq!(server.raw("GET", "/nothing/here", "").await.1["http_status"], 404);
    assert_eq!(server.raw("DELETE", "/openrpc.json", "").await.0, 405);
    assert_eq!(server.raw("PUT", "/", "").await.0, 405);
    assert_eq!(server.raw("POST", "/health", "").await.0, 405);
}

#[tokio::test]
async fn head_is_answered_as_get_is_but_without_a_body() {
    let server = TestServer::start().await;
    for (path, status) in [
        ("/health", 200),
        ("/actors", 200),
        ("/actors/9", 404),
        ("/adv", 200),
        ("/api/v0/jobs", 401),
        ("/nowhere", 404),
        ("/contexts/1/2/3", 404),
        ("/auth/challenge", 405),
        // It would not end.
        ("/flows/1/1/events", 405),
    ] {
        let (got, body) = server.exchange(server.at.http, "HEAD", path, &[], b"").await;
        assert_eq!((got, body.as_str()), (status, ""), "{path}");
    }
    let events = ["accept: text/event-stream"];
    let (status, _) = server.exchange(server.at.http, "HEAD", "/events", &events, b"").await;
    assert_eq!(status, 200, "a page of events, not the stream");
}
