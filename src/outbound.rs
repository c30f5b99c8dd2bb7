//! Requests to other machines: bounded in time and size, and never to where an answer points.

use std::error::Error as _;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::time::timeout;

use crate::config::WebOrigin;

/// Longest URL, bytes.
const URL: usize = 2_048;
/// For a connection to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(30);
/// Connections to one host that are kept.
const KEPT: usize = 8;
/// What is read of an answer whose body nobody wants, so that its connection can be used again.
const UNWANTED: usize = 64 << 10;

type Inner = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client for `http://` and `https://`; redirects are not followed.
#[derive(Clone, Default)]
pub struct Outbound {
    /// Made when it is first needed: reading what this machine trusts takes a moment.
    client: Arc<OnceLock<Result<Inner, String>>>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbound")
    }
}

/// A URL of another machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    uri: Uri,
    origin: WebOrigin,
}

impl Url {
    /// Reads `http://host[:port]/path?query`; none for anything else, such as one with a password.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > URL || text.contains('#') {
            return None;
        }
        let uri: Uri = text.parse().ok()?;
        let scheme = uri.scheme_str()?;
        // A name and a password before the host are no origin.
        let origin = WebOrigin::parse(&format!("{scheme}://{}", uri.authority()?))?;
        Some(Self { uri, origin })
    }

    /// Where it leads.
    pub const fn origin(&self) -> &WebOrigin {
        &self.origin
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Not in time.
    #[error("no answer within {} seconds", .0.as_secs())]
    TooSlow(Duration),
    /// It is larger than so many bytes.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The connection failed.
    #[error("{0}")]
    Failed(String),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status, whatever it is.
    pub status: u16,
    /// What `Content-Type` says.
    pub media_type: Option<String>,
    /// The body; empty unless the status is good.
    pub body: Bytes,
}

impl Answer {
    /// Whether the status says that all is well.
    pub const fn is_good(&self) -> bool {
        self.status >= 200 && self.status <= 299
    }
}

impl Outbound {
    /// Sends JSON; what is answered besides the status is thrown away.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn post(
        &self,
        url: &Url,
        signature: (&'static str, &str),
        body: Bytes,
        within: Duration,
    ) -> Result<Answer, Unanswered> {
        let (name, value) = signature;
        let request = Request::builder()
            .method(Method::POST)
            .uri(url.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(name, value)
            .body(Full::new(body));
        let request = request.map_err(|err| Unanswered::Failed(err.to_string()))?;
        self.ask(request, None, within).await
    }

    /// Loads what is at a URL, up to so many bytes.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn get(
        &self,
        url: &Url,
        most: usize,
        within: Duration,
    ) -> Result<Answer, Unanswered> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = url.uri.clone();
        self.ask(request, Some(most), within).await
    }

    async fn ask(
        &self,
        mut request: Request<Full<Bytes>>,
        most: Option<usize>,
        within: Duration,
    ) -> Result<Answer, Unanswered> {
        let client = self.client.get_or_init(client).clone().map_err(Unanswered::Failed)?;
        let agent = concat!("muster/", env!("CARGO_PKG_VERSION"));
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(agent));
        let exchange = async {
            let answer = client.request(request).await.map_err(|err| {
                let cause = err.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                Unanswered::Failed(format!("{err}{cause}"))
            })?;
            read(answer, most).await
        };
        timeout(within, exchange).await.unwrap_or(Err(Unanswered::TooSlow(within)))
    }
}

async fn read(answer: Response<Incoming>, most: Option<usize>) -> Result<Answer, Unanswered> {
    let status = answer.status().as_u16();
    let media_type = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let media_type = media_type.map(str::to_owned);
    let good = Answer { status, media_type, body: Bytes::new() };
    let body = answer.into_body();
    match most.filter(|_| good.is_good()) {
        Some(most) => match Limited::new(body, most).collect().await {
            Ok(body) => Ok(Answer { body: body.to_bytes(), ..good }),
            Err(err) if err.is::<http_body_util::LengthLimitError>() => {
                Err(Unanswered::TooLarge(most))
            }
            Err(err) => Err(Unanswered::Failed(err.to_string())),
        },
        None => {
            // How it ends does not matter: the status has been said.
            let _ = Limited::new(body, UNWANTED).collect().await;
            Ok(good)
        }
    }
}

fn client() -> Result<Inner, String> {
    let settings = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|err| err.to_string())?
        .with_platform_verifier()
        .with_no_client_auth();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(settings)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(KEPT)
        .pool_timer(TokioTimer::new())
        .build(connector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_urls_are_read() {
        let origin = |text: &str| Url::parse(text).map(|url| url.origin().to_string());
        for (text, want) in [
            ("http://a.example/x?y=1", "http://a.example"),
            ("HTTPS://A.example:443", "https://a.example"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("http://[::1]:8080/a", "http://[::1]:8080"),
        ] {
            assert_eq!(origin(text).as_deref(), Some(want), "{text}");
        }
        for wrong in [
            "",
            "/x",
            "a.example",
            "ftp://a.example/",
            "file:///etc/passwd",
            "http://user:pw@a.example/",
            "http://a.example@b.example/",
            "http:///x",
            "http://a.example/#x",
            "http://a.example:x/",
            "http://a b/",
        ] {
            assert_eq!(origin(wrong), None, "{wrong}");
        }
        assert!(Url::parse(&format!("http://a/{}", "x".repeat(URL))).is_none());
    }
}
