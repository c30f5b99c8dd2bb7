//! Params: whatever spelling comes is one JSON object or refused, and no method's reader panics.
#![no_main]

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use muster::app::{App, Caller, Cx};
use muster::config::Config;
use muster::face;
use muster::method::Run;
use serde_json::value::RawValue;

static APP: LazyLock<Arc<App>> = LazyLock::new(|| {
    let data_dir = std::env::temp_dir().join(format!("muster-fuzz-{}", std::process::id()));
    App::start(Config { data_dir, ..Config::default() }).unwrap()
});

fuzz_target!(|input: &[u8]| {
    let Some((index, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    // What comes by JSON-RPC is JSON, at least.
    if serde_json::from_str::<&RawValue>(text).is_err() {
        return;
    }
    let entries = face::entries();
    let entry = &entries[usize::from(*index) % entries.len()];
    let Ok(params) = entry.shape.normalize(text) else { return };
    let object: Result<HashMap<String, &RawValue>, _> = serde_json::from_str(&params);
    assert!(object.is_ok(), "{params}");
    let cx = Cx::inside(Arc::clone(&APP), Caller::Operator);
    // The calls are read, not made.
    match entry.def.run {
        Run::Call(call) => drop(call(cx, &params)),
        Run::Open(open) => drop(open(cx, &params)),
    }
});
