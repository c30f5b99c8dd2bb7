//! How a runner reaches a coordinator: the seam, and the WebSocket behind it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt};
use hyper::HeaderMap;
use jsonrpsee::core::client::{ClientT, Error as WireError, SubscriptionClientT};
use jsonrpsee_ws_client::{PingConfig, WsClient, WsClientBuilder};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::protocol::{Carried, DrainReply, HeartbeatReply, Notification, Report, ReportReply};
use crate::access::{Secret, signed_by};
use crate::client::{self, ByName, Trust, bearer};
use crate::face::core::auth::{AuthChallenge, GetChallenge, SignIn};
use crate::face::core::compute_group::JoinGroup;
use crate::identity::NodeKey;

/// Largest message from the coordinator, bytes.
const MESSAGE_BYTES: u32 = 256 << 20;
/// For one call.
const CALL: Duration = Duration::from_secs(30);
/// For a connection to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// Between two pings.
const PING: Duration = Duration::from_secs(20);

/// Notifications of an attached runner; it ends when the connection does.
pub type Notifications = BoxStream<'static, Notification<Carried>>;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The connection failed, or no answer came in time: whether it was done is not known.
    #[error("connection: {0}")]
    Lost(String),
    /// The coordinator refused it.
    #[error("{message} ({code})")]
    Refused {
        /// The error code.
        code: i32,
        /// What is wrong.
        message: String,
    },
}

/// A way to a coordinator.
pub trait Link: fmt::Debug + Send + Sync + 'static {
    /// Subscribes with `runner.attach`, over a new connection where there are connections.
    fn attach(
        &self,
        params: &Attach,
    ) -> impl Future<Output = Result<Notifications, LinkError>> + Send;

    /// Calls a method over the connection of the last attach.
    fn call<P: Serialize + Sync, T: DeserializeOwned + Send>(
        &self,
        method: &'static str,
        params: &P,
    ) -> impl Future<Output = Result<T, LinkError>> + Send;
}

/// Params of `runner.attach`.
#[derive(Clone, Debug, Serialize)]
pub struct Attach {
    /// The tenant.
    pub context_id: u32,
    /// The runner.
    pub runner_id: u32,
    /// What it can execute, values of `ScriptType`.
    pub script_types: Vec<&'static str>,
    /// How many attempts at once.
    pub slots: u32,
    /// What it is able to: nested booleans.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub capabilities: Map<String, Value>,
    /// Compute groups that it serves; none: as the coordinator sees fit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<JoinGroup>,
    /// For operators to tell runners apart.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Tokens of what it still has.
    pub in_hand: Vec<String>,
}

/// A runner's name, in the params of every other call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Name {
    /// The tenant.
    pub context_id: u32,
    /// The runner.
    pub runner_id: u32,
}

impl Name {
    /// Calls `runner.report`.
    pub async fn report(
        self,
        link: &impl Link,
        reports: &[Report],
    ) -> Result<ReportReply, LinkError> {
        #[derive(Serialize)]
        struct Params<'a> {
            #[serde(flatten)]
            name: Name,
            reports: &'a [Report],
        }
        link.call("runner.report", &Params { name: self, reports }).await
    }

    /// Calls `runner.heartbeat`.
    pub async fn heartbeat(
        self,
        link: &impl Link,
        tokens: &[String],
    ) -> Result<HeartbeatReply, LinkError> {
        #[derive(Serialize)]
        struct Params<'a> {
            #[serde(flatten)]
            name: Name,
            tokens: &'a [String],
        }
        link.call("runner.heartbeat", &Params { name: self, tokens }).await
    }

    /// Calls `runner.drain`.
    pub async fn drain(self, link: &impl Link) -> Result<DrainReply, LinkError> {
        link.call("runner.drain", &self).await
    }
}

/// A coordinator at the other end of a WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    url: String,
    trust: Trust,
    client: Mutex<Option<Arc<WsClient>>>,
    proof: Proof,
}

/// How a runner proves who it is.
#[derive(Clone, Default)]
pub enum Proof {
    /// By where it sits.
    #[default]
    Nothing,
    /// By a token, a session or an API key.
    Secret(Secret),
    /// By its key: each connection signs in.
    Key(Arc<NodeKey>),
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Secret(_) => "Secret(…)",
            Self::Key(_) => "Key(…)",
        })
    }
}

