//! The certificate that connections are encrypted with, and how it is replaced while running.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use tokio_rustls::TlsAcceptor;

use crate::config::{Config, ConfigError};

/// The one protocol inside.
const HTTP: &[u8] = b"http/1.1";
/// Files larger than this hold something else.
const FILE_BYTES: u64 = 1 << 20;

/// A certificate with its key, read from files, and read again when asked to.
pub(super) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<Pair>>,
}

/// What is in use: connections that began under it go on under it.
struct Pair {
    settings: Arc<ServerConfig>,
    leaf: CertificateDer<'static>,
}

impl Tls {
    /// As configured; none when nothing is.
    ///
    /// # Errors
    /// When a file is missing, or does not hold what it should, or the two do not belong together.
    pub(super) fn configured(config: &Config) -> Result<Option<Self>, ConfigError> {
        config.check_transport()?;
        let (Some(certificate), Some(key)) = (&config.tls_cert, &config.tls_key) else {
            return Ok(None);
        };
        let pair = Pair::read(certificate, key)?;
        Ok(Some(Self {
            certificate: certificate.clone(),
            key: key.clone(),
            current: RwLock::new(Arc::new(pair)),
        }))
    }

    /// Reads the files again; what is in use stays when they cannot be used.
    ///
    /// # Errors
    /// As [`Self::configured`].
    pub(super) fn reload(&self) -> Result<(), ConfigError> {
        let pair = Pair::read(&self.certificate, &self.key)?;
        *self.current.write() = Arc::new(pair);
        Ok(())
    }

    /// For a connection that begins now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.current.read().settings).into()
    }

    /// Whether the certificate is for this host, a name or an address.
    pub(super) fn is_for(&self, host: &str) -> bool {
        let pair = Arc::clone(&self.current.read());
        let Ok(name) = ServerName::try_from(host) else { return false };
        ParsedCertificate::try_from(&pair.leaf)
            .is_ok_and(|leaf| verify_server_name(&leaf, &name).is_ok())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Pair {
    fn read(certificate: &Path, key: &Path) -> Result<Self, ConfigError> {
        let bad = |setting, path: &Path, reason: &dyn fmt::Display| {
            ConfigError::Refused(format!("{setting} {}: {reason}", path.display()))
        };
        let bad_certificate = |reason: &dyn fmt::Display| bad("tls_cert", certificate, reason);
        let bad_key = |reason: &dyn fmt::Display| bad("tls_key", key, reason);
        let text = read(certificate).map_err(|e| bad_certificate(&e))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let chain = chain.map_err(|e| bad_certificate(&format_args!("not PEM: {e}")))?;
        let leaf = chain.first().cloned();
        let leaf = leaf.ok_or_else(|| bad_certificate(&"there is no certificate in it"))?;
        ParsedCertificate::try_from(&leaf)
            .map_err(|e| bad_certificate(&format_args!("the first certificate: {e}")))?;
        let text = read(key).map_err(|e| bad_key(&e))?;
        let private = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
            bad_key(&"there is no private key in it that can be read (PEM, not encrypted)")
        })?;
        let mut settings = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| ConfigError::Refused(format!("TLS: {e}")))?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|e| match e {
                rustls::Error::InconsistentKeys(_) => bad_key(&format_args!(
                    "not the key of the certificate in {}",
                    certificate.display()
                )),
                e => bad_key(&e),
            })?;
        settings.alpn_protocols = vec![HTTP.to_vec()];
        Ok(Self { settings: Arc::new(settings), leaf })
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

/// Refuses TLS settings that no server could start with: before anything else is begun.
///
/// # Errors
/// When other machines could read along, or the certificate or its key cannot be used; the message
/// says what to do.
pub fn check_tls(config: &Config) -> Result<(), ConfigError> {
    Tls::configured(config).map(drop)
}
