//! One configuration: flags over environment over file over defaults, checked once.

mod compute;
mod directory;
mod layers;
mod setting;
mod transport;
mod value;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

pub use compute::Compute;
pub use directory::{Directory, OwnAdvertisement};
pub use layers::{Effective, Layers, Origin, default_file};
pub use setting::{Kind, SETTINGS, Setting};
pub use transport::{Hosts, Origins, RateLimit, WebOrigin};

use crate::access::Secret;
use crate::telemetry::LogFormat;

/// Everything that can be set, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where HTTP is answered.
    pub http: SocketAddr,
    /// Where WebSocket is answered.
    pub ws: SocketAddr,
    /// The certificate chain that both listeners present, PEM; with [`Self::tls_key`] it turns TLS on.
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate, PEM.
    pub tls_key: Option<PathBuf>,
    /// How long it may take until a connection is encrypted.
    pub tls_handshake_timeout: Duration,
    /// Listen beyond loopback without TLS.
    pub allow_plaintext: bool,
    /// Hosts that this coordinator answers to, besides its addresses and those of its certificate.
    pub allow_hosts: Hosts,
    /// Sites whose pages may call, besides those that are served here.
    pub allow_origins: Origins,
    /// How often one caller may call.
    pub rate_limit: RateLimit,
    /// Calls that one caller may make at once before [`Self::rate_limit`] holds; none: twice that.
    pub rate_burst: Option<NonZeroU32>,
    /// Open connections of one address; 0: as many as there may be at all.
    pub max_connections_per_address: u32,
    /// Where everything is stored.
    pub data_dir: PathBuf,
    /// Where backups go; relative paths of `system.backup` start here.
    pub backup_dir: PathBuf,
    /// File with operators' tokens, one per line.
    pub operator_token_file: Option<PathBuf>,
    /// Tokens of that file and of the environment; never shown.
    pub operator_tokens: Vec<Secret>,
    /// How long a session lasts.
    pub session_lifetime: Duration,
    /// Memory for cached pages of the state, bytes.
    pub cache_bytes: u64,
    /// Events kept at least.
    pub events_keep: u64,
    /// Events older than this go.
    pub events_keep_age: Option<Duration>,
    /// How long a socket may take nothing before its subscriptions end as lagged.
    pub slow_reader_timeout: Duration,
    /// How long a lost runner may take to come back before its work goes to others.
    pub runner_grace: Duration,
    /// Serve runners with `local: true` in this process.
    pub local_runner: bool,
    /// Call work functions of the public compute group in this process, and nothing else unless
    /// `local_runner` says so.
    pub js_runner: bool,
    /// Memory that a work function in JavaScript may take, bytes.
    pub js_memory_bytes: u64,
    /// Jobs that the built-in runner works on at once.
    pub local_slots: u32,
    /// How long a work function may take for one slice.
    pub slice_timeout: Duration,
    /// Only payment accounts that are known already may be named by address.
    pub strict_accounts: bool,
    /// Largest request body or WebSocket message, bytes.
    pub max_body_bytes: u32,
    /// Bytes of requests and messages above 64 KiB that are held at once, all together.
    pub max_buffered_bytes: u64,
    /// Calls in one batch.
    pub max_batch: u32,
    /// Open connections on both ports together.
    pub max_connections: u32,
    /// Subscriptions of one connection.
    pub max_subscriptions: u32,
    /// Calls of one WebSocket connection that may run at once.
    pub max_in_flight: u32,
    /// Bound on a graceful stop.
    pub drain_timeout: Duration,
    /// What the compute face may do that not every operator wants.
    pub compute: Compute,
    /// What the directory accepts and keeps.
    pub directory: Directory,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Which log lines are written: a level, or directives such as `info,muster::engine=debug`.
    pub log_level: String,
}

