//! Every setting in one list; flags, environment names, file keys and `muster config` are read off it.

use std::num::NonZeroU32;

use super::transport::{Hosts, Origins, RateLimit};
use super::value::{
    bytes, in_seconds, ip, level, number, optional_path, path, port, positive, seconds, shown,
    small, switch,
};
use super::{Config, compute, directory};
use crate::telemetry::LogFormat;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in the file.
    pub key: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// What it is for.
    pub doc: &'static str,
    pub(super) read: fn(&mut Config, &str) -> Result<(), String>,
    pub(super) show: fn(&Config) -> String,
}

/// What the values of a setting are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An IP address.
    Ip,
    /// A port; 0 picks a free one.
    Port,
    /// A path.
    Path,
    /// A whole number.
    Count,
    /// A number of bytes; `KiB`, `MiB` and `GiB` may follow.
    Bytes,
    /// Seconds, with a fraction where wanted.
    Seconds,
    /// `true` or `false`.
    Switch,
    /// A word or a text.
    Text,
}

impl Kind {
    /// The placeholder in help texts.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Ip => "IP",
            Self::Port => "PORT",
            Self::Path => "PATH",
            Self::Count => "N",
            Self::Bytes => "BYTES",
            Self::Seconds => "SECONDS",
            Self::Switch => "BOOL",
            Self::Text => "TEXT",
        }
    }

    /// Whether its values are numbers in JSON and TOML.
    pub fn is_number(self) -> bool {
        matches!(self, Self::Port | Self::Count | Self::Bytes | Self::Seconds)
    }
}

impl Setting {
    /// The command line flag, without the dashes before it.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("MUSTER_{}", self.key.to_ascii_uppercase())
    }

    /// What applies when nobody sets it.
    pub fn default_text(&self) -> String {
        match self.key {
            "backup_dir" => "<data_dir>/backups".to_owned(),
            _ => match (self.show)(&Config::default()) {
                nothing if nothing.is_empty() => "none".to_owned(),
                text => text,
            },
        }
    }
}

/// All settings, in the order in which help and `muster config` show them.
pub const SETTINGS: &[Setting] = &joined::<
    { CORE.len() + compute::SETTINGS.len() + directory::SETTINGS.len() },
>(&[CORE, compute::SETTINGS, directory::SETTINGS]);

/// Puts lists together.
#[expect(clippy::indexing_slicing, reason = "worked out by the compiler, which checks it")]
const fn joined<const N: usize>(lists: &[&[Setting]]) -> [Setting; N] {
    let mut all = [CORE[0]; N];
    let (mut list, mut from, mut to) = (0, 0, 0);
    while to < N {
        if from == lists[list].len() {
            (list, from) = (list + 1, 0);
        } else {
            all[to] = lists[list][from];
            (from, to) = (from + 1, to + 1);
        }
    }
    all
}

