//! Host, Origin, and what may be sent to which port.

use crate::server::TestServer;

const PING: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"system.ping"}"#;

#[tokio::test]
async fn other_sites_are_turned_away_on_both_ports() {
    let server = TestServer::start().await;
    let (http, ws) = (server.at.http, server.at.ws);
    for header in ["host: evil.example", "origin: http://evil.example", "origin: null"] {
        let (status, _) = server.exchange(http, "POST", "/", &[header], PING).await;
        assert_eq!(status, 403, "{header}");
        let (status, _) = server.exchange(http, "GET", "/openrpc.json", &[header], b"").await;
        assert_eq!(status, 403, "{header}");
        let upgrade = [
            header,
            "upgrade: websocket",
            "connection: upgrade",
            "sec-websocket-version: 13",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        let (status, _) = server.exchange(ws, "GET", "/", &upgrade, b"").await;
        assert_eq!(status, 403, "{header}");
    }
    let own = format!("origin: http://127.0.0.1:{}", http.port());
    let (status, body) = server.exchange(http, "POST", "/", &[&own], PING).await;
    assert_eq!((status, body.as_str()), (200, r#"{"jsonrpc":"2.0","id":1,"result":true}"#));
}

#[tokio::test]
async fn forms_of_web_pages_are_no_requests() {
    let server = TestServer::start().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let header = format!("content-type: {kind}");
        let (status, _) = server.exchange(server.at.http, "POST", "/", &[&header], PING).await;
        assert_eq!(status, 415, "{kind}");
    }
    let header = "content-type: application/json; charset=utf-8";
    let (status, _) = server.exchange(server.at.http, "POST", "/", &[header], PING).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn the_websocket_port_wants_an_upgrade() {
    let server = TestServer::start().await;
    let (status, _) = server.exchange(server.at.ws, "GET", "/", &[], b"").await;
    assert_eq!(status, 426);
    let (status, _) = server.exchange(server.at.ws, "POST", "/", &[], PING).await;
    assert_eq!(status, 426);
    let (status, _) = server.exchange(server.at.ws, "GET", "/health", &[], b"").await;
    assert_eq!(status, 200);
}
