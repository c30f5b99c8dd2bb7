//! Settings about who may connect, and how: TLS, hosts, origins, rates.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use super::{Config, ConfigError};

/// Calls per second of one caller where other machines can reach a listener and nothing is said.
const USUAL_RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);
/// Names and origins in one list.
const MOST: usize = 1_000;

impl Config {
    /// Refuses to let other machines' calls travel where everybody on the way can read them.
    ///
    /// # Errors
    /// When a listener is not on loopback and there is no TLS and no word that this is wanted, or
    /// when TLS is only half set up; the message says what to do. Whether the files can be used is
    /// found out when the server starts.
    pub fn check_transport(&self) -> Result<(), ConfigError> {
        let missing = match (&self.tls_cert, &self.tls_key) {
            (Some(_), Some(_)) => return Ok(()),
            (Some(_), None) => Some(("tls_cert", "tls_key", "--tls-key with the private key")),
            (None, Some(_)) => Some(("tls_key", "tls_cert", "--tls-cert with the certificate")),
            (None, None) => None,
        };
        if let Some((set, missing, how)) = missing {
            return Err(ConfigError::Refused(format!(
                "{set} is set and {missing} is not: TLS needs both; add {how}"
            )));
        }
        for (key, address) in [("api_http_ip", self.http), ("api_ws_ip", self.ws)] {
            if !address.ip().to_canonical().is_loopback() && !self.allow_plaintext {
                let flag = key.replace('_', "-");
                return Err(ConfigError::Refused(format!(
                    "{key} is {}, which other machines can reach, and there is no TLS: everybody on \
                     the way could read tokens and work along. Give a certificate and its key \
                     (--tls-cert FILE --tls-key FILE), or use a loopback address (--{flag} \
                     127.0.0.1), or, where a proxy or the network itself encrypts, say \
                     --allow-plaintext=true",
                    address.ip()
                )));
            }
        }
        Ok(())
    }

    /// Whether both listeners speak TLS.
    pub fn has_tls(&self) -> bool {
        self.tls_cert.is_some() && self.tls_key.is_some()
    }

    /// The schemes of this coordinator's URLs, HTTP's and WebSocket's.
    pub fn schemes(&self) -> (&'static str, &'static str) {
        if self.has_tls() { ("https", "wss") } else { ("http", "ws") }
    }

    /// Calls per second and at once that one caller may make; none: any.
    pub fn rates(&self) -> Option<(NonZeroU32, NonZeroU32)> {
        let local = [self.http, self.ws].iter().all(|at| at.ip().to_canonical().is_loopback());
        let rate = match self.rate_limit {
            RateLimit::Auto if local => return None,
            RateLimit::Auto => USUAL_RATE,
            RateLimit::PerSecond(rate) => NonZeroU32::new(rate)?,
        };
        Some((rate, self.rate_burst.unwrap_or(rate.saturating_add(rate.get()))))
    }
}

/// How often one caller may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimit {
    /// 1,000 times a second where other machines can reach a listener, any number of times where
    /// they cannot; the operator on this machine as often as wanted.
    Auto,
    /// So many times a second, everybody; 0: any number of times.
    PerSecond(u32),
}

impl RateLimit {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let must = || format!("must be auto or calls per second, 0 to 1000000, not `{text}`");
        match text {
            "auto" => Ok(Self::Auto),
            text => {
                let rate = text.replace('_', "").parse().ok().filter(|rate| *rate <= 1_000_000);
                rate.map(Self::PerSecond).ok_or_else(must)
            }
        }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::PerSecond(rate) => rate.fmt(f),
        }
    }
}

/// Names and addresses of hosts; `*.` before a name stands for everything below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// From a comma-separated list.
    ///
    /// # Errors
    /// When one is neither a name nor an address; the text says what it must be.
    pub fn read(text: &str) -> Result<Self, String> {
        let hosts = items(text, |host| {
            let bare = host.strip_prefix("*.").unwrap_or(host);
            let fits = host.parse::<IpAddr>().is_ok() || is_name(bare);
            let must = || format!("must be names or addresses without port, not `{host}`");
            fits.then(|| host.trim_end_matches('.').to_ascii_lowercase()).ok_or_else(must)
        });
        hosts.map(Self)
    }

    /// Whether a host, without port and brackets, is one of them.
    pub fn contain(&self, host: &str) -> bool {
        let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        self.0.iter().any(|allowed| match (allowed.strip_prefix('*'), address) {
            (Some(suffix), None) => {
                let start = host.len().checked_sub(suffix.len()).filter(|start| *start > 0);
                let end = start.and_then(|start| host.get(start..));
                end.is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
            (Some(_), Some(_)) => false,
            (None, Some(ip)) => allowed.parse::<IpAddr>().is_ok_and(|one| one.to_canonical() == ip),
            (None, None) => allowed.eq_ignore_ascii_case(host),
        })
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// Where a page comes from: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOrigin {
    /// `http` or `https`.
    pub secure: bool,
    /// Lower case, without brackets.
    pub host: String,
    /// The port, also where it is the usual one.
    pub port: u16,
}

impl WebOrigin {
    /// Reads what browsers send: `scheme://host`, with the port if it is not the usual one.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let secure = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, port.is_empty().then_some("").or_else(|| port.strip_prefix(':'))?)
            }
            None => {
                let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
                is_name(host).then_some(())?;
                (host, port)
            }
        };
        let port = match port {
            "" if authority.ends_with(':') => return None,
            "" if secure => 443,
            "" => 80,
            port if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
            _ => return None,
        };
        Some(Self { secure, host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secure, host, port } = self;
        let (scheme, usual) = if *secure { ("https", 443) } else { ("http", 80) };
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{host}{close}")?;
        if *port == usual { Ok(()) } else { write!(f, ":{port}") }
    }
}