impl Default for Config {
    fn default() -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            http: SocketAddr::new(loopback, 9652),
            ws: SocketAddr::new(loopback, 9653),
            tls_cert: None,
            tls_key: None,
            tls_handshake_timeout: Duration::from_secs(10),
            allow_plaintext: false,
            allow_hosts: Hosts::default(),
            allow_origins: Origins::default(),
            rate_limit: RateLimit::Auto,
            rate_burst: None,
            max_connections_per_address: 0,
            data_dir: PathBuf::from("muster-data"),
            backup_dir: PathBuf::from("muster-data/backups"),
            operator_token_file: None,
            operator_tokens: Vec::new(),
            session_lifetime: Duration::from_secs(12 * 3_600),
            cache_bytes: 32 << 20,
            events_keep: 100_000,
            events_keep_age: None,
            slow_reader_timeout: Duration::from_secs(10),
            runner_grace: Duration::from_secs(30),
            local_runner: false,
            js_runner: false,
            js_memory_bytes: 256 << 20,
            local_slots: 2,
            slice_timeout: Duration::from_secs(30),
            strict_accounts: false,
            max_body_bytes: 10 << 20,
            max_buffered_bytes: 512 << 20,
            max_batch: 1_000,
            max_connections: 2_000,
            max_subscriptions: 1_024,
            max_in_flight: 256,
            drain_timeout: Duration::from_secs(10),
            compute: Compute::default(),
            directory: Directory::default(),
            log_format: LogFormat::Auto,
            log_level: "info".to_owned(),
        }
    }
}

impl Config {
    /// Refuses what does not fit together, whatever each setting is by itself.
    ///
    /// # Errors
    /// When both ports are the same one.
    pub fn check(&self) -> Result<(), ConfigError> {
        let port = self.http.port();
        let overlap = self.http.ip() == self.ws.ip()
            || self.http.ip().is_unspecified()
            || self.ws.ip().is_unspecified();
        if port != 0 && port == self.ws.port() && overlap {
            return Err(ConfigError::Refused(format!(
                "api_http_port and api_ws_port are both {port}: give each its own"
            )));
        }
        Ok(())
    }

    /// The setting and the address of a listener that other machines can reach, if there is one.
    pub fn exposed(&self) -> Option<(&'static str, IpAddr)> {
        let listeners = [("api_http_ip", self.http.ip()), ("api_ws_ip", self.ws.ip())];
        listeners.into_iter().find(|(_, address)| !address.is_loopback())
    }

    /// Refuses to be reached from other machines as long as nobody has to prove who he is:
    /// `has_tokens` says whether there is an operator's token, stored or configured.
    ///
    /// # Errors
    /// When a listener is not on loopback and there is none; the message says what to do.
    pub fn check_exposure(&self, has_tokens: bool) -> Result<(), ConfigError> {
        let Some((key, address)) = self.exposed().filter(|_| !has_tokens) else { return Ok(()) };
        let (flag, dir) = (key.replace('_', "-"), self.data_dir.display());
        Err(ConfigError::Refused(format!(
            "{key} is {address}, which other machines can reach, and there is no operator token \
             that a caller could have to show: create one first (muster token create NAME \
             --data-dir {dir}), or name a file with one (--operator-token-file), or use a loopback \
             address (--{flag} 127.0.0.1)"
        )))
    }
}

/// Why a configuration cannot be used; the message names the setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read, or is not TOML.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file sets something that does not exist.
    #[error("{path}: there is no setting `{key}`{hint}")]
    Unknown {
        /// The file.
        path: String,
        /// The key that nothing is known of.
        key: String,
        /// The setting that may have been meant.
        hint: String,
    },
    /// A value does not fit its setting.
    #[error("{key} (from {origin}): {reason}")]
    Value {
        /// The setting.
        key: &'static str,
        /// Where the value comes from.
        origin: String,
        /// What it must be.
        reason: String,
    },
    /// Values that fit alone, but not together, or not in this release.
    #[error("{0}")]
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_beyond_loopback_is_refused_with_the_way_out() {
        let http = "0.0.0.0:9652".parse().unwrap();
        let refusal = Config { http, ..Config::default() }.check_exposure(false).unwrap_err();
        assert!(refusal.to_string().contains("--api-http-ip 127.0.0.1"), "{refusal}");
        let ws = "[::1]:9653".parse().unwrap();
        assert_eq!(Config { ws, ..Config::default() }.check_exposure(false), Ok(()));
        assert_eq!(Config { http, ..Config::default() }.check_exposure(true), Ok(()));
    }

    #[test]
    fn two_listeners_do_not_share_a_port() {
        let ws = Config::default().http;
        assert!(Config { ws, ..Config::default() }.check().is_err());
        let free = "127.0.0.1:0".parse().unwrap();
        assert_eq!(Config { http: free, ws: free, ..Config::default() }.check(), Ok(()));
    }
}
