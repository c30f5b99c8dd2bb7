//! `rpc.*` and `system.*`.

use serde_json::json;

use crate::server::TestServer;

#[tokio::test]
async fn ping_is_answered() {
    let server = TestServer::start().await;
    assert_eq!(server.rpc("system.ping", json!({})).await.unwrap(), json!(true));
}
