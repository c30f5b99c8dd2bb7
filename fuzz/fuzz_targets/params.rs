//! Params: whatever spelling comes is one JSON object or refused, and no method's reader panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::face;
use serde_json::value::RawValue;

fuzz_target!(|input: (u8, &str)| {
    let (index, text) = input;
    let entries = face::entries();
    let entry = &entries[usize::from(index) % entries.len()];
    if serde_json::from_str::<&RawValue>(text).is_err() {
        return;
    }
    if let Ok(params) = entry.shape.normalize(text) {
        assert!(params.trim_start().starts_with('{'), "{params}");
        let _ = muster::method::fuzzing::params(entry, &params);
    }
});
