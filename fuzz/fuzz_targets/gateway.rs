//! Paths and queries: decoded once, refused or read, whatever they are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::method::{fuzzing, percent_decoded};

fuzz_target!(|input: (&str, &str, &str)| {
    let (verb, path, query) = input;
    if let Some(decoded) = percent_decoded(path) {
        assert!(path.contains('%') || decoded == path);
        assert!(decoded.len() <= path.len());
    }
    fuzzing::gateway(verb, path, query);
});
