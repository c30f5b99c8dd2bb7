//! Paths, queries and bodies: decoded once, refused or merged into one object, whatever they are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::method::percent_decoded;
use muster::server::fuzzing::gateway;

const VERBS: [&str; 4] = ["GET", "PUT", "POST", "DELETE"];

fuzz_target!(|input: &[u8]| {
    let Some((verb, rest)) = input.split_first() else { return };
    let mut parts = rest.splitn(2, |byte| *byte == b'\n');
    let Ok(target) = std::str::from_utf8(parts.next().unwrap_or_default()) else { return };
    let body = parts.next().unwrap_or_default();
    if let Some(decoded) = percent_decoded(target) {
        assert!(decoded.len() <= target.len());
        assert!(target.contains('%') || decoded == target);
    }
    if let Some(params) = gateway(VERBS[usize::from(*verb) % VERBS.len()], target, body) {
        let read: Result<serde_json::Map<String, serde_json::Value>, _> =
            serde_json::from_str(&params);
        // Objects may be nested more deeply than this reader goes.
        assert!(read.is_ok() || params.contains("[[") || params.contains("{\""), "{params}");
    }
});
