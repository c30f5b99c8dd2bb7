//! One configuration: flags over environment over file over defaults, checked once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Everything that can be set, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where HTTP is answered.
    pub http: SocketAddr,
    /// Where WebSocket is answered.
    pub ws: SocketAddr,
    /// Where everything is stored.
    pub data_dir: PathBuf,
    /// Where backups go; relative paths of `system.backup` start here.
    pub backup_dir: PathBuf,
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
    /// Jobs that the built-in runner works on at once.
    pub local_slots: u32,
    /// Largest request body or WebSocket message, bytes.
    pub max_body_bytes: u32,
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
}

impl Default for Config {
    fn default() -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            http: SocketAddr::new(loopback, 9652),
            ws: SocketAddr::new(loopback, 9653),
            data_dir: PathBuf::from("muster-data"),
            backup_dir: PathBuf::from("muster-data/backups"),
            cache_bytes: 64 << 20,
            events_keep: 100_000,
            events_keep_age: None,
            slow_reader_timeout: Duration::from_secs(10),
            runner_grace: Duration::from_secs(30),
            local_runner: false,
            local_slots: 2,
            max_body_bytes: 10 << 20,
            max_batch: 1_000,
            max_connections: 2_000,
            max_subscriptions: 1_024,
            max_in_flight: 256,
            drain_timeout: Duration::from_secs(10),
        }
    }
}
