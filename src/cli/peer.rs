//! The coordinator that commands talk to: in this process, or over the wire.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use futures_util::future::ready;
use futures_util::stream::{BoxStream, StreamExt};
use jsonrpsee::core::client::{ClientT, Error as WireError, SubscriptionClientT};
use jsonrpsee::core::traits::ToRpcParams;
use jsonrpsee_http_client::{HeaderMap, HttpClient, HttpClientBuilder};
use jsonrpsee_ws_client::{PingConfig, WsClient, WsClientBuilder};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::exit::{Exit, Failure, Result};
use crate::access::Secret;
use crate::app::{App, Caller, Cx};
use crate::client::{self, Trust};
use crate::face;
use crate::method::Note;

/// Answers larger than this are refused.
const ANSWER_BYTES: u32 = 1 << 30;
/// Notifications that may wait here; beyond that the subscription is opened again.
const BUFFER: usize = 4_096;

/// Where calls go when nothing else is said.
pub(super) const HTTP_URL: &str = "http://127.0.0.1:9652";
/// Where subscriptions go when nothing else is said.
pub(super) const WS_URL: &str = "ws://127.0.0.1:9653";

/// A coordinator.
#[derive(Debug)]
pub(super) enum Peer {
    /// The one in this process.
    Inside(Arc<App>),
    /// One that is called over HTTP.
    Http(HttpClient),
    /// One that is called over WebSocket, and may push.
    Ws(WsClient),
}

/// Where a coordinator is and how long to wait for it.
#[derive(Clone, Debug)]
pub(super) struct Address {
    inside: Option<Arc<App>>,
    url: Option<String>,
    trust: Trust,
    timeout: Duration,
    secret: Option<Secret>,
}

/// Who vouches for the other end: from `--ca`.
pub(super) fn trust(matches: &ArgMatches) -> Result<Trust> {
    match matches.get_one::<PathBuf>("ca") {
        None => Ok(Trust::default()),
        Some(file) => Trust::of_file(file).map_err(|e| Failure::usage(format!("--ca {e}"))),
    }
}

impl Address {
    /// From `--url`, `--ca` and `--timeout`.
    pub(super) fn of(matches: &ArgMatches) -> Result<Self> {
        let url = matches.get_one::<String>("url").cloned();
        let timeout = matches.get_one::<f64>("timeout").copied().unwrap_or(60.0);
        let timeout = Duration::try_from_secs_f64(timeout)
            .map_err(|_| Failure::usage("--timeout must be seconds, 0 or more"))?;
        Ok(Self { inside: None, url, trust: trust(matches)?, timeout, secret: secret(matches)? })
    }

    /// The same with what proves who calls.
    pub(super) fn showing(mut self, secret: Option<Secret>) -> Self {
        self.secret = secret;
        self
    }

    /// Whether somebody said where it is.
    pub(super) fn is_named(&self) -> bool {
        self.url.is_some()
    }

    /// The same elsewhere.
    pub(super) fn moved_to(mut self, url: String) -> Self {
        self.url = Some(url);
        self
    }

    /// At a URL.
    pub(super) fn at(url: &str, trust: Trust, timeout: Duration) -> Self {
        Self { inside: None, url: Some(url.to_owned()), trust, timeout, secret: None }
    }

    /// In this process.
    pub(super) fn inside(app: Arc<App>) -> Self {
        let (timeout, trust) = (Duration::MAX, Trust::default());
        Self { inside: Some(app), url: None, trust, timeout, secret: None }
    }

    /// For calls.
    pub(super) async fn connect(&self) -> Result<Peer> {
        if let Some(app) = &self.inside {
            return Ok(Peer::Inside(Arc::clone(app)));
        }
        self.open(self.url.as_deref().unwrap_or(HTTP_URL)).await
    }