const CORE: &[Setting] = &[
    Setting {
        key: "api_http_ip",
        kind: Kind::Ip,
        doc: "Address on which HTTP is answered",
        read: |config, text| ip(text).map(|ip| config.http.set_ip(ip)),
        show: |config| config.http.ip().to_string(),
    },
    Setting {
        key: "api_http_port",
        kind: Kind::Port,
        doc: "Port on which HTTP is answered; 0 picks a free one",
        read: |config, text| port(text).map(|port| config.http.set_port(port)),
        show: |config| config.http.port().to_string(),
    },
    Setting {
        key: "api_ws_ip",
        kind: Kind::Ip,
        doc: "Address on which WebSocket is answered",
        read: |config, text| ip(text).map(|ip| config.ws.set_ip(ip)),
        show: |config| config.ws.ip().to_string(),
    },
    Setting {
        key: "api_ws_port",
        kind: Kind::Port,
        doc: "Port on which WebSocket is answered; 0 picks a free one",
        read: |config, text| port(text).map(|port| config.ws.set_port(port)),
        show: |config| config.ws.port().to_string(),
    },
    Setting {
        key: "tls_cert",
        kind: Kind::Path,
        doc: "Certificate chain for TLS on both ports, PEM; read again on SIGHUP",
        read: |config, text| optional_path(text).map(|path| config.tls_cert = path),
        show: |config| shown(config.tls_cert.as_deref()),
    },
    Setting {
        key: "tls_key",
        kind: Kind::Path,
        doc: "Private key of the certificate, PEM",
        read: |config, text| optional_path(text).map(|path| config.tls_key = path),
        show: |config| shown(config.tls_key.as_deref()),
    },
    Setting {
        key: "tls_handshake_timeout",
        kind: Kind::Seconds,
        doc: "How long it may take until a connection is encrypted",
        read: |config, text| positive(text).map(|limit| config.tls_handshake_timeout = limit),
        show: |config| in_seconds(config.tls_handshake_timeout),
    },
    Setting {
        key: "allow_plaintext",
        kind: Kind::Switch,
        doc: "Listen beyond loopback without TLS: behind a proxy that has it, or a private wire",
        read: |config, text| switch(text).map(|on| config.allow_plaintext = on),
        show: |config| config.allow_plaintext.to_string(),
    },
    Setting {
        key: "allow_hosts",
        kind: Kind::Text,
        doc: "Names this coordinator is reached by, comma-separated (*.example.com for all below)",
        read: |config, text| Hosts::read(text).map(|hosts| config.allow_hosts = hosts),
        show: |config| config.allow_hosts.to_string(),
    },
    Setting {
        key: "allow_origins",
        kind: Kind::Text,
        doc: "Sites whose pages may call, comma-separated, such as https://console.example.com",
        read: |config, text| Origins::read(text).map(|origins| config.allow_origins = origins),
        show: |config| config.allow_origins.to_string(),
    },
    Setting {
        key: "rate_limit",
        kind: Kind::Text,
        doc: "Calls per second of one caller; 0: any; auto: 1000 beyond loopback, any on it",
        read: |config, text| RateLimit::read(text).map(|limit| config.rate_limit = limit),
        show: |config| config.rate_limit.to_string(),
    },
    Setting {
        key: "rate_burst",
        kind: Kind::Count,
        doc: "Calls that one caller may make at once; 0: those of two seconds",
        read: |config, text| {
            small(text, 0..=1_000_000).map(|burst| config.rate_burst = NonZeroU32::new(burst))
        },
        show: |config| config.rate_burst.map_or(0, NonZeroU32::get).to_string(),
    },
    Setting {
        key: "max_connections_per_address",
        kind: Kind::Count,
        doc: "Open connections of one address on both ports together; 0: any",
        read: |config, text| {
            let most = small(text, 0..=1_000_000)?;
            config.max_connections_per_address = most;
            Ok(())
        },
        show: |config| config.max_connections_per_address.to_string(),
    },
    Setting {
        key: "data_dir",
        kind: Kind::Path,
        doc: "Directory that holds everything; one process at a time",
        read: |config, text| path(text).map(|path| config.data_dir = path),
        show: |config| config.data_dir.display().to_string(),
    },
    Setting {
        key: "backup_dir",
        kind: Kind::Path,
        doc: "Directory below which system.backup may write",
        read: |config, text| path(text).map(|path| config.backup_dir = path),
        show: |config| config.backup_dir.display().to_string(),
    },
    Setting {
        key: "operator_token_file",
        kind: Kind::Path,
        doc: "File with operators' tokens, one per line; besides MUSTER_OPERATOR_TOKEN and those of muster token",
        read: |config, text| {
            config.operator_token_file = Some(text).filter(|text| !text.is_empty()).map(Into::into);
            Ok(())
        },
        show: |config| {
            config
                .operator_token_file
                .as_ref()
                .map_or_else(String::new, |path| path.display().to_string())
        },
    },
    Setting {
        key: "session_lifetime",
        kind: Kind::Seconds,
        doc: "How long a session of one who signed in lasts",
        read: |config, text| positive(text).map(|lifetime| config.session_lifetime = lifetime),
        show: |config| in_seconds(config.session_lifetime),
    },
    Setting {
        key: "runner_grace",
        kind: Kind::Seconds,
        doc: "How long a lost runner may take to come back before its work goes to others",
        read: |config, text| seconds(text).map(|grace| config.runner_grace = grace),
        show: |config| in_seconds(config.runner_grace),
    },
    Setting {
        key: "slow_reader_timeout",
        kind: Kind::Seconds,
        doc: "How long a socket may take nothing before its subscriptions end as lagged",
        read: |config, text| positive(text).map(|limit| config.slow_reader_timeout = limit),
        show: |config| in_seconds(config.slow_reader_timeout),
    },
    Setting {
        key: "events_keep",
        kind: Kind::Count,
        doc: "Events that are kept for subscribers to resume from",
        read: |config, text| number(text, 1..=u64::MAX).map(|keep| config.events_keep = keep),
        show: |config| config.events_keep.to_string(),
    },
    Setting {
        key: "events_keep_age",
        kind: Kind::Seconds,
        doc: "Age at which events go; 0: only their number counts",
        read: |config, text| {
            seconds(text).map(|age| config.events_keep_age = Some(age).filter(|age| !age.is_zero()))
        },
        show: |config| in_seconds(config.events_keep_age.unwrap_or_default()),
    },
    Setting {
        key: "local_runner",
        kind: Kind::Switch,
        doc: "Serve runners with `local: true` in this process",
        read: |config, text| switch(text).map(|on| config.local_runner = on),
        show: |config| config.local_runner.to_string(),
    },
    Setting {
        key: "js_runner",
        kind: Kind::Switch,
        doc: "Call work functions of the public compute group in this process",
        read: |config, text| switch(text).map(|on| config.js_runner = on),
        show: |config| config.js_runner.to_string(),
    },
    Setting {
        key: "js_memory",
        kind: Kind::Bytes,
        doc: "Memory that a work function in JavaScript may take",
        read: |config, text| {
            bytes(text, 1 << 20..=1 << 40).map(|most| config.js_memory_bytes = most)
        },
        show: |config| config.js_memory_bytes.to_string(),
    },
    Setting {
        key: "local_slots",
        kind: Kind::Count,
        doc: "Jobs that the built-in runner works on at once",
        read: |config, text| small(text, 1..=1_024).map(|slots| config.local_slots = slots),
        show: |config| config.local_slots.to_string(),
    },
    Setting {
        key: "slice_timeout",
        kind: Kind::Seconds,
        doc: "How long a work function may take for one slice of a job",
        read: |config, text| positive(text).map(|limit| config.slice_timeout = limit),
        show: |config| in_seconds(config.slice_timeout),
    },
    Setting {
        key: "strict_accounts",
        kind: Kind::Switch,
        doc: "Refuse work that is paid from an address that is no account of the identity yet",
        read: |config, text| switch(text).map(|on| config.strict_accounts = on),
        show: |config| config.strict_accounts.to_string(),
    },
    Setting {
        key: "max_body",
        kind: Kind::Bytes,
        doc: "Largest request body or WebSocket message; of dcp.* 64 MiB where this is less",
        read: |config, text| {
            let most = bytes(text, 1_024..=u64::from(u32::MAX))?;
            config.max_body_bytes = most.try_into().map_err(|_| "too large".to_owned())?;
            Ok(())
        },
        show: |config| config.max_body_bytes.to_string(),
    },
    Setting {
        key: "max_buffered",
        kind: Kind::Bytes,
        doc: "Bytes of bodies and messages above 64 KiB that are held at once, all together",
        read: |config, text| {
            bytes(text, 1 << 20..=1 << 50).map(|most| config.max_buffered_bytes = most)
        },
        show: |config| config.max_buffered_bytes.to_string(),
    },
    Setting {
        key: "max_batch",
        kind: Kind::Count,
        doc: "Calls in one batch",
        read: |config, text| small(text, 1..=1_000_000).map(|most| config.max_batch = most),
        show: |config| config.max_batch.to_string(),
    },
    Setting {
        key: "max_connections",
        kind: Kind::Count,
        doc: "Open connections on both ports together",
        read: |config, text| small(text, 1..=1_000_000).map(|most| config.max_connections = most),
        show: |config| config.max_connections.to_string(),
    },
    Setting {
        key: "max_subscriptions",
        kind: Kind::Count,
        doc: "Subscriptions of one connection",
        read: |config, text| small(text, 1..=1_000_000).map(|most| config.max_subscriptions = most),
        show: |config| config.max_subscriptions.to_string(),
    },
    Setting {
        key: "max_in_flight",
        kind: Kind::Count,
        doc: "Calls of one WebSocket connection that may run at once",
        read: |config, text| small(text, 1..=1_000_000).map(|most| config.max_in_flight = most),
        show: |config| config.max_in_flight.to_string(),
    },
    Setting {
        key: "cache",
        kind: Kind::Bytes,
        doc: "Memory for cached pages of the state",
        read: |config, text| bytes(text, 1 << 20..=1 << 40).map(|cache| config.cache_bytes = cache),
        show: |config| config.cache_bytes.to_string(),
    },
    Setting {
        key: "drain_timeout",
        kind: Kind::Seconds,
        doc: "How long a graceful stop may take",
        read: |config, text| seconds(text).map(|limit| config.drain_timeout = limit),
        show: |config| in_seconds(config.drain_timeout),
    },
    Setting {
        key: "log_format",
        kind: Kind::Text,
        doc: "How log lines are written: text, json, or auto (text on a terminal, else json)",
        read: |config, text| {
            config.log_format = match text {
                "auto" => LogFormat::Auto,
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return Err(format!("must be auto, text or json, not `{text}`")),
            };
            Ok(())
        },
        show: |config| format!("{:?}", config.log_format).to_ascii_lowercase(),
    },
    Setting {
        key: "log_level",
        kind: Kind::Text,
        doc: "off, error, warn, info, debug, trace, or directives such as info,muster::store=debug",
        read: |config, text| level(text).map(|level| config.log_level = level),
        show: |config| config.log_level.clone(),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_can_be_read_back() {
        for setting in SETTINGS {
            let mut config = Config::default();
            let shown = (setting.show)(&config);
            (setting.read)(&mut config, &shown).unwrap();
            assert_eq!((setting.show)(&config), shown, "{}", setting.key);
            assert!(!setting.doc.is_empty() && !setting.doc.ends_with('.'), "{}", setting.key);
        }
    }

    #[test]
    fn values_out_of_range_are_refused_with_what_they_must_be() {
        for (key, text, want) in [
            ("api_http_port", "65536", "0 to 65535"),
            ("api_ws_ip", "localhost", "an IP address"),
            ("max_batch", "0", "1 to 1000000"),
            ("max_body", "10 MB", "10MiB"),
            ("runner_grace", "-1", "0 or more"),
            ("runner_grace", "NaN", "0 or more"),
            ("slow_reader_timeout", "0", "more than 0"),
            ("local_runner", "maybe", "true or false"),
            ("log_format", "xml", "auto, text or json"),
            ("data_dir", "", "not empty"),
            ("log_level", "a=b=c", "directives"),
        ] {
            let setting = SETTINGS.iter().find(|setting| setting.key == key).unwrap();
            let refusal = (setting.read)(&mut Config::default(), text).unwrap_err();
            assert!(refusal.contains(want), "{key}: {refusal}");
        }
    }
}
