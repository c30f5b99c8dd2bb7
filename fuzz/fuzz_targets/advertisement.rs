//! Advertisements: whatever comes is refused or read, and what is read can be signed again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::config::Directory;
use muster::face::adv::advertisement::{Statement, signed_bytes};
use muster::identity::Json;

fuzz_target!(|text: &[u8]| {
    let rules = Directory::default();
    let outcome = Statement::read(text, &mut None, &rules);
    match Json::read(text, 32) {
        // What we take for JSON is JSON for others, too.
        Ok(json) => {
            let others: Result<serde_json::Value, _> = serde_json::from_slice(text);
            assert!(others.is_ok(), "{others:?}");
            let _ = signed_bytes(&json);
        }
        Err(_) => assert!(outcome.is_err()),
    }
    if let Ok(statement) = outcome {
        let _ = statement.check_time(1_900_000_000_000, &rules);
    }
});