    /// For subscriptions; asks a coordinator that is named by its HTTP address for the other one.
    pub(super) async fn connect_for_push(&self) -> Result<Peer> {
        if let Some(app) = &self.inside {
            return Ok(Peer::Inside(Arc::clone(app)));
        }
        let url = self.url.as_deref().unwrap_or(WS_URL);
        let peer = self.open(url).await?;
        if let Peer::Ws(_) = peer {
            return Ok(peer);
        }
        let info = peer.call("system.info", json!({})).await?;
        let ws = info.get("ws").and_then(Value::as_str);
        let ws = ws.ok_or_else(|| Failure::failed(format!("{url} does not name its WebSocket")))?;
        let http = info.get("http").and_then(Value::as_str).unwrap_or_default();
        self.open(&beside(url, http, ws)).await
    }

    async fn open(&self, url: &str) -> Result<Peer> {
        let unreachable = |e: WireError| Failure::from(e).during(url);
        match url.split_once("://") {
            Some(("http" | "https", _)) => {
                let builder = HttpClientBuilder::default()
                    .max_request_size(u32::MAX)
                    .max_response_size(ANSWER_BYTES)
                    .request_timeout(self.timeout)
                    .connect_timeout(self.timeout)
                    .set_headers(headers(self.secret.as_ref())?);
                self.trust.http(builder, url).map(Peer::Http).map_err(unreachable)
            }
            Some(("ws" | "wss", _)) => {
                let builder = WsClientBuilder::default()
                    .max_request_size(u32::MAX)
                    .max_response_size(ANSWER_BYTES)
                    .request_timeout(self.timeout)
                    .max_buffer_capacity_per_subscription(BUFFER)
                    .enable_ws_ping(PingConfig::new())
                    .set_headers(headers(self.secret.as_ref())?);
                let client = self.trust.ws(builder, url, self.timeout).await;
                client
                    .map(Peer::Ws)
                    .map_err(|e| Failure::new(Exit::Unreachable, format!("{url}: {}", chain(&e))))
            }
            _ => Err(Failure::usage(format!(
                "{url}: must begin with http://, https://, ws:// or wss://"
            ))),
        }
    }
}

/// What `--token` or `--token-file` say.
pub(super) fn secret(matches: &ArgMatches) -> Result<Option<Secret>> {
    if let Some(path) = matches.get_one::<PathBuf>("token_file") {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|e| Failure::from(e).during(path.display()))?;
        return Ok(Some(Secret::new(text.trim())));
    }
    let text = matches.get_one::<String>("token").filter(|text| !text.is_empty());
    Ok(text.map(|text| Secret::new(text.trim())))
}

/// The headers that prove who calls.
pub(super) fn headers(secret: Option<&Secret>) -> Result<HeaderMap> {
    let Some(secret) = secret else { return Ok(HeaderMap::new()) };
    client::bearer(secret).ok_or_else(|| Failure::usage("the token holds what no header can carry"))
}

impl Peer {
    /// Calls a method.
    pub(super) async fn call(&self, method: &str, params: Value) -> Result<Value> {
        match self {
            Self::Inside(app) => {
                let (entry, params) = (find(method)?, params.to_string());
                let answer = entry.call(inside(app), &params).await?;
                serde_json::from_str(answer.get())
                    .map_err(|e| Failure::failed(format!("the answer cannot be read: {e}")))
            }
            Self::Http(client) => Ok(client.request(method, Params(params)).await?),
            Self::Ws(client) => Ok(client.request(method, Params(params)).await?),
        }
    }

    /// Opens a subscription; the stream ends when the coordinator or the connection ends it.
    pub(super) async fn subscribe(
        &self,
        method: &str,
        params: Value,
    ) -> Result<BoxStream<'static, Value>> {
        let entry = find(method)?;
        match self {
            Self::Inside(app) => {
                let params = params.to_string();
                let items = entry.open(inside(app), &params).await?;
                Ok(items.notes.filter_map(|note| ready(read(note))).boxed())
            }
            Self::Http(_) => Err(Failure::usage("subscriptions need a ws:// address")),
            Self::Ws(client) => {
                let close =
                    entry.def.spec.push.map_or("events.unsubscribe", |push| push.unsubscribe);
                let items = client.subscribe::<Value, _>(method, Params(params), close).await?;
                Ok(items.filter_map(|item| async move { item.ok() }).boxed())
            }
        }
    }
}

