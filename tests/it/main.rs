//! Black-box tests: one binary, one module per topic.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub)]
#![allow(clippy::expect_used, reason = "clippy sees helpers outside #[test] as shipped code")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod actor;
mod built_in;
mod calls;
mod cli;
mod context;
mod events;
mod flow;
mod guards;
mod job;
mod limits;
mod message;
mod pages;
mod process;
mod push;
mod runner;
mod seed;
mod server;
mod surface;
mod system;
mod wire;
