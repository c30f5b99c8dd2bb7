//! Which certificates a client believes, and connections that are encrypted accordingly.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use jsonrpsee::core::client::Error;
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use jsonrpsee_ws_client::{WsClient, WsClientBuilder};
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Who vouches for the coordinators that are called over `https://` and `wss://`.
#[derive(Clone, Default)]
pub struct Trust {
    /// None: whoever this machine trusts.
    authorities: Option<Arc<RootCertStore>>,
}

impl Trust {
    /// Only the authorities whose certificates are in this file, PEM.
    ///
    /// # Errors
    /// When it cannot be read or holds no certificate.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let bad = |reason: &dyn fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {reason}", path.display()))
        };
        let text = std::fs::read(path).map_err(|e| bad(&e))?;
        let mut authorities = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|e| bad(&e))?;
            authorities.add(certificate).map_err(|e| bad(&e))?;
        }
        if authorities.is_empty() {
            return Err(bad(&"there is no certificate in it"));
        }
        Ok(Self { authorities: Some(Arc::new(authorities)) })
    }

    /// Settings for connections that believe these authorities.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    fn settings(&self) -> Result<ClientConfig, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        let builder = match &self.authorities {
            Some(authorities) => builder.with_root_certificates(Arc::clone(authorities)),
            None => builder.with_platform_verifier(),
        };
        Ok(builder.with_no_client_auth())
    }

    /// Builds a client for `http://…` or `https://…`.
    ///
    /// # Errors
    /// When the URL is malformed.
    pub fn http(&self, builder: HttpClientBuilder, url: &str) -> Result<HttpClient, Error> {
        let builder = match url.starts_with("https://") {
            true => builder.with_custom_cert_store(self.settings().map_err(transport)?),
            false => builder,
        };
        builder.build(url)
    }

    /// Connects a client to `ws://…` or `wss://…`, within a time.
    ///
    /// # Errors
    /// When the URL is malformed, nothing answers there in time, or nobody vouches for who does.
    pub async fn ws(
        &self,
        builder: WsClientBuilder,
        url: &str,
        within: Duration,
    ) -> Result<WsClient, Error> {
        let builder = builder.connection_timeout(within);
        let connected = async {
            if !url.starts_with("wss://") {
                return builder.build(url).await;
            }
            let stream = self.connect(url).await.map_err(transport)?;
            // jsonrpsee sees what is inside the encryption.
            let inside = url.replacen("wss", "ws", 1);
            builder.build_with_stream(inside, stream).await
        };
        // Its own limit ends with the TCP connection.
        match timeout(within, Box::pin(connected)).await {
            Ok(client) => client,
            Err(_) => Err(transport(io::Error::from(io::ErrorKind::TimedOut))),
        }
    }

    async fn connect(&self, url: &str) -> io::Result<TlsStream<TcpStream>> {
        let malformed = |_| io::Error::new(io::ErrorKind::InvalidInput, "malformed URL");
        let at = url.parse::<Uri>().map_err(|e| malformed(e.to_string()))?;
        let host = at.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(|e| malformed(e.to_string()))?;
        let tcp = TcpStream::connect((bare, at.port_u16().unwrap_or(443))).await?;
        tcp.set_nodelay(true)?;
        let settings = self.settings().map_err(io::Error::other)?;
        TlsConnector::from(Arc::new(settings)).connect(name, tcp).await
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authorities = self.authorities.as_ref().map(|authorities| authorities.len());
        f.debug_struct("Trust").field("authorities", &authorities).finish()
    }
}

fn transport(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Transport(Box::new(cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_vouches_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(Trust::of_file(&path).unwrap_err().to_string().contains("ca.pem"));
        std::fs::write(&path, "nothing").unwrap();
        assert!(Trust::of_file(&path).unwrap_err().to_string().contains("no certificate"));
    }
}
