//! Black-box tests: one binary, one module per topic.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub)]
#![allow(clippy::expect_used, reason = "clippy sees helpers outside #[test] as shipped code")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod guards;
mod limits;
mod pages;
mod push;
mod seed;
mod server;
mod surface;
mod wire;