impl WebSocket {
    /// One that will connect to `url`, such as `ws://127.0.0.1:9653`.
    pub fn new(url: impl Into<String>) -> Self {
        let (trust, proof) = (Trust::default(), Proof::Nothing);
        Self { url: url.into(), trust, client: Mutex::default(), proof }
    }

    /// The same, with whoever is vouched for.
    #[must_use]
    pub fn trusting(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    /// Proves who it is on each connection.
    #[must_use]
    pub fn proving(mut self, proof: Proof) -> Self {
        self.proof = proof;
        self
    }

    fn headers(&self) -> Result<HeaderMap, LinkError> {
        match &self.proof {
            Proof::Secret(secret) => {
                bearer(secret).ok_or_else(|| LinkError::Lost("the token cannot be sent".to_owned()))
            }
            Proof::Nothing | Proof::Key(_) => Ok(HeaderMap::new()),
        }
    }

    /// Signs in as the runner, where it has a key.
    async fn sign_in(&self, client: &WsClient, params: &Attach) -> Result<(), LinkError> {
        let Proof::Key(key) = &self.proof else { return Ok(()) };
        let (context_id, runner_id) = (Some(params.context_id), Some(params.runner_id));
        let asked = GetChallenge { actor_id: None, context_id, runner_id };
        let AuthChallenge { challenge, .. } = client::call(client, asked).await.map_err(lost)?;
        let signature = signed_by(key, &challenge);
        let signed = SignIn { challenge, signature, actor_id: None, context_id, runner_id };
        client::call(client, signed).await.map(drop).map_err(lost)
    }

    fn client(&self) -> Result<Arc<WsClient>, LinkError> {
        let client = self.client.lock().clone();
        client.ok_or_else(|| LinkError::Lost("not connected".to_owned()))
    }
}

impl Link for WebSocket {
    async fn attach(&self, params: &Attach) -> Result<Notifications, LinkError> {
        // The old connection goes first, so that nothing is said over two.
        self.client.lock().take();
        let ping = PingConfig::new().ping_interval(PING).inactive_limit(PING * 3).max_failures(2);
        let room = usize::try_from(params.slots).unwrap_or(usize::MAX).saturating_mul(4);
        let builder = WsClientBuilder::new()
            .request_timeout(CALL)
            .max_request_size(MESSAGE_BYTES)
            .max_response_size(MESSAGE_BYTES)
            .max_buffer_capacity_per_subscription(room.saturating_add(1_024))
            .enable_ws_ping(ping)
            .set_headers(self.headers()?);
        let client = self.trust.ws(builder, &self.url, CONNECT).await;
        let client = Arc::new(client.map_err(lost)?);
        self.sign_in(&client, params).await?;
        let params = ByName(params);
        let subscribed = client.subscribe("runner.attach", params, "runner.detach");
        let notifications = subscribed.await.map_err(lost)?;
        *self.client.lock() = Some(client);
        let readable = notifications.filter_map(async |notification| match notification {
            Ok(notification) => Some(notification),
            Err(err) => {
                // Its attempts are not acknowledged, and go to a runner that understands them.
                tracing::warn!(%err, "a notification that this runner does not understand");
                None
            }
        });
        Ok(readable.boxed())
    }

    async fn call<P: Serialize + Sync, T: DeserializeOwned + Send>(
        &self,
        method: &'static str,
        params: &P,
    ) -> Result<T, LinkError> {
        self.client()?.request(method, ByName(params)).await.map_err(lost)
    }
}

fn lost(err: WireError) -> LinkError {
    match err {
        WireError::Call(err) => {
            let reason = err.data().and_then(|data| reason(data.get()));
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            LinkError::Refused { code: err.code(), message: format!("{}{reason}", err.message()) }
        }
        other => LinkError::Lost(other.to_string()),
    }
}

/// What the data of an error says in words.
fn reason(data: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Data {
        field: Option<String>,
        reason: String,
    }
    let Data { field, reason } = serde_json::from_str(data).ok()?;
    Some(match field.filter(|field| !field.is_empty()) {
        Some(field) => format!("{field}: {reason}"),
        None => reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_words() {
        let said = |data| reason(data).unwrap_or_default();
        assert_eq!(
            said(r#"{"kind":"runner","reason":"runner 1/7 not found"}"#),
            "runner 1/7 not found"
        );
        assert_eq!(
            said(r#"{"field":"slots","reason":"must be 1 to 1024"}"#),
            "slots: must be 1 to 1024"
        );
        assert_eq!(said(r#"{"incident":"x"}"#), "");
    }
}
