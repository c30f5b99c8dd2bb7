//! Black-box tests: one binary, one module per topic.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub)]
#![allow(clippy::expect_used, reason = "clippy sees helpers outside #[test] as shipped code")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod access;
mod access_cli;
mod access_table;
mod actor;
mod advertiser;
mod built_in;
mod calls;
mod capabilities;
mod cli;
mod context;
mod dcp_events;
mod dcp_identity;
mod dcp_jobs;
mod dcp_recovery;
mod dcp_rest;
mod dcp_slices;
mod dcp_webhooks;
mod directory;
mod directory_abuse;
mod directory_push;
mod directory_vectors;
mod events;
mod examples;
mod fake_runner;
mod flow;
mod functions;
mod functions_python;
mod gates;
mod guards;
mod histories;
mod issuer;
mod job;
mod limits;
mod message;
mod messages_delivery;
mod pages;
mod peer_host;
mod process;
mod push;
mod recovery;
mod reports;
mod runner;
mod runs;
mod seed;
mod server;
mod sessions;
mod slice_runner;
mod sse;
mod surface;
mod system;
mod transport;
mod transport_tls;
mod wire;
