//! The address of an endpoint.

use std::net::Ipv6Addr;

/// Longest address, characters.
const LONGEST: usize = 2_048;

/// What is wrong with an address; none when it can be used.
pub(super) fn fault(url: &str) -> Option<&'static str> {
    if url.len() > LONGEST {
        return Some("at most 2048 characters");
    }
    // Before anything else: libraries drop tabs and line ends without a word.
    if !url.bytes().all(|byte| matches!(byte, 0x21..=0x7e)) {
        return Some("only visible ASCII");
    }
    let rest = match url.split_at_checked("wss://".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("wss://") => rest,
        _ => return Some("must begin with wss://"),
    };
    if url.contains('#') {
        return Some("no fragment");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Some("no user information");
    }
    let (host, port) = match authority.rsplit_once(':') {
        // A colon of an IPv6 address is none before a port.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if !is_host(host) {
        return Some("must name a host");
    }
    match port {
        Some(port) if !is_port(port) => Some("a port is 1 to 65535"),
        _ => None,
    }
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn is_host(host: &str) -> bool {
    if let Some(literal) = host.strip_prefix('[') {
        return literal.strip_suffix(']').is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok());
    }
    // The names of RFC 3986.
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    !host.is_empty() && host.bytes().all(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_can_be_used_pass() {
        for good in [
            "wss://one.example/peer",
            "WSS://one.example",
            "wss://127.0.0.1:1/?z=1",
            "wss://[2001:db8::1]:8443/relay?z=1",
            "wss://[::1]",
            "wss://h:65535",
            "wss://h?x=@",
            "wss://h/a@b:c",
            "wss://localhost/",
            "wss://10.0.0.1",
            "wss://xn--bcher-kva.example",
            "wss://a_b.example/%20",
        ] {
            assert_eq!(fault(good), None, "{good}");
        }
        let longest = format!("wss://h/{}", "x".repeat(LONGEST - 8));
        assert_eq!((fault(&longest), longest.len()), (None, LONGEST));
        assert!(fault(&format!("{longest}x")).is_some());
    }

    #[test]
    fn addresses_that_could_mislead_are_refused() {
        for wrong in [
            "",
            "ws://h",
            "wss:/h",
            "wss:h",
            "https://h",
            "wss://",
            "wss:///path",
            "wss://\\h",
            "wss://?x",
            "wss://#x",
            "wss://user@h",
            "wss://user:p@h/",
            "wss://h#f",
            "wss://h/#",
            "wss://h:0",
            "wss://h:65536",
            "wss://h:",
            "wss://h:x",
            "wss://h:+1",
            "wss://:443/",
            "wss://[::1",
            "wss://::1",
            "wss://[::1]x",
            "wss://[zz]",
            "wss://[]",
            "wss://h\\@e",
            " wss://h",
            "wss://h ",
            "wss://h\t/",
            "wss://h\n",
            "wss://h\u{e9}",
            "wss://h/\u{7f}",
            "w\tss://h",
            "wss://a b",
            "wss://a<b",
            "wss://[::1%eth0]",
            "wss://h:1:2",
        ] {
            assert!(fault(wrong).is_some(), "{wrong}");
        }
    }
}