/// Sites whose pages may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<WebOrigin>);

impl Origins {
    /// From a comma-separated list.
    ///
    /// # Errors
    /// When one is no origin; the text says what it must be.
    pub fn read(text: &str) -> Result<Self, String> {
        let origins = items(text, |origin| {
            WebOrigin::parse(origin.strip_suffix('/').unwrap_or(origin)).ok_or_else(|| {
                format!("must be origins such as https://console.example.com, not `{origin}`")
            })
        });
        origins.map(Self)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them.
    pub fn contain(&self, origin: &WebOrigin) -> bool {
        self.0.contains(origin)
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(","))
    }
}

/// A host name, or an address of version 4.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(inside)
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

fn items<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let items = items.map(read).collect::<Result<Vec<T>, String>>()?;
    if items.len() > MOST { Err(format!("must be at most {MOST}")) } else { Ok(items) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(http: &str) -> Config {
        let http = format!("{http}:9652").parse().unwrap();
        Config { http, ..Config::default() }
    }

    #[test]
    fn beyond_loopback_there_is_tls_or_a_word_that_there_need_not_be() {
        for local in ["127.0.0.1", "[::1]", "127.9.9.9", "[::ffff:127.0.0.1]"] {
            assert_eq!(at(local).check_transport(), Ok(()), "{local}");
        }
        for open in ["0.0.0.0", "[::]", "192.0.2.1"] {
            let refusal = at(open).check_transport().unwrap_err().to_string();
            assert!(refusal.contains("--tls-cert") && refusal.contains("--allow-plaintext"));
            let plain = Config { allow_plaintext: true, ..at(open) };
            assert_eq!(plain.check_transport(), Ok(()));
            let file = Some("x".into());
            let secure = Config { tls_cert: file.clone(), tls_key: file, ..at(open) };
            assert_eq!((secure.check_transport(), secure.schemes()), (Ok(()), ("https", "wss")));
        }
    }

    #[test]
    fn half_a_certificate_is_refused() {
        let half = Config { tls_cert: Some("a.pem".into()), ..Config::default() };
        assert!(half.check_transport().unwrap_err().to_string().contains("--tls-key"));
        let half = Config { tls_key: Some("a.pem".into()), allow_plaintext: true, ..at("0.0.0.0") };
        assert!(half.check_transport().unwrap_err().to_string().contains("--tls-cert"));
    }

    #[test]
    fn rates_hold_beyond_loopback_unless_they_are_set() {
        let two =
            |rate, burst| Some((NonZeroU32::new(rate).unwrap(), NonZeroU32::new(burst).unwrap()));
        assert_eq!(at("127.0.0.1").rates(), None);
        assert_eq!(at("0.0.0.0").rates(), two(1_000, 2_000));
        let of = |text| Config { rate_limit: RateLimit::read(text).unwrap(), ..at("127.0.0.1") };
        assert_eq!(of("5").rates(), two(5, 10));
        assert_eq!(Config { rate_burst: NonZeroU32::new(7), ..of("5") }.rates(), two(5, 7));
        assert_eq!(Config { http: at("0.0.0.0").http, ..of("0") }.rates(), None);
        assert!(RateLimit::read("fast").is_err() && RateLimit::read("-1").is_err());
    }

    #[test]
    fn hosts_are_names_addresses_and_what_is_below_a_name() {
        let hosts = Hosts::read("Muster.example., *.inner.example,192.0.2.1, 2001:db8::1").unwrap();
        for host in
            ["muster.example", "MUSTER.EXAMPLE", "a.inner.example", "192.0.2.1", "2001:db8:0::1"]
        {
            assert!(hosts.contain(host), "{host}");
        }
        for host in
            ["example", "x.muster.example", "inner.example", ".inner.example", "192.0.2.2", ""]
        {
            assert!(!hosts.contain(host), "{host}");
        }
        assert_eq!(Hosts::read(&hosts.to_string()).unwrap(), hosts);
        for wrong in ["*", "a:80", "http://a", "a b", "*.*.a", "[::1]"] {
            assert!(Hosts::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn origins_are_compared_with_their_ports() {
        let origins =
            Origins::read("https://A.example, http://[::1]:3000 ,http://b.example/").unwrap();
        let shown = "https://a.example,http://[::1]:3000,http://b.example";
        assert_eq!(origins.to_string(), shown);
        let allowed = |text| WebOrigin::parse(text).is_some_and(|origin| origins.contain(&origin));
        assert!(allowed("https://a.example") && allowed("https://a.example:443"));
        for other in
            ["http://a.example", "https://a.example:8443", "null", "http://[::1]", "https://"]
        {
            assert!(!allowed(other), "{other}");
        }
        for wrong in
            ["*", "null", "a.example", "https://a/x", "ftp://a", "https://a:", "https://u@a"]
        {
            assert!(Origins::read(wrong).is_err(), "{wrong}");
        }
    }
}
