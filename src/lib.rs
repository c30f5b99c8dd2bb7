//! Muster: a JSON-RPC coordinator that stores work durably and pushes it to runners.
//!
//! A module may use those above it in this list, never those below:
//!
//! - [`error`]: the codes of the wire and what maps to them
//! - [`model`]: what things are and how they change; pure
//! - [`identity`]: keys, signatures, and the bytes that are signed
//! - [`store`]: tables, batches and the event log over a journal and sled
//! - [`engine`]: the one thread that changes anything
//! - [`telemetry`]: logs and metrics
//! - [`limiter`]: how often somebody may do something
//! - `alarm`: what a task waits for besides its work
//! - [`access`]: credentials, and whose they are
//! - [`config`]: what a coordinator is told
//! - [`outbound`]: requests to other machines
//! - [`app`]: what a running coordinator holds
//! - [`method`]: what a method is, and what is read off it
//! - [`face`]: the methods, one folder per mirrored system
//! - [`server`], [`client`]: the edges
//! - [`runner`]: executes jobs, in this process or another
//! - [`mod@bench`]: whole-system figures beside raw baselines
//! - [`cli`]: the command line

pub mod access;
mod alarm;
pub mod app;
pub mod bench;
pub mod cli;
pub mod client;
pub mod config;
pub mod engine;
pub mod error;
pub mod face;
pub mod identity;
pub mod limiter;
pub mod method;
pub mod model;
pub mod outbound;
pub mod runner;
pub mod server;
pub mod store;
pub mod telemetry;

pub use error::{Code, Error, Result};
