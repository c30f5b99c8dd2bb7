//! The built-in runner: executes jobs, in this process or another, and reports on them.
//!
//! - [`protocol`]: what a runner and the coordinator say to each other
//! - [`executor`]: what runs one attempt; a language is one file behind it
//! - [`process`], [`supervisor`]: child processes that are never left behind
//! - [`script`], [`sandbox`]: Rhai, and the processes that it runs in
//! - [`functions`]: what calls work functions over slices; a language is one file behind it
//! - [`agent`], [`link`], [`local`]: the loop, over WebSocket or within the coordinator

pub mod agent;
mod attempt;
mod connection;
pub mod executor;
pub mod functions;
pub mod link;
pub mod local;
mod logs;
mod outbox;
mod pool;
pub mod process;
mod reap;
pub mod sandbox;
pub mod script;
pub mod supervisor;
mod turns;
mod workdir;

pub use crate::model::protocol;
pub use executor::{Assignment, Executor, Executors, Outcome, Stop, StopReason, Stopper};
pub use logs::Logs;