/// The WebSocket of a coordinator that was reached by `url` and says that it is at `http` and `ws`.
///
/// Where both are at one address, that is reached by the name in `url`, which may be all that a
/// certificate or the network between knows; the port is the one that was said.
fn beside(url: &str, http: &str, ws: &str) -> String {
    let parts = |url: &str| {
        let (scheme, rest) = url.split_once("://")?;
        let uri: hyper::Uri = format!("http://{}", rest.split('/').next()?).parse().ok()?;
        Some((scheme.to_owned(), uri.host()?.to_owned(), uri.port_u16()))
    };
    match (parts(url), parts(http), parts(ws)) {
        (Some((_, host, _)), Some((_, same, _)), Some((scheme, bound, Some(port))))
            if same == bound =>
        {
            format!("{scheme}://{host}:{port}")
        }
        _ => ws.to_owned(),
    }
}

/// A call from inside is the operator's own.
fn inside(app: &Arc<App>) -> Cx {
    Cx::inside(Arc::clone(app), Caller::Operator)
}

/// A notification the way it would come over the wire.
fn read(note: Note) -> Option<Value> {
    match note {
        Note::Item(json) | Note::Placed { json, .. } => serde_json::from_str(json.get()).ok(),
        Note::Event(event) => serde_json::from_str(event.raw().get()).ok(),
        Note::Lagged => Some(json!({ "lagged": {} })),
    }
}

fn find(method: &str) -> Result<&'static crate::method::Entry> {
    let found = face::entries().iter().find(|entry| entry.def.spec.name == method);
    found.ok_or_else(|| Failure::usage(format!("there is no method {method}")))
}

struct Params(Value);

impl ToRpcParams for Params {
    fn to_rpc_params(self) -> Result<Option<Box<RawValue>>, serde_json::Error> {
        match self.0 {
            Value::Null => Ok(None),
            params => to_raw_value(&params).map(Some),
        }
    }
}

impl From<WireError> for Failure {
    fn from(err: WireError) -> Self {
        match err {
            WireError::Call(error) => {
                let data = error.data().and_then(|data| serde_json::from_str(data.get()).ok());
                Self::answered(error.code(), error.message(), data.as_ref())
            }
            WireError::RequestTimeout => Self::new(Exit::TimedOut, "no answer in time"),
            WireError::Transport(cause) => {
                Self::new(Exit::Unreachable, format!("cannot reach it: {}", chain(cause.as_ref())))
            }
            WireError::RestartNeeded(_) | WireError::ServiceDisconnect => {
                Self::new(Exit::Unreachable, "the connection was lost")
            }
            other => Self::failed(other.to_string()),
        }
    }
}

/// An error with its causes, each of them once.
fn chain(err: &(dyn std::error::Error + 'static)) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        let said = err.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = err.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_port_is_reached_by_the_same_name() {
        let ws = beside("https://m.example:1/x", "https://0.0.0.0:9652", "wss://0.0.0.0:9653");
        assert_eq!(ws, "wss://m.example:9653");
        let ws = beside("http://localhost:9652", "http://127.0.0.1:9652", "ws://127.0.0.1:9653");
        assert_eq!(ws, "ws://localhost:9653");
        let elsewhere = beside("http://m.example", "http://192.0.2.1:1", "ws://192.0.2.2:2");
        assert_eq!(elsewhere, "ws://192.0.2.2:2");
        let six = beside("http://[::1]:9652", "http://[::1]:9652", "ws://[::1]:9653");
        assert_eq!(six, "ws://[::1]:9653");
    }
}
