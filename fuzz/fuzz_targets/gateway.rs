//! Paths, queries and bodies: decoded once, refused or merged into one object, whatever they are.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use muster::method::percent_decoded;
use muster::server::fuzzing::gateway;
use serde_json::value::RawValue;

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
        // Values are read by the method: deep ones, say, are its business.
        let object: Result<HashMap<String, &RawValue>, _> = serde_json::from_str(&params);
        assert!(object.is_ok(), "{params}");
    }
});
